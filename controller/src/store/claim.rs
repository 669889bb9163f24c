//! Queueing jobs by the slice, and claiming those that can run.
//!
//! A job can run when it is queued, its time has come and is not over, its host's session is the
//! one the claimer holds, none of its lanes is held, and no earlier job of its lanes waits; a job
//! that may pass waiting ones does not mind an earlier job that waits out a back-off, and nobody
//! minds one that is quarantined.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{EnvironmentId, JobId};
use hostler_protocol::job::Executor;
use serde_json::json;

use super::db::{Dialect, Tx, json_rows};
use super::error::Failure;
use super::jobs::JobRow;
use super::types::{ClaimHost, Claimed, EnqueueAnswer, SLICE_MAX};
use super::unit::{Done, Operation};
use super::{Store, StoreError, environments, jobs, sites};
use crate::domain::decide::job::{event, queued_event};
use crate::domain::{Environment, EventKind, JobState, Micros, NewJob, Site};

impl Store {
    /// Queues jobs at the end of their lanes, in this order. A job whose id is known already is
    /// left as it is. Jobs must be new: queued, no attempt.
    ///
    /// # Errors
    /// [`StoreError`]; of slices longer than [`SLICE_MAX`] the first ones may be queued then.
    pub async fn enqueue(
        &self,
        jobs: &[NewJob],
        now: Micros,
    ) -> Result<Vec<EnqueueAnswer>, StoreError> {
        let mut answers = Vec::with_capacity(jobs.len());
        for slice in jobs.chunks(SLICE_MAX) {
            answers.extend(self.commit(Enqueue { jobs: slice.to_vec(), now }).await?);
        }
        Ok(answers)
    }

    /// Claims at most `limit` jobs that can run on these hosts, more urgent ones first. Each claim
    /// is a new attempt.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is claimed then.
    pub async fn claim(
        &self,
        hosts: &[ClaimHost],
        now: Micros,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let hosts: Vec<ClaimHost> = hosts.iter().filter(|host| host.slots > 0).cloned().collect();
        if hosts.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let limit = limit.min(u32::try_from(SLICE_MAX).unwrap_or(u32::MAX));
        self.commit(Claim { hosts, now, limit }).await
    }
}

struct Enqueue {
    jobs: Vec<NewJob>,
    now: Micros,
}

impl Operation for Enqueue {
    type Reply = Vec<EnqueueAnswer>;

    fn name(&self) -> &'static str {
        "enqueue"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Self::Reply>, Failure> {
        let mut seen = known(tx, &self.jobs).await?;
        let fresh: Vec<&NewJob> =
            self.jobs.iter().filter(|new| seen.insert(new.job.id.clone())).collect();
        let positions = jobs::insert(tx, &fresh).await?;
        let events = fresh.iter().map(|new| queued_event(&new.job, self.now)).collect();
        let mut queued: BTreeMap<&JobId, i64> =
            fresh.iter().map(|new| &new.job.id).zip(positions).collect();
        let answer = |new: &NewJob| match queued.remove(&new.job.id) {
            Some(position) => EnqueueAnswer::Queued { position },
            None => EnqueueAnswer::Duplicate,
        };
        Ok(Done { reply: self.jobs.iter().map(answer).collect(), events })
    }
}

async fn known(tx: &mut Tx<'_>, jobs: &[NewJob]) -> Result<BTreeSet<JobId>, Failure> {
    let source = tx.dialect().source(1, &["id"]);
    let sql = format!(
        "SELECT v.id FROM {source} WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.id = v.id) \
         OR EXISTS (SELECT 1 FROM jobs_history j WHERE j.id = v.id)"
    );
    let ids = jobs::json_ids(jobs.iter().map(|new| &new.job.id));
    Ok(tx.fetch_as(sql, &[ids], |row| row.parsed()).await?.into_iter().collect())
}

