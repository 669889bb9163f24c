//! Desired state as the outside reads it.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, JobId, StackId};
use hostler_protocol::job::{ContainerDoc, JobError, Outcome, ServiceAction, ServiceChange};
use hostler_protocol::observed::{Drift, DriftKind};

use super::view::{job_error, time};
use crate::domain::decide::stack::removal_waits;
use crate::domain::desired::{
    Attempted, DesiredState, Refresh, RefreshError, RefreshState, Removal, Stack, StackHost,
    StackProblem, Trigger, Watch,
};
use crate::domain::stack::{StackStatus, state};
use crate::domain::{Host, Job, JobState, Micros};
use crate::views;

/// A look.
pub(super) fn refresh(one: Refresh) -> views::Refresh {
    let report = one.report.as_ref();
    let completed = one.state == RefreshState::Completed;
    views::Refresh {
        id: one.id.into(),
        status: refresh_state(one.state),
        trigger: trigger(one.trigger),
        requested_at: time(one.requested_at),
        started_at: one.started_at.map(time),
        finished_at: one.finished_at.map(time),
        replaced_by: one.replaced_by.map(Into::into),
        revision: one.revision,
        error: report.and_then(|report| report.error.clone()).map(refresh_error),
        counts: report.filter(|_| completed).map(|report| views::RefreshCounts {
            stacks: report.stacks,
            added: report.added,
            changed: report.changed,
            removed: report.removed,
            problems: report.problems,
        }),
        fetch_ms: report.map(|report| report.fetch_ms),
        read_ms: report.map(|report| report.read_ms),
        bytes_received: report.map(|report| report.bytes_received),
    }
}

fn refresh_state(state: RefreshState) -> views::RefreshState {
    match state {
        // Shown only in the history: the one that took its place answers for it.
        RefreshState::Queued | RefreshState::Replaced => views::RefreshState::Queued,
        RefreshState::Refreshing => views::RefreshState::Refreshing,
        RefreshState::Completed => views::RefreshState::Completed,
        RefreshState::Failed => views::RefreshState::Failed,
    }
}

fn trigger(trigger: Trigger) -> views::RefreshTrigger {
    match trigger {
        Trigger::Startup => views::RefreshTrigger::Startup,
        Trigger::Webhook => views::RefreshTrigger::Webhook,
        Trigger::Manual => views::RefreshTrigger::Manual,
        Trigger::Poll => views::RefreshTrigger::Poll,
    }
}

fn refresh_error(error: RefreshError) -> views::RefreshError {
    views::RefreshError { class: error.class, code: error.code, message: error.message }
}

/// How the desired state stands as a whole.
pub(super) fn status(
    configured: bool,
    open: Vec<Refresh>,
    last: Option<Refresh>,
    desired: Option<DesiredState>,
) -> views::RefreshStatus {
    let of = |state| open.iter().find(|one| one.state == state).cloned().map(refresh);
    let (running, queued) = (of(RefreshState::Refreshing), of(RefreshState::Queued));
    let last = last.map(refresh);
    let now = running.as_ref().or(queued.as_ref()).or(last.as_ref());
    let (status, trigger) = (now.map(|one| one.status), now.map(|one| one.trigger));
    views::RefreshStatus {
        configured,
        status,
        outcome: last.as_ref().map(|one| one.status),
        finished_at: last.as_ref().and_then(|one| one.finished_at),
        last_success_at: desired.as_ref().map(|desired| time(desired.taken_at)),
        stale: last.as_ref().is_some_and(|one| one.status == views::RefreshState::Failed),
        revision: desired.as_ref().map(|desired| desired.revision.clone()),
        commit: desired.map(|desired| views::Commit {
            author: desired.commit.author,
            summary: desired.commit.summary,
            committed_at: time(Micros(desired.commit.committed_at_us)),
        }),
        trigger,
        error: last.as_ref().and_then(|one| one.error.clone()),
        running,
        queued,
        last,
    }
}

fn stack_status(status: StackStatus) -> views::StackStatus {
    match status {
        StackStatus::Missing => views::StackStatus::Missing,
        StackStatus::Syncing => views::StackStatus::Syncing,
        StackStatus::Synced => views::StackStatus::Synced,
        StackStatus::Deleting => views::StackStatus::Deleting,
    }
}

fn problem(problem: &StackProblem) -> views::StackProblem {
    views::StackProblem { code: problem.code.clone(), message: problem.message.clone() }
}

