//! Jobs as rows: reading them, queueing them, writing what was decided about them.

use std::collections::BTreeMap;

use hostler_protocol::id::{HostId, JobId};
use hostler_protocol::job::{Executor, JobType};

use super::cells::Cells;
use super::db::{Dialect, Tx, Value, json_rows, params};
use super::error::Failure;
use crate::domain::{Job, JobState, NewJob};

/// The table's columns in the order [`read`] takes them, the outcome aside.
pub(super) const NAMES: &str = "id, position, job_type, template, host_id, site_id, environment_id, stack_id, \
    state, \
    reason, priority, may_pass_waiting, request, attempt, failures, crashes, timeout_secs, \
    run_after, expires_at, created_at, started_at, accepted_at, cancel_requested_at, \
    finished_at, lease, request_id, retry_of, parent_id, executor, progress_seen";

/// A job's columns in the table known as `name`, to be read by [`read`].
pub(super) fn columns(name: &str) -> String {
    let columns = NAMES.split(", ").map(|column| format!("{name}.{column}")).collect::<Vec<_>>();
    format!(
        "{}, (SELECT o.attempt FROM job_outcomes o WHERE o.job_id = {name}.id), \
         (SELECT o.outcome FROM job_outcomes o WHERE o.job_id = {name}.id)",
        columns.join(", ")
    )
}

/// `SELECT` of jobs from `table` (known as `j`), to be read by [`read`].
pub(super) fn select(table: &str) -> String {
    format!("SELECT {} FROM {table}", columns("j"))
}

/// That a job is in a state, as an expression and not as a column's value. As a column compared
/// with a text it would draw PostgreSQL to the index of all jobs in that state, away from the one
/// of ids; compared with a parameter it would make SQLite compile the statement again for each
/// run, because a partial index might serve this time.
pub(super) fn is(table: &str, state: JobState) -> String {
    format!("{table}.state || '' = '{}'", state.as_str())
}

/// The job types this build knows, for an `IN`: a job of another is left to the build that does.
pub(super) fn known_types() -> String {
    JobType::ALL.map(|known| format!("'{}'", known.as_str())).join(", ")
}

/// Everything in the row of a job.
#[derive(Debug, Clone)]
pub(super) struct JobRow {
    pub(super) job: Job,
    /// The largest progress sequence of the current attempt in the log.
    pub(super) progress_seen: i64,
    /// The attempt whose outcome is kept.
    pub(super) settled_attempt: Option<i64>,
}

pub(super) fn read(row: &mut Cells<'_>) -> Result<JobRow, Failure> {
    let mut job = Job {
        id: row.parsed()?,
        position: row.int()?,
        job_type: row.named("job type", JobType::parse)?,
        template: row.text()?,
        host_id: row.parsed()?,
        site_id: row.opt_parsed()?,
        environment_id: row.opt_parsed()?,
        stack_id: row.opt_parsed()?,
        state: row.named("job state", JobState::parse)?,
        reason: row.opt_text()?,
        priority: i32::try_from(row.int()?).map_err(|_| Failure::unreadable("a priority"))?,
        may_pass_waiting: row.bool()?,
        // One that is broken must not keep every other job of the slice from being read.
        request: row.json_or_null()?,
        attempt: row.u32()?,
        failures: row.u32()?,
        crashes: row.u32()?,
        timeout_secs: row.u32()?,
        run_after: row.at()?,
        expires_at: row.at()?,
        created_at: row.at()?,
        started_at: row.opt_at()?,
        accepted_at: row.opt_at()?,
        cancel_requested_at: row.opt_at()?,
        finished_at: row.opt_at()?,
        lease: row.int()?,
        outcome: None,
        request_id: row.opt_parsed()?,
        retry_of: row.opt_parsed()?,
        parent_id: row.opt_parsed()?,
        executor: executor(row.opt_text()?)?,
    };
    let progress_seen = row.int()?;
    let settled_attempt = row.opt_int()?;
    job.outcome = row.opt_json_or_none()?;
    Ok(JobRow { job, progress_seen, settled_attempt })
}

fn executor(text: Option<String>) -> Result<Option<Executor>, Failure> {
    let parse = |text: String| {
        Executor::parse(&text).ok_or_else(|| Failure::unreadable("an unknown executor"))
    };
    text.map(parse).transpose()
}

pub(super) fn read_job(row: &mut Cells<'_>) -> Result<Job, Failure> {
    Ok(read(row)?.job)
}

/// The parameter of a [`Dialect::source`] of nothing but ids.
pub(super) fn json_ids<'i>(ids: impl IntoIterator<Item = &'i JobId>) -> Value<'static> {
    json_rows(ids.into_iter().map(|id| [id.as_str().into()]))
}

