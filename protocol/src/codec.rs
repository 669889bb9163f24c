//! Frames: a 4-byte big-endian length, then that many bytes of one encoded message.
//!
//! The only file that names bincode (pinned: 3.0.0 is a deliberate non-release, see
//! RUSTSEC-2025-0141). Its standard configuration: little-endian variable-length integers, enum
//! variants by position. Two of its habits are corrected here: trailing bytes are an error, and
//! lengths are bounded before anything is allocated.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FRAME_BYTES_MAX;

/// Bytes of the length in front of each frame.
pub const HEADER_BYTES: usize = 4;

/// Why bytes are not a frame or a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length in the header is over the limit: the stream is of no further use.
    #[error("a frame of {bytes} bytes; the limit is {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: usize },
    /// A frame of no bytes carries no message.
    #[error("an empty frame")]
    Empty,
    /// The stream ended inside a frame.
    #[error("the stream ended {missing_bytes} bytes before the end of a frame")]
    Truncated { missing_bytes: usize },
    /// The payload is not a known message.
    #[error("a frame that is no known message: {reason}")]
    Undecodable { reason: String },
    /// The payload goes on after its message.
    #[error("{trailing_bytes} bytes after the message in a frame")]
    Trailing { trailing_bytes: usize },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

/// Encodes a message as one frame, header included.
///
/// # Errors
/// [`FrameError::TooLarge`] if the message does not fit a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let payload = bincode::serde::encode_to_vec(message, config())
        .map_err(|error| FrameError::Undecodable { reason: error.to_string() })?;
    if payload.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: payload.len(), limit_bytes: FRAME_BYTES_MAX });
    }
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&payload);
    Ok(frame)
}

/// Decodes the payload of one frame; all of it must be consumed.
///
/// # Errors
/// [`FrameError::Undecodable`] for an unknown variant or a short payload, [`FrameError::Trailing`]
/// if bytes are left over.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    let (message, consumed) = bincode::serde::decode_from_slice(payload, config())
        .map_err(|error| FrameError::Undecodable { reason: error.to_string() })?;
    if consumed == payload.len() {
        Ok(message)
    } else {
        Err(FrameError::Trailing { trailing_bytes: payload.len() - consumed })
    }
}

/// Cuts a byte stream into frame payloads, however the bytes arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes of the stream.
    pub fn ingest(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole payload, or `None` until more bytes have come.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::Empty`] as soon as the header says so.
    pub fn next_payload(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let payload = self.buffer[HEADER_BYTES..HEADER_BYTES + length].to_vec();
        self.buffer.drain(..HEADER_BYTES + length);
        if self.buffer.is_empty() {
            // Most streams are silent most of the time: one large frame must not be paid for ever.
            self.buffer = Vec::new();
        }
        Ok(Some(payload))
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if it ends inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let whole = match self.length()? {
            Some(length) => HEADER_BYTES + length,
            None => HEADER_BYTES,
        };
        Err(FrameError::Truncated { missing_bytes: whole.saturating_sub(self.buffer.len()) })
    }

    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*header) as usize;
        match bytes {
            0 => Err(FrameError::Empty),
            _ if bytes > FRAME_BYTES_MAX => {
                Err(FrameError::TooLarge { bytes, limit_bytes: FRAME_BYTES_MAX })
            }
            _ => Ok(Some(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ToAgent, ToController};
    use proptest::prelude::*;

    #[test]
    fn trailing_bytes_are_refused() {
        let frame = encode(&ToAgent::HeartbeatAck { sequence: 7 }).unwrap();
        let mut payload = frame[HEADER_BYTES..].to_vec();
        payload.push(0);
        assert_eq!(decode::<ToAgent>(&payload), Err(FrameError::Trailing { trailing_bytes: 1 }));
    }

    #[test]
    fn a_huge_length_is_refused_from_its_header_alone() {
        let mut decoder = Decoder::new();
        decoder.ingest(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.next_payload(), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn a_length_inside_the_payload_cannot_allocate_more_than_a_frame() {
        // Variant 3 (`Rejected`) with a byte vector that claims 2^62 bytes.
        let payload = [3, 0, 0, 253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
        assert!(matches!(decode::<ToController>(&payload), Err(FrameError::Undecodable { .. })));
    }

    #[test]
    fn a_decoder_between_frames_keeps_no_memory() {
        let mut decoder = Decoder::new();
        let message = "long".repeat(FRAME_BYTES_MAX / 8);
        let long = ToAgent::EnrolRefused { code: "LONG".to_owned(), message };
        decoder.ingest(&encode(&long).unwrap());
        assert!(decoder.next_payload().unwrap().is_some());
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_says_so() {
        let frame = encode(&ToAgent::HeartbeatAck { sequence: 7 }).unwrap();
        let mut decoder = Decoder::new();
        decoder.ingest(&frame[..frame.len() - 1]);
        assert_eq!(decoder.next_payload(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated { missing_bytes: 1 }));
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
            sequences in proptest::collection::vec(any::<u64>(), 1..20),
            cuts in proptest::collection::vec(1usize..7, 1..80),
        ) {
            let stream: Vec<u8> = sequences
                .iter()
                .flat_map(|sequence| encode(&ToAgent::HeartbeatAck { sequence: *sequence }).unwrap())
                .collect();
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            let mut rest = stream.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = (*cuts.next().unwrap()).min(rest.len());
                decoder.ingest(&rest[..cut]);
                rest = &rest[cut..];
                while let Some(payload) = decoder.next_payload().unwrap() {
                    match decode::<ToAgent>(&payload).unwrap() {
                        ToAgent::HeartbeatAck { sequence } => seen.push(sequence),
                        ToAgent::Welcome(_)
                        | ToAgent::Refused { .. }
                        | ToAgent::Run { .. }
                        | ToAgent::Cancel { .. }
                        | ToAgent::Ack { .. }
                        | ToAgent::Drain { .. }
                        | ToAgent::Enrolled(_)
                        | ToAgent::EnrolRefused { .. }
                        | ToAgent::Renewed(_)
                        | ToAgent::RenewRefused { .. }
                        | ToAgent::Challenge(_) => prop_assert!(false, "another message"),
                    }
                }
            }
            prop_assert_eq!(seen, sequences);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(decode::<ToAgent>(&bytes));
            drop(decode::<ToController>(&bytes));
            let mut decoder = Decoder::new();
            decoder.ingest(&bytes);
            while let Ok(Some(_)) = decoder.next_payload() {}
        }
    }
}