/// What a row is drawn with besides the stack.
#[derive(Debug, Default)]
pub(super) struct Around<'a> {
    pub(super) rows: BTreeMap<&'a StackId, Vec<&'a StackHost>>,
    pub(super) trouble: BTreeMap<StackId, StackProblem>,
    pub(super) waiting: BTreeMap<StackId, StackProblem>,
    /// Those that rows name.
    pub(super) jobs: Option<&'a BTreeMap<JobId, Job>>,
    /// Hosts without a session.
    pub(super) away: Option<&'a BTreeSet<HostId>>,
    pub(super) revision: Option<&'a str>,
}

impl Around<'_> {
    /// The job that is under way on a stack's host.
    fn open_job(&self, row: &StackHost) -> Option<&Job> {
        let job = self.jobs?.get(row.job.as_ref()?)?;
        (!job.state.is_ended()).then_some(job)
    }

    fn is_unseen(&self, row: &StackHost) -> bool {
        row.watch.unavailable.is_some() || self.away.is_some_and(|away| away.contains(&row.host))
    }

    fn removal(&self, row: &StackHost) -> Option<&'static str> {
        removal_waits(row, self.jobs?)
    }
}

/// A stack in a list.
pub(super) fn row(stack: &Stack, around: &Around<'_>) -> views::StackRow {
    let rows = around.rows.get(&stack.id).map(Vec::as_slice).unwrap_or_default();
    let statuses: Vec<StackStatus> = rows.iter().map(|row| row.status).collect();
    let found = stack.facts.problem.as_ref().or_else(|| around.trouble.get(&stack.id));
    let out_of_sync = rows.iter().any(|row| is_out_of_sync(stack, row, around));
    let waits = around.waiting.get(&stack.id).filter(|_| out_of_sync);
    let revision = around.revision.filter(|_| stack.present).unwrap_or(&stack.revision);
    views::StackRow {
        id: stack.id.clone().into(),
        path: stack.path.clone(),
        project: stack.facts.project.clone(),
        compose_file: stack.facts.compose_file.clone(),
        hash: stack.facts.compose_hash.clone(),
        status: stack_status(state::overall(&statuses, stack.present)),
        out_of_sync,
        revision: revision.to_owned(),
        changed_in: stack.revision.clone(),
        drifted: rows.iter().any(|row| row.watch.is_drifted()),
        suspended: stack.suspended || stack.facts.settings.suspend,
        problem: found.filter(|_| stack.present).map(problem),
        waits: waits.map(problem),
        hosts: count(rows.len()),
        failed_hosts: count(rows.iter().filter(|row| last_failed(row, around)).count()),
        unhealthy_hosts: count(rows.iter().filter(|row| row.is_unhealthy()).count()),
        unseen_hosts: count(rows.iter().filter(|row| around.is_unseen(row)).count()),
        removal_held: removal_held(stack, rows, around).map(str::to_owned),
        last_sync_at: rows
            .iter()
            .filter_map(|row| row.outcome.as_ref().map(|last| time(Micros(last.at_us))))
            .max(),
    }
}

/// Whether a host runs something else than the repository says. What the repository says of a stack
/// that cannot be read runs nowhere, whatever was wanted last.
fn is_out_of_sync(stack: &Stack, row: &StackHost, around: &Around<'_>) -> bool {
    let blocked = around.trouble.contains_key(&stack.id) && row.applied.is_none();
    row.is_out_of_sync() || stack.present && (stack.facts.problem.is_some() || blocked)
}

fn last_failed(row: &StackHost, around: &Around<'_>) -> bool {
    row.outcome.as_ref().is_some_and(|last| !last.succeeded)
        || around.open_job(row).is_some_and(has_failed)
}

/// Whether an attempt of it was made that failed, or was cut off.
fn has_failed(job: &Job) -> bool {
    job.failures > 0 || job.crashes > 0
}

/// Why its last attempt failed.
fn failure(job: &Job) -> Option<JobError> {
    let document = job.outcome.clone().filter(|_| has_failed(job))?;
    serde_json::from_value::<Outcome>(document).ok()?.error
}

