//! What answers to hosts that want a certificate have in common.

use std::time::Duration;

use hostler_protocol::codec;
use hostler_protocol::message::ToAgent;
use hostler_protocol::session::negotiate;
use hostler_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use quinn::SendStream;

use crate::domain::Refusal;
use crate::pki::Request;

/// Seconds a host has to take an answer.
const ANSWER_SECS: u64 = 5;

/// An answer in the negative: a stable code, and a sentence that says what to do.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) message: String,
}

pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into() }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        refused(refusal.code, refusal.message)
    }
}

/// Whether these versions of an agent meet ours.
pub(super) fn common_version(theirs: (u16, u16)) -> Result<(), Refused> {
    let ours = (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION);
    let Err(mismatch) = negotiate(ours, theirs, "the agent") else { return Ok(()) };
    let upgrade = if mismatch.upgrade == "the agent" { "the agent" } else { "the controller" };
    let message = format!("no common protocol version: upgrade {upgrade}");
    Err(refused("VERSION_MISMATCH", message))
}

/// A signing request that proves its key.
pub(super) fn request(csr: &[u8]) -> Result<Request, Refused> {
    Request::check(csr).map_err(|_| {
        refused(
            "CSR_INVALID",
            "the certificate signing request is not signed by its own P-256 or Ed25519 key",
        )
    })
}

/// Writes the last frame of a stream; whether it arrived.
pub(super) async fn last(mut stream: SendStream, answer: &ToAgent) -> bool {
    let Ok(frame) = codec::encode(answer) else { return false };
    let delivered = async {
        stream.write_all(&frame).await.is_ok()
            && stream.finish().is_ok()
            && stream.stopped().await.is_ok()
    };
    tokio::time::timeout(Duration::from_secs(ANSWER_SECS), delivered).await.unwrap_or(false)
}
