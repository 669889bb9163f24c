//! Batches: made, carried on, cancelled.
//!
//! Carrying one on is three small decisions, each safe to take twice: what is known of the targets
//! is noted and the next ones are named ([`advance`]); each of those is queued in a unit of its own
//! that looks whether it still waits ([`start`]); what a stopped batch had queued and no host has
//! begun is cancelled ([`take_back`]), and of one that a person cancelled every job.

use hostler_protocol::id::BatchId;
use serde_json::json;

use super::enqueue::{Made, Making, missing, nothing};
use super::{cache, environment, job, purge, warm};
use crate::domain::batch::{CHECK_FAILED, CONCURRENCY_MAX, SeenJob, TARGETS_MAX, stop};
use crate::domain::job::reason;
use crate::domain::validate::Problems;
use crate::domain::{
    Batch, BatchAction, BatchOptions, BatchState, Change, Decision, Environment, EventKind,
    JobState, Micros, NewEvent, Refusal, RefusalKind, Seen, Snapshot, Subject, Target, TargetState,
};

/// The answer of a request for a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBatch {
    pub id: BatchId,
    /// The same request was carried out before; this is its batch.
    pub replayed: bool,
}

fn about(batch: &Batch, kind: EventKind, mut document: serde_json::Value, at: Micros) -> NewEvent {
    document["batch_id"] = batch.id.as_str().into();
    NewEvent { at, kind, subject: Subject::default(), document }
}

/// What is wrong with how a batch is to go about it.
pub fn check_options(options: &BatchOptions, targets: usize, problems: &mut Problems) {
    if !(1..=CONCURRENCY_MAX).contains(&options.concurrency) {
        problems
            .add("/concurrency", format!("from 1 to {CONCURRENCY_MAX} jobs may be open at once"));
    }
    if options.batch_size == Some(0) {
        problems.add("/batch_size", "leave it out to take up all targets together");
    }
    if options.answer_within_secs.is_some_and(|secs| !(1..=31_536_000).contains(&secs)) {
        problems.add("/answer_within_secs", "from 1 second to a year");
    }
    // Where a name is none, that is all there is to say.
    if targets == 0 && problems.found().is_empty() {
        problems.add("/targets", "no environment is meant by this");
    }
    if targets > TARGETS_MAX {
        let message =
            format!("{targets} environments are meant; a batch has {TARGETS_MAX} at most");
        problems.add("/targets", message);
    }
}

/// The batch of the request with this SHA-256, if its key was used before.
///
/// # Errors
/// `KEY_REUSED` when the key came with another request.
pub fn replay(snapshot: &Snapshot, request_sha256: &str) -> Result<Option<MadeBatch>, Refusal> {
    let Some(known) = &snapshot.batch else { return Ok(None) };
    if known.idempotency.as_ref().is_some_and(|(_, before)| before == request_sha256) {
        return Ok(Some(MadeBatch { id: known.id.clone(), replayed: true }));
    }
    Err(Refusal::new(
        RefusalKind::KeyReused,
        "KEY_REUSED",
        "this Idempotency-Key was used for another request; use a new one",
    ))
}

/// A new batch with its targets, none of them taken up yet.
///
/// # Errors
/// `KEY_REUSED`.
pub fn create(
    snapshot: &Snapshot,
    batch: &Batch,
    targets: &[Target],
) -> Result<Decision<MadeBatch>, Refusal> {
    if let Some((_, asked)) = &batch.idempotency
        && let Some(known) = replay(snapshot, asked)?
    {
        return Ok(nothing(known));
    }
    let document = json!({ "targets": targets.len() });
    Ok(Decision {
        changes: vec![Change::InsertBatch(Box::new(batch.clone()), targets.to_vec())],
        events: vec![about(batch, EventKind::BatchCreated, document, batch.created_at)],
        reply: MadeBatch { id: batch.id.clone(), replayed: false },
    })
}

