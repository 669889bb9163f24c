//! What runner and session say to each other: the protocol's frames over any byte pipe.

use hostler_protocol::codec::{self, Decoder, FrameError};
use hostler_protocol::id::BootId;
use hostler_protocol::message::{AttemptRef, ToAgent, ToController};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes in flight each way.
pub const PIPE_BYTES: usize = 64 * 1024;

/// From the session to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRunner {
    /// A connection stands: what should `Hello` say?
    Introduce,
    /// The controller has welcomed the agent.
    Online,
    /// A `Run`, `Cancel` or `Ack`.
    Message(ToAgent),
}

/// From the runner to the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRunner {
    /// Answer to `Introduce`.
    Introduction(Introduction),
    /// An `Accepted`, `Rejected`, `Progress` or `Finished`.
    Message(ToController),
}

/// What the runner has to say for itself in a `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    pub boot: BootId,
    pub running: Vec<AttemptRef>,
    pub unacknowledged: Vec<AttemptRef>,
}

/// Why the other end can no longer be understood.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    #[error("the pipe broke")]
    Io(#[from] std::io::Error),
    #[error("the pipe carried something unreadable")]
    Frame(#[from] FrameError),
}

/// Reads frames from a pipe.
#[derive(Debug)]
pub struct PipeReader<R> {
    pipe: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> PipeReader<R> {
    /// A reader at the start of a pipe.
    pub fn new(pipe: R) -> Self {
        Self { pipe, decoder: Decoder::new() }
    }

    /// The next message, or `None` when the other end is gone.
    ///
    /// # Errors
    /// [`PipeError`]; the pipe is of no further use.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, PipeError> {
        loop {
            if let Some(payload) = self.decoder.next_payload()? {
                return Ok(Some(codec::decode(&payload)?));
            }
            let mut bytes = Vec::with_capacity(8 * 1024);
            if self.pipe.read_buf(&mut bytes).await? == 0 {
                self.decoder.finish()?;
                return Ok(None);
            }
            self.decoder.ingest(&bytes);
        }
    }
}

/// Writes one message to a pipe.
///
/// # Errors
/// [`PipeError`]; the pipe is of no further use.
pub async fn write<W: AsyncWrite + Unpin, T: Serialize>(
    pipe: &mut W,
    message: &T,
) -> Result<(), PipeError> {
    let frame = codec::encode(message)?;
    Ok(pipe.write_all(&frame).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_larger_than_the_pipe_pass_through_it() {
        let (mut near, far) = tokio::io::duplex(1024);
        let attempt =
            AttemptRef { job: "job_00000000000000000000000001".parse().unwrap(), attempt: 1 };
        let finished = ToController::Finished { attempt, outcome: vec![7; 300_000] };
        let message = FromRunner::Message(finished);
        let expected = message.clone();
        let writer = tokio::spawn(async move { write(&mut near, &message).await });
        let mut reader = PipeReader::new(far);
        assert_eq!(reader.next::<FromRunner>().await.unwrap(), Some(expected));
        writer.await.unwrap().unwrap();
        assert_eq!(reader.next::<FromRunner>().await.unwrap(), None);
    }
}
