//! Batches and their targets.

use hostler_protocol::id::{BatchId, JobId};
use hostler_protocol::job::{CheckResult, Outcome, Severity};

use super::cells::Cells;
use super::db::{Tx, Value, json_rows, params};
use super::error::Failure;
use super::read::List;
use super::types::{Page, Paged};
use super::{Store, StoreError};
use crate::domain::batch::SeenJob;
use crate::domain::{
    Batch, BatchState, JobState, Micros, Scope, Seen, Snapshot, Target, TargetState,
};

const COLUMNS: &str = "b.id, b.state, b.reason, b.action, b.options, b.principal, \
    b.idempotency_key, b.request_sha256, b.request_id, b.created_at, b.stopped_at, b.finished_at";

fn read(row: &mut Cells<'_>) -> Result<Batch, Failure> {
    Ok(Batch {
        id: row.parsed()?,
        state: row.named("batch state", BatchState::parse)?,
        reason: row.opt_text()?,
        action: row.json()?,
        options: row.json()?,
        principal: row.text()?,
        idempotency: row.opt_text()?.zip(row.opt_text()?),
        request_id: row.opt_parsed()?,
        created_at: row.at()?,
        stopped_at: row.opt_at()?,
        finished_at: row.opt_at()?,
    })
}

const TARGET: &str = "t.place, t.environment_id, t.host_id, t.name, t.host_name, t.state, \
    t.reason, t.message, t.job_id";

fn read_target(row: &mut Cells<'_>) -> Result<Target, Failure> {
    Ok(Target {
        place: row.u32()?,
        environment: row.parsed()?,
        host: row.parsed()?,
        name: row.text()?,
        host_name: row.text()?,
        state: row.named("target state", TargetState::parse)?,
        reason: row.opt_text()?,
        message: row.opt_text()?,
        job: row.opt_parsed()?,
    })
}

/// Targets of a batch with their jobs and whether their hosts are connected.
fn seen_of(where_: &str) -> String {
    format!(
        "SELECT {TARGET}, COALESCE(j.state, h.state), COALESCE(j.reason, h.reason), \
         COALESCE(j.started_at, h.started_at), \
         COALESCE(j.cancel_requested_at, h.cancel_requested_at), \
         (SELECT count(*) FROM host_sessions p WHERE p.host_id = t.host_id), \
         CASE WHEN t.state = 'started' THEN \
             (SELECT o.outcome FROM job_outcomes o WHERE o.job_id = t.job_id) END, \
         (SELECT q.last_seen_at FROM hosts q WHERE q.id = t.host_id) \
         FROM batch_targets t LEFT JOIN jobs j ON j.id = t.job_id \
         LEFT JOIN jobs_history h ON h.id = t.job_id AND j.id IS NULL \
         WHERE t.batch_id = $1 {where_} ORDER BY t.place"
    )
}

fn read_seen(row: &mut Cells<'_>) -> Result<Seen, Failure> {
    let target = read_target(row)?;
    let state = row.opt_named("job state", JobState::parse)?;
    let reason = row.opt_text()?;
    let begun = row.opt_at()?.is_some();
    let stopping = row.opt_at()?.is_some();
    let connected = row.bool()?;
    let (failure, found_wrong) = row.opt_text()?.as_deref().map(told).unwrap_or_default();
    let job = state.map(|state| SeenJob { state, reason, begun, stopping, failure, found_wrong });
    Ok(Seen { target, job, connected, last_seen_at: row.opt_at()? })
}

/// Why an attempt failed, or what its check found to be wrong. An outcome that cannot be read says
/// neither; its job's state holds.
fn told(outcome: &str) -> (Option<String>, Option<String>) {
    let Ok(outcome) = serde_json::from_str::<Outcome>(outcome) else { return (None, None) };
    let checked = outcome.result.filter(|result| result.get("ok").is_some());
    let checked = checked.and_then(|result| serde_json::from_value::<CheckResult>(result).ok());
    let wrong = checked.filter(|checked| !checked.ok).map(|checked| {
        let errors = checked.findings.iter().filter(|one| one.severity == Severity::Error);
        let errors: Vec<&str> = errors.map(|one| one.message.as_str()).collect();
        errors.join("; ")
    });
    (outcome.error.map(|error| error.message), wrong)
}

