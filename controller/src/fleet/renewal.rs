//! A new certificate for a host that is enrolled: decided first, signed then. If the signature
//! fails or the answer is lost, the host asks again with the same key.

use hostler_protocol::id::HostId;

use super::Fleet;
use super::answers::{self, Refused, refused};
use crate::domain::decide::renew::Renew;
use crate::pki::{ClaimedIdentity, Request};
use crate::store::TransactError;

/// Certifies a new key for a host over its live session; the chain, leaf first.
pub(super) async fn over_session(
    fleet: &Fleet,
    shown: &ClaimedIdentity,
    csr: &[u8],
) -> Result<Vec<Vec<u8>>, Refused> {
    let answer = renew(fleet, shown, csr).await;
    let result = if answer.is_ok() { "renewed" } else { "refused" };
    metrics::counter!("hostler_certificate_renewals_total", "result" => result).increment(1);
    match &answer {
        Ok(_) => tracing::info!(host.id = %shown.host, "a host got a certificate for a new key"),
        Err(Refused { code, message }) => {
            tracing::warn!(host.id = %shown.host, code, reason = message, "a host got no new certificate");
        }
    }
    answer
}

async fn renew(
    fleet: &Fleet,
    shown: &ClaimedIdentity,
    csr: &[u8],
) -> Result<Vec<Vec<u8>>, Refused> {
    let request = answers::request(csr)?;
    let asked = asked(fleet, &shown.host, shown.key_sha256.clone(), &request);
    fleet.app.renew_certificate(asked).await.map_err(refusal)?;
    sign(fleet, &shown.host, &request)
}

/// A host that has proven one key asks for a certificate for another.
pub(super) fn asked(fleet: &Fleet, host: &HostId, key_sha256: String, request: &Request) -> Renew {
    Renew {
        host: host.clone(),
        key_sha256,
        new_key_sha256: request.key_sha256.clone(),
        certificate_expires_at: fleet.authority.host_certificate_ends(),
    }
}

/// The chain of a certificate for a key that was accepted as the host's candidate.
pub(super) fn sign(
    fleet: &Fleet,
    host: &HostId,
    request: &Request,
) -> Result<Vec<Vec<u8>>, Refused> {
    fleet.authority.sign_host(request, host).map(|signed| signed.chain).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "signing failed");
        unavailable()
    })
}

/// What the host is told when it was not accepted.
pub(super) fn refusal(error: TransactError) -> Refused {
    match error {
        TransactError::Refused(refusal) => refusal.into(),
        TransactError::Store(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "a host's new key could not be entered");
            unavailable()
        }
    }
}

pub(super) fn unavailable() -> Refused {
    refused("UNAVAILABLE", "the controller cannot give certificates just now: try again later")
}
