//! Hosts: renamed, revoked, deleted. How one comes to be is decided by enrolment.

use hostler_protocol::id::HostId;
use hostler_protocol::job::JobType;
use serde_json::json;

use super::enqueue::{missing, nothing};
use super::job::{end, nobody_knows};
use crate::domain::job::reason;
use crate::domain::label::{self, LabelChanges};
use crate::domain::validate::{Problems, text};
use crate::domain::{
    BannedKey, Change, Decision, Environment, EventKind, Host, HostState, Job, JobState, Micros,
    NewEvent, Refusal, RefusalKind, Revocation, Snapshot, Subject,
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
    let taken = snapshot.host_named.as_ref().filter(|host| host.holds_name());
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

/// Another name, other labels; what is not named stays.
///
/// # Errors
/// `NOT_FOUND`, `INVALID_REQUEST`, `NAME_TAKEN`.
pub fn change(
    snapshot: &Snapshot,
    id: &HostId,
    name: Option<&str>,
    labels: &LabelChanges,
    now: Micros,
) -> Result<Decision<Host>, Refusal> {
    let host = snapshot.host.as_ref().ok_or_else(|| missing("host", id))?;
    let mut problems = Problems::default();
    if let Some(name) = name {
        problems.check("/name", text::host_name(name));
    }
    let labels = label::apply(&host.labels, labels, "/labels", &mut problems);
    problems.finish()?;
    let name = name.unwrap_or(&host.name);
    name_free(snapshot, name, Some(id))?;
    let after = Host { name: name.to_owned(), labels, ..host.clone() };
    let renamed = (after.name != host.name).then_some(EventKind::HostRenamed);
    let labelled = (after.labels != host.labels).then_some(EventKind::HostLabelled);
    let events: Vec<NewEvent> =
        renamed.into_iter().chain(labelled).map(|kind| about(&after, kind, now)).collect();
    if events.is_empty() {
        return Ok(nothing(after));
    }
    let changes = vec![Change::UpdateHost(Box::new(after.clone()))];
    Ok(Decision { changes, events, reply: after })
}

/// Shuts a host out and ends every job of it: nobody can settle them any more. A ban refuses its
/// keys too, for good. Asked again it changes nothing, except that an evicted host may be banned.
///
/// # Errors
/// `NOT_FOUND`, `HOST_BANNED` where a ban would become less.
pub fn revoke(
    snapshot: &Snapshot,
    id: &HostId,
    kind: Revocation,
    now: Micros,
) -> Result<Decision<Host>, Refusal> {
    let host = snapshot.host.as_ref().ok_or_else(|| missing("host", id))?;
    match (host.revoked_as, kind) {
        (None, _) | (Some(Revocation::Evict), Revocation::Ban) => {}
        (Some(Revocation::Evict), Revocation::Evict) | (Some(Revocation::Ban), Revocation::Ban) => {
            return Ok(nothing(host.clone()));
        }
        (Some(Revocation::Ban), Revocation::Evict) => {
            let message = "the host is banned, and a ban is for good";
            return Err(Refusal::new(RefusalKind::Conflict, "HOST_BANNED", message));
        }
    }
    let revoked = Host {
        state: HostState::Revoked,
        revoked_at: host.revoked_at.or(Some(now)),
        revoked_as: Some(kind),
        ..host.clone()
    };
    let mut changes = vec![Change::UpdateHost(Box::new(revoked.clone()))];
    if kind == Revocation::Ban {
        changes.extend(banned_keys(host, now).map(Change::BanKey));
    }
    let document = json!({ "name": host.name, "as": kind.as_str() });
    let mut events = vec![NewEvent { document, ..about(&revoked, EventKind::HostRevoked, now) }];
    let ended = snapshot.host_jobs.iter().filter_map(|job| end(job, reason::HOST_REVOKED, now));
    for (change, told) in ended {
        changes.push(change);
        events.push(told);
    }
    // Its agent goes on with what it has begun, and nobody hears any more how that ends.
    let begun =
        |job: &&Job| job.state == JobState::Running && job.job_type == JobType::EnvCacheToggle;
    for job in snapshot.host_jobs.iter().filter(begun) {
        let of_job = |one: &&Environment| job.environment_id.as_ref() == Some(&one.id);
        if let Some(environment) = snapshot.host_environments.iter().find(of_job) {
            let (change, told) = nobody_knows(job, environment, "its host was revoked", now);
            changes.push(change);
            events.push(told);
        }
    }
    Ok(Decision { changes, events, reply: revoked })
}

/// Every key the host is accepted with.
fn banned_keys(host: &Host, now: Micros) -> impl Iterator<Item = BannedKey> {
    let candidate = host.candidate.as_ref().map(|candidate| &candidate.key_sha256);
    [Some(&host.key_sha256), candidate].into_iter().flatten().map(move |key| BannedKey {
        key_sha256: key.clone(),
        host_id: host.id.clone(),
        host_name: host.name.clone(),
        banned_at: now,
    })
}

/// Forgets a revoked host that has no environments. Its keys, if they are banned, stay so.
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

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
