//! Names, paths and other single texts. Each function says in one sentence what would be right.

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let letter_or_digit = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| letter_or_digit(b) || *b == b'-')
        && bytes.first().is_some_and(letter_or_digit)
        && bytes.last().is_some_and(letter_or_digit)
}

/// A name of a site or an environment.
///
/// # Errors
/// What a name looks like.
pub fn name(text: &str) -> Result<(), String> {
    if is_label(text) {
        return Ok(());
    }
    Err("a name has 1 to 63 lower-case letters, digits and hyphens, and begins and ends with a \
         letter or digit"
        .to_owned())
}

/// A host name or domain: labels with dots between them, lower case.
///
/// # Errors
/// What a host name looks like.
pub fn host_name(text: &str) -> Result<(), String> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(());
    }
    Err("a host name has at most 253 lower-case letters, digits, hyphens and dots, each part \
         beginning and ending with a letter or digit (write an international domain as `xn--…`)"
        .to_owned())
}

/// A system user's name.
///
/// # Errors
/// What a user name looks like.
pub fn user(text: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if first && rest && text.len() <= 32 {
        return Ok(());
    }
    Err("a user name has 1 to 32 lower-case letters, digits, `_` and `-`, and does not begin with \
         a digit or `-`"
        .to_owned())
}

/// An absolute, normalised path that nginx reads without quoting.
///
/// # Errors
/// What is wrong with it.
pub fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("a path is absolute: it begins with `/`".to_owned());
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(format!("a path has at most {PATH_BYTES_MAX} bytes"));
    }
    if let Some(bad) = text.chars().find(|c| forbidden_in_path(*c)) {
        return Err(format!(
            "a path cannot hold {bad:?}: no white space, control characters or characters that \
             nginx would need quoted"
        ));
    }
    if text == "/" {
        return Err("the root directory itself is not allowed".to_owned());
    }
    if text.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("a path is normalised: no `.`, no `..`, no double or trailing slash".to_owned());
    }
    Ok(())
}

/// A path as [`path`], of a file whose name has this ending (with its dot) and more before it:
/// the agent writes no others.
///
/// # Errors
/// What is wrong with it.
pub fn file(text: &str, ending: &str) -> Result<(), String> {
    path(text)?;
    let name = text.rsplit('/').next().unwrap_or_default();
    if name.len() > ending.len() && name.ends_with(ending) {
        return Ok(());
    }
    Err(format!("the name of this file ends in `{ending}`"))
}

fn forbidden_in_path(c: char) -> bool {
    c.is_control() || c.is_whitespace() || ";{}\"'$\\`#*?[]".contains(c)
}

/// A path as [`path`], of a directory that stands in the nginx files the agent renders: only what
/// the agent itself lets through there.
///
/// # Errors
/// What is wrong with it.
pub fn rendered_path(text: &str) -> Result<(), String> {
    path(text)?;
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"/._-+@~,".contains(*c)) {
        Some(bad) => Err(format!(
            "this path cannot hold {bad:?}: only ASCII letters and digits and `/._-+@~,`"
        )),
        None => Ok(()),
    }
}

