//! New keys for hosts that are enrolled: over a live session, or on return with a certificate that
//! has ended.
//!
//! Either way the new key is only a *candidate*: it is accepted beside the committed one, and takes
//! its place when a session proves it. There is at most one; the same key may be asked for again
//! when the answer was lost.

use hostler_protocol::id::HostId;
use hostler_protocol::{CERTIFICATE_BACKDATE_SECS, RETURN_SECS_MAX};
use serde_json::json;

use crate::domain::{
    Candidate, Change, Decision, EventKind, Host, HostState, Micros, NewEvent, Refusal,
    RefusalKind, Revocation, Snapshot, Subject,
};

/// A certificate with more than this left is no reason to come back by its key, in seconds. Two
/// controllers may see its end a little apart.
pub const RETURN_LEFT_SECS_MAX: u64 = 300;

/// A host that has proven one key and wants a certificate for another; the snapshot holds the host
/// and who has the new key.
#[derive(Debug, Clone)]
pub struct Renew {
    pub host: HostId,
    /// SHA-256 of the public key info it has proven, lower-case hex.
    pub key_sha256: String,
    /// The same of the new key; its request proved it.
    pub new_key_sha256: String,
    /// When the certificate of the new key will end.
    pub certificate_expires_at: Micros,
}

fn denied(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Denied, code, message)
}

/// Whether a new key may become this host's: nobody else has it, and it is not banned.
pub(super) fn unused(snapshot: &Snapshot, own: Option<&HostId>) -> Result<(), Refusal> {
    if snapshot.key_banned {
        return Err(denied("KEY_BANNED", "this key belonged to a host that is banned"));
    }
    match &snapshot.key_holder {
        Some(holder) if Some(holder) != own => {
            Err(denied("KEY_TAKEN", "this key is another host's: make a new one"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The host as it is with its new candidate.
fn with_candidate(snapshot: &Snapshot, host: &Host, asked: &Renew) -> Result<Host, Refusal> {
    if asked.new_key_sha256 == host.key_sha256 {
        return Err(denied("KEY_REUSED", "a new certificate is for a new key: make one"));
    }
    unused(snapshot, Some(&host.id))?;
    let candidate = Candidate {
        key_sha256: asked.new_key_sha256.clone(),
        certificate_expires_at: asked.certificate_expires_at,
    };
    Ok(Host { candidate: Some(candidate), ..host.clone() })
}

/// The host, if it may come back or go on: what it has proven is its committed key, it is not
/// revoked, and its certificate did not end too long ago.
fn welcome<'a>(snapshot: &'a Snapshot, asked: &Renew, now: Micros) -> Result<&'a Host, Refusal> {
    // An unknown host and a wrong key look the same from outside.
    let host = snapshot.host.as_ref().filter(|host| host.key_sha256 == asked.key_sha256);
    let host = host.ok_or_else(|| {
        denied("HOST_UNKNOWN", "no host of this id has this key here: enrol it with a new token")
    })?;
    match (host.state, host.revoked_as) {
        (HostState::Enrolled, _) => {}
        (HostState::Revoked, Some(Revocation::Ban)) => {
            return Err(denied("HOST_BANNED", "this host is banned"));
        }
        (HostState::Revoked, Some(Revocation::Evict) | None) => {
            return Err(denied(
                "HOST_REVOKED",
                "this host was revoked: enrol it again with a new token",
            ));
        }
    }
    if now > host.certificate_expires_at.plus_secs(RETURN_SECS_MAX) {
        let days = RETURN_SECS_MAX / 86_400;
        return Err(denied(
            "RETURN_TOO_LATE",
            format!("its certificate ended more than {days} days ago: enrol it with a new token"),
        ));
    }
    Ok(host)
}

/// Decides about a new key asked for over a live session.
///
/// # Errors
/// `HOST_UNKNOWN`, `HOST_REVOKED`, `HOST_BANNED`, `RETURN_TOO_LATE`, `KEY_REUSED`, `KEY_TAKEN`,
/// `KEY_BANNED`.
pub fn renew(snapshot: &Snapshot, asked: &Renew, now: Micros) -> Result<Decision<Host>, Refusal> {
    let host = with_candidate(snapshot, welcome(snapshot, asked, now)?, asked)?;
    let changes = vec![Change::UpdateHost(Box::new(host.clone()))];
    Ok(Decision { changes, events: Vec::new(), reply: host })
}

/// Decides about the return of a host whose certificate has ended. It is counted and told once for
/// each new key, however often that key is asked for.
///
/// # Errors
/// As [`renew`], and `CERTIFICATE_VALID`.
pub fn recover(snapshot: &Snapshot, asked: &Renew, now: Micros) -> Result<Decision<Host>, Refusal> {
    let before = welcome(snapshot, asked, now)?;
    // One that does not hold yet, since the clock was ahead when it was issued, is refused by TLS just
    // as one that has ended.
    let latest_end = asked.certificate_expires_at.plus_secs(CERTIFICATE_BACKDATE_SECS);
    let ahead = before.certificate_expires_at > latest_end;
    if !ahead && before.certificate_expires_at > now.plus_secs(RETURN_LEFT_SECS_MAX) {
        return Err(denied(
            "CERTIFICATE_VALID",
            "this host's certificate has not ended: open a session with it",
        ));
    }
    let mut host = with_candidate(snapshot, before, asked)?;
    let known = before.candidate.as_ref().map(|candidate| &candidate.key_sha256);
    let mut events = Vec::new();
    if known != Some(&asked.new_key_sha256) {
        host.recoveries = host.recoveries.saturating_add(1);
        host.recovered_at = Some(now);
        events.push(NewEvent {
            at: now,
            kind: EventKind::HostRecovered,
            subject: Subject { host: Some(host.id.clone()), ..Subject::default() },
            document: json!({
                "name": host.name,
                "recoveries": host.recoveries,
                "certificate_ended_at_us": before.certificate_expires_at.0,
                "key_sha256": asked.new_key_sha256,
            }),
        });
    }
    let changes = vec![Change::UpdateHost(Box::new(host.clone()))];
    Ok(Decision { changes, events, reply: host })
}

#[cfg(test)]
#[path = "renew_tests.rs"]
mod tests;
