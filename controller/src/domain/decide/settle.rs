//! How an attempt's outcome moves its job, and with it the environment's applied state. The
//! caller has checked the fence: the outcome is of the job's current attempt, from its own host.

use hostler_protocol::job::{Code, JobError, JobType, Outcome, OutcomeState, Retry, ToggleResult};
use serde_json::json;

use super::job::{event, update};
use crate::domain::job::{JobEvent, reason};
use crate::domain::template::OnInterrupt;
use crate::domain::{
    CacheFlag, Change, Decision, Environment, EnvironmentState, EventKind, Job, JobState, Micros,
    NewEvent, Subject, Template,
};

/// What the outcome makes of the job.
enum Next {
    Succeed,
    Fail,
    Cancel,
    /// Over, though it could be tried again: nobody needs it any more.
    Leave(&'static str),
    /// Again, not before this time.
    Again(Micros),
    Hold(&'static str),
}

/// Whether the job's environment is being deleted, which waits for this job and makes whatever it
/// could still do pointless.
fn leaving(job: &Job, environment: Option<&Environment>) -> bool {
    job.job_type != JobType::EnvDelete
        && environment.is_some_and(|known| known.state == EnvironmentState::Deleting)
}

/// Whether settling such an outcome never looks at the job's environment: what did not change it
/// and will not run again needs to know nothing of it.
#[must_use]
pub fn ignores_environment(job_type: JobType, outcome: &Outcome) -> bool {
    match job_type {
        JobType::CachePurge
        | JobType::EnvCheck
        | JobType::CacheWarm
        | JobType::CacheFacts
        | JobType::CacheExplain
        | JobType::StackSync
        | JobType::StackDown
        | JobType::StackPlan => match outcome.state {
            OutcomeState::Succeeded | OutcomeState::Cancelled => true,
            OutcomeState::Failed => false,
        },
        JobType::EnvCacheToggle | JobType::EnvDelete => false,
    }
}

/// Settles a running job by the outcome of its current attempt. The reply is the job's new state.
///
/// `newer_waits`: a newer job of its type and environment is queued. Of types whose newer jobs
/// supersede older ones that wait, the older one is then not tried again.
///
/// A job that is not running is left as it is: its state is the reply, and nothing changes.
#[must_use]
pub fn settle(
    job: &Job,
    environment: Option<&Environment>,
    newer_waits: bool,
    template: &Template,
    outcome: &Outcome,
    now: Micros,
) -> Decision<JobState> {
    let mut after = job.clone();
    let next = next(&mut after, template, outcome, now);
    let next = match &next {
        Next::Again(_) | Next::Hold(_) if leaving(job, environment) => {
            Next::Leave(reason::ENVIRONMENT_DELETED)
        }
        Next::Again(_) if newer_waits && template.supersedes_queued => {
            Next::Leave(reason::SUPERSEDED)
        }
        Next::Succeed
        | Next::Fail
        | Next::Cancel
        | Next::Leave(_)
        | Next::Again(_)
        | Next::Hold(_) => next,
    };
    let (job_event, kind) = match next {
        Next::Succeed => (JobEvent::Succeed, EventKind::JobSucceeded),
        Next::Fail => (JobEvent::Fail, EventKind::JobFailed),
        Next::Cancel | Next::Leave(_) => (JobEvent::Cancel, EventKind::JobCancelled),
        Next::Again(_) => (JobEvent::Requeue, EventKind::JobRetrying),
        Next::Hold(_) => (JobEvent::Hold, EventKind::JobHeld),
    };
    let Some(state) = job.state.apply(job_event) else {
        return Decision { changes: Vec::new(), events: Vec::new(), reply: job.state };
    };
    after.state = state;
    after.accepted_at = None;
    after.reason = reason_of(&next, outcome);
    if is_busy(outcome) && job.is_first_begun() {
        // It has begun nowhere, and its host may never come back: its time to live counts as before.
        after.started_at = None;
    }
    match next {
        Next::Again(run_after) => after.run_after = run_after,
        Next::Hold(_) => {}
        Next::Succeed | Next::Fail | Next::Cancel | Next::Leave(_) => after.finished_at = Some(now),
    }
    let document = json!({
        "attempt": job.attempt,
        "reason": after.reason,
        "code": outcome.error.as_ref().map(|error| error.code.as_str()),
        "message": outcome.error.as_ref().map(|error| error.message.as_str()),
        "run_after_us": matches!(next, Next::Again(_)).then_some(after.run_after.0),
    });
    let mut changes = vec![update(job, after)];
    let mut events = vec![event(job, kind, document, now)];
    if let Some(environment) = environment.filter(|_| !is_busy(outcome)) {
        settle_environment(job, environment, outcome, now, &mut changes, &mut events);
    }
    Decision { changes, events, reply: state }
}

fn next(after: &mut Job, template: &Template, outcome: &Outcome, now: Micros) -> Next {
    let cancel_asked = after.cancel_requested_at.is_some();
    match (outcome.state, &outcome.error) {
        (OutcomeState::Succeeded, _) => Next::Succeed,
        (OutcomeState::Cancelled, _) => Next::Cancel,
        (OutcomeState::Failed, None) => Next::Fail,
        (OutcomeState::Failed, Some(error)) if error.code == Code::Interrupted.as_str() => {
            after.crashes += 1;
            if cancel_asked {
                Next::Cancel
            } else if after.crashes >= template.crashes_max {
                Next::Hold(reason::QUARANTINED)
            } else {
                match template.on_interrupt {
                    OnInterrupt::Rerun | OnInterrupt::Probe => Next::Again(now),
                    OnInterrupt::Hold => Next::Hold(reason::INTERRUPTED),
                }
            }
        }
        (OutcomeState::Failed, Some(error)) if is_undecodable(&error.code) => {
            after.failures += 1;
            if cancel_asked { Next::Cancel } else { Next::Hold(reason::QUARANTINED) }
        }
        // Nothing was tried: the agent had no place for it, or is stopping.
        (OutcomeState::Failed, Some(_)) if is_busy(outcome) => {
            if cancel_asked {
                Next::Cancel
            } else {
                Next::Again(now.plus_secs(BUSY_SECS))
            }
        }
        (OutcomeState::Failed, Some(error)) => {
            after.failures += 1;
            match error.retry {
                Retry::Never => Next::Fail,
                Retry::Later | Retry::AtOnce if cancel_asked => Next::Cancel,
                Retry::Later | Retry::AtOnce => retry_later(after.failures, template, now),
            }
        }
    }
}

/// Whether one side could not read what the other meant: trying again is in vain until a person has
/// put that right, and forgetting the job would lose it.
fn is_undecodable(code: &str) -> bool {
    [Code::Undecodable, Code::UnknownJobType].iter().any(|known| known.as_str() == code)
}

/// Seconds before a job is offered again to an agent that had no place for it: long enough for one
/// that is being restarted, and no failure however often it happens.
const BUSY_SECS: u64 = 5;

/// Whether the agent refused the attempt for want of a place, so that it never began.
fn is_busy(outcome: &Outcome) -> bool {
    let code = outcome.error.as_ref().map(|error| error.code.as_str());
    outcome.state == OutcomeState::Failed && code == Some(Code::AgentBusy.as_str())
}

/// The back-off before the next attempt; none is left after the last of the template's delays.
fn retry_later(failures: u32, template: &Template, now: Micros) -> Next {
    let place = usize::try_from(failures).unwrap_or(usize::MAX).saturating_sub(1);
    match template.retry_after_secs.get(place) {
        Some(secs) => Next::Again(now.plus_secs(u64::from(*secs))),
        None => Next::Fail,
    }
}

fn reason_of(next: &Next, outcome: &Outcome) -> Option<String> {
    match next {
        Next::Succeed => None,
        Next::Cancel => Some(reason::CANCELLED.to_owned()),
        Next::Fail => outcome.error.as_ref().map(|error| error.code.clone()),
        Next::Again(_) => match &outcome.error {
            Some(error) if error.code == Code::Interrupted.as_str() => {
                Some(reason::INTERRUPTED.to_owned())
            }
            Some(_) | None => Some(reason::RETRY.to_owned()),
        },
        Next::Hold(why) | Next::Leave(why) => Some((*why).to_owned()),
    }
}

fn settle_environment(
    job: &Job,
    environment: &Environment,
    outcome: &Outcome,
    now: Micros,
    changes: &mut Vec<Change>,
    events: &mut Vec<NewEvent>,
) {
    let succeeded = outcome.state == OutcomeState::Succeeded;
    match job.job_type {
        JobType::EnvCacheToggle => {
            if let Some(after) = settle_flags(environment, outcome, now) {
                let document = json!({ "applied_by": job.id.as_str() });
                events.push(about(environment, EventKind::EnvironmentChanged, document, now));
                changes.push(Change::UpdateEnvironment(Box::new(after)));
            }
        }
        JobType::EnvDelete if succeeded => {
            events.push(about(environment, EventKind::EnvironmentDeleted, json!({}), now));
            changes.push(Change::DeleteEnvironment(environment.id.clone()));
        }
        JobType::EnvDelete
        | JobType::CachePurge
        | JobType::EnvCheck
        | JobType::CacheWarm
        | JobType::CacheFacts
        | JobType::CacheExplain
        | JobType::StackSync
        | JobType::StackDown
        | JobType::StackPlan => {}
    }
}

/// The environment with what a toggle proved, or with the error that kept it from proving
/// anything. `None` when there is nothing to record.
fn settle_flags(environment: &Environment, outcome: &Outcome, now: Micros) -> Option<Environment> {
    let mut after = environment.clone();
    match outcome.state {
        OutcomeState::Succeeded => {
            let document = outcome.result.clone()?;
            let result: ToggleResult = serde_json::from_value(document).ok()?;
            applied(after.fastcgi.as_mut(), result.fastcgi.map(|flag| flag.enabled), now);
            applied(after.redis.as_mut(), result.redis.map(|flag| flag.enabled), now);
        }
        OutcomeState::Failed => {
            let error = outcome.error.as_ref()?;
            failed(after.fastcgi.as_mut(), error);
            failed(after.redis.as_mut(), error);
        }
        OutcomeState::Cancelled => return None,
    }
    after.version += 1;
    after.updated_at = now;
    Some(after)
}

fn applied(flag: Option<&mut CacheFlag>, enabled: Option<bool>, now: Micros) {
    if let (Some(flag), Some(enabled)) = (flag, enabled) {
        flag.applied = Some(enabled);
        flag.applied_at = Some(now);
        flag.last_error = None;
    }
}

fn failed(flag: Option<&mut CacheFlag>, error: &JobError) {
    if let Some(flag) = flag {
        // What was put back is what was applied before; what could not be put back is unknown.
        if error.code == Code::NginxRollbackFailed.as_str() {
            flag.applied = None;
        }
        flag.last_error = serde_json::to_value(error).ok();
    }
}

fn about(
    environment: &Environment,
    kind: EventKind,
    document: serde_json::Value,
    at: Micros,
) -> NewEvent {
    NewEvent {
        at,
        kind,
        subject: Subject {
            site: Some(environment.site_id.clone()),
            stack: None,
            environment: Some(environment.id.clone()),
            host: Some(environment.host_id.clone()),
            job: None,
        },
        document,
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
