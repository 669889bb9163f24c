//! What must hold of the decoder for any bytes.

use hostler_protocol::FRAME_BYTES_MAX;
use hostler_protocol::codec::{self, Decoder, FrameError};
use hostler_protocol::message::{ToAgent, ToController};

/// Cuts bytes into frames in two ways and decodes them: no panic, the same payloads however the
/// bytes arrive, and what decodes encodes to the same bytes again.
pub(crate) fn decoder(bytes: &[u8]) {
    let whole = payloads([bytes].into_iter());
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 7;
    let pieces = payloads(bytes.chunks(step));
    assert_eq!(whole, pieces, "the cut depends on how the bytes arrive");
    for payload in &whole.0 {
        assert!(payload.len() <= FRAME_BYTES_MAX);
        round_trip::<ToAgent>(payload);
        round_trip::<ToController>(payload);
    }
    // Bytes that are no frame must not be a message either, or be exactly one.
    round_trip::<ToAgent>(bytes);
    round_trip::<ToController>(bytes);
}

fn payloads<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for piece in pieces {
        decoder.ingest(piece);
        loop {
            match decoder.next_payload() {
                Ok(Some(payload)) => found.push(payload),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
    payload: &[u8],
) {
    if let Ok(message) = codec::decode::<T>(payload) {
        let frame = codec::encode(&message).expect("what was decoded fits a frame");
        let again = codec::decode::<T>(&frame[codec::HEADER_BYTES..]);
        assert_eq!(again.as_ref(), Ok(&message), "a message changes when it is passed on");
    }
}