struct Claim {
    hosts: Vec<ClaimHost>,
    now: Micros,
    limit: u32,
}

impl Operation for Claim {
    type Reply = Vec<Claimed>;

    fn name(&self) -> &'static str {
        "claim"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Vec<Claimed>>, Failure> {
        let found = candidates(tx, self).await?;
        let ids = hold_lanes(tx, found).await?;
        if ids.is_empty() {
            return Ok(Done::silent(Vec::new()));
        }
        let mut rows = start(tx, &ids, self.now).await?;
        let environments = load_environments(tx, &rows).await?;
        let mut claimed = Vec::with_capacity(ids.len());
        let mut events = Vec::with_capacity(ids.len());
        choose_executors(tx, &mut rows, &environments).await?;
        for id in &ids {
            let Some(JobRow { job, .. }) = rows.remove(id) else { continue };
            let document = json!({ "attempt": job.attempt });
            events.push(event(&job, EventKind::JobStarted, document, self.now));
            let known = job.environment_id.as_ref().and_then(|id| environments.get(id));
            let unreadable = known.is_some_and(Option::is_none);
            let (environment, site) = known.cloned().flatten().unzip();
            claimed.push(Claimed { job, environment, site, unreadable, generation: 0 });
        }
        Ok(Done { reply: claimed, events })
    }

    fn seal(&self, claimed: &mut Vec<Claimed>, first_seq: i64) {
        for (seq, one) in (first_seq..).zip(claimed) {
            one.generation = u64::try_from(seq).unwrap_or(0);
        }
    }
}

/// That job `j` can run now (`$2`). Of a type this build does not know it is left to one that does.
///
/// Each look into another table stands behind a fence (`{fence}`) on PostgreSQL: planned as a join it
/// would follow statistics that were taken while the queue was empty, and read all lanes for each job.
const RUNNABLE: &str = "j.state = 'queued' AND j.run_after <= $2 AND j.job_type IN ({types}) \
    AND (j.expires_at > $2 OR j.started_at IS NOT NULL) \
    AND NOT EXISTS (SELECT 1 FROM job_lanes l WHERE l.job_id = j.id \
        AND EXISTS (SELECT 1 FROM lane_holds h WHERE h.lane = l.lane {fence}) {fence}) \
    AND NOT EXISTS (SELECT 1 FROM job_lanes l WHERE l.job_id = j.id \
        AND EXISTS (SELECT 1 FROM job_lanes e WHERE e.lane = l.lane AND e.position < l.position \
            AND EXISTS (SELECT 1 FROM jobs b WHERE b.id = e.job_id \
                AND b.state IN ('queued', 'held') AND COALESCE(b.reason, '') <> 'QUARANTINED' \
                AND NOT (j.may_pass_waiting = 1 AND b.state = 'queued' AND b.run_after > $2) \
            {fence}) {fence}) {fence})";

/// A job that can run.
struct Candidate {
    id: JobId,
    priority: i64,
    position: i64,
    /// How many it needs.
    lanes: u32,
}

