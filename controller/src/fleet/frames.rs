//! Frames over QUIC streams.

use std::time::Duration;

use futures_channel::mpsc;
use futures_util::StreamExt as _;
use hostler_protocol::codec::{self, Decoder, FrameError};
use hostler_protocol::message::ToController;
use quinn::{RecvStream, SendStream};

/// Frames that may wait to be written on one stream.
pub(super) const STREAM_FRAMES_MAX: usize = 16;
/// Bytes taken from a stream at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Seconds the last bytes of a stream may take to be acknowledged.
const FINISH_SECS: u64 = 2;

/// A queue with room for `max` items of one sender; each further sender brings one more place.
///
/// Sessions are many and mostly idle: this kind takes memory for what waits in it, where tokio's
/// keeps blocks of 32 places for as long as it stands.
pub(super) fn channel<T>(max: usize) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel(max.saturating_sub(1))
}

/// Reads whole frames from a stream.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: RecvStream,
    decoder: Decoder,
}

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The agent does not keep to the framing.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection is gone.
    #[error("the stream is gone")]
    Stream(#[source] quinn::ReadError),
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: Decoder::new() }
    }

    /// The next message, `None` at a clean end.
    pub(super) async fn next(&mut self) -> Result<Option<ToController>, ReadError> {
        loop {
            if let Some(payload) = self.decoder.next_payload()? {
                return Ok(Some(codec::decode(&payload)?));
            }
            match self.stream.read_chunk(READ_BYTES_MAX, true).await.map_err(ReadError::Stream)? {
                Some(chunk) => self.decoder.ingest(&chunk.bytes),
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }
}

/// Writes frames in their order; ends the stream when the sender is gone, and waits a bounded time
/// for the agent to have it all.
pub(super) async fn write_all(mut stream: SendStream, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.next().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
    if stream.finish().is_ok() {
        let acknowledged = stream.stopped();
        drop(tokio::time::timeout(Duration::from_secs(FINISH_SECS), acknowledged).await);
    }
}