/// The job that `action` makes of an environment, or why it takes none.
///
/// # Errors
/// As the command that does the same to one environment.
pub fn job_of(
    snapshot: &Snapshot,
    environment: &Environment,
    action: &BatchAction,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    let id = &environment.id;
    match action {
        BatchAction::Check => environment::check_job(snapshot, id, making),
        BatchAction::SetCaches(flags) => cache::set(snapshot, id, *flags, making),
        BatchAction::Reconcile => cache::reconcile(snapshot, id, making),
        BatchAction::Purge(asked) => {
            let mut asked = asked.as_ref().clone();
            for list in [asked.urls.as_mut(), asked.prefixes.as_mut()].into_iter().flatten() {
                *list = absolute(list, environment);
            }
            purge::purge(snapshot, id, &asked, making)
        }
        BatchAction::Warm { urls } => {
            warm::warm(snapshot, id, &absolute(urls, environment), making)
        }
    }
}

/// A batch is about many domains: what begins with `/` is of each one's own.
fn absolute(urls: &[String], environment: &Environment) -> Vec<String> {
    let home = warm::home(environment);
    let origin = home.trim_end_matches('/');
    let of = |url: &String| {
        if url.starts_with('/') { format!("{origin}{url}") } else { url.clone() }
    };
    urls.iter().map(of).collect()
}

/// Which targets are to be queued next, and what a stopped batch takes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    pub start: Vec<Target>,
    pub take_back: Vec<Target>,
    /// Of a batch that a person cancelled: every job that has not ended and was not told to.
    pub cancel: Vec<Target>,
}

/// How a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Pending,
    /// Its host is at it, or will be.
    Open,
    /// Nobody can say when it ends: its host is away, or a person has to decide.
    Unanswered,
    Ended(TargetState),
}

fn standing(seen: &Seen, now: Micros) -> Standing {
    match (seen.target.state, &seen.job) {
        (TargetState::Pending, _) => Standing::Pending,
        // Its job was forgotten before its end was noted: nobody knows any more.
        (TargetState::Started, None) => Standing::Ended(TargetState::Failed),
        (TargetState::Started, Some(job)) => match TargetState::of_job(job) {
            Some(ended) => Standing::Ended(ended),
            None if job.state == JobState::Held || seen.is_away(now) => Standing::Unanswered,
            None => Standing::Open,
        },
        (ended, _) => Standing::Ended(ended),
    }
}

/// The wave a target belongs to: the canaries are wave 0.
#[must_use]
pub fn wave(options: &BatchOptions, place: u32) -> u32 {
    match (place.checked_sub(options.canary), options.batch_size) {
        (None, _) => 0,
        (Some(_), None) => 1,
        (Some(after), Some(size)) => 1 + after / size.max(1),
    }
}

/// Notes what became of targets, stops or ends the batch, and names what is to be queued next.
#[must_use]
pub fn advance(batch: &Batch, seen: &[Seen], now: Micros) -> Decision<Next> {
    let mut after = batch.clone();
    let mut next = Next::default();
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    if batch.state.is_ended() {
        return nothing(next);
    }
    let mut standings: Vec<Standing> = seen.iter().map(|one| standing(one, now)).collect();
    for (one, standing) in seen.iter().zip(&standings) {
        if let (TargetState::Started, Standing::Ended(state)) = (one.target.state, *standing) {
            changes.push(Change::UpdateTarget(batch.id.clone(), ended(one, state)));
        }
    }
    if after.stopped_at.is_none()
        && let Some(why) = why_stop(&batch.options, &standings, seen)
    {
        after.stopped_at = Some(now);
        after.reason = Some(why.to_owned());
        events.push(about(&after, EventKind::BatchStopped, json!({ "reason": why }), now));
    }
    if after.stopped_at.is_some() {
        for (one, standing) in seen.iter().zip(&mut standings) {
            if *standing == Standing::Pending {
                *standing = Standing::Ended(TargetState::Skipped);
                changes.push(Change::UpdateTarget(batch.id.clone(), skipped(one, &after)));
            }
        }
        let waits = |job: &SeenJob| job.state == JobState::Queued && !job.begun;
        let open = |job: &SeenJob| !job.state.is_ended() && !job.stopping;
        let of = |which: &dyn Fn(&SeenJob) -> bool| {
            let found = seen.iter().filter(|one| one.job.as_ref().is_some_and(which));
            found.map(|one| one.target.clone()).collect()
        };
        if after.reason.as_deref() == Some(stop::CANCELLED) {
            next.cancel = of(&open);
        } else {
            next.take_back = of(&waits);
        }
    } else {
        next.start = starting(&batch.options, seen, &standings, now);
    }
    if let Some(state) = end_of(&after, &standings) {
        after.state = state;
        after.finished_at = Some(now);
        let document = json!({ "state": state.as_str(), "reason": after.reason });
        events.push(about(&after, EventKind::BatchEnded, document, now));
    }
    if after != *batch {
        changes.push(Change::UpdateBatch(Box::new(after)));
    }
    Decision { changes, events, reply: next }
}

