//! What the end of a job makes of a stack's row on its host.

use hostler_protocol::job::{Code, JobError, Outcome, Retry, StackSyncResult};

use super::RETRY_SECS;
use crate::domain::desired::{Applied, Attempted, StackHost};
use crate::domain::stack::{StackEvent, StackStatus};
use crate::domain::{Job, JobState, Micros};

/// What a noted job leaves of a row.
pub(super) enum Noted {
    Row(Box<StackHost>),
    /// The host has confirmed that the stack is gone.
    Gone,
}

/// Takes in how a row's job ended. What a host did not confirm is not applied.
pub(super) fn note(row: &StackHost, job: &Job, now: Micros) -> Noted {
    let outcome: Option<Outcome> =
        job.outcome.clone().and_then(|document| serde_json::from_value(document).ok());
    let is_down = !job.request.get("spec").is_some_and(serde_json::Value::is_object);
    let succeeded = job.state == JobState::Succeeded;
    if is_down && succeeded {
        return Noted::Gone;
    }
    let mut after = row.clone();
    after.job = None;
    after.retry_at = None;
    let text = |name: &str| {
        job.request.pointer(name).and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let desired = text("/spec/desired");
    let result: Option<StackSyncResult> = outcome
        .as_ref()
        .and_then(|outcome| outcome.result.clone())
        .and_then(|result| serde_json::from_value(result).ok());
    // What it was told to run, and nothing else a host may say: it would be synced for ever, or be given
    // others' files.
    let as_told = |result: &&StackSyncResult| {
        Some(result.desired.as_str()) == desired.as_deref()
            && Some(result.bundle.as_str()) == text("/spec/bundle").as_deref()
    };
    let confirmed = result.as_ref().filter(|_| succeeded).filter(as_told);
    if let (Some(result), false) = (confirmed, is_down) {
        after.containers.clone_from(&result.containers);
        after.watch.synced();
        after.applied = Some(Applied {
            desired: result.desired.clone(),
            project: text("/spec/stack/project"),
            bundle: result.bundle.clone(),
            revision: text("/revision").unwrap_or_default(),
            at_us: job.finished_at.unwrap_or(now).0,
            compose_hash: text("/compose_hash"),
            directory: text("/spec/directory").unwrap_or_default(),
            compose_files: compose_files(job),
        });
    }
    let event = if confirmed.is_some() {
        StackEvent::Succeed
    } else {
        StackEvent::failure(after.applied.is_some())
    };
    // One that is being removed stays so, however its last sync went.
    if after.status == StackStatus::Syncing {
        after.status = after.status.apply(event).unwrap_or(after.status);
    }
    let superseded = job.state == JobState::Cancelled && is_taken_back(job);
    if superseded {
        return Noted::Row(Box::new(after));
    }
    let error = outcome.as_ref().and_then(|outcome| outcome.error.clone());
    // Whoever has the project may take it down meanwhile.
    let taken = |error: &JobError| error.code == Code::ProjectTaken.as_str();
    let may_pass = error.as_ref().is_some_and(|error| match error.retry {
        Retry::Later | Retry::AtOnce => true,
        Retry::Never => taken(error),
    });
    // What is to go has to go in the end: a person may mend the host meanwhile.
    if job.state == JobState::Failed && (may_pass || error.is_none() || is_down) {
        after.retry_at = Some(now.plus_secs(RETRY_SECS));
    }
    after.outcome = Some(Attempted {
        job: job.id.clone(),
        desired,
        succeeded: confirmed.is_some(),
        at_us: job.finished_at.unwrap_or(now).0,
        error: error.or_else(|| confirmed.is_none().then(|| ended_without(job)).flatten()),
        services: result.map(|result| result.services).unwrap_or_default(),
        reason: text("/why").unwrap_or_default(),
    });
    Noted::Row(Box::new(after))
}

/// What stays of a sync that is taken back while it waits, if its host may have begun with it.
pub(super) fn taken_back(job: &Job, now: Micros) -> Option<Attempted> {
    let text = |name: &str| job.request.pointer(name).and_then(serde_json::Value::as_str);
    let desired = text("/spec/desired")?;
    super::has_begun(job).then(|| Attempted {
        job: job.id.clone(),
        desired: Some(desired.to_owned()),
        succeeded: false,
        at_us: now.0,
        error: Some(JobError::new(Code::Superseded, "it was begun, and is no longer wanted")),
        services: Vec::new(),
        reason: text("/why").unwrap_or_default().to_owned(),
    })
}

/// Whether it ended because something newer was wanted: nothing was learned from it.
fn is_taken_back(job: &Job) -> bool {
    use crate::domain::job::reason::{HOST_REVOKED, STACK_KEPT, SUPERSEDED};
    job.reason.as_deref().is_some_and(|why| [SUPERSEDED, STACK_KEPT, HOST_REVOKED].contains(&why))
}

/// An end that no host reported: expired, cancelled, given up.
fn ended_without(job: &Job) -> Option<JobError> {
    match job.state {
        JobState::Queued | JobState::Running | JobState::Held => None,
        JobState::Succeeded => Some(JobError::new(
            Code::Undecodable,
            "its host did not confirm what it was told to run",
        )),
        JobState::Failed => Some(JobError::new(Code::Expired, "its host did not come in time")),
        JobState::Cancelled => Some(JobError::new(Code::Cancelled, "somebody cancelled it")),
    }
}

fn compose_files(job: &Job) -> Vec<String> {
    let listed = job.request.pointer("/spec/compose_files").and_then(serde_json::Value::as_array);
    let texts = listed.into_iter().flatten().filter_map(serde_json::Value::as_str);
    texts.map(str::to_owned).collect()
}
