//! What a person may ask of a stack: leave it alone, go on, sync now, say what a sync would do, go
//! back to what ran before.

use std::collections::BTreeMap;

use hostler_protocol::id::{HostId, JobId, RequestId, StackId};
use hostler_protocol::job::StackSyncSpec;
use serde_json::json;

use super::carry::{stack_doc, sync_request, sync_spec};
use super::note::{Noted, note, taken_back};
use crate::domain::decide::enqueue::missing;
use crate::domain::decide::job::{JobInput, end, new_job, queued_event};
use crate::domain::desired::{Stack, StackHost};
use crate::domain::job::reason;
use crate::domain::stack::StackEvent;
use crate::domain::{
    Change, Decision, EventKind, Job, JobState, Micros, NewEvent, Refusal, RefusalKind, Snapshot,
    Subject, Template,
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Sync {
        /// Also where the host runs just this already.
        force: bool,
        /// Take over a project that runs there and is not Hostler's.
        adopt: bool,
    },
    /// Say what a sync would do.
    Plan,
    /// Run what a job synced earlier; the stack is suspended by it, or the next look would undo it.
    Back { to: Box<StackSyncSpec>, revision: String, compose_hash: Option<String> },
}

/// A wish, with what it needs.
#[derive(Debug, Clone)]
pub struct Wished {
    pub stack: StackId,
    pub wish: Wish,
    /// The hosts that are meant; `None`: all it is meant to run on.
    pub hosts: Option<Vec<HostId>>,
    /// What is wanted on each host it is meant to run on.
    pub wanted: BTreeMap<HostId, Option<String>>,
    /// Of the stack's facts of this digest.
    pub bundle: Option<(String, String)>,
    /// One for each host.
    pub job_ids: Vec<JobId>,
    pub template: Template,
    pub request_id: Option<RequestId>,
    pub now: Micros,
}

/// Suspends a stack, or lets it go on.
///
/// # Errors
/// `NOT_FOUND`.
pub fn set_suspended(
    snapshot: &Snapshot,
    id: &StackId,
    suspended: bool,
    now: Micros,
) -> Result<Decision<Stack>, Refusal> {
    let stack = snapshot.stack.as_ref().ok_or_else(|| missing("stack", id))?;
    let (changes, events, reply) = suspend(stack, suspended, now);
    Ok(Decision { changes, events, reply })
}

fn suspend(stack: &Stack, suspended: bool, now: Micros) -> (Vec<Change>, Vec<NewEvent>, Stack) {
    if stack.suspended == suspended {
        return (Vec::new(), Vec::new(), stack.clone());
    }
    let after = Stack { suspended, updated_at: now, version: stack.version + 1, ..stack.clone() };
    let told = NewEvent {
        at: now,
        kind: EventKind::StackChanged,
        subject: Subject { stack: Some(stack.id.clone()), ..Subject::default() },
        document: json!({ "path": stack.path, "suspended": suspended }),
    };
    (vec![Change::PutStacks(vec![after.clone()])], vec![told], after)
}

/// Queues what is wished for; the reply names the job for each host. A sync that waits there is ended
/// as superseded, also one of the very same: it may have been asked for otherwise (forced, or to adopt).
///
/// # Errors
/// `NOT_FOUND`, `STACK_ABSENT`, `STACK_SUSPENDED`, `STACK_BROKEN`, `STACK_UNTARGETED`,
/// `STACK_BUSY` where a host takes it down or syncs it.
pub fn sync_now(
    snapshot: &Snapshot,
    wished: &Wished,
) -> Result<Decision<Vec<(HostId, JobId)>>, Refusal> {
    let stack = snapshot.stack.as_ref().ok_or_else(|| missing("stack", &wished.stack))?;
    let hosts = allowed(stack, wished)?;
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    if matches!(wished.wish, Wish::Back { .. }) {
        let (suspending, told, _) = suspend(stack, true, wished.now);
        changes.extend(suspending);
        events.extend(told);
    }
    let mut rows = Vec::new();
    let mut reply = Vec::new();
    for (host, id) in hosts.iter().zip(&wished.job_ids) {
        let known = snapshot.stack_hosts.iter().find(|row| row.host == *host);
        let mut row =
            known.cloned().unwrap_or_else(|| StackHost::new(stack.id.clone(), host.clone()));
        let Some(request) = request(stack, wished, host) else {
            return Err(broken(stack));
        };
        if wished.wish != Wish::Plan {
            row = noted(row, snapshot, wished.now);
            let open = row.job.as_ref().and_then(|id| job_of(snapshot, id));
            match open.map(|job| (job, job.state)) {
                Some((job, JobState::Queued)) => {
                    let ended = end(job, reason::SUPERSEDED, wished.now);
                    let (change, told) = ended.ok_or_else(|| busy(stack))?;
                    changes.push(change);
                    events.push(told);
                    row.outcome = taken_back(job, wished.now).or(row.outcome);
                }
                Some((_, JobState::Running | JobState::Held)) => return Err(busy(stack)),
                Some((_, JobState::Succeeded | JobState::Failed | JobState::Cancelled)) | None => {}
            }
            row.job = Some(id.clone());
            row.watch.begin_anew();
            row.status = row.status.apply(StackEvent::Begin).unwrap_or(row.status);
            row.version += 1;
            rows.push(row);
        }
        let input = input(stack, wished.request_id.clone(), host, id, request);
        let new = new_job(input, &wished.template, wished.now);
        events.push(queued_event(&new.job, wished.now));
        changes.push(Change::EnqueueJob(Box::new(new)));
        reply.push((host.clone(), id.clone()));
    }
    if !rows.is_empty() {
        changes.push(Change::PutStackHosts(rows));
    }
    Ok(Decision { changes, events, reply })
}

