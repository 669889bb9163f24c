//! What every command that makes a job has in common: its new id, its template, and the memory
//! of its `Idempotency-Key`.

use hostler_protocol::id::{EnvironmentId, JobId, RequestId};

use super::job::{JobInput, end, new_job, queued_event};
use crate::domain::job::reason;
use crate::domain::{
    Change, Decision, Environment, EnvironmentState, Host, HostState, IdempotencyRecord, JobState,
    Micros, NewEvent, Refusal, RefusalKind, Snapshot, Template,
};

/// What a command that makes a job comes with.
#[derive(Debug, Clone)]
pub struct Making {
    /// The id the job gets, if one is made.
    pub job_id: JobId,
    pub request_id: Option<RequestId>,
    pub template: Template,
    /// The request under its `Idempotency-Key`, naming `job_id`, if it carried one.
    pub idempotency: Option<IdempotencyRecord>,
    pub now: Micros,
}

/// The answer of a command that makes a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub job_id: JobId,
    /// The same request was carried out before; this is its job.
    pub replayed: bool,
}

/// The answer to a request whose key was used before.
///
/// # Errors
/// `KEY_REUSED` when the key came with another request.
pub fn replay(snapshot: &Snapshot, making: &Making) -> Result<Option<Decision<Made>>, Refusal> {
    let (Some(asked), Some(known)) = (&making.idempotency, &snapshot.idempotency) else {
        return Ok(None);
    };
    if asked.request_sha256 != known.request_sha256 {
        return Err(Refusal::new(
            RefusalKind::KeyReused,
            "KEY_REUSED",
            "this Idempotency-Key was used for another request; use a new one",
        ));
    }
    Ok(Some(nothing(Made { job_id: known.job_id.clone(), replayed: true })))
}

/// A decision that changes nothing.
#[must_use]
pub fn nothing<T>(reply: T) -> Decision<T> {
    Decision { changes: Vec::new(), events: Vec::new(), reply }
}

/// The environment a command names, with its host, both able to take a job.
///
/// # Errors
/// `NOT_FOUND`, `ENVIRONMENT_DELETING`, `ENVIRONMENT_FAILED`, `HOST_REVOKED`.
pub fn ready<'a>(snapshot: &'a Snapshot, id: &EnvironmentId) -> Result<&'a Environment, Refusal> {
    let environment = snapshot.environment.as_ref().ok_or_else(|| missing("environment", id))?;
    usable(environment, snapshot.host.as_ref())?;
    Ok(environment)
}

/// Whether an environment in this state, on this host, can take a job.
///
/// # Errors
/// As [`ready`], except `NOT_FOUND`.
pub fn usable(environment: &Environment, host: Option<&Host>) -> Result<(), Refusal> {
    let (code, message) = match environment.state {
        EnvironmentState::Active => match host.map(|host| host.state) {
            Some(HostState::Revoked) => {
                ("HOST_REVOKED", "the environment's host is revoked and never comes back")
            }
            Some(HostState::Enrolled) | None => return Ok(()),
        },
        EnvironmentState::Failed => (
            "ENVIRONMENT_FAILED",
            "the environment failed in a way that could not be put right; look at the host first",
        ),
        EnvironmentState::Deleting => ("ENVIRONMENT_DELETING", "the environment is being deleted"),
    };
    Err(Refusal::new(RefusalKind::Conflict, code, message))
}

/// What does not exist.
#[must_use]
pub fn missing(what: &str, id: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::NotFound, "NOT_FOUND", format!("there is no {what} {id}"))
}

/// Queues a job of an environment; ends what it supersedes; remembers the request's key.
#[must_use]
pub fn enqueue(
    snapshot: &Snapshot,
    environment: &Environment,
    request: serde_json::Value,
    making: &Making,
) -> Decision<Made> {
    let mut changes = Vec::new();
    let mut events: Vec<NewEvent> = Vec::new();
    if making.template.supersedes_queued {
        let older = snapshot.environment_jobs.iter().filter(|job| {
            job.job_type == making.template.job_type && job.state == JobState::Queued
        });
        for (change, told) in older.filter_map(|job| end(job, reason::SUPERSEDED, making.now)) {
            changes.push(change);
            events.push(told);
        }
    }
    let input = JobInput {
        id: making.job_id.clone(),
        host_id: environment.host_id.clone(),
        site_id: Some(environment.site_id.clone()),
        environment_id: Some(environment.id.clone()),
        request,
        request_id: making.request_id.clone(),
        retry_of: None,
    };
    let new = new_job(input, &making.template, making.now);
    events.push(queued_event(&new.job, making.now));
    changes.push(Change::EnqueueJob(Box::new(new)));
    changes.extend(making.idempotency.clone().map(Change::RecordIdempotency));
    let reply = Made { job_id: making.job_id.clone(), replayed: false };
    Decision { changes, events, reply }
}
