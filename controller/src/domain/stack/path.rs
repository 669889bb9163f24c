//! Paths within a repository: joined and cleaned as text, then walked through its tree.
//!
//! Everything goes name by name. A path that leaves the repository has no result here, whatever it
//! would lead to on a host.

use sha2::{Digest as _, Sha256};

use super::tree::{EntryKind, Node, Tree, TreeError};

/// Most links followed on one way.
pub const LINKS_MAX: usize = 16;
/// Longest target of a link, in bytes; Linux's own limit of a path.
pub const TARGET_BYTES_MAX: usize = 4096;

/// Longest path of a stack below the deploy directory, in bytes: databases look stacks up by it.
pub const STACK_BYTES_MAX: usize = 1024;
/// Bytes of a longer path that its stack is named by, besides the digest of all of it.
const NAMED_BYTES: usize = 128;

/// The path or name as text: bytes that are not UTF-8 as `\xNN`, and a backslash before what would
/// look like that as `\x5c`. No two are shown the same.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for (at, c) in chunk.valid().char_indices() {
            match c {
                '\\' if escaped(&chunk.valid().as_bytes()[at..]).is_some() => {
                    text.push_str("\\x5c")
                }
                _ => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The bytes that are shown so.
#[must_use]
pub fn unshown(text: &str) -> Vec<u8> {
    if text == "." {
        return Vec::new();
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some(first) = rest.first() {
        let (byte, taken) = escaped(rest).map_or((*first, 1), |byte| (byte, 4));
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}

/// The byte of a `\xNN` in front.
fn escaped(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.strip_prefix(b"\\x")?.get(..2)?;
    let lower = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let text = digits.iter().all(lower).then(|| std::str::from_utf8(digits).ok())??;
    u8::from_str_radix(text, 16).ok()
}

/// What a stack's path is called everywhere: as it is [`shown`], or, if that is too long, by its
/// beginning and the SHA-256 of all of it.
#[must_use]
pub fn named(stack: &[u8]) -> String {
    let text = shown(stack);
    if text.len() <= STACK_BYTES_MAX {
        return text;
    }
    let mut end = NAMED_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…{}", &text[..end], hex::encode(Sha256::digest(stack)))
}

/// A path without `.`, `..` and doubled slashes; the empty path is the root. `None` if it is
/// absolute or leads above the root.
#[must_use]
pub fn clean(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            _ => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// A path relative to a directory, cleaned as Compose cleans it: before any link is looked at.
#[must_use]
pub fn join(directory: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    clean(&format!("{}/{path}", if directory.is_empty() { "." } else { directory }))
}

/// The directory above a path; the root's is the root.
#[must_use]
pub fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// A name below a directory.
#[must_use]
pub fn below(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// Whether a path is a directory's or lies below it.
#[must_use]
pub fn is_within(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where a path leads once every link on the way is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Something that is no link.
    At { path: String, node: Node },
    /// Nothing is there.
    Nothing,
    /// Out of the repository, in a circle, or through names that are not UTF-8.
    Out,
}

/// Follows a cleaned path. All that the result hangs on is told to `looked`, with its own path and
/// what stood there: each link passed, and the last name looked up. As long as these are the same,
/// so is the result.
///
/// # Errors
/// What cannot be read.
pub fn follow(
    tree: &dyn Tree,
    path: &str,
    looked: &mut dyn FnMut(&str, Option<&Node>),
) -> Result<Place, TreeError> {
    // Names still to go, the next one last.
    let mut ahead: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at = String::new();
    let Some(mut node) = tree.node(b"")? else { return Ok(Place::Nothing) };
    let mut links = 0_usize;
    while let Some(name) = ahead.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." if at.is_empty() => return Ok(Place::Out),
            ".." => {
                at = above(&at).to_owned();
                let Some(up) = tree.node(at.as_bytes())? else { return Ok(Place::Nothing) };
                node = up;
                continue;
            }
            _ => {}
        }
        if node.kind != EntryKind::Directory {
            looked(&at, Some(&node));
            return Ok(Place::Nothing);
        }
        let next = below(&at, &name);
        let Some(found) = tree.node(next.as_bytes())? else {
            looked(&next, None);
            return Ok(Place::Nothing);
        };
        if found.kind != EntryKind::Symlink {
            (at, node) = (next, found);
            continue;
        }
        looked(&next, Some(&found));
        links += 1;
        match target(tree, &found)? {
            Some(target) if links <= LINKS_MAX => {
                ahead.extend(target.split('/').rev().map(str::to_owned));
            }
            Some(_) | None => return Ok(Place::Out),
        }
    }
    looked(&at, Some(&node));
    Ok(Place::At { path: at, node })
}

/// A link's target, if it is a relative path in UTF-8.
fn target(tree: &dyn Tree, link: &Node) -> Result<Option<String>, TreeError> {
    let bytes = match tree.read(&link.oid, TARGET_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(TreeError::TooLarge { .. }) => return Ok(None),
        Err(
            error @ (TreeError::Missing
            | TreeError::Unreadable(_)
            | TreeError::Limit(_)
            | TreeError::Cancelled),
        ) => return Err(error),
    };
    let target = String::from_utf8(bytes).ok();
    Ok(target.filter(|target| !target.is_empty() && !target.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::MemoryTree;
    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_one_path_alone(
            path in proptest::collection::vec(
                prop_oneof![Just(b'\\'), Just(b'x'), Just(b'5'), Just(b'c'), Just(b'f'), any::<u8>()],
                0..12,
            ),
        ) {
            prop_assume!(path != b".");
            prop_assert_eq!(unshown(&shown(&path)), path);
        }
    }

    #[test]
    fn paths_are_named_within_bounds() {
        for (path, name) in [
            (&b"a/b"[..], "a/b"),
            (b"a\\b", "a\\b"),
            (b"a\xff", "a\\xff"),
            (b"a\\xff", "a\\x5cxff"),
            ("ü".as_bytes(), "ü"),
        ] {
            assert_eq!(named(path), name);
        }
        let long = "ü/".repeat(STACK_BYTES_MAX);
        let other = format!("{long}x");
        assert!(named(long.as_bytes()).len() < STACK_BYTES_MAX);
        assert_ne!(named(long.as_bytes()), named(other.as_bytes()));
        assert_eq!(unshown("."), b"");
    }

    #[test]
    fn paths_are_cleaned_name_by_name() {
        for (path, cleaned) in [
            ("a/./b//c", Some("a/b/c")),
            ("a/../b", Some("b")),
            (".", Some("")),
            ("a/../..", None),
            ("../a", None),
            ("/a", None),
            ("...", Some("...")),
        ] {
            assert_eq!(clean(path).as_deref(), cleaned, "{path}");
        }
        assert_eq!(join("a/b", "../c").as_deref(), Some("a/c"));
        assert_eq!(join("", "../c"), None);
        assert_eq!(join("", "/c"), None);
        assert!(is_within("a/b", "a") && is_within("a", "a") && is_within("x", ""));
        assert!(!is_within("ab", "a"), "a prefix of a name is no directory");
    }

    #[test]
    fn links_are_followed_within_the_repository_only() {
        let tree = MemoryTree::of(&[("real/deep/file", "x"), ("real/other", "o"), ("top", "t")])
            .with(b"a/dir", EntryKind::Symlink, b"../real/deep")
            .with(b"a/up", EntryKind::Symlink, b"dir/../other")
            .with(b"a/out", EntryKind::Symlink, b"../../etc/passwd")
            .with(b"a/abs", EntryKind::Symlink, b"/etc/passwd")
            .with(b"a/loop", EntryKind::Symlink, b"loop")
            .with(b"a/gone", EntryKind::Symlink, b"nowhere");
        let mut links = Vec::new();
        let mut go = |path: &str| {
            let mut looked = |at: &str, _: Option<&Node>| links.push(at.to_owned());
            follow(&tree, path, &mut looked).unwrap()
        };
        let at = |place: Place| match place {
            Place::At { path, .. } => path,
            Place::Nothing | Place::Out => panic!("{place:?}"),
        };
        assert_eq!(at(go("a/dir/file")), "real/deep/file");
        // Links lead where the file system would: `..` is above the link's target.
        assert_eq!(at(go("a/up")), "real/other");
        assert_eq!(go("a/out"), Place::Out);
        assert_eq!(go("a/abs"), Place::Out);
        assert_eq!(go("a/loop"), Place::Out);
        assert_eq!(go("a/gone"), Place::Nothing);
        assert_eq!(go("top/below"), Place::Nothing);
        assert_eq!(at(go("")), "");
        assert_eq!(links[..2], ["a/dir", "real/deep/file"]);
    }
}
