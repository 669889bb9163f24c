//! The return of a host whose certificate has ended: it proves the key of its last one.
//!
//! Four frames, each awaited for a bounded time, and one signature checked, whoever asks: nothing
//! here depends on whether the host exists until its key is proven.

use std::time::Duration;

use hostler_protocol::codec;
use hostler_protocol::message::{
    Challenge, RecoverProof, RecoverRequest, Renewed, ToAgent, ToController, close,
};
use hostler_protocol::recovery::{EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES, statement};
use quinn::{Connection, SendStream, VarInt};

use super::Fleet;
use super::answers::{self, Refused, refused};
use super::frames::FrameReader;
use super::renewal::{self, unavailable};
use crate::pki;

/// Seconds a host has for each of its two frames.
const FRAME_SECS: u64 = 10;

/// What is asked and answered on one stream.
struct Talk {
    send: SendStream,
    frames: FrameReader,
}

impl Talk {
    async fn next(&mut self) -> Option<ToController> {
        let frame = tokio::time::timeout(Duration::from_secs(FRAME_SECS), self.frames.next());
        frame.await.ok()?.ok()?
    }

    async fn say(&mut self, message: &ToAgent) -> Option<()> {
        let frame = codec::encode(message).ok()?;
        let written = self.send.write_all(&frame);
        tokio::time::timeout(Duration::from_secs(FRAME_SECS), written).await.ok()?.ok()
    }
}

/// Serves one connection without a client certificate.
pub(super) async fn serve(fleet: &Fleet, connection: &Connection, allowed: bool) {
    let opened = tokio::time::timeout(Duration::from_secs(FRAME_SECS), connection.accept_bi());
    let Ok(Ok((send, receive))) = opened.await else { return malformed(connection) };
    let mut talk = Talk { send, frames: FrameReader::new(receive) };
    let Some(ToController::Recover(asked)) = talk.next().await else {
        return malformed(connection);
    };
    let (source, host) = (connection.remote_address(), asked.host.clone());
    let answer = match recover(fleet, connection, &mut talk, asked, allowed).await {
        Some(Ok(chain)) => {
            count("recovered");
            tracing::warn!(host.id = %host, %source, "a host is back whose certificate had ended");
            ToAgent::Renewed(Renewed { chain })
        }
        Some(Err(Refused { code, message })) => {
            count("refused");
            tracing::warn!(host.id = %host, %source, code, "a host's return was refused");
            ToAgent::RenewRefused { code: code.to_owned(), message }
        }
        None => return malformed(connection),
    };
    if !answers::last(talk.send, &answer).await {
        tracing::debug!(%source, "the answer to a return did not arrive; the host may ask again");
    }
    connection.close(VarInt::from_u32(close::DONE), b"");
}

fn malformed(connection: &Connection) {
    // Whoever only wanted to see the challenge has closed by itself.
    let looked = connection.close_reason().is_some();
    count(if looked { "abandoned" } else { "malformed" });
    connection.close(VarInt::from_u32(close::PROTOCOL), b"expected a host's return");
}

fn count(result: &'static str) {
    metrics::counter!("hostler_host_recoveries_total", "result" => result).increment(1);
}

/// The chain of the new certificate; `None` if the other side does not keep to the order.
async fn recover(
    fleet: &Fleet,
    connection: &Connection,
    talk: &mut Talk,
    asked: RecoverRequest,
    allowed: bool,
) -> Option<Result<Vec<Vec<u8>>, Refused>> {
    if let Err(refused) = answers::common_version((asked.version_min, asked.version_max)) {
        return Some(Err(refused));
    }
    if !allowed {
        let message = "too many hosts come back just now: try again in a minute";
        return Some(Err(refused("RATE_LIMITED", message)));
    }
    let clock = &fleet.app.clock;
    let Ok(nonce) = clock.random::<NONCE_BYTES>() else { return Some(Err(unavailable())) };
    let challenge = Challenge { nonce: nonce.to_vec(), clock_us: clock.now().0 };
    talk.say(&ToAgent::Challenge(challenge)).await?;
    let Some(ToController::Prove(proof)) = talk.next().await else { return None };
    let mut keying = [0; EXPORTER_BYTES];
    if connection.export_keying_material(&mut keying, EXPORTER_LABEL, b"").is_err() {
        return Some(Err(unavailable()));
    }
    Some(proven(fleet, &asked, &keying, &nonce, proof).await)
}

async fn proven(
    fleet: &Fleet,
    asked: &RecoverRequest,
    keying: &[u8; EXPORTER_BYTES],
    nonce: &[u8; NONCE_BYTES],
    proof: RecoverProof,
) -> Result<Vec<Vec<u8>>, Refused> {
    let request = answers::request(&proof.csr)?;
    let statement = statement(keying, nonce, &asked.host, &proof.csr);
    let key = pki::prove(&proof.public_key, &statement, &proof.signature).ok_or_else(|| {
        refused("PROOF_INVALID", "the signature is not that key's over this challenge")
    })?;
    let asked_for = renewal::asked(fleet, &asked.host, key, &request);
    fleet.app.recover_host(asked_for).await.map_err(renewal::refusal)?;
    renewal::sign(fleet, &asked.host, &request)
}
