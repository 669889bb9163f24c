//! Labels as they are typed.

use hostler_controller::views::{LabelChanges, Labels};

use crate::cli::error::CliError;

/// `KEY=VALUE` to set, `KEY-` to take away.
///
/// # Errors
/// [`CliError::Usage`] for anything else, or a key that is named twice.
pub(super) fn changes(typed: &[String]) -> Result<LabelChanges, CliError> {
    let mut changes = LabelChanges::default();
    for text in typed {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => {
                let message =
                    format!("`{text}` is no label: write KEY=VALUE, or KEY- to remove it");
                return Err(CliError::Usage(message));
            }
        };
        if changes.0.insert(key.to_owned(), value).is_some() {
            return Err(CliError::Usage(format!("the label `{key}` is named twice")));
        }
    }
    Ok(changes)
}

/// `KEY=VALUE`, all of which are wanted.
///
/// # Errors
/// As [`changes`].
pub(super) fn wanted(typed: &[String]) -> Result<Labels, CliError> {
    let said = |(key, value): (String, Option<String>)| match value {
        Some(value) => Ok((key, value)),
        None => Err(CliError::Usage(format!("`{key}-` names no value: write KEY=VALUE"))),
    };
    changes(typed)?.0.into_iter().map(said).collect::<Result<_, _>>().map(Labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn labels_are_set_and_taken_away() {
        let read = changes(&typed("tier=prod eu= rack-")).unwrap();
        let expected = [("eu", Some("")), ("rack", None), ("tier", Some("prod"))];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        assert_eq!(read.0, expected.into());
        for bad in ["tier", "tier=a tier=b"] {
            assert!(changes(&typed(bad)).is_err(), "`{bad}` should be refused");
        }
        assert!(wanted(&typed("tier-")).is_err());
        assert_eq!(wanted(&typed("a=b=c")).unwrap().0["a"], "b=c");
    }
}
