//! Labels: what people call environments and hosts to name many of them at once.
//!
//! Keys and values are written as Kubernetes writes them
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>), with a prefix of
//! a key being any such name.

use std::collections::BTreeMap;

use super::validate::Problems;

/// Most labels one thing carries.
pub const LABELS_MAX: usize = 32;
/// Longest key and longest value, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// Keys and their values.
pub type Labels = BTreeMap<String, String>;

/// What a request says of labels: a value to set, or none to take the label away.
pub type LabelChanges = BTreeMap<String, Option<String>>;

fn is_word(text: &str, inside: &[u8]) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_BYTES_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || inside.contains(b))
}

/// Whether a text can be a label's key.
#[must_use]
pub fn is_key(text: &str) -> bool {
    is_word(text, b"-_./") && !text.contains("//")
}

/// Whether a text can be a label's value; the empty one can.
#[must_use]
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_word(text, b"-_.")
}

/// The labels after a change; what is wrong with it is noted below `place`.
#[must_use]
pub fn apply(
    before: &Labels,
    changes: &LabelChanges,
    place: &str,
    problems: &mut Problems,
) -> Labels {
    let mut after = before.clone();
    for (key, value) in changes {
        check(key, value.as_deref(), place, problems);
        match value {
            Some(value) => after.insert(key.clone(), value.clone()),
            None => after.remove(key),
        };
    }
    if after.len() > LABELS_MAX {
        problems.add(place, format!("{} labels are too many; {LABELS_MAX} may be", after.len()));
    }
    after
}

/// Notes what is wrong with a label.
pub fn check(key: &str, value: Option<&str>, place: &str, problems: &mut Problems) {
    // As RFC 6901 wants it in a pointer.
    let pointer = format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
    if !is_key(key) {
        problems.add(
            pointer.clone(),
            "a label's key has 1 to 63 letters, digits, `-`, `_`, `.` and `/`, and begins and ends \
             with a letter or digit",
        );
    }
    if value.is_some_and(|value| !is_value(value)) {
        problems.add(
            pointer,
            "a label's value has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends \
             with a letter or digit",
        );
    }
}

/// Whether something with these labels, on a host with those, carries all that is wanted. What an
/// environment says of a key counts over what its host says.
#[must_use]
pub fn matches(wanted: &Labels, own: &Labels, of_host: &Labels) -> bool {
    wanted.iter().all(|(key, value)| own.get(key).or_else(|| of_host.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> Labels {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keys_and_values_have_a_shape() {
        for good in ["tier", "a", "example.com/tier", "A-b_c.d/e9"] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a//b", "ä", "a=b", &"k".repeat(64)] {
            assert!(!is_key(bad), "{bad}");
        }
        assert!(is_value("") && is_value("v1.2-rc_3") && is_value(&"v".repeat(63)));
        for bad in ["a/b", "-", "a ", "ü", &"v".repeat(64)] {
            assert!(!is_value(bad), "{bad}");
        }
    }

    #[test]
    fn changes_set_and_take_away_and_are_bounded() {
        let before = labels(&[("tier", "prod"), ("eu", "")]);
        let changes: LabelChanges =
            [("tier".to_owned(), Some("test".to_owned())), ("eu".to_owned(), None)].into();
        let mut problems = Problems::default();
        assert_eq!(apply(&before, &changes, "/labels", &mut problems), labels(&[("tier", "test")]));
        assert_eq!(problems.found(), []);
        let many: LabelChanges =
            (0..=LABELS_MAX).map(|n| (format!("k{n}"), Some(String::new()))).collect();
        drop(apply(&Labels::new(), &many, "/labels", &mut problems));
        let wrong = [("a/~".to_owned(), Some("b c".to_owned()))].into();
        drop(apply(&Labels::new(), &wrong, "/labels", &mut problems));
        let places: Vec<&str> = problems.found().iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["/labels", "/labels/a~1~0", "/labels/a~1~0"]);
    }

    #[test]
    fn an_environment_has_its_hosts_labels_unless_it_has_its_own() {
        let (own, host) = (labels(&[("tier", "prod")]), labels(&[("tier", "test"), ("rack", "1")]));
        assert!(matches(&labels(&[("tier", "prod"), ("rack", "1")]), &own, &host));
        assert!(!matches(&labels(&[("tier", "test")]), &own, &host));
        assert!(matches(&Labels::new(), &own, &host));
    }
}