/// Whether one path is the other or lies below it; both normalised.
#[must_use]
pub fn nested(one: &str, other: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

/// The path a request asks for: what follows the host in a URL, without a fragment.
///
/// # Errors
/// What a request path looks like.
pub fn request_path(text: &str) -> Result<(), String> {
    let ok = text.starts_with('/')
        && text.len() <= PATH_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if ok {
        return Ok(());
    }
    Err(format!(
        "a request path begins with `/` and has at most {PATH_BYTES_MAX} printable ASCII \
         characters, without spaces and `#` (percent-encode others)"
    ))
}

/// A cache key format: literal text and the four variables a purge can compute.
///
/// # Errors
/// What is wrong with it.
pub fn key_format(text: &str) -> Result<(), String> {
    const VARIABLES: [&str; 4] = ["scheme", "request_method", "host", "request_uri"];
    if text.len() > 256 {
        return Err("a key format has at most 256 bytes".to_owned());
    }
    if let Some(bad) = text.chars().find(|c| *c != '$' && forbidden_in_key(*c)) {
        return Err(format!("a key format cannot hold {bad:?}"));
    }
    let mut parts = text.split('$');
    parts.next();
    let mut seen = Vec::new();
    for part in parts {
        let variable: &str =
            part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        if !VARIABLES.contains(&variable) {
            return Err(format!(
                "`${variable}` cannot be used in a key format: only $scheme, $request_method, \
                 $host and $request_uri"
            ));
        }
        seen.push(variable);
    }
    if !seen.contains(&"request_uri") || !seen.contains(&"host") {
        return Err(
            "a key format holds $host and $request_uri, or pages would share an entry".to_owned()
        );
    }
    Ok(())
}

fn forbidden_in_key(c: char) -> bool {
    !c.is_ascii_graphic() || ";{}\"'\\`#".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "shop", "shop-1", "0"] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "a\n", &"a".repeat(64)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_names_are_labels_with_dots() {
        for good in ["localhost", "shop.example", "a-1.b.c"] {
            assert_eq!(host_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "A.example", "a_b", "a/b", &"a.".repeat(200)] {
            assert!(host_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn users_are_plain() {
        for good in ["www-data", "_x", "a1"] {
            assert_eq!(user(good), Ok(()), "{good}");
        }
        for bad in ["", "1a", "-a", "Root", "a b", "a;b", &"a".repeat(33)] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_absolute_normalised_and_need_no_quoting() {
        for good in ["/var/www/shop", "/a", "/a/.b", "/a/..b", "/srv/größe"] {
            assert_eq!(path(good), Ok(()), "{good}");
        }
        let bad = [
            "",
            "/",
            "a",
            "a/b",
            "/a/",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/..",
            "/a b",
            "/a\tb",
            "/a\0b",
            "/a;b",
            "/a{b",
            "/a}b",
            "/a\"b",
            "/a'b",
            "/a$b",
            "/a\\b",
            "/a*",
            "/a#b",
            "/a\u{a0}b",
        ];
        for bad in bad {
            assert!(path(bad).is_err(), "{bad:?} was taken for a good path");
        }
        assert!(path(&format!("/{}", "a".repeat(PATH_BYTES_MAX))).is_err());
    }

    #[test]
    fn a_path_in_a_rendered_file_is_plain() {
        assert_eq!(rendered_path("/var/cache/nginx/a-1_b.c+d@e~f,g"), Ok(()));
        for bad in ["/var/cache/a(b)", "/var/cache/a=c", "/var/größe", "/var/a:b", "relative"] {
            assert!(rendered_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_have_the_ending_the_agent_writes() {
        for good in ["/etc/nginx/a.conf", "/a.b.conf", "/x/..conf"] {
            assert_eq!(file(good, ".conf"), Ok(()), "{good}");
        }
        for bad in ["/etc/passwd", "/a.conf/b", "/a/.conf", "/a.CONF", "/a.conf.bak", "a.conf"] {
            assert!(file(bad, ".conf").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nesting_is_by_whole_parts() {
        assert!(nested("/a/b", "/a/b"));
        assert!(nested("/a/b", "/a"));
        assert!(nested("/a", "/a/b"));
        assert!(!nested("/a/b", "/a/bc"));
        assert!(!nested("/a/b", "/a/c"));
    }

    #[test]
    fn key_formats_hold_only_what_a_purge_can_compute() {
        for good in
            [hostler_protocol::job::KEY_FORMAT_DEFAULT, "$host$request_uri", "v1:$host$request_uri"]
        {
            assert_eq!(key_format(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "$host",
            "$request_uri",
            "$cookie_x$host$request_uri",
            "$host$request_uri;",
            "$host$request_uri x",
            "$",
        ] {
            assert!(key_format(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn request_paths_are_printable() {
        for good in ["/", "/a?b=c", "/%C3%A4"] {
            assert_eq!(request_path(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "/a b", "/a\r\nHost: x", "/ä", "/a#b"] {
            assert!(request_path(bad).is_err(), "{bad:?}");
        }
    }
}