fn ended(seen: &Seen, state: TargetState) -> Target {
    let (reason, message) = match &seen.job {
        Some(SeenJob { found_wrong: Some(found), .. }) => {
            (Some(CHECK_FAILED.to_owned()), Some(found.clone()))
        }
        Some(job) => (job.reason.clone(), job.failure.clone()),
        None => (Some("JOB_FORGOTTEN".to_owned()), None),
    };
    Target { state, reason, message, ..seen.target.clone() }
}

fn skipped(seen: &Seen, stopped: &Batch) -> Target {
    Target { state: TargetState::Skipped, reason: stopped.reason.clone(), ..seen.target.clone() }
}

/// Whether what has been seen is reason enough to take up nothing further. A held job counts as a
/// failure for as long as it is held.
fn why_stop(options: &BatchOptions, standings: &[Standing], seen: &[Seen]) -> Option<&'static str> {
    let held = |seen: &Seen| seen.job.as_ref().is_some_and(|job| job.state == JobState::Held);
    let bad = |(standing, seen): &(&Standing, &Seen)| match standing {
        Standing::Ended(state) => state.is_failure(),
        Standing::Unanswered => held(seen),
        Standing::Pending | Standing::Open => false,
    };
    let failed = || standings.iter().zip(seen).filter(bad);
    if failed().any(|(_, seen)| seen.target.place < options.canary) {
        return Some(stop::CANARY_FAILED);
    }
    let permitted = usize::try_from(options.failures_max?).unwrap_or(usize::MAX);
    (failed().count() > permitted).then_some(stop::TOO_MANY_FAILURES)
}

/// The pending targets whose turn has come. A wave follows when the one before has ended, but for
/// those who do not answer; canaries are waited for in any case.
fn starting(
    options: &BatchOptions,
    seen: &[Seen],
    standings: &[Standing],
    now: Micros,
) -> Vec<Target> {
    let mut all = seen.iter().zip(standings);
    let Some((first, _)) = all.find(|(_, standing)| **standing == Standing::Pending) else {
        return Vec::new();
    };
    let turn = wave(options, first.target.place);
    let over = |(one, standing): (&Seen, &Standing)| match standing {
        Standing::Ended(_) => true,
        Standing::Unanswered => wave(options, one.target.place) > 0,
        Standing::Pending | Standing::Open => false,
    };
    let before = |one: &Seen| wave(options, one.target.place) < turn;
    if !seen.iter().zip(standings).filter(|(one, _)| before(one)).all(over) {
        return Vec::new();
    }
    let open = standings.iter().filter(|standing| **standing == Standing::Open).count();
    let mut room = usize::try_from(options.concurrency).unwrap_or(usize::MAX).saturating_sub(open);
    let mut start = Vec::new();
    for (one, standing) in seen.iter().zip(standings) {
        let due = *standing == Standing::Pending && wave(options, one.target.place) == turn;
        // One whose host is away takes up nobody's room: it waits for its host in the queue.
        let away = one.is_away(now);
        if due && (room > 0 || away) {
            start.push(one.target.clone());
            room = room.saturating_sub(usize::from(!away));
        }
    }
    start
}

fn end_of(batch: &Batch, standings: &[Standing]) -> Option<BatchState> {
    let ended = |standing: &Standing| match standing {
        Standing::Ended(state) => Some(*state),
        Standing::Pending | Standing::Open | Standing::Unanswered => None,
    };
    let states: Option<Vec<TargetState>> = standings.iter().map(ended).collect();
    let succeeded = states?.iter().all(|state| *state == TargetState::Succeeded);
    Some(match (succeeded, batch.reason.as_deref()) {
        (true, _) => BatchState::Succeeded,
        (false, Some(stop::CANCELLED)) => BatchState::Cancelled,
        (false, _) => BatchState::Failed,
    })
}

