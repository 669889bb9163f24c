//! Queueing jobs by the slice, and claiming those that can run.
//!
//! A job can run when it is queued, its time has come, its host's session is the one the claimer
//! holds, none of its lanes is held, and no earlier job of its lanes waits; a job that may pass
//! waiting ones does not mind an earlier job that waits out a back-off.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{EnvironmentId, JobId, SiteId};
use hostler_protocol::job::Executor;
use serde_json::json;

use super::db::{Dialect, Tx, Value, json_rows, params};
use super::error::Failure;
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
        start(tx, &ids, self.now).await?;
        let mut rows = jobs::load(tx, jobs::json_ids(&ids)).await?;
        let environments = load_environments(tx, &rows).await?;
        let sites = load_sites(tx, &environments).await?;
        let mut claimed = Vec::with_capacity(ids.len());
        let mut events = Vec::with_capacity(ids.len());
        choose_executors(tx, &mut rows, &environments).await?;
        for id in &ids {
            let Some(row) = rows.remove(id) else { continue };
            let document = json!({ "attempt": row.job.attempt });
            events.push(event(&row.job, EventKind::JobStarted, document, self.now));
            let environment =
                row.job.environment_id.as_ref().and_then(|id| environments.get(id)).cloned();
            let site = row.job.site_id.as_ref().and_then(|id| sites.get(id)).cloned();
            claimed.push(Claimed { job: row.job, environment, site, generation: 0 });
        }
        Ok(Done { reply: claimed, events })
    }

    fn seal(&self, claimed: &mut Vec<Claimed>, first_seq: i64) {
        for (seq, one) in (first_seq..).zip(claimed) {
            one.generation = u64::try_from(seq).unwrap_or(0);
        }
    }
}

/// That job `j` can run now (`$2`).
const RUNNABLE: &str = "j.state = 'queued' AND j.run_after <= $2 \
    AND NOT EXISTS (SELECT 1 FROM job_lanes l JOIN lane_holds h ON h.lane = l.lane \
        WHERE l.job_id = j.id) \
    AND NOT EXISTS (SELECT 1 FROM job_lanes l \
        JOIN job_lanes e ON e.lane = l.lane AND e.position < l.position \
        JOIN jobs b ON b.id = e.job_id \
        WHERE l.job_id = j.id AND b.state IN ('queued', 'held') \
        AND NOT (j.may_pass_waiting = 1 AND b.state = 'queued' AND b.run_after > $2))";

/// Jobs that can run, most urgent first: their ids, locked on PostgreSQL so that claimers of
/// other controllers pass over them.
async fn candidates(tx: &mut Tx<'_>, claim: &Claim) -> Result<Vec<JobId>, Failure> {
    let slots_max = claim.hosts.iter().map(|host| host.slots).max().unwrap_or(0);
    let hosts: Vec<Vec<Value>> = claim
        .hosts
        .iter()
        .map(|host| {
            let epoch = i64::try_from(host.epoch).unwrap_or(i64::MAX);
            vec![host.host.as_str().into(), epoch.into(), host.slots.into()]
        })
        .collect();
    let source = tx.dialect().source(1, &["host", "epoch:i", "slots:i"]);
    // Per host the first jobs in the index's order; a bound that is the same for every host lets
    // each of these look-ups stop early. SQLite has no LATERAL, PostgreSQL cannot look up by an
    // IN that varies.
    let first = format!(
        "FROM jobs j WHERE j.host_id = v.host AND {RUNNABLE} \
         ORDER BY j.priority DESC, j.position LIMIT $4"
    );
    let join = match tx.dialect() {
        Dialect::Sqlite => format!("JOIN jobs r ON r.id IN (SELECT j.id {first})"),
        Dialect::Postgres => {
            format!("CROSS JOIN LATERAL (SELECT j.id, j.priority, j.position {first}) AS r")
        }
    };
    let sql = format!(
        "WITH ranked AS (SELECT r.id, r.priority, r.position, v.slots, \
            row_number() OVER (PARTITION BY v.host ORDER BY r.priority DESC, r.position) AS place \
         FROM {source} JOIN host_sessions p ON p.host_id = v.host AND p.epoch = v.epoch {join}) \
         SELECT id FROM ranked WHERE place <= slots ORDER BY priority DESC, position LIMIT $3"
    );
    let params = [
        json_rows(&hosts),
        claim.now.into(),
        claim.limit.into(),
        slots_max.min(claim.limit).into(),
    ];
    let ids: Vec<JobId> = tx.fetch_as(sql, &params, |row| row.parsed()).await?;
    match tx.dialect() {
        Dialect::Sqlite => Ok(ids),
        Dialect::Postgres => lock(tx, ids).await,
    }
}

/// Locks those jobs that are still queued and nobody else's. The state is a parameter: written
/// out, it would draw PostgreSQL to the index of all queued jobs instead of the one of ids.
async fn lock(tx: &mut Tx<'_>, ids: Vec<JobId>) -> Result<Vec<JobId>, Failure> {
    let source = tx.dialect().source(1, &["id"]);
    let sql = format!(
        "SELECT j.id FROM jobs j WHERE j.id IN (SELECT v.id FROM {source}) \
         AND j.state = $2 FOR UPDATE OF j SKIP LOCKED"
    );
    let params = [jobs::json_ids(&ids), JobState::Queued.as_str().into()];
    let locked = tx.fetch_as(sql, &params, |row| row.parsed()).await?;
    let locked: BTreeSet<JobId> = locked.into_iter().collect();
    Ok(ids.into_iter().filter(|id| locked.contains(id)).collect())
}

