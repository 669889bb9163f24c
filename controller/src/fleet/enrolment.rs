//! The first conversation with a new host: one request, one answer.

use std::time::Duration;

use hostler_protocol::message::{EnrolRequest, Enrolled, ToAgent, ToController, close};
use quinn::{Connection, SendStream, VarInt};

use super::Fleet;
use super::answers::{self, Refused, refused};
use super::frames::FrameReader;
use crate::app::fleet::{EnrolError, Enrolment};

/// Seconds a new host has for its request.
const REQUEST_SECS: u64 = 10;
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
    if !answers::last(stream, &answer).await {
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

async fn answer(fleet: &Fleet, request: EnrolRequest) -> Result<Enrolled, Refused> {
    answers::common_version((request.version_min, request.version_max))?;
    let csr = answers::request(&request.csr)?;
    let enrolment = Enrolment {
        token: request.token,
        secret: request.secret,
        key_sha256: csr.key_sha256.clone(),
        hostname: request.hostname,
        facts: request.facts,
        certificate_expires_at: fleet.authority.host_certificate_ends(),
    };
    let host = match fleet.app.enrol(enrolment).await {
        Ok(host) => host,
        Err(EnrolError::Refused(refusal)) => return Err(refusal.into()),
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
