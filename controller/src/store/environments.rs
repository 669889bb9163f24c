//! Environments.

use hostler_protocol::id::EnvironmentId;

use super::cells::Cells;
use super::db::{Tx, Value, params};
use super::error::Failure;
use super::read::List;
use super::types::{EnvironmentFilter, Page, Paged};
use super::{Store, StoreError};
use crate::domain::environment::redis_server;
use crate::domain::{CacheFlag, Environment, EnvironmentState, Labels};

pub(super) const COLUMNS: &str = "e.id, e.site_id, e.host_id, e.state, e.doc, \
    e.fastcgi_desired, e.fastcgi_applied, e.fastcgi_applied_at, e.fastcgi_last_error, \
    e.redis_desired, e.redis_applied, e.redis_applied_at, e.redis_last_error, \
    e.labels, e.version, e.created_at, e.updated_at";

pub(super) fn read(row: &mut Cells<'_>) -> Result<Environment, Failure> {
    let id = row.parsed()?;
    rest(row, id)
}

/// As [`read`], but a row that cannot be read is told by its id: it must not keep every other
/// environment's jobs from going on.
pub(super) fn read_or_id(
    row: &mut Cells<'_>,
) -> Result<(EnvironmentId, Option<Environment>), Failure> {
    let id: EnvironmentId = row.parsed()?;
    let read = rest(row, id.clone());
    if let Err(failure) = &read {
        tracing::error!(environment.id = %id, ?failure, "an environment cannot be read");
    }
    Ok((id, read.ok()))
}

fn rest(row: &mut Cells<'_>, id: EnvironmentId) -> Result<Environment, Failure> {
    Ok(Environment {
        id,
        site_id: row.parsed()?,
        host_id: row.parsed()?,
        state: row.named("environment state", EnvironmentState::parse)?,
        doc: row.json()?,
        fastcgi: flag(row)?,
        redis: flag(row)?,
        labels: row.json()?,
        version: row.int()?,
        created_at: row.at()?,
        updated_at: row.at()?,
    })
}

fn flag(row: &mut Cells<'_>) -> Result<Option<CacheFlag>, Failure> {
    let desired = row.opt_int()?;
    let applied = row.opt_int()?;
    let applied_at = row.opt_at()?;
    let last_error = row.opt_json()?;
    Ok(desired.map(|desired| CacheFlag {
        desired: desired != 0,
        applied: applied.map(|applied| applied != 0),
        applied_at,
        last_error,
    }))
}

/// Labels as their column holds them.
pub(super) fn labels(labels: &Labels) -> Value<'static> {
    // Texts and their texts: nothing here can fail to be written.
    serde_json::to_string(labels).unwrap_or_default().into()
}

/// What a change may write, from `$2` on (`$1` is the id).
fn values(environment: &Environment) -> Result<Vec<Value<'_>>, Failure> {
    let doc = serde_json::to_string(&environment.doc)
        .map_err(|_| Failure::unreadable("an environment that is not JSON"))?;
    let server = environment.doc.redis.as_ref().and_then(|redis| redis_server(&redis.url));
    let mut values = vec![
        Value::from(environment.id.as_str()),
        environment.state.as_str().into(),
        environment.doc.name.as_str().into(),
        doc.into(),
        server.into(),
        environment.version.into(),
        environment.updated_at.into(),
    ];
    for flag in [&environment.fastcgi, &environment.redis] {
        let flag = flag.as_ref();
        values.push(flag.map(|flag| flag.desired).into());
        values.push(flag.and_then(|flag| flag.applied).into());
        values.push(flag.and_then(|flag| flag.applied_at).into());
        values.push(flag.and_then(|flag| flag.last_error.as_ref()).map(|e| e.to_string()).into());
    }
    values.push(labels(&environment.labels));
    Ok(values)
}

pub(super) async fn insert(tx: &mut Tx<'_>, environment: &Environment) -> Result<(), Failure> {
    let mut values = values(environment)?;
    values.push(environment.host_id.as_str().into());
    values.push(environment.site_id.as_str().into());
    values.push(environment.created_at.into());
    tx.execute(
        "INSERT INTO environments (id, state, name, doc, redis_server, version, updated_at, \
         fastcgi_desired, fastcgi_applied, fastcgi_applied_at, fastcgi_last_error, \
         redis_desired, redis_applied, redis_applied_at, redis_last_error, \
         labels, host_id, site_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
         $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        &values,
    )
    .await?;
    Ok(())
}

/// Writes the row over the version before it.
pub(super) async fn update(tx: &mut Tx<'_>, environment: &Environment) -> Result<(), Failure> {
    let mut values = values(environment)?;
    values.push(environment.host_id.as_str().into());
    let changed = tx
        .execute(
            "UPDATE environments SET state = $2, name = $3, doc = $4, redis_server = $5, \
             version = $6, updated_at = $7, fastcgi_desired = $8, fastcgi_applied = $9, \
             fastcgi_applied_at = $10, fastcgi_last_error = $11, redis_desired = $12, \
             redis_applied = $13, redis_applied_at = $14, redis_last_error = $15, labels = $16, \
             host_id = $17 \
             WHERE id = $1 AND version = $6 - 1",
            &values,
        )
        .await?;
    if changed == 1 { Ok(()) } else { Err(Failure::Overtaken) }
}

pub(super) async fn delete(tx: &mut Tx<'_>, id: &EnvironmentId) -> Result<(), Failure> {
    match tx.execute("DELETE FROM environments WHERE id = $1", params![id.as_str()]).await? {
        1 => Ok(()),
        _gone => Err(Failure::Overtaken),
    }
}

impl Store {
    /// The environment of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn environment(&self, id: &EnvironmentId) -> Result<Option<Environment>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM environments e WHERE e.id = $1");
        self.read_one("environment", sql, params![id.as_str()], read).await
    }

    /// Environments by id, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn environments(
        &self,
        filter: &EnvironmentFilter,
        page: &Page,
    ) -> Result<Paged<Environment>, StoreError> {
        let list = List::new(format!("SELECT {COLUMNS} FROM environments e"), "e.id")
            .with("e.site_id", filter.site.as_ref().map(|id| id.as_str()))
            .with("e.host_id", filter.host.as_ref().map(|id| id.as_str()));
        self.read_page("environments", list, page, read, |environment| {
            environment.id.as_str().to_owned()
        })
        .await
    }
}
