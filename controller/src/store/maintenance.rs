//! What the sweep does: ends what waited too long, moves and removes what is old, counts.

use hostler_protocol::CLOCK_SKEW_SECS_MAX;
use hostler_protocol::id::JobId;
use hostler_protocol::job::{Code, JobError, Outcome, OutcomeState};
use serde_json::json;

use super::cells::Cells;
use super::db::{Dialect, Tx, params};
use super::error::Failure;
use super::jobs::{self, JobRow, Update};
use super::types::QueueStats;
use super::unit::{Done, Operation};
use super::{Store, StoreError, batches, events, refreshes};
use crate::domain::decide::job::event;
use crate::domain::job::{JobEvent, reason};
use crate::domain::{EventKind, Job, JobState, Micros};

impl Store {
    /// Fails jobs (at most `limit`) that were queued past their time to live and never started.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn expire_queued(&self, now: Micros, limit: u32) -> Result<u64, StoreError> {
        self.commit(Sweep::Expire { now, limit }).await
    }

    /// Moves jobs (at most `limit`) that ended before a time out of the queue; reads still find
    /// them.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn archive_finished(&self, before: Micros, limit: u32) -> Result<u64, StoreError> {
        self.commit(Sweep::Archive { before, limit }).await
    }

    /// Forgets jobs in history (at most `limit`) that ended before a time.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_history(&self, before: Micros, limit: u32) -> Result<u64, StoreError> {
        self.commit(Sweep::History { before, limit }).await
    }

    /// Removes the oldest events (at most `limit`) that are older than a time, but leaves the
    /// newest `keep_min`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_events(
        &self,
        before: Micros,
        keep_min: u32,
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.commit(Sweep::Events { before, keep_min, limit }).await
    }

    /// Forgets idempotent requests made before a time.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_idempotency(&self, before: Micros) -> Result<u64, StoreError> {
        self.commit(Sweep::Idempotency { before }).await
    }

    /// Forgets enrolment tokens that expired, and API tokens that were revoked or expired, before
    /// a time.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_tokens(&self, before: Micros) -> Result<u64, StoreError> {
        self.commit(Sweep::Tokens { before }).await
    }

    /// Forgets batches (at most `limit`) that ended before a time, with their targets.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_batches(&self, before: Micros, limit: u32) -> Result<u64, StoreError> {
        self.commit(Sweep::Batches { before, limit }).await
    }

    /// Forgets looks at the config repository (at most `limit`) that ended before a time.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn prune_refreshes(&self, before: Micros, limit: u32) -> Result<u64, StoreError> {
        self.commit(Sweep::Refreshes { before, limit }).await
    }

    /// The queue in figures.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stats(&self) -> Result<QueueStats, StoreError> {
        let sql = "SELECT (SELECT count(*) FROM jobs WHERE state = 'queued'), \
            (SELECT count(*) FROM jobs WHERE state = 'running'), \
            (SELECT count(*) FROM jobs WHERE state = 'held'), \
            (SELECT min(created_at) FROM jobs WHERE state = 'queued'), \
            (SELECT count(*) FROM host_sessions), \
            (SELECT count(*) FROM host_sessions p JOIN hosts h ON h.id = p.host_id \
             WHERE abs(h.clock_skew_ms) > $1), \
            (SELECT min(h.certificate_expires_at) FROM host_sessions p \
             JOIN hosts h ON h.id = p.host_id)";
        let skew_ms_max = i64::try_from(CLOCK_SKEW_SECS_MAX * 1000).unwrap_or(i64::MAX);
        let values = params![skew_ms_max];
        let stats = self.read_one("stats", sql, values, |row| {
            Ok(QueueStats {
                queued: count(row)?,
                running: count(row)?,
                held: count(row)?,
                oldest_queued_at: row.opt_at()?,
                hosts_connected: count(row)?,
                hosts_clock_skewed: count(row)?,
                certificate_ends_first_at: row.opt_at()?,
            })
        });
        Ok(stats.await?.unwrap_or_default())
    }
}

fn count(row: &mut Cells<'_>) -> Result<u64, Failure> {
    u64::try_from(row.int()?).map_err(|_| Failure::unreadable("a negative count"))
}

/// An advisory lock's key.
const SWEEP_LOCK: i64 = 0x686f_7374_6c65_7202;

enum Sweep {
    Expire { now: Micros, limit: u32 },
    Archive { before: Micros, limit: u32 },
    History { before: Micros, limit: u32 },
    Events { before: Micros, keep_min: u32, limit: u32 },
    Idempotency { before: Micros },
    Tokens { before: Micros },
    Batches { before: Micros, limit: u32 },
    Refreshes { before: Micros, limit: u32 },
}

impl Operation for Sweep {
    type Reply = u64;

