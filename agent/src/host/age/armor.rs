//! ASCII armour: strict, as the format asks, so that one file has one form.

use data_encoding::BASE64;

use super::AgeError;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Characters of a full line.
const LINE_CHARS: usize = 64;

/// Whether a file is in armour, or was meant to be.
pub(super) fn is_armored(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(b"-----BEGIN")
}

/// The bytes that are in the armour.
pub(super) fn strip(file: &[u8]) -> Result<Vec<u8>, AgeError> {
    let wrong = |why| Err(AgeError::Format(why));
    let Ok(text) = std::str::from_utf8(file) else { return wrong("its armour is no text") };
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.by_ref().find(|line| !line.trim_ascii().is_empty()) != Some(BEGIN) {
        return wrong("its armour does not begin as it should");
    }
    let (mut bytes, mut is_last) = (Vec::with_capacity(text.len() / 4 * 3), false);
    loop {
        let Some(line) = lines.next() else { return wrong("its armour does not end") };
        if line == END {
            break;
        }
        if is_last || line.is_empty() || line.len() > LINE_CHARS {
            return wrong("a line of its armour has a wrong length");
        }
        // Padding is the end of everything; the decoder would go on behind it.
        let unpadded = line.trim_end_matches('=');
        is_last = line.len() < LINE_CHARS || unpadded.len() < line.len();
        let decoded = match unpadded.contains('=') {
            true => None,
            false => BASE64.decode(line.as_bytes()).ok(),
        };
        let Some(decoded) = decoded else { return wrong("its armour is no base 64") };
        bytes.extend(decoded);
    }
    match lines.all(|line| line.trim_ascii().is_empty()) {
        true => Ok(bytes),
        false => wrong("something stands behind its armour"),
    }
}