/// Loads what a scope names of batches. Who carries a batch on holds it alone; who queues one of
/// its jobs only keeps it from being stopped meanwhile.
pub(super) async fn load(
    tx: &mut Tx<'_>,
    scope: &Scope,
    snapshot: &mut Snapshot,
) -> Result<(), Failure> {
    if let Some((principal, key)) = &scope.batch_keyed {
        let sql = format!(
            "SELECT {COLUMNS} FROM batches b WHERE b.principal = $1 AND b.idempotency_key = $2"
        );
        let values = [Value::from(principal.as_str()), Value::from(key.as_str())];
        snapshot.batch = tx.fetch_one(sql, &values, read).await?;
    }
    let Some(id) = &scope.batch else { return Ok(()) };
    let lock = match scope.batch_target {
        Some(_) => tx.dialect().for_share(),
        None => tx.dialect().for_update(),
    };
    let sql = format!("SELECT {COLUMNS} FROM batches b WHERE b.id = $1{lock}");
    snapshot.batch = tx.fetch_one(sql, params![id.as_str()], read).await?;
    if scope.batch_seen {
        snapshot.batch_seen = tx.fetch_as(seen_of(""), params![id.as_str()], read_seen).await?;
    }
    if let Some(place) = scope.batch_target {
        let lock = tx.dialect().for_update();
        let sql = format!(
            "SELECT {TARGET} FROM batch_targets t WHERE t.batch_id = $1 AND t.place = $2{lock}"
        );
        snapshot.batch_target = tx.fetch_one(sql, params![id.as_str(), place], read_target).await?;
    }
    Ok(())
}

fn text<T: serde::Serialize>(document: &T) -> Result<Value<'static>, Failure> {
    let text = serde_json::to_string(document);
    text.map(Value::from).map_err(|_| Failure::unreadable("a batch that is not JSON"))
}

/// A new batch with all its targets.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    batch: &Batch,
    targets: &[Target],
) -> Result<(), Failure> {
    let (key, sha256) = batch.idempotency.clone().unzip();
    let values = [
        batch.id.as_str().into(),
        batch.state.as_str().into(),
        text(&batch.action)?,
        text(&batch.options)?,
        batch.principal.as_str().into(),
        key.into(),
        sha256.into(),
        batch.request_id.as_ref().map(|id| id.as_str()).into(),
        batch.created_at.into(),
    ];
    tx.execute(
        "INSERT INTO batches (id, state, action, options, principal, idempotency_key, \
         request_sha256, request_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &values,
    )
    .await?;
    let source = tx
        .dialect()
        .source(2, &["place:i", "environment_id", "host_id", "name", "host_name", "state"]);
    let rows = json_rows(targets.iter().map(|target| {
        [
            target.place.into(),
            target.environment.as_str().into(),
            target.host.as_str().into(),
            target.name.as_str().into(),
            target.host_name.as_str().into(),
            target.state.as_str().into(),
        ]
    }));
    let sql = format!(
        "INSERT INTO batch_targets (batch_id, place, environment_id, host_id, name, host_name, \
         state) SELECT $1, v.place, v.environment_id, v.host_id, v.name, v.host_name, v.state \
         FROM {source}"
    );
    tx.execute(sql, &[batch.id.as_str().into(), rows]).await?;
    Ok(())
}

/// Writes a batch that has not ended.
pub(super) async fn update(tx: &mut Tx<'_>, batch: &Batch) -> Result<(), Failure> {
    let changed = tx
        .execute(
            "UPDATE batches SET state = $2, reason = $3, stopped_at = $4, finished_at = $5 \
             WHERE id = $1 AND finished_at IS NULL",
            params![
                batch.id.as_str(),
                batch.state.as_str(),
                batch.reason.as_deref(),
                batch.stopped_at,
                batch.finished_at
            ],
        )
        .await?;
    if changed == 1 { Ok(()) } else { Err(Failure::Overtaken) }
}