/// Jobs of the queue by id ([`json_ids`]), locked until the unit ends, in the order of their ids:
/// two units that want the same jobs cannot wait for each other in a circle.
pub(super) async fn load(
    tx: &mut Tx<'_>,
    ids: Value<'_>,
) -> Result<BTreeMap<JobId, JobRow>, Failure> {
    by_ids(tx, "jobs j", ids, tx.dialect().ordered_for_update("j.id")).await
}

/// Ended jobs that were moved to history, by id.
pub(super) async fn load_history(
    tx: &mut Tx<'_>,
    ids: Value<'_>,
) -> Result<BTreeMap<JobId, JobRow>, Failure> {
    by_ids(tx, "jobs_history j", ids, String::new()).await
}

async fn by_ids(
    tx: &mut Tx<'_>,
    table: &'static str,
    ids: Value<'_>,
    lock: String,
) -> Result<BTreeMap<JobId, JobRow>, Failure> {
    let dialect = tx.dialect();
    // Ids may come twice; the rows do not.
    let sql = format!(
        "SELECT {} FROM {table} WHERE j.id IN (SELECT v.id FROM {}){lock}",
        dialect.packed(&columns("j")),
        dialect.source(1, &["id"]),
    );
    Ok(by_id(tx.fetch_packed(sql, &[ids], read).await?))
}

pub(super) fn by_id(rows: Vec<JobRow>) -> BTreeMap<JobId, JobRow> {
    rows.into_iter().map(|row| (row.job.id.clone(), row)).collect()
}

/// The jobs of an environment or a host that have not ended, oldest first, locked.
pub(super) async fn load_active(
    tx: &mut Tx<'_>,
    column: &'static str,
    id: &str,
) -> Result<Vec<Job>, Failure> {
    let sql = format!(
        "{} WHERE j.{column} = $1 AND j.state IN ('queued', 'running', 'held') \
         ORDER BY j.position{}",
        select("jobs j"),
        tx.dialect().for_update()
    );
    tx.fetch_as(sql, params![id], read_job).await
}

const INSERTED: &[&str] = &[
    "id",
    "position:i",
    "job_type",
    "template",
    "host_id",
    "site_id",
    "environment_id",
    "stack_id",
    "priority:i",
    "may_pass_waiting:i",
    "request",
    "timeout_secs:i",
    "run_after:i",
    "expires_at:i",
    "created_at:i",
    "request_id",
    "retry_of",
    "parent_id",
    "executor",
];

/// Queues jobs at the end of their lanes, all of which must be new: queued, no attempt. Answers
/// their positions.
pub(super) async fn insert(tx: &mut Tx<'_>, jobs: &[&NewJob]) -> Result<Vec<i64>, Failure> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let positions = positions(tx, jobs.len()).await?;
    let placed = || jobs.iter().zip(positions.iter().copied());
    let names = INSERTED.iter().map(|name| name.trim_end_matches(":i")).collect::<Vec<_>>();
    let sql = format!(
        "INSERT INTO jobs ({}, state, attempt, failures, crashes, lease) \
         SELECT v.{}, 'queued', 0, 0, 0, 0 FROM {}",
        names.join(", "),
        names.join(", v."),
        tx.dialect().source(1, INSERTED)
    );
    let rows = json_rows(placed().map(|(new, position)| inserted(&new.job, position)));
    tx.execute(sql, &[rows]).await?;
    if jobs.iter().any(|new| !new.lanes.is_empty()) {
        let sql = format!(
            "INSERT INTO job_lanes (lane, position, job_id) \
             SELECT v.lane, v.position, v.job_id FROM {}",
            tx.dialect().source(1, &["lane", "position:i", "job_id"])
        );
        let rows = json_rows(placed().flat_map(|(new, position)| {
            let id = new.job.id.as_str();
            new.lanes.iter().map(move |lane| [lane.0.as_str().into(), position.into(), id.into()])
        }));
        tx.execute(sql, &[rows]).await?;
    }
    Ok(positions)
}

async fn positions(tx: &mut Tx<'_>, count: usize) -> Result<Vec<i64>, Failure> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match tx.dialect() {
        Dialect::Sqlite => {
            let last = tx
                .fetch_one(
                    "UPDATE counters SET value = value + $1 WHERE name = 'job_position' \
                     RETURNING value",
                    params![count],
                    |row| row.int(),
                )
                .await?
                .ok_or_else(|| Failure::unreadable("no position counter"))?;
            Ok((last - count + 1..=last).collect())
        }
        // A sequence: who queues jobs does not wait for others who do.
        Dialect::Postgres => {
            let mut positions = tx
                .fetch_as(
                    "SELECT nextval('job_position') FROM generate_series(1, $1)",
                    params![count],
                    |row| row.int(),
                )
                .await?;
            positions.sort_unstable();
            Ok(positions)
        }
    }
}