/// The row with what its job came to, if that has ended and nobody has taken it in yet: the row forgets
/// it for the new one.
pub(super) fn noted(row: StackHost, snapshot: &Snapshot, now: Micros) -> StackHost {
    let job = row.job.as_ref().and_then(|id| job_of(snapshot, id));
    let Some(job) = job.filter(|job| job.state.is_ended()) else { return row };
    match note(&row, job, now) {
        Noted::Row(after) => *after,
        Noted::Gone => {
            let version = row.version;
            StackHost { version, ..StackHost::new(row.stack, row.host) }
        }
    }
}

pub(super) fn job_of<'s>(snapshot: &'s Snapshot, id: &JobId) -> Option<&'s Job> {
    snapshot.stack_jobs.iter().find(|job| job.id == *id)
}

/// The hosts that are meant, if the stack is in a state for it.
fn allowed(stack: &Stack, wished: &Wished) -> Result<Vec<HostId>, Refusal> {
    let conflict = |code, message: String| Err(Refusal::new(RefusalKind::Conflict, code, message));
    if !stack.present {
        let message = format!(
            "{} is no longer in the repository: it can be put back there, or taken down by \
             `hostler stack sync --remove`",
            stack.path
        );
        return conflict("STACK_ABSENT", message);
    }
    if let (true, Wish::Sync { .. }) = (stack.suspended, &wished.wish) {
        let message = format!("{} is suspended: resume it first", stack.path);
        return conflict("STACK_SUSPENDED", message);
    }
    let meant: Vec<HostId> = match &wished.hosts {
        None => wished.wanted.keys().cloned().collect(),
        Some(named) => named.clone(),
    };
    if meant.is_empty() || meant.iter().any(|host| !wished.wanted.contains_key(host)) {
        if stack.facts.problem.is_some() {
            // Where it is meant to run is among what cannot be read.
            return Err(broken(stack));
        }
        let message = format!(
            "{} is not meant to run there: name the host, or a label it carries, in `x-hostler` or in \
             a rule of the controller's configuration",
            stack.path
        );
        return conflict("STACK_UNTARGETED", message);
    }
    Ok(meant)
}

fn broken(stack: &Stack) -> Refusal {
    let not_at_hand = "its files are not at hand until a refresh has read them, or the store of bundles \
                       does not take them: `hostler refresh --wait` says which, or the controller's log";
    let why = match &stack.facts.problem {
        Some(problem) => format!("{} ({})", problem.message, problem.code),
        None => not_at_hand.to_owned(),
    };
    let message = format!("{} cannot be synced as it stands: {why}", stack.path);
    Refusal::new(RefusalKind::Conflict, "STACK_BROKEN", message)
}

pub(super) fn busy(stack: &Stack) -> Refusal {
    let path = &stack.path;
    let message = format!(
        "a job about {path} runs or waits for a person there; try again once it has ended \
         (hostler job list --stack {path} shows it)"
    );
    Refusal::new(RefusalKind::Conflict, "STACK_BUSY", message)
}

/// What the job of one host is asked.
fn request(stack: &Stack, wished: &Wished, host: &HostId) -> Option<serde_json::Value> {
    if let Wish::Back { to, revision, compose_hash } = &wished.wish {
        let spec =
            StackSyncSpec { stack: stack_doc(stack), force: true, adopt: false, ..(**to).clone() };
        return Some(json!({
            "spec": spec,
            "revision": revision,
            "compose_hash": compose_hash,
            "why": "somebody asked to go back to it",
        }));
    }
    let desired = wished.wanted.get(host).cloned().flatten()?;
    let (digest, bundle) = wished.bundle.as_ref()?;
    if stack.facts.bundle_digest.as_ref() != Some(digest) {
        return None;
    }
    let mut spec = sync_spec(stack, bundle, &desired);
    match wished.wish {
        Wish::Sync { force, adopt } => {
            spec.force = force;
            spec.adopt = adopt;
            Some(sync_request(stack, &spec, "somebody asked for it"))
        }
        Wish::Plan | Wish::Back { .. } => {
            Some(sync_request(stack, &spec, "somebody asked what it would do"))
        }
    }
}

pub(super) fn input(
    stack: &Stack,
    request_id: Option<RequestId>,
    host: &HostId,
    id: &JobId,
    request: serde_json::Value,
) -> JobInput {
    JobInput {
        id: id.clone(),
        host_id: host.clone(),
        site_id: None,
        environment_id: None,
        stack_id: Some(stack.id.clone()),
        request,
        request_id,
        retry_of: None,
        parent_id: None,
        executor: None,
    }
}