/// Jobs that can run, most urgent first; locked on PostgreSQL, so that claimers of other
/// controllers pass over them.
async fn candidates(tx: &mut Tx<'_>, claim: &Claim) -> Result<Vec<Candidate>, Failure> {
    let slots_max = claim.hosts.iter().map(|host| host.slots).max().unwrap_or(0);
    let hosts = json_rows(claim.hosts.iter().map(|host| {
        let epoch = i64::try_from(host.epoch).unwrap_or(i64::MAX);
        [host.host.as_str().into(), epoch.into(), host.slots.into()]
    }));
    let dialect = tx.dialect();
    let source = dialect.source(1, &["host", "epoch:i", "slots:i"]);
    // Per host the first jobs in the index's order; a bound that is the same for every host lets
    // each of these look-ups stop early. SQLite has no LATERAL, PostgreSQL cannot look up by an
    // IN that varies. A limit that is nothing but a parameter would make SQLite compile the
    // statement again for each run.
    let fence = match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => "OFFSET 0",
    };
    let runnable = RUNNABLE.replace("{types}", &jobs::known_types()).replace("{fence}", fence);
    let first = format!(
        "FROM jobs j WHERE j.host_id = v.host AND {runnable} \
         ORDER BY j.priority DESC, j.position LIMIT $4 + 0"
    );
    let join = match dialect {
        Dialect::Sqlite => format!("JOIN jobs r ON r.id IN (SELECT j.id {first})"),
        Dialect::Postgres => {
            format!("CROSS JOIN LATERAL (SELECT j.id, j.priority, j.position {first}) AS r")
        }
    };
    let sql = format!(
        "WITH ranked AS (SELECT r.id, r.priority, r.position, v.slots, \
            row_number() OVER (PARTITION BY v.host ORDER BY r.priority DESC, r.position) AS place \
         FROM {source} JOIN host_sessions p ON p.host_id = v.host AND p.epoch = v.epoch {join}), \
         first AS (SELECT id, priority, position, \
            (SELECT count(*) FROM job_lanes l WHERE l.job_id = ranked.id) AS lanes \
         FROM ranked WHERE place <= slots ORDER BY priority DESC, position LIMIT $3 + 0) \
         SELECT {} FROM first",
        dialect.packed("id, priority, position, lanes")
    );
    let params = [hosts, claim.now.into(), claim.limit.into(), slots_max.min(claim.limit).into()];
    let mut found = tx
        .fetch_packed(sql, &params, |row| {
            let id = row.parsed()?;
            Ok(Candidate { id, priority: row.int()?, position: row.int()?, lanes: row.u32()? })
        })
        .await?;
    found.sort_unstable_by_key(|one| (Reverse(one.priority), one.position));
    match dialect {
        Dialect::Sqlite => Ok(found),
        Dialect::Postgres => lock(tx, found).await,
    }
}

/// Locks those jobs that are still queued and nobody else's.
async fn lock(tx: &mut Tx<'_>, found: Vec<Candidate>) -> Result<Vec<Candidate>, Failure> {
    let source = tx.dialect().source(1, &["id"]);
    let sql = format!(
        "SELECT j.id FROM jobs j WHERE j.id IN (SELECT v.id FROM {source}) \
         AND {} FOR UPDATE OF j SKIP LOCKED",
        jobs::is("j", JobState::Queued)
    );
    let ids = jobs::json_ids(found.iter().map(|one| &one.id));
    let locked = tx.fetch_as(sql, &[ids], |row| row.parsed()).await?;
    let locked: BTreeSet<JobId> = locked.into_iter().collect();
    Ok(found.into_iter().filter(|one| locked.contains(&one.id)).collect())
}

/// Takes the lanes of these jobs, in the order of the lanes' names; a job that does not get all
/// of its lanes gets none and drops out.
async fn hold_lanes(tx: &mut Tx<'_>, found: Vec<Candidate>) -> Result<Vec<JobId>, Failure> {
    let wanted: u64 = found.iter().map(|one| u64::from(one.lanes)).sum();
    let mut ids: Vec<JobId> = found.into_iter().map(|one| one.id).collect();
    if wanted == 0 {
        return Ok(ids);
    }
    let source = tx.dialect().source(1, &["id"]);
    let lanes = format!("job_lanes l WHERE l.job_id IN (SELECT v.id FROM {source})");
    let held = format!(
        "INSERT INTO lane_holds (lane, job_id) SELECT l.lane, l.job_id FROM {lanes} \
         ORDER BY l.lane ON CONFLICT (lane) DO NOTHING"
    );
    let all = jobs::json_ids(&ids);
    if tx.execute(held, std::slice::from_ref(&all)).await? < wanted {
        let lost = format!(
            "SELECT DISTINCT l.job_id FROM {lanes} AND NOT EXISTS (SELECT 1 FROM lane_holds h \
             WHERE h.lane = l.lane AND h.job_id = l.job_id)"
        );
        let lost: BTreeSet<JobId> =
            tx.fetch_as(lost, &[all], |row| row.parsed()).await?.into_iter().collect();
        jobs::remove(tx, "lane_holds", lost.iter().collect()).await?;
        ids.retain(|id| !lost.contains(id));
    }
    Ok(ids)
}

