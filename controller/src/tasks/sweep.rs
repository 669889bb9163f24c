//! What time alone does: leases lost, jobs expired, rows that have lived long enough.
//!
//! A lease is lost when its counter has not moved for [`LEASE_SECS`] on this process's own
//! monotonic clock; no two clocks are compared, and after a start every lease begins anew. Every
//! controller watches leases and marks what it finds: marking twice changes nothing, and a watcher that
//! waited for a lock would have stopped watching. What only has to be done by somebody (expiry, history)
//! the store does for one controller at a time.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hostler_protocol::id::HostId;
use hostler_protocol::message::close;
use tokio_util::sync::CancellationToken;

use super::presence;
use crate::app::App;
use crate::domain::{Job, Micros};
use crate::fleet::{Agents, Sessions};
use crate::store::{AttemptRef, StoreError};

/// Seconds between two sweeps.
pub const SWEEP_SECS: u64 = 5;
/// Seconds without a renewal after which an attempt is unknown: three heartbeats and a bit.
pub const LEASE_SECS: u64 = 60;
/// Seconds between two looks at leases after which what was seen before says nothing.
const BLIND_SECS: u64 = 3 * SWEEP_SECS;
/// Seconds a job rests in the queue's tables after its end before it moves to history.
pub const ARCHIVE_AFTER_SECS: u64 = 3600;
/// Seconds events are kept: thirty days.
pub const EVENTS_SECS: u64 = 30 * 86_400;
/// Events kept whatever their age.
pub const EVENTS_KEPT_MIN: u32 = 10_000;
/// Seconds an `Idempotency-Key` is remembered: one day.
pub const IDEMPOTENCY_SECS: u64 = 86_400;
/// Seconds ended tokens are kept for the record: thirty days.
pub const TOKENS_SECS: u64 = 30 * 86_400;
/// Seconds ended jobs and their results are kept: ninety days.
pub const HISTORY_SECS: u64 = 90 * 86_400;
/// Seconds controllers that ended are remembered: seven days.
pub const CONTROLLERS_SECS: u64 = 7 * 86_400;
/// Rows one unit of a sweep touches.
pub const ROWS_PER_UNIT_MAX: u32 = 1000;
/// Units of one kind in one sweep; what is left waits for the next.
const UNITS_MAX: u32 = 20;

/// Who renewed when, as this process saw it.
#[derive(Debug, Default)]
pub struct Leases {
    seen: HashMap<AttemptRef, Seen>,
    looked_at_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    lease: i64,
    moved_at_ms: u64,
    told: bool,
}

impl Leases {
    /// Takes in what runs now; the attempts whose lease is lost, each told once. Time in which nobody
    /// looked does not count: while the database was away no lease could be renewed.
    pub fn look(&mut self, running: &[Job], now_ms: u64) -> Vec<AttemptRef> {
        let before = self.looked_at_ms.replace(now_ms);
        if before.is_some_and(|before| now_ms.saturating_sub(before) > BLIND_SECS * 1000) {
            self.seen.values_mut().for_each(|seen| seen.moved_at_ms = now_ms);
        }
        let mut next = HashMap::with_capacity(running.len());
        let mut lost = Vec::new();
        for job in running {
            let attempt = AttemptRef { job: job.id.clone(), attempt: job.attempt };
            let before = self.seen.get(&attempt).filter(|seen| seen.lease == job.lease);
            let fresh = Seen { lease: job.lease, moved_at_ms: now_ms, told: false };
            let mut seen = before.copied().unwrap_or(fresh);
            if !seen.told && now_ms.saturating_sub(seen.moved_at_ms) >= LEASE_SECS * 1000 {
                seen.told = true;
                lost.push(attempt.clone());
            }
            next.insert(attempt, seen);
        }
        self.seen = next;
        lost
    }
}