fn inserted(job: &Job, position: i64) -> [Value<'_>; INSERTED.len()] {
    [
        job.id.as_str().into(),
        position.into(),
        job.job_type.as_str().into(),
        job.template.as_str().into(),
        job.host_id.as_str().into(),
        job.site_id.as_ref().map(|id| id.as_str()).into(),
        job.environment_id.as_ref().map(|id| id.as_str()).into(),
        job.stack_id.as_ref().map(|id| id.as_str()).into(),
        job.priority.into(),
        job.may_pass_waiting.into(),
        (&job.request).into(),
        job.timeout_secs.into(),
        job.run_after.into(),
        job.expires_at.into(),
        job.created_at.into(),
        job.request_id.as_ref().map(|id| id.as_str()).into(),
        job.retry_of.as_ref().map(|id| id.as_str()).into(),
        job.parent_id.as_ref().map(|id| id.as_str()).into(),
        job.executor.map(Executor::as_str).into(),
    ]
}

/// A job as decided, and the state and attempt it was decided on.
pub(super) struct Update<'j> {
    pub(super) job: &'j Job,
    pub(super) was: (JobState, u32),
}

/// What a decision may change of a job. Its attempt, its lease and when it first started are
/// written where it is claimed and renewed.
const UPDATED: &[&str] = &[
    "id",
    "was_state",
    "was_attempt:i",
    "state",
    "reason",
    "failures:i",
    "crashes:i",
    "run_after:i",
    "started_at:i",
    "accepted_at:i",
    "cancel_requested_at:i",
    "finished_at:i",
];

/// Writes decided jobs; every one must still be as it was decided on. Jobs that no longer run let
/// go of their lanes, ended ones leave them.
pub(super) async fn update(tx: &mut Tx<'_>, updates: &[Update<'_>]) -> Result<(), Failure> {
    if updates.is_empty() {
        return Ok(());
    }
    let set = UPDATED[3..]
        .iter()
        .map(|name| name.trim_end_matches(":i"))
        .map(|name| format!("{name} = v.{name}"))
        .collect::<Vec<_>>();
    let sql = format!(
        "UPDATE jobs SET {} FROM {} \
         WHERE jobs.id = v.id AND jobs.state = v.was_state AND jobs.attempt = v.was_attempt",
        set.join(", "),
        tx.dialect().source(1, UPDATED)
    );
    let changed = tx.execute(sql, &[json_rows(updates.iter().map(updated))]).await?;
    if usize::try_from(changed) != Ok(updates.len()) {
        return Err(Failure::Overtaken);
    }
    let stopped = updates.iter().filter(|update| update.job.state != JobState::Running);
    remove(tx, "lane_holds", stopped.map(|update| &update.job.id).collect()).await?;
    let ended = updates.iter().filter(|update| update.job.state.is_ended());
    remove(tx, "job_lanes", ended.map(|update| &update.job.id).collect()).await
}

fn updated<'u>(update: &'u Update<'_>) -> [Value<'u>; UPDATED.len()] {
    let Update { job, was: (state, attempt) } = update;
    [
        job.id.as_str().into(),
        state.as_str().into(),
        (*attempt).into(),
        job.state.as_str().into(),
        job.reason.as_deref().into(),
        job.failures.into(),
        job.crashes.into(),
        job.run_after.into(),
        job.started_at.into(),
        job.accepted_at.into(),
        job.cancel_requested_at.into(),
        job.finished_at.into(),
    ]
}

/// Removes what these jobs have in a table.
pub(super) async fn remove(
    tx: &mut Tx<'_>,
    table: &'static str,
    ids: Vec<&JobId>,
) -> Result<(), Failure> {
    if !ids.is_empty() {
        let source = tx.dialect().source(1, &["id"]);
        let sql = format!("DELETE FROM {table} WHERE job_id IN (SELECT v.id FROM {source})");
        tx.execute(sql, &[json_ids(ids)]).await?;
    }
    Ok(())
}

/// Keeps the outcomes of attempts, each over that of an earlier attempt.
pub(super) async fn keep_outcomes(
    tx: &mut Tx<'_>,
    outcomes: &[(JobId, u32, String)],
) -> Result<(), Failure> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let rows = json_rows(outcomes.iter().map(|(job, attempt, text)| {
        [job.as_str().into(), (*attempt).into(), text.as_str().into()]
    }));
    let sql = format!(
        "INSERT INTO job_outcomes (job_id, attempt, outcome) \
         SELECT v.job_id, v.attempt, v.outcome FROM {} WHERE 1 = 1 \
         ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, outcome = excluded.outcome",
        tx.dialect().source(1, &["job_id", "attempt:i", "outcome"])
    );
    tx.execute(sql, &[rows]).await?;
    Ok(())
}

/// The parameter of a [`Dialect::source`] of host ids.
pub(super) fn json_hosts<'i>(ids: impl IntoIterator<Item = &'i HostId>) -> Value<'static> {
    json_rows(ids.into_iter().map(|id| [id.as_str().into()]))
}