/// Why the removal of a stack that is no longer wanted waits for a person.
fn removal_held(stack: &Stack, rows: &[&StackHost], around: &Around<'_>) -> Option<&'static str> {
    let declined =
        !rows.is_empty() && rows.iter().all(|row| around.removal(row) == Some("declined"));
    let held = match stack.removal {
        Removal::Protected | Removal::Many if !declined => Some(stack.removal.as_str()),
        Removal::Free | Removal::Protected | Removal::Many => {
            rows.iter().find_map(|row| around.removal(row))
        }
    };
    held.filter(|_| !stack.present)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A stack with all that is known of it.
pub(super) fn stack(
    stack: &Stack,
    around: &Around<'_>,
    hosts: &BTreeMap<HostId, Host>,
) -> views::Stack {
    let settings = &stack.facts.settings;
    let rows = around.rows.get(&stack.id).cloned().unwrap_or_default();
    let shown = |row: &&StackHost| on_host(stack, row, hosts.get(&row.host), around);
    views::Stack {
        row: row(stack, around),
        override_file: stack.facts.override_file.clone(),
        directory: stack.facts.directory.clone(),
        tree_oid: stack.facts.tree_oid.clone(),
        bundle_digest: stack.facts.bundle_digest.clone(),
        targets: views::StackTargets {
            hosts: settings.hosts.clone(),
            labels: views::Labels(settings.labels.clone()),
            after: settings.after.clone(),
        },
        warnings: stack.facts.warnings.clone(),
        on: rows.iter().map(shown).collect(),
        created_at: time(stack.created_at),
        updated_at: time(stack.updated_at),
    }
}

fn on_host(
    stack: &Stack,
    row: &StackHost,
    host: Option<&Host>,
    around: &Around<'_>,
) -> views::StackOnHost {
    let applied = row.applied.as_ref();
    let failed = around.open_job(row).filter(|job| has_failed(job));
    // An attempt that runs is not waited for.
    let again = failed.filter(|job| job.state == JobState::Queued).map(|job| job.run_after);
    views::StackOnHost {
        host_id: row.host.clone().into(),
        host: host.map_or_else(|| row.host.to_string(), |host| host.name.clone()),
        connected: host.is_some_and(|host| host.connected),
        status: stack_status(row.status),
        out_of_sync: is_out_of_sync(stack, row, around),
        wanted: row.wanted.clone(),
        applied: applied.map(|applied| applied.desired.clone()),
        applied_bundle: applied.map(|applied| applied.bundle.clone()),
        applied_revision: applied.map(|applied| applied.revision.clone()),
        applied_at: applied.map(|applied| time(Micros(applied.at_us))),
        job_id: row.job.clone().map(Into::into),
        last: row.outcome.as_ref().map(attempt),
        job_error: failed.and_then(failure).map(job_error),
        retry_at: again.or(row.retry_at).map(time),
        removal_waits: around.removal(row).map(str::to_owned),
        containers: row.containers.iter().map(container).collect(),
        seen_at: row.watch.seen_at_us.map(|at| time(Micros(at))),
        docker_unavailable: row.watch.unavailable.clone(),
        drift: row.watch.drift.iter().map(|one| drift(one, &row.watch)).collect(),
        drift_more: row.watch.drift_more,
        loop_since: row.watch.tripped_us.map(|at| time(Micros(at))),
    }
}

fn drift(one: &Drift, watch: &Watch) -> views::Drift {
    let kind = match one.kind {
        DriftKind::ServiceMissing => "service_missing",
        DriftKind::ServiceStopped => "service_stopped",
        DriftKind::ServiceChanged => "service_changed",
        DriftKind::ServiceUnknown => "service_unknown",
        DriftKind::FileChanged => "file_changed",
        DriftKind::FileMissing => "file_missing",
    };
    let accepted = watch.accepted.contains(one);
    views::Drift { kind: kind.to_owned(), subject: one.subject.clone(), accepted }
}

fn attempt(last: &Attempted) -> views::StackAttempt {
    views::StackAttempt {
        job_id: last.job.clone().into(),
        succeeded: last.succeeded,
        reason: last.reason.clone(),
        at: time(Micros(last.at_us)),
        error: last.error.clone().map(job_error),
        services: last.services.iter().map(service).collect(),
    }
}

fn service(change: &ServiceChange) -> views::ServiceChange {
    let action = match change.action {
        ServiceAction::Created => "created",
        ServiceAction::Recreated => "recreated",
        ServiceAction::Restarted => "restarted",
        ServiceAction::Started => "started",
        ServiceAction::Removed => "removed",
        ServiceAction::Unchanged => "unchanged",
    };
    views::ServiceChange {
        service: change.service.clone(),
        action: action.to_owned(),
        reasons: change.reasons.clone(),
    }
}

fn container(doc: &ContainerDoc) -> views::Container {
    views::Container {
        name: doc.name.clone(),
        id: doc.id.clone(),
        service: doc.service.clone(),
        image: doc.image.clone(),
        image_id: doc.image_id.clone(),
        state: doc.state.clone(),
        health: doc.health.clone(),
        exit_code: doc.exit_code,
        restarts: doc.restarts,
    }
}
