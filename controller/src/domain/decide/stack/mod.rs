//! What is to be done so that stacks run where they should: looked at as a whole, decided stack by
//! stack on fresh rows. Level-triggered: what is wanted against what a host confirmed, never what
//! happened in between; doing it twice does nothing more.

mod carry;
mod circles;
mod giving_way;
mod leaving;
mod look;
mod note;
mod overview;
mod person;
mod remove;
mod trouble;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, JobId};

use crate::domain::desired::{Stack, StackHost, StackProblem};
use crate::domain::stack::StackStatus;
use crate::domain::stack::hostler::DriftPolicy;
use crate::domain::{Job, JobState, Micros};

pub use carry::{Carry, carry};
pub use leaving::removal_waits;
pub use look::{Bounds, Todo, due, look};
pub use overview::{Overview, Place, rows_now, targets, wanted};
pub use person::{Wish, Wished, set_suspended, sync_now};
pub use remove::{Removing, remove_now};
pub use trouble::{trouble, waiting};
pub use watch::{Seen, accept_drift, observe, seen};

/// After a failure that may pass and that the queue's own retries did not cure, in seconds.
pub const RETRY_SECS: u64 = 3600;

/// One thing to do about a stack on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take in how its job ended.
    Note(JobId),
    /// It is meant to run there from now on (again).
    Target,
    /// What is wanted there is something else than the row says.
    Want,
    /// It is not meant to run there any more.
    Untarget,
    /// A job that waits is no longer wanted.
    Withdraw(JobId),
    Sync {
        why: String,
    },
    /// Sync what is applied already: the host is no longer so.
    Revert {
        why: String,
    },
    /// It was put right again and again: somebody has to look.
    Trip,
    Down {
        held: Option<&'static str>,
    },
    /// Nothing of it is there, or the host is gone for good.
    Vanish,
}

/// What the steps of a stack depend on, besides its rows.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// The hosts it is meant to run on, and what is wanted there.
    pub wanted: BTreeMap<HostId, Option<String>>,
    /// Hosts that are enrolled.
    pub enrolled: BTreeSet<HostId>,
    /// Why it is not synced anywhere just now.
    pub blocked: Option<StackProblem>,
    /// Stacks that come before it are not there yet.
    pub waits: bool,
    /// Hosts whose turn comes later: enough syncs are open, another stack is still there as that
    /// project, or is taken down there first.
    pub later: BTreeSet<HostId>,
    /// What goes from hosts now goes together with too much else.
    pub many: bool,
}

impl Around {
    fn waits_on(&self, host: &HostId) -> bool {
        self.waits || self.later.contains(host)
    }
}

/// What is to be done, host by host.
#[must_use]
pub fn steps(
    stack: &Stack,
    rows: &[StackHost],
    jobs: &BTreeMap<JobId, Job>,
    around: &Around,
    now: Micros,
) -> Vec<(HostId, Step)> {
    let mut steps = Vec::new();
    for (host, wanted) in &around.wanted {
        match rows.iter().find(|row| row.host == *host) {
            None => steps.push((host.clone(), Step::Target)),
            Some(row) if is_renamed(stack, row, around.blocked.is_some()) => {
                let step = unwanted_step(stack, row, jobs, around, now);
                steps.extend(step.map(|step| (host.clone(), step)));
            }
            Some(row) => {
                let of_row = wanted_steps(stack, row, wanted.as_ref(), jobs, around, now);
                steps.extend(of_row.into_iter().map(|step| (host.clone(), step)));
            }
        }
    }
    for row in rows.iter().filter(|row| !around.wanted.contains_key(&row.host)) {
        let step = unwanted_step(stack, row, jobs, around, now);
        steps.extend(step.map(|step| (row.host.clone(), step)));
    }
    steps
}

/// Whether a host runs it as another project than it is now: that one goes first, or nobody would ever
/// take it down.
fn is_renamed(stack: &Stack, row: &StackHost, blocked: bool) -> bool {
    let facts = &stack.facts;
    let was = row.applied.as_ref().and_then(|applied| applied.project.as_ref());
    was.is_some_and(|was| *was != facts.project)
        && facts.problem.is_none()
        && !blocked
        && !is_suspended(stack)
}

/// Whether it is to be left alone, as a person or its own file says.
fn is_suspended(stack: &Stack) -> bool {
    stack.suspended || stack.facts.settings.suspend
}

/// How a row's job is.
enum Work<'j> {
    None,
    Ended(&'j Job),
    Waits(&'j Job),
    Runs,
}

fn work<'j>(row: &StackHost, jobs: &'j BTreeMap<JobId, Job>) -> Work<'j> {
    match row.job.as_ref().map(|id| jobs.get(id)) {
        // Forgotten by retention, which takes only what has ended for long.
        None | Some(None) => Work::None,
        Some(Some(job)) => match job.state {
            JobState::Queued | JobState::Held => Work::Waits(job),
            JobState::Running => Work::Runs,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => Work::Ended(job),
        },
    }
}

