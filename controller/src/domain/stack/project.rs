//! The compose project's name: what makes containers belong to a stack, on one host.

use std::collections::BTreeMap;

/// Longest name of a project, in bytes: no directory's name is longer.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether a text is a project's name: lower-case letters, digits, `-` and `_`, beginning with a
/// letter or digit (<https://docs.docker.com/reference/compose-file/version-and-name/>).
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || b == b'-' || b == b'_')
        && text.len() <= NAME_BYTES_MAX
}

/// The name Compose makes of any text: in lower case, without everything else, without `_` and `-`
/// in front; `None` if nothing is left, or too much. The rule is `NormalizeProjectName` of
/// <https://github.com/compose-spec/compose-go> (`loader/loader.go`).
#[must_use]
pub fn normalise(text: &str) -> Option<String> {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_' || *c == '-')
        .collect();
    let name = kept.trim_start_matches(['_', '-']);
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then(|| name.to_owned())
}

/// Stacks that would be one project on one host: none of them may be synced there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision<H> {
    pub host: H,
    pub project: String,
    /// The stacks' paths, sorted, at least two.
    pub stacks: Vec<String>,
}

/// Finds the stacks, each given with its path, its project and its hosts, that share a project name
/// on a host; sorted by host and project.
#[must_use]
pub fn collisions<'a, H: Ord + Clone + 'a>(
    stacks: impl IntoIterator<Item = (&'a str, &'a str, &'a [H])>,
) -> Vec<Collision<H>> {
    let mut places: BTreeMap<(&H, &str), Vec<&str>> = BTreeMap::new();
    for (path, project, hosts) in stacks {
        for host in hosts {
            let at = places.entry((host, project)).or_default();
            if !at.contains(&path) {
                at.push(path);
            }
        }
    }
    let several = places.into_iter().filter(|(_, stacks)| stacks.len() > 1);
    several
        .map(|((host, project), mut stacks)| {
            stacks.sort_unstable();
            let stacks = stacks.into_iter().map(str::to_owned).collect();
            Collision { host: host.clone(), project: project.to_owned(), stacks }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_as_compose_makes_them() {
        for (text, name) in [
            ("Shop", Some("shop")),
            ("my.app v2", Some("myappv2")),
            ("__-x-_", Some("x-_")),
            ("9lives", Some("9lives")),
            ("Ärger", Some("rger")),
            ("___", None),
            ("", None),
        ] {
            assert_eq!(normalise(text).as_deref(), name, "{text}");
            assert!(name.is_none_or(is_name));
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "-a", "_a", "A", "a.b", "a b", &long] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name(&long[1..]));
        assert_eq!((normalise(&long), normalise(&long[1..])), (None, Some(long[1..].to_owned())));
    }

    #[test]
    fn a_project_is_of_one_stack_on_each_host() {
        let (one, both): (&[&str], &[&str]) = (&["h1"], &["h1", "h2"]);
        let found = collisions([
            ("b/web", "web", one),
            ("a/web", "web", both),
            ("c/web", "web2", both),
            ("d/web", "web", &["h3"][..]),
        ]);
        assert_eq!(
            found,
            [Collision {
                host: "h1",
                project: "web".into(),
                stacks: vec!["a/web".into(), "b/web".into()]
            }]
        );
    }
}