    fn name(&self) -> &'static str {
        match self {
            Self::Expire { .. } => "expire_queued",
            Self::Archive { .. } => "archive_finished",
            Self::History { .. } => "prune_history",
            Self::Events { .. } => "prune_events",
            Self::Idempotency { .. } => "prune_idempotency",
            Self::Tokens { .. } => "prune_tokens",
            Self::Batches { .. } => "prune_batches",
            Self::Refreshes { .. } => "prune_refreshes",
        }
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<u64>, Failure> {
        if !alone(tx).await? {
            return Ok(Done::silent(0));
        }
        match self {
            Self::Expire { now, limit } => expire(tx, *now, *limit).await,
            Self::Archive { before, limit } => archive(tx, *before, *limit).await,
            Self::History { before, limit } => forget(tx, *before, *limit).await,
            Self::Events { before, keep_min, limit } => {
                events::prune(tx, *before, *keep_min, *limit).await.map(Done::silent)
            }
            Self::Idempotency { before } => {
                let sql = "DELETE FROM idempotency WHERE created_at < $1";
                tx.execute(sql, params![*before]).await.map(Done::silent)
            }
            Self::Tokens { before } => {
                let sql = "DELETE FROM enrolment_tokens WHERE expires_at < $1";
                let enrolment = tx.execute(sql, params![*before]).await?;
                let sql = "DELETE FROM api_tokens WHERE revoked_at < $1 OR expires_at < $1";
                let api = tx.execute(sql, params![*before]).await?;
                Ok(Done::silent(enrolment + api))
            }
            Self::Refreshes { before, limit } => {
                refreshes::forget(tx, *before, *limit).await.map(Done::silent)
            }
            Self::Batches { before, limit } => {
                batches::forget(tx, *before, *limit).await.map(Done::silent)
            }
        }
    }
}

/// Of several controllers one sweeps at a time: the others' units would lock the same rows, or pass
/// over them, and find nothing. The lock ends with the unit, so that no connection takes it along.
async fn alone(tx: &mut Tx<'_>) -> Result<bool, Failure> {
    match tx.dialect() {
        Dialect::Sqlite => Ok(true),
        Dialect::Postgres => {
            let sql = "SELECT pg_try_advisory_xact_lock($1)::int::bigint";
            let taken = tx.fetch_one(sql, params![SWEEP_LOCK], |row| row.int()).await?;
            Ok(taken == Some(1))
        }
    }
}

async fn expire(tx: &mut Tx<'_>, now: Micros, limit: u32) -> Result<Done<u64>, Failure> {
    let lock = match tx.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
    };
    let sql = format!(
        "{} WHERE j.state = 'queued' AND j.expires_at <= $1 AND j.started_at IS NULL \
         AND j.job_type IN ({}) ORDER BY j.id LIMIT $2{lock}",
        jobs::select("jobs j"),
        jobs::known_types()
    );
    let found: Vec<JobRow> = tx.fetch_as(sql, params![now, limit], jobs::read).await?;
    let mut expired: Vec<(Job, (JobState, u32))> = Vec::with_capacity(found.len());
    let mut outcomes = Vec::with_capacity(found.len());
    let mut told = Vec::with_capacity(found.len());
    for JobRow { job, .. } in found {
        let Some(state) = job.state.apply(JobEvent::Expire) else { continue };
        let was = (job.state, job.attempt);
        let error = JobError::new(Code::Expired, "the host was not there to run it in time");
        let document = json!({ "code": error.code, "message": error.message });
        let outcome = Outcome {
            state: OutcomeState::Failed,
            result: None,
            error: Some(error),
            steps: Vec::new(),
            started_at_us: now.0,
            finished_at_us: now.0,
        };
        let text = serde_json::to_string(&outcome).unwrap_or_default();
        outcomes.push((job.id.clone(), job.attempt, text));
        told.push(event(&job, EventKind::JobFailed, document, now));
        let after =
            Job { state, reason: Some(reason::EXPIRED.to_owned()), finished_at: Some(now), ..job };
        expired.push((after, was));
    }
    let updates: Vec<Update<'_>> =
        expired.iter().map(|(job, was)| Update { job, was: *was }).collect();
    jobs::update(tx, &updates).await?;
    jobs::keep_outcomes(tx, &outcomes).await?;
    Ok(Done { reply: u64::try_from(updates.len()).unwrap_or(0), events: told })
}

async fn archive(tx: &mut Tx<'_>, before: Micros, limit: u32) -> Result<Done<u64>, Failure> {
    let sql = format!(
        "SELECT id FROM jobs WHERE finished_at IS NOT NULL AND finished_at < $1 \
         ORDER BY finished_at LIMIT $2{}",
        tx.dialect().for_update()
    );
    let ids: Vec<JobId> = tx.fetch_as(sql, params![before, limit], |row| row.parsed()).await?;
    let source = tx.dialect().source(1, &["id"]);
    let which = format!("WHERE id IN (SELECT v.id FROM {source})");
    let copy = format!("INSERT INTO jobs_history ({0}) SELECT {0} FROM jobs {which}", jobs::NAMES);
    tx.execute(copy, &[jobs::json_ids(&ids)]).await?;
    let moved = tx.execute(format!("DELETE FROM jobs {which}"), &[jobs::json_ids(&ids)]).await?;
    Ok(Done::silent(moved))
}

async fn forget(tx: &mut Tx<'_>, before: Micros, limit: u32) -> Result<Done<u64>, Failure> {
    let sql = "SELECT id FROM jobs_history WHERE finished_at < $1 ORDER BY finished_at LIMIT $2";
    let ids: Vec<JobId> = tx.fetch_as(sql, params![before, limit], |row| row.parsed()).await?;
    let source = tx.dialect().source(1, &["id"]);
    let outcomes = format!("DELETE FROM job_outcomes WHERE job_id IN (SELECT v.id FROM {source})");
    tx.execute(outcomes, &[jobs::json_ids(&ids)]).await?;
    let jobs = format!("DELETE FROM jobs_history WHERE id IN (SELECT v.id FROM {source})");
    tx.execute(jobs, &[jobs::json_ids(&ids)]).await.map(Done::silent)
}