/// Begins a new attempt of each of these jobs, all of which are queued.
async fn start(
    tx: &mut Tx<'_>,
    ids: &[JobId],
    now: Micros,
) -> Result<BTreeMap<JobId, JobRow>, Failure> {
    let dialect = tx.dialect();
    let sql = format!(
        "UPDATE jobs SET state = 'running', reason = NULL, attempt = attempt + 1, \
         lease = lease + 1, accepted_at = NULL, progress_seen = 0, \
         started_at = COALESCE(started_at, $2) \
         FROM {} WHERE jobs.id = v.id AND {} RETURNING {}",
        dialect.source(1, &["id"]),
        jobs::is("jobs", JobState::Queued),
        dialect.packed_row(&jobs::columns("jobs"))
    );
    let params = [jobs::json_ids(ids), now.into()];
    let started = jobs::by_id(tx.fetch_packed(sql, &params, jobs::read).await?);
    if started.len() == ids.len() { Ok(started) } else { Err(Failure::Overtaken) }
}

/// The choice of an environment may have changed since its jobs were queued.
async fn choose_executors(
    tx: &mut Tx<'_>,
    rows: &mut BTreeMap<JobId, JobRow>,
    environments: &BTreeMap<EnvironmentId, Option<(Environment, Site)>>,
) -> Result<(), Failure> {
    let mut changed: Vec<(JobId, Option<Executor>)> = Vec::new();
    for job in rows.values_mut().map(|row| &mut row.job) {
        let known = job.environment_id.as_ref().and_then(|id| environments.get(id));
        let known = known.and_then(Option::as_ref);
        let chosen = known.and_then(|(environment, _)| environment.doc.executor);
        if job.executor != chosen {
            job.executor = chosen;
            changed.push((job.id.clone(), chosen));
        }
    }
    if !changed.is_empty() {
        let source = tx.dialect().source(1, &["id", "executor"]);
        let sql =
            format!("UPDATE jobs SET executor = v.executor FROM {source} WHERE jobs.id = v.id");
        let row = |(job, chosen): &(JobId, Option<Executor>)| {
            [job.as_str().to_owned().into(), chosen.map(Executor::as_str).into()]
        };
        tx.execute(sql, &[json_rows(changed.iter().map(row))]).await?;
    }
    Ok(())
}

/// The environments these jobs work on, with their sites; nothing for one that cannot be read.
async fn load_environments(
    tx: &mut Tx<'_>,
    rows: &BTreeMap<JobId, JobRow>,
) -> Result<BTreeMap<EnvironmentId, Option<(Environment, Site)>>, Failure> {
    let ids: BTreeSet<&EnvironmentId> =
        rows.values().filter_map(|row| row.job.environment_id.as_ref()).collect();
    let dialect = tx.dialect();
    let sql = format!(
        "SELECT {} FROM {} JOIN environments e ON e.id = v.id JOIN sites s ON s.id = e.site_id",
        dialect.packed(&format!("{}, {}", environments::COLUMNS, sites::COLUMNS)),
        dialect.source(1, &["id"])
    );
    let ids = json_rows(ids.into_iter().map(|id| [id.as_str().into()]));
    let found = tx
        .fetch_packed(sql, &[ids], |row| match environments::read_or_id(row)? {
            (id, Some(environment)) => Ok((id, Some((environment, sites::read(row)?)))),
            (id, None) => Ok((id, None)),
        })
        .await?;
    Ok(found.into_iter().collect())
}