/// Sweeps until the shutdown.
pub async fn run(app: App, agents: Agents, shutdown: CancellationToken) {
    let mut leases = Leases::default();
    let mut period = tokio::time::interval(Duration::from_secs(SWEEP_SECS));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = period.tick() => {}
        }
        if let Err(error) = presence::compare(&app, &agents).await {
            tracing::error!(%error, "sessions cannot be compared with the database");
        }
        if let Err(error) = watch(&app, &agents, &mut leases).await {
            tracing::error!(%error, "leases cannot be looked at");
        }
        if let Err(error) = sweep(&app).await {
            tracing::error!(error = &error as &dyn std::error::Error, "a sweep failed");
        }
    }
}

/// One look at the leases: what is lost is unknown from now on, and its hosts are asked anew.
///
/// # Errors
/// [`StoreError`]; nothing was written then.
pub async fn watch(
    app: &App,
    agents: &impl Sessions,
    leases: &mut Leases,
) -> Result<(), StoreError> {
    let silent = lost_leases(app, leases).await?;
    ask_again(agents, &silent);
    Ok(())
}

/// Marks attempts whose lease is lost as unknown; answers their hosts.
async fn lost_leases(app: &App, leases: &mut Leases) -> Result<BTreeSet<HostId>, StoreError> {
    let running = app.store.running_all().await?;
    let lost = leases.look(&running, app.clock.monotonic_ms());
    if !lost.is_empty() {
        tracing::warn!(attempts = lost.len(), "leases were lost: these attempts are unknown");
        app.store.mark_unknown(&lost, app.clock.now()).await?;
    }
    Ok(hosts_of(&running, &lost))
}

fn hosts_of(running: &[Job], lost: &[AttemptRef]) -> BTreeSet<HostId> {
    let is_lost = |job: &&Job| {
        lost.iter().any(|attempt| attempt.job == job.id && attempt.attempt == job.attempt)
    };
    running.iter().filter(is_lost).map(|job| job.host_id.clone()).collect()
}

/// A host that is connected here and yet does not renew an attempt may never have been given it:
/// its claim was committed while the database's answer was lost. Its next `Hello` tells.
fn ask_again(agents: &impl Sessions, hosts: &BTreeSet<HostId>) {
    for host in hosts {
        let reason = "an attempt of this host is unknown: say anew what runs";
        if agents.close(host, close::UNAVAILABLE, reason) {
            tracing::warn!(host.id = %host, "a session is closed to learn what its host runs");
        }
    }
}

/// One sweep, leases aside.
///
/// # Errors
/// [`StoreError`]; what was swept before stays swept.
pub async fn sweep(app: &App) -> Result<(), StoreError> {
    let now = app.clock.now();
    let store = &app.store;
    repeat(|| store.expire_queued(now, ROWS_PER_UNIT_MAX)).await?;
    let before = ago(now, ARCHIVE_AFTER_SECS);
    repeat(|| store.archive_finished(before, ROWS_PER_UNIT_MAX)).await?;
    let before = ago(now, HISTORY_SECS);
    repeat(|| store.prune_history(before, ROWS_PER_UNIT_MAX)).await?;
    repeat(|| store.prune_batches(before, ROWS_PER_UNIT_MAX)).await?;
    repeat(|| store.prune_refreshes(before, ROWS_PER_UNIT_MAX)).await?;
    let before = ago(now, EVENTS_SECS);
    repeat(|| store.prune_events(before, EVENTS_KEPT_MIN, ROWS_PER_UNIT_MAX)).await?;
    store.prune_idempotency(ago(now, IDEMPOTENCY_SECS)).await?;
    store.prune_tokens(ago(now, TOKENS_SECS)).await?;
    store.prune_controllers(ago(now, CONTROLLERS_SECS)).await?;
    measure(app).await
}

/// Repeats a bounded unit while it comes back full.
async fn repeat<F>(mut unit: impl FnMut() -> F) -> Result<(), StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    for _ in 0..UNITS_MAX {
        if unit().await? < u64::from(ROWS_PER_UNIT_MAX) {
            break;
        }
    }
    Ok(())
}

fn ago(now: Micros, secs: u64) -> Micros {
    Micros(now.0.saturating_sub(Micros(0).plus_secs(secs).0))
}