/// Queues a target's job, if it still waits for that and the batch still goes on. An environment
/// that cannot take the job is noted as refused.
///
/// # Errors
/// None of its own; a refusal of the environment becomes its target's.
pub fn start(snapshot: &Snapshot, making: &Making) -> Result<Decision<()>, Refusal> {
    let (Some(batch), Some(target)) = (&snapshot.batch, &snapshot.batch_target) else {
        return Ok(nothing(()));
    };
    let over = batch.state.is_ended() || batch.stopped_at.is_some();
    if over || target.state != TargetState::Pending {
        return Ok(nothing(()));
    }
    let made = match &snapshot.environment {
        Some(environment) => job_of(snapshot, environment, &batch.action, making),
        None => Err(missing("environment", &target.environment)),
    };
    let mut decision = match made {
        Ok(decision) => decision,
        Err(refusal) => return Ok(refuse(snapshot, refusal.code, refusal.message)),
    };
    let mut started = Target {
        state: TargetState::Started,
        job: Some(decision.reply.job_id.clone()),
        ..target.clone()
    };
    for change in &mut decision.changes {
        if let Change::EnqueueJob(new) = change {
            // It may have moved since the batch was made.
            started.host = new.job.host_id.clone();
            if let Some(secs) = batch.options.answer_within_secs {
                new.job.expires_at = making.now.plus_secs(secs);
            }
        }
    }
    decision.changes.push(Change::UpdateTarget(batch.id.clone(), started));
    Ok(Decision { changes: decision.changes, events: decision.events, reply: () })
}

/// Notes that a target that still waits to be queued can take no job, and why.
#[must_use]
pub fn refuse(snapshot: &Snapshot, code: &str, message: String) -> Decision<()> {
    let (Some(batch), Some(target)) = (&snapshot.batch, &snapshot.batch_target) else {
        return nothing(());
    };
    if target.state != TargetState::Pending {
        return nothing(());
    }
    let refused = Target {
        state: TargetState::Refused,
        reason: Some(code.to_owned()),
        message: Some(message),
        ..target.clone()
    };
    let changes = vec![Change::UpdateTarget(batch.id.clone(), refused)];
    Decision { changes, events: Vec::new(), reply: () }
}

/// Cancels the job of a stopped batch that no host has begun. One that has been handed out goes on.
///
/// # Errors
/// None of its own.
pub fn take_back(snapshot: &Snapshot, now: Micros) -> Result<Decision<()>, Refusal> {
    let waits =
        |one: &&crate::domain::Job| one.state == JobState::Queued && one.started_at.is_none();
    let ended = snapshot.job.as_ref().filter(waits);
    match ended.and_then(|waiting| job::end(waiting, reason::BATCH_STOPPED, now)) {
        Some((change, told)) => {
            Ok(Decision { changes: vec![change], events: vec![told], reply: () })
        }
        None => Ok(nothing(())),
    }
}

/// Cancels a batch: nothing further is taken up, what no host has begun is cancelled, what runs is
/// told to stop. Asked again it changes nothing.
///
/// # Errors
/// `NOT_FOUND`, `BATCH_ENDED`.
pub fn cancel(snapshot: &Snapshot, id: &BatchId, now: Micros) -> Result<Decision<()>, Refusal> {
    let batch = snapshot.batch.as_ref().ok_or_else(|| missing("batch", id))?;
    if batch.state.is_ended() {
        let message = format!("the batch has already ended ({})", batch.state.as_str());
        return Err(Refusal::new(RefusalKind::Conflict, "BATCH_ENDED", message));
    }
    if batch.reason.as_deref() == Some(stop::CANCELLED) {
        return Ok(nothing(()));
    }
    let after = Batch {
        stopped_at: batch.stopped_at.or(Some(now)),
        reason: Some(stop::CANCELLED.to_owned()),
        ..batch.clone()
    };
    let told = about(&after, EventKind::BatchStopped, json!({ "reason": stop::CANCELLED }), now);
    let changes = vec![Change::UpdateBatch(Box::new(after))];
    Ok(Decision { changes, events: vec![told], reply: () })
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
