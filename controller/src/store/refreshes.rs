//! Looks at the config repository, and the snapshot that holds.

use hostler_protocol::id::RefreshId;

use super::cells::Cells;
use super::db::{Tx, Value, params};
use super::error::Failure;
use super::read::List;
use super::types::{Page, Paged};
use super::{Store, StoreError};
use crate::domain::desired::{DesiredState, Refresh, RefreshReport, RefreshState, Trigger};
use crate::domain::{Micros, Scope, Snapshot};

const COLUMNS: &str = "r.id, r.caused_by, r.state, r.replaced_by, r.delivery, r.controller, \
    r.requested_at, r.started_at, r.finished_at, r.revision, r.report";

fn read(row: &mut Cells<'_>) -> Result<Refresh, Failure> {
    Ok(Refresh {
        id: row.parsed()?,
        trigger: row.named("trigger", Trigger::parse)?,
        state: row.named("refresh state", RefreshState::parse)?,
        replaced_by: row.opt_parsed()?,
        delivery: row.opt_text()?,
        controller: row.opt_parsed()?,
        requested_at: row.at()?,
        started_at: row.opt_at()?,
        finished_at: row.opt_at()?,
        revision: row.opt_text()?,
        // One that cannot be read keeps nobody from looking again.
        report: row.opt_json_or_none()?.and_then(|report| serde_json::from_value(report).ok()),
    })
}

const STATE: &str = "SELECT source, revision, commit_doc, refresh_id, taken_at FROM desired_state";

fn read_state(row: &mut Cells<'_>) -> Result<DesiredState, Failure> {
    Ok(DesiredState {
        source: row.text()?,
        revision: row.text()?,
        commit: row.json()?,
        refresh: row.parsed()?,
        taken_at: row.at()?,
    })
}

/// Loads what a scope names of looks. Who asks for, begins or ends one does so alone.
pub(super) async fn load(
    tx: &mut Tx<'_>,
    scope: &Scope,
    snapshot: &mut Snapshot,
) -> Result<(), Failure> {
    if scope.refreshes {
        let lock = tx.dialect().for_update();
        let sql = format!(
            "SELECT {COLUMNS} FROM refreshes r WHERE r.finished_at IS NULL ORDER BY r.id{lock}"
        );
        snapshot.refreshes = tx.fetch_as(sql, &[], read).await?;
    }
    if scope.stacks {
        snapshot.desired = tx.fetch_one(STATE, &[], read_state).await?;
    }
    if let Some(delivery) = &scope.refresh_delivered {
        snapshot.refresh_delivered =
            tx.fetch_one(delivered(), params![delivery.as_str()], read).await?;
    }
    Ok(())
}

/// The newest look that a delivery asked for; of one that was replaced, the one that answers for it.
fn delivered() -> String {
    format!(
        "WITH RECURSIVE answers (id, replaced_by) AS (SELECT id, replaced_by FROM refreshes \
         WHERE id = (SELECT max(id) FROM refreshes WHERE delivery = $1) UNION SELECT n.id, \
         n.replaced_by FROM refreshes n JOIN answers a ON n.id = a.replaced_by) \
         SELECT {COLUMNS} FROM refreshes r JOIN answers a ON r.id = a.id \
         WHERE r.replaced_by IS NULL"
    )
}

fn report(report: Option<&RefreshReport>) -> Result<Value<'static>, Failure> {
    let text = report.map(serde_json::to_string).transpose();
    text.map(Value::from).map_err(|_| Failure::unreadable("a report that is not JSON"))
}

pub(super) async fn insert(tx: &mut Tx<'_>, refresh: &Refresh) -> Result<(), Failure> {
    let values = [
        refresh.id.as_str().into(),
        refresh.trigger.as_str().into(),
        refresh.state.as_str().into(),
        refresh.delivery.as_deref().into(),
        refresh.requested_at.into(),
    ];
    let sql = "INSERT INTO refreshes (id, caused_by, state, delivery, requested_at) \
               VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, &values).await.map(|_| ())
}

