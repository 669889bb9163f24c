//! Typed ids: lower-case text, a readable prefix, then 26 characters of Crockford base 32.
//!
//! The 128 bits are 48 bits of milliseconds since the Unix epoch followed by 80 random bits (the
//! ULID layout, <https://github.com/ulid/spec>), so ids of one kind sort by the time they were
//! made. Who makes ids passes time and randomness in; parsing happens once, at the edge.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BODY_CHARS: usize = 26;

/// Why a text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id: expected `{prefix}_` and 26 lower-case base-32 characters")]
pub struct IdError {
    prefix: &'static str,
}

fn encode(unix_ms: u64, random: [u8; 10]) -> String {
    let mut bits = u128::from(unix_ms & 0xffff_ffff_ffff) << 80;
    for (place, byte) in random.iter().rev().enumerate() {
        bits |= u128::from(*byte) << (8 * place);
    }
    (0..BODY_CHARS)
        .rev()
        .map(|place| char::from(ALPHABET[((bits >> (5 * place)) & 31) as usize]))
        .collect()
}

fn check(text: &str, prefix: &'static str) -> Result<(), IdError> {
    let body = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .ok_or(IdError { prefix })?;
    // 26 characters hold 130 bits: the first one may only carry three of them.
    let first_ok = body.as_bytes().first().is_some_and(|c| (b'0'..=b'7').contains(c));
    if body.len() == BODY_CHARS && first_ok && body.bytes().all(in_alphabet) {
        Ok(())
    } else {
        Err(IdError { prefix })
    }
}

/// Whether it is in [`ALPHABET`]; every id that is read from anywhere passes here.
fn in_alphabet(c: u8) -> bool {
    matches!(c, b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z')
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The prefix of this kind of id, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from a time (milliseconds since the Unix epoch) and random bytes.
            #[must_use]
            pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
                Self(format!("{}_{}", $prefix, encode(unix_ms, random)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text, $prefix)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text, $prefix)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A machine with an agent.
    HostId = "host";
    /// A group of environments.
    SiteId = "site";
    /// One deployment of a site on one host.
    EnvironmentId = "env";
    /// One unit of work on one host.
    JobId = "job";
    /// One request for many environments.
    BatchId = "batch";
    /// A directory of the config repository that holds a compose file.
    StackId = "stack";
    /// One look at the config repository.
    RefreshId = "refresh";
    /// A one-time enrolment token.
    EnrolmentTokenId = "enrol";
    /// An API token.
    ApiTokenId = "tok";
    /// One running controller process.
    ControllerId = "ctl";
    /// One boot of an agent process.
    BootId = "boot";
    /// One HTTP request; the correlation id of all that follows from it.
    RequestId = "req";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_alphabet_is_what_is_taken_for_it() {
        for c in 0..=u8::MAX {
            assert_eq!(in_alphabet(c), ALPHABET.contains(&c), "{c}");
        }
    }

    #[test]
    fn an_id_has_the_documented_shape() {
        let id = JobId::from_parts(0, [0; 10]);
        assert_eq!(id.as_str(), "job_00000000000000000000000000");
        let id = JobId::from_parts(0xffff_ffff_ffff, [0xff; 10]);
        assert_eq!(id.as_str(), "job_7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    #[test]
    fn other_kinds_and_other_texts_are_refused() {
        let host = HostId::from_parts(1, [1; 10]);
        assert!(JobId::from_str(host.as_str()).is_err());
        for bad in [
            "",
            "job",
            "job_",
            "job_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "job_0000000000000000000000000O",
            "JOB_00000000000000000000000000",
            "job_000000000000000000000000000",
        ] {
            assert!(JobId::from_str(bad).is_err(), "{bad:?} was taken for a job id");
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip_and_sort_by_time(a in 0u64..1 << 48, b in 0u64..1 << 48, r in any::<[u8; 10]>()) {
            let first = JobId::from_parts(a, r);
            let second = JobId::from_parts(b, r);
            prop_assert_eq!(JobId::from_str(first.as_str()).unwrap(), first.clone());
            prop_assert_eq!(a.cmp(&b), first.cmp(&second));
        }
    }
}
