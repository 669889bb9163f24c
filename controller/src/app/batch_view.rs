//! Batches as the outside reads them.

use super::view::{job_state, time};
use crate::domain::decide::batch::wave;
use crate::domain::{
    Batch, BatchAction, BatchOptions, BatchState, JobState, Refusal, Seen, Target, TargetState,
};
use crate::views;

/// Most targets listed in a batch itself, of each kind; the rest is in its list of targets.
pub(super) const LISTED_MAX: usize = 100;

/// What a batch would do.
pub(super) fn plan(
    options: &BatchOptions,
    targets: impl Iterator<Item = (Target, (bool, Option<Refusal>))>,
) -> views::BatchPlan {
    let planned =
        |(target, (connected, refusal)): (Target, (bool, Option<Refusal>))| views::PlannedTarget {
            wave: wave(options, target.place),
            environment_id: target.environment.into(),
            environment: target.name,
            host_id: target.host.into(),
            host: target.host_name,
            connected,
            refused: refusal.map(|refusal| views::PlannedRefusal {
                code: refusal.code.to_owned(),
                message: refusal.message,
            }),
        };
    views::BatchPlan { targets: targets.map(planned).collect() }
}

/// A batch with how its targets stand.
pub(super) fn batch(batch: Batch, seen: &[Seen]) -> views::Batch {
    let counts = counts(seen);
    let listed = |which: &dyn Fn(&Seen) -> bool| {
        let found = seen.iter().filter(|one| which(one)).take(LISTED_MAX);
        found.map(|one| target(&batch, one.clone())).collect::<Vec<_>>()
    };
    let unanswered = listed(&unanswered);
    let failures = listed(&|one| {
        let held = one.job.as_ref().is_some_and(|job| job.state == JobState::Held);
        let open = one.target.state == TargetState::Started;
        (one.target.state.is_failure() && !self::unanswered(one)) || (open && held)
    });
    views::Batch {
        id: batch.id.clone().into(),
        state: batch_state(batch.state),
        reason: batch.reason.clone(),
        action: action(&batch.action),
        concurrency: batch.options.concurrency,
        batch_size: batch.options.batch_size,
        canary: batch.options.canary,
        failures_max: batch.options.failures_max,
        answer_within_secs: batch.options.answer_within_secs,
        counts,
        unanswered,
        failures,
        request_id: batch.request_id.clone().map(Into::into),
        created_at: time(batch.created_at),
        stopped_at: batch.stopped_at.map(time),
        finished_at: batch.finished_at.map(time),
    }
}

fn unanswered(seen: &Seen) -> bool {
    match (seen.target.state, &seen.job) {
        (TargetState::Started, Some(job)) => {
            is_unanswered(job.state, job.reason.as_deref(), seen.connected)
        }
        (TargetState::Failed, _) => is_unanswered(JobState::Failed, reason(seen), seen.connected),
        (TargetState::Cancelled, _) => {
            is_unanswered(JobState::Cancelled, reason(seen), seen.connected)
        }
        (_, _) => false,
    }
}

fn reason(seen: &Seen) -> Option<&str> {
    seen.target.reason.as_deref()
}

fn counts(seen: &[Seen]) -> views::BatchCounts {
    let mut counts = views::BatchCounts::default();
    for one in seen {
        counts.targets += 1;
        counts.unanswered += u32::from(unanswered(one));
        let place = match target_state(one) {
            views::TargetState::Pending => &mut counts.pending,
            views::TargetState::Queued => &mut counts.queued,
            views::TargetState::Running => &mut counts.running,
            views::TargetState::Held => &mut counts.held,
            views::TargetState::Succeeded => &mut counts.succeeded,
            views::TargetState::Failed => &mut counts.failed,
            views::TargetState::Cancelled => &mut counts.cancelled,
            views::TargetState::Refused => &mut counts.refused,
            views::TargetState::Skipped => &mut counts.skipped,
        };
        *place += 1;
    }
    counts
}

fn target_state(seen: &Seen) -> views::TargetState {
    match (seen.target.state, &seen.job) {
        (TargetState::Pending, _) => views::TargetState::Pending,
        (TargetState::Started, Some(job)) => match job_state(job.state) {
            views::JobState::Queued => views::TargetState::Queued,
            views::JobState::Running => views::TargetState::Running,
            views::JobState::Held => views::TargetState::Held,
            views::JobState::Succeeded if job.found_wrong.is_some() => views::TargetState::Failed,
            views::JobState::Succeeded => views::TargetState::Succeeded,
            views::JobState::Failed => views::TargetState::Failed,
            views::JobState::Cancelled => views::TargetState::Cancelled,
        },
        (TargetState::Started, None) | (TargetState::Failed, _) => views::TargetState::Failed,
        (TargetState::Succeeded, _) => views::TargetState::Succeeded,
        (TargetState::Cancelled, _) => views::TargetState::Cancelled,
        (TargetState::Refused, _) => views::TargetState::Refused,
        (TargetState::Skipped, _) => views::TargetState::Skipped,
    }
}

/// One target.
pub(super) fn target(batch: &Batch, seen: Seen) -> views::BatchTarget {
    let (state, answered) = (target_state(&seen), !unanswered(&seen));
    let Seen { target, job, connected, .. } = seen;
    // Once it is noted how its job ended, that is the target's own.
    let told = job.as_ref().and_then(|job| job.found_wrong.clone().or(job.failure.clone()));
    views::BatchTarget {
        place: target.place,
        wave: wave(&batch.options, target.place),
        environment_id: target.environment.into(),
        environment: target.name,
        host_id: target.host.into(),
        host: target.host_name,
        connected,
        state,
        reason: target.reason.or_else(|| job.and_then(|job| job.reason)),
        message: target.message.or(told),
        answered,
        job_id: target.job.map(Into::into),
    }
}

fn batch_state(state: BatchState) -> views::BatchState {
    match state {
        BatchState::Running => views::BatchState::Running,
        BatchState::Succeeded => views::BatchState::Succeeded,
        BatchState::Failed => views::BatchState::Failed,
        BatchState::Cancelled => views::BatchState::Cancelled,
    }
}

/// The action as it was asked for.
fn action(action: &BatchAction) -> views::BatchAction {
    match action {
        BatchAction::Check => views::BatchAction::EnvCheck,
        BatchAction::Reconcile => views::BatchAction::CacheReconcile,
        BatchAction::SetCaches(flags) => views::BatchAction::CacheSet(views::SetCaches {
            fastcgi_cache_enabled: flags.fastcgi,
            redis_cache_enabled: flags.redis,
        }),
        BatchAction::Purge(asked) => {
            views::BatchAction::CachePurge(Box::new(super::caches::purge_shown(asked)))
        }
        BatchAction::Warm { urls } => {
            views::BatchAction::CacheWarm(views::WarmCache { urls: urls.clone() })
        }
    }
}

/// Whether a job's host has said, or can still say, how it went.
fn is_unanswered(state: JobState, reason: Option<&str>, connected: bool) -> bool {
    use crate::domain::job::reason as why;
    match state {
        JobState::Queued | JobState::Running => !connected || reason == Some(why::UNKNOWN),
        JobState::Failed | JobState::Cancelled => {
            matches!(reason, Some(why::EXPIRED | why::ABANDONED | why::HOST_REVOKED))
        }
        JobState::Held | JobState::Succeeded => false,
    }
}
