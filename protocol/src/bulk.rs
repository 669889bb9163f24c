//! Bundles on their way to a host: asked for one thing per stream, on a connection of their own.
//!
//! The agent connects with [`crate::ALPN_BULK`] and its client certificate, opens a bidirectional
//! stream for each thing it wants, says what that is in one frame and ends its side. The controller
//! answers with one frame; after [`Answer::Found`] the rest of the stream is the thing's own bytes,
//! from the offset asked for to its end. Frames are those of [`crate::codec`], but small
//! ([`FRAME_BYTES_MAX`]), so that whoever reads one takes nothing of what follows it.
//!
//! Append-only, as [`crate::message`]: `contracts/wire/` holds the golden bytes.

use serde::{Deserialize, Serialize};

use crate::codec::{FrameError, HEADER_BYTES};

/// Largest payload of a frame here, in bytes.
pub const FRAME_BYTES_MAX: usize = 4 * 1024;
/// Streams one host is answered on at once; more wait.
pub const STREAMS_MAX: u32 = 4;
/// Seconds without anything asked or answered after which the controller ends a connection.
pub const IDLE_SECS: u64 = 15;

/// What an agent wants: the first and only frame on its side of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The bytes of a bundle's manifest ([`crate::bundle::Manifest::bytes`]).
    Manifest { bundle: String, offset: u64 },
    /// The bytes of a blob that the bundle's manifest names.
    Blob { bundle: String, sha256: String, offset: u64 },
}

/// What the controller says before the bytes, or instead of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// All of it has `bytes` bytes; those from the offset on follow.
    Found { bytes: u64 },
    /// Nothing follows. The code is one of [`code`]'s; the message is for people.
    Refused { code: String, message: String },
}

/// Codes of refusals. Append-only; an unknown one means [`code::UNAVAILABLE`].
pub mod code {
    /// This controller does not have it, or does not give it to this host: it does not say which.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// What is stored is not what its name says; it was set aside.
    pub const DAMAGED: &str = "BUNDLE_DAMAGED";
    /// The question makes no sense: no digest, an offset past the end.
    pub const INVALID: &str = "INVALID";
    /// It cannot be given just now; asking again may help.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
}

/// Codes streams are reset with, in either direction. Append-only.
pub mod reset {
    /// The rest cannot be read: what has arrived is good as far as it goes.
    pub const BROKEN: u32 = 1;
    /// The other side took too long.
    pub const SLOW: u32 = 2;
}

impl Ask {
    /// The bundle it is about.
    #[must_use]
    pub fn bundle(&self) -> &str {
        match self {
            Self::Manifest { bundle, .. } | Self::Blob { bundle, .. } => bundle,
        }
    }

    /// The first byte that is wanted.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match self {
            Self::Manifest { offset, .. } | Self::Blob { offset, .. } => *offset,
        }
    }
}

/// How many bytes of payload follow a frame's header.
///
/// # Errors
/// [`FrameError::TooLarge`] or [`FrameError::Empty`]: the stream is of no further use.
pub fn payload_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let bytes = u32::from_be_bytes(header) as usize;
    match bytes {
        0 => Err(FrameError::Empty),
        _ if bytes > FRAME_BYTES_MAX => {
            Err(FrameError::TooLarge { bytes, limit_bytes: FRAME_BYTES_MAX })
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn a_header_says_what_follows_and_no_more_than_a_little() {
        let ask = Ask::Blob { bundle: "ab".repeat(32), sha256: "cd".repeat(32), offset: u64::MAX };
        let frame = encode(&ask).unwrap();
        let (header, payload) = frame.split_first_chunk().unwrap();
        assert_eq!(payload_bytes(*header), Ok(payload.len()));
        assert_eq!(decode::<Ask>(payload), Ok(ask.clone()));
        assert_eq!((ask.offset(), ask.bundle().len()), (u64::MAX, 64));
        assert_eq!(payload_bytes([0; 4]), Err(FrameError::Empty));
        assert_eq!(payload_bytes([0, 0, 0x10, 0]), Ok(FRAME_BYTES_MAX));
        let too_large = FrameError::TooLarge { bytes: 4097, limit_bytes: FRAME_BYTES_MAX };
        assert_eq!(payload_bytes([0, 0, 0x10, 1]), Err(too_large));
    }
}
