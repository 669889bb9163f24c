//! Which texts of a stack's secrets never stand in an output.

/// A text shorter than this is not hidden: replacing it would spoil every output.
const CHARS_MIN: usize = 5;
/// Most texts of one file.
const TEXTS_MAX: usize = 4096;

/// The values of an env file that are worth hiding.
pub(super) fn values(env: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(env);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| line.split_once('=')).map(|(_, value)| bare(value));
    values.filter(|value| value.len() >= CHARS_MIN).map(str::to_owned).collect()
}

/// All of a file that was encrypted, line by line, whatever it is: the values it gives to names, and
/// its whole lines, as they are and as programs quote them.
pub(super) fn hidden(plain: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(plain);
    let mut texts: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        let value = line.split_once(['=', ':']).map(|(_, value)| bare(value));
        for text in [Some(line), Some(bare(line)), value].into_iter().flatten() {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            texts.extend([text.to_owned(), quoted]);
        }
        if texts.len() >= TEXTS_MAX {
            break;
        }
    }
    texts.retain(|text| text.len() >= CHARS_MIN);
    texts.sort();
    texts.dedup();
    texts
}

/// A value without what it stands between.
fn bare(value: &str) -> &str {
    value.trim().trim_end_matches(',').trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::process::redact;

    #[test]
    fn the_host_s_values_are_found() {
        let env = b"# A=comment\nTOKEN='abcdef'\nexport KEY=\"ghijkl\"\nSHORT=1\nodd\n";
        assert_eq!(values(env), ["abcdef", "ghijkl"]);
    }

    #[test]
    fn nothing_of_what_was_encrypted_is_left_in_a_text() {
        for (plain, said) in [
            ("hunter22\n", "wrong password hunter22 for x"),
            ("DB=hunter22\n", "DB=hunter22"),
            ("DB='hunter22' \n", "cannot log in with hunter22"),
            ("{\n  \"db\": \"hunter22\",\n}\n", "got hunter22"),
            ("password: hunter22\n", "password hunter22"),
            ("a hunter22 b\n", "unexpected \"a hunter22 b\" in variable name"),
            ("say \"hunter22\" \\ b\n", "near \"say \\\"hunter22\\\" \\\\ b\""),
            ("hunt\nA=hunter22\n", "hunter22"),
        ] {
            let told = redact(said, &hidden(plain.as_bytes()));
            assert!(!told.contains("hunter"), "{plain:?}: {told}");
        }
        assert!(hidden(b"a=1\n}\n").is_empty());
        assert!(hidden("line of text\n".repeat(TEXTS_MAX).as_bytes()).len() <= TEXTS_MAX);
    }
}
