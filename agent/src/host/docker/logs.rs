//! What a container said last, out of the frames the engine sends it in.

/// Bytes before each piece: the stream, three zeros, and the piece's length.
const HEADER_BYTES: usize = 8;

/// The text in an answer to a request for logs. With `terminal`, there are no frames.
///
/// What does not look like a frame ends the reading: a cut-off answer gives what came before.
#[must_use]
pub(super) fn text(bytes: &[u8], terminal: bool) -> String {
    if terminal {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let (mut rest, mut said) = (bytes, Vec::new());
    while let Some((header, after)) = rest.split_at_checked(HEADER_BYTES) {
        let [0..=2, 0, 0, 0, length @ ..] = header else { break };
        let length = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        let length = length.min(after.len());
        said.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn frames_are_taken_apart() {
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 3];
        bytes.extend_from_slice(b"ab\n");
        bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 9]);
        bytes.extend_from_slice(b"cut");
        assert_eq!(text(&bytes, false), "ab\ncut");
        assert_eq!(text(b"plain", true), "plain");
        assert_eq!(text(b"no frame at all", false), "");
    }
}
