//! What tells the variants of a page apart: nginx's own sum over the request headers named in the
//! stored response's `Vary`.

use md5::{Digest as _, Md5};

/// Headers whose values nginx compares word by word, whatever stands between them.
const NORMALISED: [&str; 3] = ["accept-charset", "accept-encoding", "accept-language"];

/// The sum nginx keeps for a request that sends these headers (names in lower case), given the key
/// and the names of a `Vary` header.
#[must_use]
pub fn variant(key: &[u8], vary: &[u8], sent: &[(&str, &str)]) -> [u8; 16] {
    let mut sum = Md5::new();
    sum.update(Md5::digest(key));
    let vary = vary.to_ascii_lowercase();
    for name in words(&vary) {
        sum.update(name);
        sum.update(b":");
        let values = sent.iter().filter(|(own, _)| own.as_bytes() == name).map(|(_, value)| value);
        let normalised = NORMALISED.iter().any(|one| one.as_bytes() == name);
        let parts: Vec<&[u8]> = match normalised {
            true => values.flat_map(|value| words(value.as_bytes())).collect(),
            false => values.map(|value| value.as_bytes()).collect(),
        };
        sum.update(parts.join(b",".as_slice()));
        sum.update(b"\r\n");
    }
    sum.finalize().into()
}

/// The words of a list, separated by commas and spaces.
fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| matches!(byte, b' ' | b',')).filter(|word| !word.is_empty())
}

/// The header names of a `Vary`, as text.
#[must_use]
pub fn names(vary: &[u8]) -> Vec<String> {
    words(vary).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_does_not_count_and_lists_are_compared_by_word() {
        let by = |sent: &[(&str, &str)]| variant(b"key", b"Accept-Encoding, X-One", sent);
        assert_eq!(by(&[]), by(&[("user-agent", "x")]));
        assert_eq!(by(&[("accept-encoding", "gzip,br")]), by(&[("accept-encoding", "gzip , br")]));
        assert_ne!(by(&[("x-one", "a,b")]), by(&[("x-one", "a, b")]));
        assert_ne!(by(&[]), variant(b"other", b"Accept-Encoding, X-One", &[]));
        assert_eq!(names(b"Accept-Encoding,  X-One"), ["Accept-Encoding", "X-One"]);
    }
}
