//! One connection to a controller for bundles: a question, the bytes that answer it.

use std::net::SocketAddr;
use std::time::Duration;

use hostler_protocol::bulk::{Answer, Ask, code, payload_bytes};
use hostler_protocol::codec::{self, HEADER_BYTES};
use hostler_protocol::message::close;
use quinn::{Connection, Endpoint, RecvStream};

use crate::net::{self, DialError, Way};
use crate::steps::bundle::BundleError;

/// Seconds until an answer begins: a large blob is held against its name first, and others may be
/// before us.
const ANSWER_SECS: u64 = 60;
/// Seconds until the next bytes of an answer.
const PIECE_SECS: u64 = 30;
/// Bytes taken from a stream at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Why something did not arrive.
#[derive(Debug)]
pub(super) enum Trouble {
    /// This controller has none for this host.
    NotFound,
    /// What this controller has is damaged, or what it sent is not what was asked for.
    Damaged(String),
    /// The connection was not made or broke off, or this controller cannot just now: what has come is
    /// good.
    Cut(String),
    /// This host is not wanted there.
    Unwanted(String),
    /// This host cannot take it.
    Local(BundleError),
}

/// The connection.
pub(super) struct Line {
    endpoint: Endpoint,
    connection: Connection,
}

impl Line {
    pub(super) async fn dial(way: &Way, address: SocketAddr) -> Result<Self, Trouble> {
        let dialled = net::dial(&address.to_string(), address, &way.config).await;
        let (endpoint, connection) = dialled.map_err(|error| of_dialling(&error))?;
        Ok(Self { endpoint, connection })
    }

    /// Ends it.
    pub(super) async fn close(self) {
        self.connection.close(close::DONE.into(), b"");
        net::settle(&self.endpoint).await;
    }

    /// Asks for something; what is to come of it.
    pub(super) async fn open(&self, ask: &Ask) -> Result<Body, Trouble> {
        let answer = tokio::time::timeout(Duration::from_secs(ANSWER_SECS), self.asked(ask));
        let answer = answer.await;
        let (answer, receive) =
            answer.map_err(|_| Trouble::Cut("the controller does not answer".to_owned()))??;
        match answer {
            Answer::Found { bytes } => match bytes.checked_sub(ask.offset()) {
                Some(left) => Ok(Body { bytes, left, receive }),
                None => Err(Trouble::Damaged(format!(
                    "the controller has {bytes} bytes of it, fewer than have come"
                ))),
            },
            Answer::Refused { code, message } => Err(refusal(&code, message)),
        }
    }

    async fn asked(&self, ask: &Ask) -> Result<(Answer, RecvStream), Trouble> {
        let frame = codec::encode(ask).map_err(|error| Trouble::Cut(error.to_string()))?;
        let (mut send, mut receive) =
            self.connection.open_bi().await.map_err(|error| ended(&error))?;
        send.write_all(&frame).await.map_err(|error| self.cut(&error))?;
        // An error means that the stream is gone, which reading tells better.
        send.finish().ok();
        let mut header = [0; HEADER_BYTES];
        receive.read_exact(&mut header).await.map_err(|error| self.cut(&error))?;
        let bytes = payload_bytes(header).map_err(|error| Trouble::Damaged(error.to_string()))?;
        let mut payload = vec![0; bytes];
        receive.read_exact(&mut payload).await.map_err(|error| self.cut(&error))?;
        let answer = codec::decode(&payload).map_err(|e| Trouble::Damaged(e.to_string()))?;
        Ok((answer, receive))
    }

    /// A stream that ended early: the connection knows best why.
    fn cut(&self, error: &dyn std::error::Error) -> Trouble {
        match self.connection.close_reason() {
            Some(reason) => ended(&reason),
            None => Trouble::Cut(error.to_string()),
        }
    }
}

/// What comes after an answer.
pub(super) struct Body {
    /// Bytes of all of it.
    pub(super) bytes: u64,
    left: u64,
    receive: RecvStream,
}

impl Body {
    /// The next bytes; `None` when all have come.
    pub(super) async fn next(&mut self) -> Result<Option<quinn::Chunk>, Trouble> {
        let read = self.receive.read_chunk(READ_BYTES_MAX, true);
        let read = tokio::time::timeout(Duration::from_secs(PIECE_SECS), read).await;
        let read = read.map_err(|_| Trouble::Cut("no more bytes come".to_owned()))?;
        let chunk = read.map_err(|error| match &error {
            quinn::ReadError::ConnectionLost(reason) => ended(reason),
            quinn::ReadError::Reset(_)
            | quinn::ReadError::ClosedStream
            | quinn::ReadError::IllegalOrderedRead
            | quinn::ReadError::ZeroRttRejected => Trouble::Cut(error.to_string()),
        })?;
        let arrived = chunk.as_ref().map_or(0, |chunk| chunk.bytes.len() as u64);
        match (self.left.checked_sub(arrived), &chunk) {
            (Some(left), Some(_)) => self.left = left,
            (Some(0), None) => {}
            (Some(_), None) => return Err(Trouble::Cut("the answer ended early".to_owned())),
            (None, _) => return Err(Trouble::Damaged("more came than was told".to_owned())),
        }
        Ok(chunk)
    }
}

fn refusal(code: &str, message: String) -> Trouble {
    match code {
        code::NOT_FOUND => Trouble::NotFound,
        code::DAMAGED | code::INVALID => Trouble::Damaged(message),
        _ => Trouble::Cut(format!("{message} ({code})")),
    }
}

fn of_dialling(error: &DialError) -> Trouble {
    match error.connection_error() {
        Some(reason) => ended(reason),
        None => Trouble::Cut(error.to_string()),
    }
}

fn ended(reason: &quinn::ConnectionError) -> Trouble {
    let unwanted = [close::REVOKED, close::UNAUTHENTICATED, close::HELD];
    match net::close_code(reason) {
        Some(code) if unwanted.contains(&code) => Trouble::Unwanted(reason.to_string()),
        Some(_) | None if net::is_unknown_there(reason) => {
            Trouble::Cut("the controller is too old to give bundles".to_owned())
        }
        Some(_) | None => Trouble::Cut(reason.to_string()),
    }
}