fn wanted_steps(
    stack: &Stack,
    row: &StackHost,
    wanted: Option<&String>,
    jobs: &BTreeMap<JobId, Job>,
    around: &Around,
    now: Micros,
) -> Vec<Step> {
    let work = work(row, jobs);
    if let Work::Ended(job) = work {
        return vec![Step::Note(job.id.clone())];
    }
    if row.status == StackStatus::Deleting {
        return match work {
            Work::Waits(job) => vec![Step::Withdraw(job.id.clone())],
            Work::Runs => Vec::new(),
            Work::None | Work::Ended(_) => vec![Step::Target],
        };
    }
    let mut steps = Vec::new();
    if wanted.is_some() && row.wanted.as_ref() != wanted {
        steps.push(Step::Want);
    }
    let Some(wanted) = wanted else { return steps };
    if is_suspended(stack) || around.blocked.is_some() {
        return steps;
    }
    let due = is_due(row, wanted, now);
    let step = match work {
        Work::None if around.waits_on(&row.host) => None,
        Work::None if due => Some(Step::Sync { why: why(stack, row, wanted) }),
        Work::None => revert(stack, row, wanted, now),
        // Its host takes the newest alone; one that was set aside keeps nothing newer waiting.
        Work::Waits(job) if asked_for(job) != Some(wanted.as_str()) => {
            match due || has_begun(job) {
                true => (!around.waits_on(&row.host))
                    .then(|| Step::Sync { why: why(stack, row, wanted) }),
                // It runs what is wanted again: what waits would undo that.
                false => Some(Step::Withdraw(job.id.clone())),
            }
        }
        Work::Waits(_) | Work::Runs | Work::Ended(_) => None,
    };
    steps.extend(step);
    steps
}

/// Whether its host may have begun with it.
fn has_begun(job: &Job) -> bool {
    job.attempt > 0
}

/// What is done about drift, where the stack says that something is.
fn revert(stack: &Stack, row: &StackHost, wanted: &str, now: Micros) -> Option<Step> {
    let reverts = stack.facts.settings.drift == DriftPolicy::Revert
        && row.watch.is_drifted()
        && row.watch.tripped_us.is_none()
        && row.applied.as_ref().is_some_and(|applied| applied.desired == wanted)
        && row.retry_at.is_none_or(|at| at <= now);
    if !reverts {
        return None;
    }
    if row.watch.loops(now) {
        return Some(Step::Trip);
    }
    let subjects: Vec<&str> = row.watch.open_drift().map(|one| one.subject.as_str()).collect();
    Some(Step::Revert { why: format!("it was changed on the host: {}", subjects.join(", ")) })
}

/// The desired digest a sync was queued for.
fn asked_for(job: &Job) -> Option<&str> {
    job.request.pointer("/spec/desired").and_then(serde_json::Value::as_str)
}

/// Whether the host is to be given what is wanted: it runs something else, or its removal was called
/// off or something else has failed there since and nobody knows how far that had come; and that very
/// thing has not failed there, or has and may be tried again by now.
fn is_due(row: &StackHost, wanted: &str, now: Micros) -> bool {
    let unsure = row.status == StackStatus::Missing || has_failed_with_another(row, wanted);
    if !unsure && row.applied.as_ref().is_some_and(|applied| applied.desired == wanted) {
        return false;
    }
    match &row.outcome {
        Some(last) if !last.succeeded && last.desired.as_deref() == Some(wanted) => {
            row.retry_at.is_some_and(|at| at <= now)
        }
        Some(_) | None => true,
    }
}

/// Whether the last that was tried there was another sync, and failed.
fn has_failed_with_another(row: &StackHost, wanted: &str) -> bool {
    row.outcome.as_ref().is_some_and(|last| {
        !last.succeeded && last.desired.as_deref().is_some_and(|desired| desired != wanted)
    })
}

fn why(stack: &Stack, row: &StackHost, wanted: &str) -> String {
    let Some(applied) = &row.applied else {
        return match &row.outcome {
            Some(last) if !last.succeeded => "it failed before, and may be tried again".to_owned(),
            Some(_) | None => "it has not run there yet".to_owned(),
        };
    };
    if row.status == StackStatus::Missing {
        "it was to be removed, and is there again".to_owned()
    } else if applied.desired == wanted {
        "something else was begun there since".to_owned()
    } else if applied.compose_hash != stack.facts.compose_hash {
        format!("{} changed", stack.facts.compose_file)
    } else {
        "one of its other files, or how it is to be run, changed".to_owned()
    }
}

fn unwanted_step(
    stack: &Stack,
    row: &StackHost,
    jobs: &BTreeMap<JobId, Job>,
    around: &Around,
    now: Micros,
) -> Option<Step> {
    let work = work(row, jobs);
    if let Work::Ended(job) = work {
        return Some(Step::Note(job.id.clone()));
    }
    if row.status != StackStatus::Deleting {
        return Some(Step::Untarget);
    }
    match work {
        // Neither a sync of what is to go, nor a removal that waits for what has been said since.
        Work::Waits(job) if asked_for(job).is_some() || leaving::is_resumed(stack, job) => {
            Some(Step::Withdraw(job.id.clone()))
        }
        Work::Waits(_) | Work::Runs | Work::Ended(_) => None,
        Work::None if !around.enrolled.contains(&row.host) => Some(Step::Vanish),
        Work::None if row.applied.is_none() && row.outcome.is_none() => Some(Step::Vanish),
        Work::None => {
            let failed = row.outcome.as_ref().filter(|last| last.desired.is_none());
            let due = failed.is_none() || row.retry_at.is_some_and(|at| at <= now);
            due.then(|| Step::Down { held: leaving::held(stack, failed.is_some()) })
        }
    }
}

/// Whether nothing of a stack is left anywhere.
#[must_use]
pub fn is_gone(stack: &Stack, rows_left: usize) -> bool {
    !stack.present && rows_left == 0
}

#[cfg(test)]
#[path = "../stack_tests.rs"]
mod tests;