/// Writes a look that has not ended.
pub(super) async fn update(tx: &mut Tx<'_>, refresh: &Refresh) -> Result<(), Failure> {
    let values = [
        refresh.id.as_str().into(),
        refresh.state.as_str().into(),
        refresh.replaced_by.as_ref().map(|id| id.as_str()).into(),
        refresh.controller.as_ref().map(|id| id.as_str()).into(),
        refresh.started_at.into(),
        refresh.finished_at.into(),
        refresh.revision.as_deref().into(),
        report(refresh.report.as_ref())?,
    ];
    let sql = "UPDATE refreshes SET state = $2, replaced_by = $3, controller = $4, \
               started_at = $5, finished_at = $6, revision = $7, report = $8 \
               WHERE id = $1 AND finished_at IS NULL";
    if tx.execute(sql, &values).await? == 1 { Ok(()) } else { Err(Failure::Overtaken) }
}

pub(super) async fn put_state(tx: &mut Tx<'_>, state: &DesiredState) -> Result<(), Failure> {
    let commit = serde_json::to_string(&state.commit)
        .map_err(|_| Failure::unreadable("a commit that is not JSON"))?;
    let values = [
        state.source.as_str().into(),
        state.revision.as_str().into(),
        commit.into(),
        state.refresh.as_str().into(),
        state.taken_at.into(),
    ];
    let sql = "INSERT INTO desired_state (id, source, revision, commit_doc, refresh_id, taken_at) \
               VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET \
               source = excluded.source, revision = excluded.revision, \
               commit_doc = excluded.commit_doc, refresh_id = excluded.refresh_id, \
               taken_at = excluded.taken_at";
    tx.execute(sql, &values).await.map(|_| ())
}

/// Forgets looks that ended before a time.
pub(super) async fn forget(tx: &mut Tx<'_>, before: Micros, limit: u32) -> Result<u64, Failure> {
    let sql = "DELETE FROM refreshes WHERE id IN (SELECT id FROM refreshes WHERE finished_at < $1 \
               ORDER BY finished_at LIMIT $2)";
    tx.execute(sql, params![before, limit]).await
}

impl Store {
    /// The snapshot that holds, if there ever was one.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn desired_state(&self) -> Result<Option<DesiredState>, StoreError> {
        self.read_one("desired_state", STATE, &[], read_state).await
    }

    /// The look of that id or, where another answers for it, that one.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn refresh(&self, id: &RefreshId) -> Result<Option<Refresh>, StoreError> {
        let sql = format!(
            "WITH RECURSIVE answers (id, replaced_by) AS (SELECT id, replaced_by FROM refreshes \
             WHERE id = $1 UNION SELECT n.id, n.replaced_by FROM refreshes n \
             JOIN answers a ON n.id = a.replaced_by) SELECT {COLUMNS} FROM refreshes r \
             JOIN answers a ON r.id = a.id WHERE r.replaced_by IS NULL"
        );
        self.read_one("refresh", sql, params![id.as_str()], read).await
    }

    /// Looks that have not ended, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn open_refreshes(&self) -> Result<Vec<Refresh>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM refreshes r WHERE r.finished_at IS NULL ORDER BY r.id");
        self.read_all("open_refreshes", sql, &[], read).await
    }

    /// The look that ended last, those that were replaced aside.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn last_refresh(&self) -> Result<Option<Refresh>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM refreshes r WHERE r.finished_at IS NOT NULL \
             AND r.replaced_by IS NULL ORDER BY r.finished_at DESC, r.id DESC LIMIT 1"
        );
        self.read_one("last_refresh", sql, &[], read).await
    }

    /// Looks by id, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn refreshes(&self, page: &Page) -> Result<Paged<Refresh>, StoreError> {
        let list = List::new(format!("SELECT {COLUMNS} FROM refreshes r"), "r.id").newest_first();
        self.read_page("refreshes", list, page, read, |one| one.id.as_str().to_owned()).await
    }
}
