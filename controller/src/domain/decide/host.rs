//! Hosts: renamed, revoked, deleted. How one comes to be is decided by enrolment.

use hostler_protocol::id::HostId;
use serde_json::json;

use super::enqueue::{missing, nothing};
use super::job::end;
use crate::domain::job::reason;
use crate::domain::validate::{Problems, text};
use crate::domain::{
    Change, Decision, EventKind, Host, HostState, Micros, NewEvent, Refusal, RefusalKind, Snapshot,
    Subject,
};

fn about(host: &Host, kind: EventKind, at: Micros) -> NewEvent {
    NewEvent {
        at,
        kind,
        subject: Subject { host: Some(host.id.clone()), ..Subject::default() },
        document: json!({ "name": host.name }),
    }
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