/// Writes targets, none of which may have ended.
pub(super) async fn update_targets(
    tx: &mut Tx<'_>,
    targets: &[(&BatchId, &Target)],
) -> Result<(), Failure> {
    let names = ["batch_id", "place:i", "host_id", "state", "reason", "message", "job_id"];
    let source = tx.dialect().source(1, &names);
    let rows = json_rows(targets.iter().map(|(batch, target)| {
        [
            batch.as_str().into(),
            target.place.into(),
            target.host.as_str().into(),
            target.state.as_str().into(),
            target.reason.as_deref().into(),
            target.message.as_deref().into(),
            target.job.as_ref().map(|id| id.as_str()).into(),
        ]
    }));
    let sql = format!(
        "UPDATE batch_targets SET host_id = v.host_id, state = v.state, reason = v.reason, \
         message = v.message, job_id = v.job_id FROM {source} \
         WHERE batch_targets.batch_id = v.batch_id AND batch_targets.place = v.place \
         AND batch_targets.state IN ('pending', 'started')"
    );
    let changed = tx.execute(sql, &[rows]).await?;
    if usize::try_from(changed) == Ok(targets.len()) { Ok(()) } else { Err(Failure::Overtaken) }
}

/// Forgets batches that ended before a time.
pub(super) async fn forget(tx: &mut Tx<'_>, before: Micros, limit: u32) -> Result<u64, Failure> {
    let sql = "SELECT id FROM batches WHERE finished_at < $1 ORDER BY finished_at LIMIT $2";
    let ids: Vec<BatchId> = tx.fetch_as(sql, params![before, limit], |row| row.parsed()).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let source = tx.dialect().source(1, &["id"]);
    let rows = || json_rows(ids.iter().map(|id| [id.as_str().into()]));
    let targets =
        format!("DELETE FROM batch_targets WHERE batch_id IN (SELECT v.id FROM {source})");
    tx.execute(targets, &[rows()]).await?;
    tx.execute(format!("DELETE FROM batches WHERE id IN (SELECT v.id FROM {source})"), &[rows()])
        .await
}

impl Store {
    /// The batch of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn batch(&self, id: &BatchId) -> Result<Option<Batch>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM batches b WHERE b.id = $1");
        self.read_one("batch", sql, params![id.as_str()], read).await
    }

    /// Batches by id, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn batches(
        &self,
        state: Option<BatchState>,
        page: &Page,
    ) -> Result<Paged<Batch>, StoreError> {
        let list = List::new(format!("SELECT {COLUMNS} FROM batches b"), "b.id")
            .newest_first()
            .with("b.state", state.map(BatchState::as_str));
        self.read_page("batches", list, page, read, |batch| batch.id.as_str().to_owned()).await
    }

    /// The batches that have not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn open_batches(&self) -> Result<Vec<BatchId>, StoreError> {
        let sql = "SELECT id FROM batches WHERE finished_at IS NULL ORDER BY id";
        self.read_all("open_batches", sql, &[], |row| row.parsed()).await
    }

    /// Every target of a batch with what can be seen of it, in the order of their places.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn batch_seen(&self, id: &BatchId) -> Result<Vec<Seen>, StoreError> {
        self.read_all("batch_seen", seen_of(""), params![id.as_str()], read_seen).await
    }

    /// At most `limit` targets of a batch from a place on.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn batch_targets(
        &self,
        id: &BatchId,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Seen>, StoreError> {
        let sql = seen_of("AND t.place >= $2") + " LIMIT $3";
        let values = params![id.as_str(), from, limit];
        self.read_all("batch_targets", sql, values, read_seen).await
    }

    /// The batch that queued a job.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn batch_of(&self, job: &JobId) -> Result<Option<BatchId>, StoreError> {
        let sql = "SELECT batch_id FROM batch_targets WHERE job_id = $1";
        self.read_one("batch_of", sql, params![job.as_str()], |row| row.parsed()).await
    }
}
