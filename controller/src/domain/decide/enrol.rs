//! A one-time token becomes a host.
//!
//! Burning the token, recording the key that burnt it and making the host are one unit, so that a
//! lost answer costs nothing: for a while the same key gets the same host again.

use hostler_protocol::id::HostId;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::renew::unused;
use crate::domain::{
    Change, Decision, EventKind, Host, HostState, Labels, Micros, NewEvent, Refusal, RefusalKind,
    Snapshot, Subject,
};

/// For how long the key that used a token gets the same host again, in seconds.
pub const SAME_KEY_SECS: u64 = 600;
/// Longest host name, in bytes.
pub const HOST_NAME_BYTES_MAX: usize = 253;

/// A host that wants to enrol. The snapshot holds its token and whoever has its name already.
#[derive(Debug, Clone)]
pub struct Enrol {
    /// SHA-256 of the secret that was shown, lower-case hex.
    pub secret_sha256: String,
    /// SHA-256 of the host's public key info, lower-case hex; its request proved the key.
    pub key_sha256: String,
    /// The name it gets: the token's or, where that has none, its own.
    pub name: String,
    /// The id it gets if it is new.
    pub new_host: HostId,
    pub certificate_expires_at: Micros,
    pub facts: serde_json::Value,
}

/// Decides about an enrolment; the reply is the host's id.
///
/// # Errors
/// `TOKEN_INVALID`, `TOKEN_USED`, `TOKEN_EXPIRED`, `HOST_NAME_INVALID`, `HOST_NAME_TAKEN`,
/// `KEY_BANNED`, `KEY_TAKEN`.
pub fn enrol(snapshot: &Snapshot, enrol: &Enrol, now: Micros) -> Result<Decision<HostId>, Refusal> {
    let denied = |code, message: &str| Refusal::new(RefusalKind::Denied, code, message);
    let token = snapshot.enrolment_token.as_ref().filter(|token| {
        bool::from(token.secret_sha256.as_bytes().ct_eq(enrol.secret_sha256.as_bytes()))
    });
    // An unknown id and a wrong secret look the same from outside.
    let Some(token) = token else {
        return Err(denied(
            "TOKEN_INVALID",
            "no such enrolment token here: check that the join string is whole and this controller's, or make a new one",
        ));
    };
    if let (Some(used_at), Some(host)) = (token.used_at, &token.host_id) {
        let same_key = token.used_by_key_sha256.as_deref() == Some(enrol.key_sha256.as_str());
        if same_key && now <= used_at.plus_secs(SAME_KEY_SECS) {
            return Ok(Decision { changes: Vec::new(), events: Vec::new(), reply: host.clone() });
        }
        return Err(denied(
            "TOKEN_USED",
            "this enrolment token was used before: each enrols one host; make a new one",
        ));
    }
    if now >= token.expires_at {
        return Err(denied(
            "TOKEN_EXPIRED",
            "this enrolment token has expired: make a new one and use it within its time",
        ));
    }
    check_name(&enrol.name)?;
    unused(snapshot, None)?;
    if snapshot.host_named.as_ref().is_some_and(Host::holds_name) {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            "HOST_NAME_TAKEN",
            format!(
                "a host named {} exists already: make an enrolment token with another name",
                enrol.name
            ),
        ));
    }
    let mut burnt = token.clone();
    burnt.used_at = Some(now);
    burnt.used_by_key_sha256 = Some(enrol.key_sha256.clone());
    burnt.host_id = Some(enrol.new_host.clone());
    let event = NewEvent {
        at: now,
        kind: EventKind::HostEnrolled,
        subject: Subject { host: Some(enrol.new_host.clone()), ..Subject::default() },
        document: json!({ "name": enrol.name, "token_id": token.id, "key_sha256": enrol.key_sha256 }),
    };
    Ok(Decision {
        changes: vec![
            Change::InsertHost(Box::new(new_host(enrol, now))),
            Change::UpdateEnrolmentToken(burnt),
        ],
        events: vec![event],
        reply: enrol.new_host.clone(),
    })
}

fn new_host(enrol: &Enrol, now: Micros) -> Host {
    Host {
        id: enrol.new_host.clone(),
        name: enrol.name.clone(),
        state: HostState::Enrolled,
        key_sha256: enrol.key_sha256.clone(),
        certificate_expires_at: enrol.certificate_expires_at,
        candidate: None,
        certificate_renewed_at: None,
        recoveries: 0,
        recovered_at: None,
        clock_skew_ms: None,
        facts: enrol.facts.clone(),
        labels: Labels::new(),
        agent_build: None,
        last_seen_at: None,
        connected: false,
        held_at: None,
        created_at: now,
        revoked_at: None,
        revoked_as: None,
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-';
    let ends_ok = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    if bytes.len() <= HOST_NAME_BYTES_MAX
        && bytes.iter().copied().all(good)
        && ends_ok(bytes.first())
        && ends_ok(bytes.last())
    {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Invalid,
        "HOST_NAME_INVALID",
        "the host's own name is no host name: make an enrolment token that names the host",
    ))
}

#[cfg(test)]
#[path = "enrol_tests.rs"]
mod tests;
