//! One stream of a connection that is made for it: a few frames each way, within a bounded time.

use std::time::Duration;

use hostler_protocol::codec::{self, Decoder, FrameError};
use hostler_protocol::message::{ToAgent, ToController};
use quinn::{Connection, RecvStream, SendStream};

/// How long the controller may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection broke; asking again is safe.
    #[error("the connection broke before the controller answered")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time; asking again is safe.
    #[error("the controller did not answer in time")]
    TimedOut,
    /// The controller answered with something else.
    #[error("the controller's answer cannot be understood")]
    Answer(#[source] FrameError),
}

/// The stream, open.
pub(super) struct Exchange {
    send: SendStream,
    receive: RecvStream,
    decoder: Decoder,
}

fn lost(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ExchangeError {
    ExchangeError::Lost(error.into())
}

impl Exchange {
    pub(super) async fn open(connection: &Connection) -> Result<Self, ExchangeError> {
        let (send, receive) = connection.open_bi().await.map_err(lost)?;
        Ok(Self { send, receive, decoder: Decoder::new() })
    }

    /// Says something and waits for the answer.
    pub(super) async fn ask(&mut self, message: &ToController) -> Result<ToAgent, ExchangeError> {
        let frame = codec::encode(message).map_err(ExchangeError::Answer)?;
        let answer = async {
            self.send.write_all(&frame).await.map_err(lost)?;
            self.hear().await
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| ExchangeError::TimedOut)?
    }

    async fn hear(&mut self) -> Result<ToAgent, ExchangeError> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            if let Some(payload) = self.decoder.next_payload().map_err(ExchangeError::Answer)? {
                return codec::decode(&payload).map_err(ExchangeError::Answer);
            }
            match self.receive.read(&mut bytes).await.map_err(lost)? {
                Some(read) => self.decoder.ingest(&bytes[..read]),
                None => {
                    self.decoder.finish().map_err(ExchangeError::Answer)?;
                    return Err(lost("the controller ended the stream"));
                }
            }
        }
    }
}