/// Takes the lanes of these jobs; a job that does not get all of its lanes gets none and drops
/// out. Lanes are taken in the order of their names.
async fn hold_lanes(tx: &mut Tx<'_>, ids: Vec<JobId>) -> Result<Vec<JobId>, Failure> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let source = tx.dialect().source(1, &["id"]);
    let wanted: Vec<(JobId, String)> = tx
        .fetch_as(
            format!(
                "SELECT l.job_id, l.lane FROM job_lanes l \
                 WHERE l.job_id IN (SELECT v.id FROM {source}) ORDER BY l.lane"
            ),
            &[jobs::json_ids(&ids)],
            |row| Ok((row.parsed()?, row.text()?)),
        )
        .await?;
    if wanted.is_empty() {
        return Ok(ids);
    }
    let rows: Vec<Vec<Value>> =
        wanted.iter().map(|(job, lane)| vec![lane.as_str().into(), job.as_str().into()]).collect();
    let sql = format!(
        "INSERT INTO lane_holds (lane, job_id) SELECT v.lane, v.job_id FROM {} WHERE 1 = 1 \
         ORDER BY v.lane ON CONFLICT (lane) DO NOTHING RETURNING lane, job_id",
        tx.dialect().source(1, &["lane", "job_id"])
    );
    let held: BTreeSet<(JobId, String)> = tx
        .fetch_as(sql, &[json_rows(&rows)], |row| {
            let lane = row.text()?;
            Ok((row.parsed()?, lane))
        })
        .await?
        .into_iter()
        .collect();
    let lost: BTreeSet<&JobId> =
        wanted.iter().filter(|pair| !held.contains(*pair)).map(|(job, _)| job).collect();
    for job in &lost {
        tx.execute("DELETE FROM lane_holds WHERE job_id = $1", params![job.as_str()]).await?;
    }
    Ok(ids.iter().filter(|id| !lost.contains(id)).cloned().collect())
}

async fn start(tx: &mut Tx<'_>, ids: &[JobId], now: Micros) -> Result<(), Failure> {
    let source = tx.dialect().source(1, &["id"]);
    let sql = format!(
        "UPDATE jobs SET state = 'running', reason = NULL, attempt = attempt + 1, \
         lease = lease + 1, accepted_at = NULL, progress_seen = 0, \
         started_at = COALESCE(started_at, $2) \
         FROM {source} WHERE jobs.id = v.id AND jobs.state = $3"
    );
    let params = [jobs::json_ids(ids), now.into(), JobState::Queued.as_str().into()];
    let changed = tx.execute(sql, &params).await?;
    if usize::try_from(changed) == Ok(ids.len()) { Ok(()) } else { Err(Failure::Overtaken) }
}

/// The choice of an environment may have changed since its jobs were queued.
async fn choose_executors(
    tx: &mut Tx<'_>,
    rows: &mut BTreeMap<JobId, jobs::JobRow>,
    environments: &BTreeMap<EnvironmentId, Environment>,
) -> Result<(), Failure> {
    let mut changed: Vec<Vec<Value>> = Vec::new();
    for job in rows.values_mut().map(|row| &mut row.job) {
        let environment = job.environment_id.as_ref().and_then(|id| environments.get(id));
        let chosen = environment.and_then(|environment| environment.doc.executor);
        if job.executor != chosen {
            job.executor = chosen;
            changed.push(vec![job.id.as_str().into(), chosen.map(Executor::as_str).into()]);
        }
    }
    if !changed.is_empty() {
        let source = tx.dialect().source(1, &["id", "executor"]);
        let sql =
            format!("UPDATE jobs SET executor = v.executor FROM {source} WHERE jobs.id = v.id");
        tx.execute(sql, &[json_rows(&changed)]).await?;
    }
    Ok(())
}

async fn load_environments(
    tx: &mut Tx<'_>,
    rows: &BTreeMap<JobId, jobs::JobRow>,
) -> Result<BTreeMap<EnvironmentId, Environment>, Failure> {
    let ids: BTreeSet<&EnvironmentId> =
        rows.values().filter_map(|row| row.job.environment_id.as_ref()).collect();
    let rows: Vec<Vec<Value>> = ids.into_iter().map(|id| vec![id.as_str().into()]).collect();
    let sql = format!(
        "SELECT {} FROM {} JOIN environments e ON e.id = v.id",
        environments::COLUMNS,
        tx.dialect().source(1, &["id"])
    );
    let found = tx.fetch_as(sql, &[json_rows(&rows)], environments::read).await?;
    Ok(found.into_iter().map(|environment| (environment.id.clone(), environment)).collect())
}

async fn load_sites(
    tx: &mut Tx<'_>,
    environments: &BTreeMap<EnvironmentId, Environment>,
) -> Result<BTreeMap<SiteId, Site>, Failure> {
    let ids: BTreeSet<&SiteId> =
        environments.values().map(|environment| &environment.site_id).collect();
    let rows: Vec<Vec<Value>> = ids.into_iter().map(|id| vec![id.as_str().into()]).collect();
    let sql = format!(
        "SELECT {} FROM {} JOIN sites s ON s.id = v.id",
        sites::COLUMNS,
        tx.dialect().source(1, &["id"])
    );
    let found = tx.fetch_as(sql, &[json_rows(&rows)], sites::read).await?;
    Ok(found.into_iter().map(|site| (site.id.clone(), site)).collect())
}
