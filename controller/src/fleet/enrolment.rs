//! The first conversation with a new host: one request, one answer.

use std::time::Duration;

use hostler_protocol::codec;
use hostler_protocol::message::{EnrolRequest, Enrolled, ToAgent, ToController, close};
use hostler_protocol::session::negotiate;
use hostler_protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use quinn::{Connection, SendStream, VarInt};

use super::Fleet;
use super::frames::FrameReader;
use crate::app::fleet::{EnrolError, Enrolment};
use crate::pki::{HOST_SECS, Request};

/// Seconds a new host has for its request.
const REQUEST_SECS: u64 = 10;
/// Seconds it has to take the answer.
const ANSWER_SECS: u64 = 5;

/// An answer in the negative.
struct Refused {
    code: &'static str,
    message: String,
}

fn refused(code: &'static str, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into() }
}

/// Serves one connection without a client certificate.
pub(super) async fn serve(fleet: &Fleet, connection: &Connection, allowed: bool) {
    let request = tokio::time::timeout(Duration::from_secs(REQUEST_SECS), read(connection)).await;
    let Ok(Some((request, stream))) = request else {
        count("malformed");
        connection.close(VarInt::from_u32(close::PROTOCOL), b"expected one enrolment request");
        return;
    };
    let source = connection.remote_address();
    let token = request.token.clone();
    let answer = if allowed {
        answer(fleet, request).await
    } else {
        Err(refused("RATE_LIMITED", "too many enrolments just now: try again in a minute"))
    };
    let answer = match answer {
        Ok(enrolled) => {
            count("enrolled");
            tracing::info!(
                host.id = %enrolled.host, host.name = %enrolled.name, %source, token.id = %token,
                "a host was enrolled"
            );
            ToAgent::Enrolled(enrolled)
        }
        Err(Refused { code, message }) => {
            count("refused");
            tracing::warn!(code, %source, token.id = %token, "an enrolment was refused");
            ToAgent::EnrolRefused { code: code.to_owned(), message }
        }
    };
    if !write(stream, &answer).await {
        tracing::debug!(%source, "the answer to an enrolment did not arrive; it may ask again");
    }
    connection.close(VarInt::from_u32(close::DONE), b"");
}

fn count(result: &'static str) {
    metrics::counter!("hostler_enrolments_total", "result" => result).increment(1);
}

async fn read(connection: &Connection) -> Option<(EnrolRequest, SendStream)> {
    let (send, receive) = connection.accept_bi().await.ok()?;
    match FrameReader::new(receive).next().await {
        Ok(Some(ToController::Enrol(request))) => Some((request, send)),
        Ok(_) | Err(_) => None,
    }
}

async fn write(mut stream: SendStream, answer: &ToAgent) -> bool {
    let Ok(frame) = codec::encode(answer) else { return false };
    let delivered = async {
        stream.write_all(&frame).await.is_ok()
            && stream.finish().is_ok()
            && stream.stopped().await.is_ok()
    };
    tokio::time::timeout(Duration::from_secs(ANSWER_SECS), delivered).await.unwrap_or(false)
}

async fn answer(fleet: &Fleet, request: EnrolRequest) -> Result<Enrolled, Refused> {
    let ours = (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION);
    let theirs = (request.version_min, request.version_max);
    if let Err(mismatch) = negotiate(ours, theirs, "the agent") {
        let upgrade = if mismatch.upgrade == "the agent" { "the agent" } else { "the controller" };
        return Err(refused(
            "VERSION_MISMATCH",
            format!("no common protocol version: upgrade {upgrade}"),
        ));
    }
    let Ok(csr) = Request::check(&request.csr) else {
        return Err(refused(
            "CSR_INVALID",
            "the certificate signing request is not signed by its own P-256 or Ed25519 key",
        ));
    };
    let enrolment = Enrolment {
        token: request.token,
        secret: request.secret,
        key_sha256: csr.key_sha256.clone(),
        hostname: request.hostname,
        facts: request.facts,
        certificate_secs: HOST_SECS,
    };
    let host = match fleet.app.enrol(enrolment).await {
        Ok(host) => host,
        Err(EnrolError::Refused(refusal)) => return Err(refused(refusal.code, refusal.message)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "an enrolment failed here");
            return Err(unavailable());
        }
    };
    match fleet.authority.sign_host(&csr, &host.id) {
        Ok(signed) => {
            Ok(Enrolled { host: host.id, name: host.name, chain: signed.chain, root: signed.root })
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "signing failed");
            Err(unavailable())
        }
    }
}

fn unavailable() -> Refused {
    refused("UNAVAILABLE", "the controller cannot enrol just now: try again with the same token")
}