#[expect(clippy::cast_precision_loss, reason = "counts and ages stay far below 2^52")]
async fn measure(app: &App) -> Result<(), StoreError> {
    let stats = app.store.stats().await?;
    for (state, jobs) in
        [("queued", stats.queued), ("running", stats.running), ("held", stats.held)]
    {
        metrics::gauge!("hostler_jobs", "state" => state).set(jobs as f64);
    }
    metrics::gauge!("hostler_hosts_connected").set(stats.hosts_connected as f64);
    metrics::gauge!("hostler_hosts_clock_skewed").set(stats.hosts_clock_skewed as f64);
    let now = app.clock.now().0;
    if let Some(at) = stats.certificate_ends_first_at {
        let left = at.0.saturating_sub(now);
        metrics::gauge!("hostler_certificate_left_seconds_min").set(left as f64 / 1e6);
    }
    let oldest = stats.oldest_queued_at.map_or(0, |at| now.saturating_sub(at.0));
    metrics::gauge!("hostler_oldest_queued_seconds").set(oldest as f64 / 1e6);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JobState;
    use crate::domain::decide::job::{JobInput, new_job};
    use crate::templates::Templates;
    use hostler_protocol::id::{HostId, JobId};
    use hostler_protocol::job::JobType;

    fn running(lease: i64) -> Job {
        let input = JobInput {
            id: JobId::from_parts(1, [1; 10]),
            host_id: HostId::from_parts(1, [0; 10]),
            site_id: None,
            environment_id: None,
            stack_id: None,
            request: serde_json::json!({}),
            request_id: None,
            retry_of: None,
            parent_id: None,
            executor: None,
        };
        let template = Templates::shipped().unwrap().for_type(JobType::EnvCheck);
        let mut job = new_job(input, &template, Micros(0)).job;
        job.state = JobState::Running;
        job.attempt = 1;
        job.lease = lease;
        job
    }

    /// Looks at each sweep from `from` to `to`, both in milliseconds.
    fn watch(leases: &mut Leases, job: &Job, from: u64, to: u64) -> Vec<AttemptRef> {
        let sweeps = (from..=to).step_by(usize::try_from(SWEEP_SECS * 1000).unwrap());
        sweeps.flat_map(|now_ms| leases.look(std::slice::from_ref(job), now_ms)).collect()
    }

    #[test]
    fn a_lease_is_lost_only_when_its_counter_stands_still_here() {
        let (start, lease_ms) = (1_000_000, LEASE_SECS * 1000);
        let mut leases = Leases::default();
        // However old the attempt is: this process begins to count now.
        let still = watch(&mut leases, &running(5), start, start + lease_ms - 1);
        assert_eq!(still, []);
        let moved = start + lease_ms;
        assert_eq!(watch(&mut leases, &running(6), moved, moved + lease_ms - 1), []);
        let lost = watch(&mut leases, &running(6), moved + lease_ms, moved + lease_ms);
        assert_eq!(lost.len(), 1);
        assert_eq!(hosts_of(&[running(6)], &lost).len(), 1, "its host is asked again");
        assert!(hosts_of(&[Job { attempt: 2, ..running(6) }], &lost).is_empty());
        let later = moved + lease_ms + SWEEP_SECS * 1000;
        assert_eq!(watch(&mut leases, &running(6), later, later + lease_ms), [], "told once");
        assert_eq!(leases.look(&[running(7)], later + lease_ms + 1), []);
    }

    #[test]
    fn a_lease_is_not_lost_while_nobody_could_look() {
        let lease_ms = LEASE_SECS * 1000;
        let mut leases = Leases::default();
        assert_eq!(watch(&mut leases, &running(5), 0, 20_000), []);
        // The database was away for an hour: the host could not renew, and may do so now.
        let back = 3_600_000;
        assert_eq!(watch(&mut leases, &running(5), back, back + lease_ms - 1), []);
        assert_eq!(watch(&mut leases, &running(5), back + lease_ms, back + lease_ms).len(), 1);
    }
}
