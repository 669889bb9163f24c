//! The field `payload` of a form: GitHub sends its JSON so, if its webhook is set to it.

/// The value of the form's field `payload`, decoded; `None` if there is none or it is not well
/// formed.
pub(super) fn payload(body: &[u8]) -> Option<Vec<u8>> {
    let field =
        body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"payload="))?;
    let mut decoded = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    Some(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found_and_decoded() {
        let decoded = payload(b"a=b&payload=%7B%22a+b%22%3A1%7D&c=d");
        assert_eq!(decoded.as_deref(), Some(&b"{\"a b\":1}"[..]));
        assert_eq!(payload(b"payload=%e2%82%AC").as_deref(), Some("€".as_bytes()));
        for bad in [&b"payload=%7"[..], b"payload=%zz", b"xpayload=1", b"", b"payload=%+1"] {
            assert_eq!(payload(bad), None);
        }
    }
}
