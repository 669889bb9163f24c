//! Whether a symbolic link of a bundle stays inside it.

/// Longest target, in bytes: what the system takes.
pub(super) const TARGET_BYTES_MAX: u64 = 4095;

/// Whether a link at `path` that names `target` leads to a place inside the bundle, whatever the
/// bundle's other links name.
///
/// Going up is allowed only at the start: there the way leads through directories of the bundle,
/// which are no links. A `..` behind a name could undo a link that went down less than it seems.
pub(super) fn stays_inside(path: &str, target: &str) -> bool {
    if target.is_empty()
        || target.len() as u64 > TARGET_BYTES_MAX
        || target.starts_with('/')
        || target.contains('\0')
    {
        return false;
    }
    let mut above = path.matches('/').count();
    let mut named = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if named || above == 0 => return false,
            ".." => above -= 1,
            _ => named = true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_may_lead_out_are_refused() {
        for (path, target) in [
            ("a", "b"),
            ("a", "./b/c"),
            ("d/a", "../b"),
            ("d/e/a", "../../b/c"),
            ("d/a", ".."),
            ("a", "."),
            ("a", "..b"),
        ] {
            assert!(stays_inside(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", ""),
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("d/a", "../.."),
            ("d/a", "../../d/x"),
            ("a", "d/.."),
            ("d/a", "l/../../x"),
            ("a", "b\0c"),
        ] {
            assert!(!stays_inside(path, target), "{path} -> {target}");
        }
        assert!(!stays_inside("a", &"x".repeat(5000)));
    }
}
