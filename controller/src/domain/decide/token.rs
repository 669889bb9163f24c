//! Tokens: made, forgotten, revoked. Secrets come in as hashes.

use hostler_protocol::id::{ApiTokenId, EnrolmentTokenId};
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::enqueue::{missing, nothing};
use crate::domain::validate::{Problems, text};
use crate::domain::{
    ApiToken, Change, Decision, EnrolmentToken, EventKind, Host, Micros, NewEvent, Refusal,
    RefusalKind, Snapshot, Subject,
};

/// How long an enrolment token lives if nobody says otherwise, in seconds.
pub const ENROLMENT_TTL_SECS: u64 = 900;
/// Longest life of an enrolment token, in seconds.
pub const ENROLMENT_TTL_SECS_MAX: u64 = 86_400;
/// Shortest life of an enrolment token, in seconds.
pub const ENROLMENT_TTL_SECS_MIN: u64 = 60;
/// Longest life of an API token, in seconds.
pub const API_TTL_SECS_MAX: u64 = 10 * 366 * 86_400;
/// Longest name of an API token, in bytes.
pub const API_TOKEN_NAME_BYTES_MAX: usize = 128;

fn event(kind: EventKind, document: serde_json::Value, at: Micros) -> NewEvent {
    NewEvent { at, kind, subject: Subject::default(), document }
}

/// A new enrolment token.
///
/// # Errors
/// `INVALID_REQUEST`; `NAME_TAKEN` when a host has the name already.
pub fn create_enrolment(
    snapshot: &Snapshot,
    id: EnrolmentTokenId,
    secret_sha256: String,
    host_name: Option<String>,
    ttl_secs: Option<u64>,
    now: Micros,
) -> Result<Decision<EnrolmentToken>, Refusal> {
    let ttl_secs = ttl_secs.unwrap_or(ENROLMENT_TTL_SECS);
    let mut problems = Problems::default();
    if let Some(name) = &host_name {
        problems.check("/host_name", text::host_name(name));
    }
    if !(ENROLMENT_TTL_SECS_MIN..=ENROLMENT_TTL_SECS_MAX).contains(&ttl_secs) {
        let range = format!("from {ENROLMENT_TTL_SECS_MIN} to {ENROLMENT_TTL_SECS_MAX}");
        problems.add("/ttl_secs", range);
    }
    problems.finish()?;
    if host_name.is_some() && snapshot.host_named.as_ref().is_some_and(Host::holds_name) {
        let message = "there is a host of this name already";
        let mut refusal = Refusal::new(RefusalKind::Conflict, "NAME_TAKEN", message);
        refusal.fields.push(("/host_name".to_owned(), "taken".to_owned()));
        return Err(refusal);
    }
    let token = EnrolmentToken {
        id,
        secret_sha256,
        host_name,
        created_at: now,
        expires_at: now.plus_secs(ttl_secs),
        used_at: None,
        used_by_key_sha256: None,
        host_id: None,
    };
    let document = json!({ "id": token.id.as_str(), "host_name": token.host_name });
    Ok(Decision {
        events: vec![event(EventKind::EnrolmentTokenCreated, document, now)],
        changes: vec![Change::InsertEnrolmentToken(token.clone())],
        reply: token,
    })
}

/// Forgets an enrolment token: nobody can use it any more. A host it let in stays.
///
/// # Errors
/// `NOT_FOUND`.
pub fn delete_enrolment(
    snapshot: &Snapshot,
    id: &EnrolmentTokenId,
    now: Micros,
) -> Result<Decision<()>, Refusal> {
    let token = snapshot.enrolment_token.as_ref().ok_or_else(|| missing("enrolment token", id))?;
    let document = json!({ "id": token.id.as_str() });
    Ok(Decision {
        changes: vec![Change::DeleteEnrolmentToken(token.id.clone())],
        events: vec![event(EventKind::EnrolmentTokenDeleted, document, now)],
        reply: (),
    })
}

/// A new API token.
///
/// # Errors
/// `INVALID_REQUEST`.
pub fn create_api(token: ApiToken, now: Micros) -> Result<Decision<ApiToken>, Refusal> {
    let mut problems = Problems::default();
    let name_ok = (1..=API_TOKEN_NAME_BYTES_MAX).contains(&token.name.len())
        && !token.name.chars().any(char::is_control);
    if !name_ok {
        let detail = format!("a token's name has 1 to {API_TOKEN_NAME_BYTES_MAX} bytes");
        problems.add("/name", detail);
    }
    let latest = now.plus_secs(API_TTL_SECS_MAX);
    if token.expires_at.is_some_and(|at| at <= now || at > latest) {
        problems.add("/expires_at", "in the future, and at most ten years from now");
    }
    problems.finish()?;
    let document = json!({ "id": token.id.as_str(), "scope": token.scope.as_str() });
    Ok(Decision {
        events: vec![event(EventKind::ApiTokenCreated, document, now)],
        changes: vec![Change::InsertApiToken(token.clone())],
        reply: token,
    })
}

/// Ends an API token. Asked again, it changes nothing.
///
/// # Errors
/// `NOT_FOUND`.
pub fn revoke_api(
    snapshot: &Snapshot,
    id: &ApiTokenId,
    now: Micros,
) -> Result<Decision<ApiToken>, Refusal> {
    let token = snapshot.api_token.as_ref().ok_or_else(|| missing("API token", id))?;
    if token.revoked_at.is_some() {
        return Ok(nothing(token.clone()));
    }
    let revoked = ApiToken { revoked_at: Some(now), ..token.clone() };
    let document = json!({ "id": token.id.as_str() });
    Ok(Decision {
        events: vec![event(EventKind::ApiTokenRevoked, document, now)],
        changes: vec![Change::UpdateApiToken(revoked.clone())],
        reply: revoked,
    })
}

/// Compares two texts without telling by its time where they differ.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    bool::from(one.as_bytes().ct_eq(other.as_bytes()))
}
