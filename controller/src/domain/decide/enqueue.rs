//! What every command that makes a job has in common: its new id, its template, and the memory
//! of its `Idempotency-Key`.

use std::collections::BTreeSet;

use hostler_protocol::id::{EnvironmentId, JobId, RequestId};
use hostler_protocol::job::JobType;

use super::job::{JobInput, end, new_job, queued_event};
use crate::domain::job::reason;
use crate::domain::{
    Answered, Change, Decision, Environment, EnvironmentState, Host, HostState, IdempotencyRecord,
    Job, JobState, Micros, NewEvent, Refusal, RefusalKind, Snapshot, Template,
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
    let asked = making.idempotency.as_ref().map(|record| record.request_sha256.as_str());
    match answered(asked, snapshot.idempotency.as_ref())? {
        None => Ok(None),
        Some(Answered::Job(job)) => Ok(Some(nothing(Made { job_id: job.clone(), replayed: true }))),
        Some(Answered::StackJobs(_) | Answered::Stack(_) | Answered::Refresh(_)) => {
            Err(key_reused())
        }
    }
}

/// What came of a request, given by the SHA-256 of what it asks, that was made under its key before.
///
/// # Errors
/// `KEY_REUSED` when the key came with another request.
pub fn answered<'s>(
    request_sha256: Option<&str>,
    known: Option<&'s IdempotencyRecord>,
) -> Result<Option<&'s Answered>, Refusal> {
    let (Some(asked), Some(known)) = (request_sha256, known) else { return Ok(None) };
    if asked != known.request_sha256 {
        return Err(key_reused());
    }
    Ok(Some(&known.answered))
}

/// A key that was used for another request.
#[must_use]
pub fn key_reused() -> Refusal {
    let message = "this Idempotency-Key was used for another request; use a new one";
    Refusal::new(RefusalKind::KeyReused, "KEY_REUSED", message)
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
    let waiting = &snapshot.environment_jobs;
    let (mut changes, mut events) = end_superseded(waiting, &making.template, &request, making.now);
    let input = JobInput {
        id: making.job_id.clone(),
        host_id: environment.host_id.clone(),
        site_id: Some(environment.site_id.clone()),
        environment_id: Some(environment.id.clone()),
        stack_id: None,
        request,
        request_id: making.request_id.clone(),
        retry_of: None,
        parent_id: None,
        executor: environment.doc.executor,
    };
    let new = new_job(input, &making.template, making.now);
    events.push(queued_event(&new.job, making.now));
    changes.push(Change::EnqueueJob(Box::new(new)));
    changes.extend(making.idempotency.clone().map(Change::RecordIdempotency));
    let reply = Made { job_id: making.job_id.clone(), replayed: false };
    Decision { changes, events, reply }
}

/// Ends what waits and is superfluous once this request is a job: every older job of a type whose
/// newer ones say all that older ones did; an older warm-up whose URLs are all named again.
#[must_use]
pub fn end_superseded<'j>(
    waiting: impl IntoIterator<Item = &'j Job>,
    template: &Template,
    request: &serde_json::Value,
    now: Micros,
) -> (Vec<Change>, Vec<NewEvent>) {
    let job_type = template.job_type;
    let named: BTreeSet<&str> = match job_type {
        JobType::CacheWarm => urls(request).flatten().collect(),
        JobType::EnvCacheToggle
        | JobType::CachePurge
        | JobType::EnvCheck
        | JobType::EnvDelete
        | JobType::CacheFacts
        | JobType::CacheExplain
        | JobType::StackSync
        | JobType::StackDown
        | JobType::StackPlan => BTreeSet::new(),
    };
    let covers = |older: &&Job| {
        let mut theirs = urls(&older.request);
        template.supersedes_queued
            || (job_type == JobType::CacheWarm
                && theirs.all(|url| url.is_some_and(|url| named.contains(url))))
    };
    waiting
        .into_iter()
        .filter(|job| job.job_type == job_type && job.state == JobState::Queued)
        .filter(covers)
        .filter_map(|job| end(job, reason::SUPERSEDED, now))
        .unzip()
}

fn urls(request: &serde_json::Value) -> impl Iterator<Item = Option<&str>> {
    let listed = request.get("urls").and_then(serde_json::Value::as_array);
    listed.into_iter().flatten().map(serde_json::Value::as_str)
}
