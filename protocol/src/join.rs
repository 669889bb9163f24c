//! The join string: all a new host has to know to enrol.
//!
//! `hostler1.` and then, in unpadded URL-safe base 64, a JSON object: `a` the controller's
//! addresses, `p` the pin of its root (lower-case hex SHA-256 of the root's public key info, DER),
//! `t` the token's id, `s` the token's secret. It is a secret as a whole: `Debug` hides it.

use std::fmt;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::id::EnrolmentTokenId;

/// What every join string begins with; the digit is its version.
pub const PREFIX: &str = "hostler1.";
/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 32;
/// Longest join string, in bytes.
pub const JOIN_BYTES_MAX: usize = 4096;
/// Most addresses one join string may name.
pub const ADDRESSES_MAX: usize = 16;

/// A parsed join string.
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// Where the controller listens for agents: `host:port`, at least one.
    pub addresses: Vec<String>,
    /// SHA-256 of the root certificate's public key info (DER).
    pub pin: [u8; 32],
    pub token: EnrolmentTokenId,
    pub secret: [u8; SECRET_BYTES],
}

/// Why a text is not a join string. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Of no version this build knows.
    #[error("not a join string: it must begin with `{PREFIX}`")]
    Prefix,
    /// Longer than [`JOIN_BYTES_MAX`].
    #[error("a join string longer than {JOIN_BYTES_MAX} bytes")]
    TooLong,
    /// Cut short or mistyped.
    #[error("a damaged join string: was it copied whole?")]
    Damaged,
    /// A part is not what it should be.
    #[error("a join string whose {part} is not valid")]
    Part { part: &'static str },
}

#[derive(Serialize, Deserialize)]
struct Document {
    a: Vec<String>,
    p: String,
    t: EnrolmentTokenId,
    s: String,
}

impl Join {
    /// Reads a join string; white space around it is ignored.
    ///
    /// # Errors
    /// [`JoinError`], naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, JoinError> {
        let text = text.trim();
        if text.len() > JOIN_BYTES_MAX {
            return Err(JoinError::TooLong);
        }
        let body = text.strip_prefix(PREFIX).ok_or(JoinError::Prefix)?;
        let json = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| JoinError::Damaged)?;
        let document: Document = serde_json::from_slice(&json).map_err(|_| JoinError::Damaged)?;
        let addresses_ok = (1..=ADDRESSES_MAX).contains(&document.a.len())
            && document.a.iter().all(|address| is_address(address));
        if !addresses_ok {
            return Err(JoinError::Part { part: "controller address" });
        }
        let pin = HEXLOWER.decode(document.p.as_bytes()).ok().and_then(|b| b.try_into().ok());
        let secret =
            BASE64URL_NOPAD.decode(document.s.as_bytes()).ok().and_then(|b| b.try_into().ok());
        Ok(Self {
            addresses: document.a,
            pin: pin.ok_or(JoinError::Part { part: "root pin" })?,
            token: document.t,
            secret: secret.ok_or(JoinError::Part { part: "secret" })?,
        })
    }

    /// The join string.
    #[must_use]
    pub fn format(&self) -> String {
        let document = Document {
            a: self.addresses.clone(),
            p: HEXLOWER.encode(&self.pin),
            t: self.token.clone(),
            s: BASE64URL_NOPAD.encode(&self.secret),
        };
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&crate::job::write(&document)))
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("addresses", &self.addresses)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Whether a text has the shape `host:port`, with an IPv6 address in brackets.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_ok = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        }
    };
    host_ok && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Join {
        Join {
            addresses: vec!["controller.example:7443".to_owned(), "[::1]:7443".to_owned()],
            pin: [0xab; 32],
            token: EnrolmentTokenId::from_parts(1, [2; 10]),
            secret: [7; 32],
        }
    }

    #[test]
    fn a_join_string_has_the_documented_shape() {
        let text = example().format();
        let json = BASE64URL_NOPAD.decode(text.strip_prefix(PREFIX).unwrap().as_bytes()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["a"][1], "[::1]:7443");
        assert_eq!(value["p"].as_str().unwrap(), "ab".repeat(32));
        assert_eq!(value["t"].as_str().unwrap(), example().token.as_str());
        assert_eq!(value["s"].as_str().unwrap(), BASE64URL_NOPAD.encode(&[7; 32]));
        assert_eq!(Join::parse(&format!(" {text}\n")), Ok(example()));
    }

    #[test]
    fn damaged_texts_are_refused_and_say_why() {
        let text = example().format();
        assert_eq!(Join::parse("").unwrap_err(), JoinError::Prefix);
        assert_eq!(Join::parse("hostler9.abc").unwrap_err(), JoinError::Prefix);
        assert_eq!(Join::parse(&text[..text.len() - 5]).unwrap_err(), JoinError::Damaged);
        assert_eq!(Join::parse(&"x".repeat(5000)).unwrap_err(), JoinError::TooLong);
        let nowhere = Join { addresses: Vec::new(), ..example() };
        let part = JoinError::Part { part: "controller address" };
        assert_eq!(Join::parse(&nowhere.format()).unwrap_err(), part);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", example());
        assert!(!shown.contains("secret") && !shown.contains("pin"), "{shown}");
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        for good in ["a:1", "127.0.0.1:65535", "[::1]:7443", "c-1.example:443"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "a", "a:", ":1", "a:0", "a:70000", "::1:5", "[::g]:1", "a b:1", "u@h:1"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(text in "(hostler1\\.)?[ -~]{0,200}") {
            if let Ok(join) = Join::parse(&text) {
                prop_assert_eq!(Join::parse(&join.format()), Ok(join));
            }
        }
    }
}
