//! Hosts: enrolled, renamed, revoked, deleted.

use hostler_protocol::id::{EnrolmentTokenId, HostId};
use serde_json::json;

use super::enqueue::{missing, nothing};
use super::job::end;
use super::token::usable_enrolment;
use crate::domain::job::reason;
use crate::domain::validate::{Problems, text};
use crate::domain::{
    Change, Decision, EnrolmentToken, EventKind, Host, HostState, Micros, NewEvent, Refusal,
    RefusalKind, Snapshot, Subject,
};

fn about(host: &Host, kind: EventKind, at: Micros) -> NewEvent {
    NewEvent {
        at,
        kind,
        subject: Subject { host: Some(host.id.clone()), ..Subject::default() },
        document: json!({ "name": host.name }),
    }
}

/// A host that asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrol {
    pub token: EnrolmentTokenId,
    /// SHA-256 of the secret it showed, hex.
    pub secret_sha256: String,
    /// SHA-256 of its public key, hex.
    pub key_sha256: String,
    /// What it calls itself; used if the token names no host.
    pub hostname: String,
    /// The id it gets if it is new.
    pub host_id: HostId,
    pub certificate_expires_at: Micros,
    pub now: Micros,
}

/// The name a host gets: the token's, or its own in lower case.
#[must_use]
pub fn name_for(token: &EnrolmentToken, hostname: &str) -> String {
    token.host_name.clone().unwrap_or_else(|| hostname.to_ascii_lowercase())
}

/// Whom a valid token lets in: the host it let in before, if the same key asks again, or nobody
/// yet. Changes nothing; a certificate is signed for that host before [`enrol`] commits it.
///
/// # Errors
/// `ENROLMENT_DENIED`, `TOKEN_EXPIRED`, `TOKEN_USED`.
pub fn who(snapshot: &Snapshot, asked: &Enrol) -> Result<Decision<EnrolmentToken>, Refusal> {
    usable_enrolment(snapshot, asked).map(|token| nothing(token.clone()))
}

/// Lets a host in, once per token; the same key may ask again and stays the same host.
///
/// # Errors
/// As [`who`]; `INVALID_REQUEST`, `NAME_TAKEN`.
pub fn enrol(snapshot: &Snapshot, asked: &Enrol) -> Result<Decision<Host>, Refusal> {
    let token = usable_enrolment(snapshot, asked)?;
    if token.used_at.is_some() {
        let known = snapshot.host.as_ref().filter(|host| Some(&host.id) == token.host_id.as_ref());
        let known = known.filter(|host| host.state == HostState::Enrolled);
        let mut host = known.cloned().ok_or_else(|| {
            Refusal::new(RefusalKind::Denied, "TOKEN_USED", "the host of this token is gone")
        })?;
        host.certificate_expires_at = asked.certificate_expires_at;
        let changes = vec![Change::UpdateHost(Box::new(host.clone()))];
        return Ok(Decision { changes, events: Vec::new(), reply: host });
    }
    let name = name_for(token, &asked.hostname);
    let mut problems = Problems::default();
    problems.check("/hostname", text::host_name(&name));
    problems.finish()?;
    name_free(snapshot, &name, None)?;
    let host = Host {
        id: asked.host_id.clone(),
        name,
        state: HostState::Enrolled,
        key_sha256: asked.key_sha256.clone(),
        certificate_expires_at: asked.certificate_expires_at,
        facts: json!({}),
        agent_build: None,
        last_seen_at: None,
        connected: false,
        created_at: asked.now,
        revoked_at: None,
    };
    let mut used = token.clone();
    used.used_at = Some(asked.now);
    used.used_by_key_sha256 = Some(asked.key_sha256.clone());
    used.host_id = Some(host.id.clone());
    Ok(Decision {
        events: vec![about(&host, EventKind::HostEnrolled, asked.now)],
        changes: vec![
            Change::InsertHost(Box::new(host.clone())),
            Change::UpdateEnrolmentToken(used),
        ],
        reply: host,
    })
}

fn name_free(snapshot: &Snapshot, name: &str, own: Option<&HostId>) -> Result<(), Refusal> {
    let taken = snapshot.host_named.as_ref();
    if taken.is_some_and(|host| host.name == name && Some(&host.id) != own) {
        let message = format!(
            "there is a host named `{name}` already; rename or delete that one, or make a token \
             that names another"
        );
        let mut refusal = Refusal::new(RefusalKind::Conflict, "NAME_TAKEN", message);
        refusal.fields.push(("/name".to_owned(), "taken".to_owned()));
        return Err(refusal);
    }
    Ok(())
}

/// Another name.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_REQUEST`, `NAME_TAKEN`.
pub fn rename(
    snapshot: &Snapshot,
    id: &HostId,
    name: &str,
    now: Micros,
) -> Result<Decision<Host>, Refusal> {
    let host = snapshot.host.as_ref().ok_or_else(|| missing("host", id))?;
    let mut problems = Problems::default();
    problems.check("/name", text::host_name(name));
    problems.finish()?;
    name_free(snapshot, name, Some(id))?;
    let renamed = Host { name: name.to_owned(), ..host.clone() };
    if renamed == *host {
        return Ok(nothing(renamed));
    }
    Ok(Decision {
        events: vec![about(&renamed, EventKind::HostRenamed, now)],
        changes: vec![Change::UpdateHost(Box::new(renamed.clone()))],
        reply: renamed,
    })
}

/// Shuts a host out for good and ends every job of it: nobody can settle them any more. Asked
/// again, it changes nothing.
///
/// # Errors
/// `NOT_FOUND`.
pub fn revoke(snapshot: &Snapshot, id: &HostId, now: Micros) -> Result<Decision<Host>, Refusal> {
    let host = snapshot.host.as_ref().ok_or_else(|| missing("host", id))?;
    match host.state {
        HostState::Revoked => return Ok(nothing(host.clone())),
        HostState::Enrolled => {}
    }
    let revoked = Host { state: HostState::Revoked, revoked_at: Some(now), ..host.clone() };
    let mut changes = vec![Change::UpdateHost(Box::new(revoked.clone()))];
    let mut events = vec![about(&revoked, EventKind::HostRevoked, now)];
    let ended = snapshot.host_jobs.iter().filter_map(|job| end(job, reason::HOST_REVOKED, now));
    for (change, told) in ended {
        changes.push(change);
        events.push(told);
    }
    Ok(Decision { changes, events, reply: revoked })
}

/// Forgets a revoked host that has no environments.
///
/// # Errors
/// `NOT_FOUND`, `HOST_NOT_REVOKED`, `HOST_NOT_EMPTY`.
pub fn delete(snapshot: &Snapshot, id: &HostId, now: Micros) -> Result<Decision<()>, Refusal> {
    let host = snapshot.host.as_ref().ok_or_else(|| missing("host", id))?;
    let conflict = |code, message| Err(Refusal::new(RefusalKind::Conflict, code, message));
    if host.state != HostState::Revoked {
        return conflict("HOST_NOT_REVOKED", "revoke the host first".to_owned());
    }
    if let Some(first) = snapshot.host_environments.first() {
        let named = format!("{}/{}", first.doc.site, first.doc.name);
        let count = snapshot.host_environments.len();
        let message = format!("it still has {count} environments ({named} is one): delete them");
        return conflict("HOST_NOT_EMPTY", message);
    }
    Ok(Decision {
        changes: vec![Change::DeleteHost(host.id.clone())],
        events: vec![about(host, EventKind::HostDeleted, now)],
        reply: (),
    })
}
