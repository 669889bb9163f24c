//! Stacks, and how they stand on their hosts.

use hostler_protocol::id::{HostId, JobId, StackId};

use super::cells::Cells;
use super::db::{Tx, json_rows, params};
use super::error::Failure;
use super::{Store, StoreError, jobs};
use crate::domain::decide::stack::Place;
use crate::domain::desired::{Removal, Stack, StackFacts, StackHost};
use crate::domain::stack::StackStatus;
use crate::domain::stack::project::NAME_BYTES_MAX;
use crate::domain::{Scope, Snapshot};

pub(super) const COLUMNS: &str = "s.id, s.path, s.present, s.suspended, s.removal, s.revision, s.facts, \
    s.created_at, s.updated_at, s.version";

pub(super) fn read(row: &mut Cells<'_>) -> Result<Stack, Failure> {
    Ok(Stack {
        id: row.parsed()?,
        path: row.text()?,
        present: row.bool()?,
        suspended: row.bool()?,
        removal: row.named("removal", Removal::parse)?,
        revision: row.text()?,
        facts: row.json()?,
        created_at: row.at()?,
        updated_at: row.at()?,
        version: row.int()?,
    })
}

pub(super) const HOST: &str = "h.stack_id, h.host_id, h.status, h.targeted, h.wanted, h.applied, h.outcome, \
    h.retry_at, h.job_id, h.containers, h.watch, h.version";

pub(super) fn read_host(row: &mut Cells<'_>) -> Result<StackHost, Failure> {
    Ok(StackHost {
        stack: row.parsed()?,
        host: row.parsed()?,
        status: row.named("stack status", StackStatus::parse)?,
        targeted: row.bool()?,
        wanted: row.opt_text()?,
        applied: row.opt_json()?,
        outcome: row.opt_json()?,
        retry_at: row.opt_at()?,
        job: row.opt_parsed()?,
        containers: row.json()?,
        watch: row.json()?,
        version: row.int()?,
    })
}

const PLACE: &str = "SELECT p.id, p.name, p.labels FROM hosts p WHERE p.state = 'enrolled'";

fn read_place(row: &mut Cells<'_>) -> Result<Place, Failure> {
    Ok(Place { host: row.parsed()?, name: row.text()?, labels: row.json()? })
}

/// Loads what a scope names of stacks. A stack's rows are locked before its jobs, as environments
/// are before theirs.
pub(super) async fn load(
    tx: &mut Tx<'_>,
    scope: &Scope,
    snapshot: &mut Snapshot,
) -> Result<(), Failure> {
    let dialect = tx.dialect();
    if scope.stacks {
        let lock = dialect.ordered_for_update("s.id");
        snapshot.stacks =
            tx.fetch_as(format!("SELECT {COLUMNS} FROM stacks s{lock}"), &[], read).await?;
    }
    let Some(id) = &scope.stack else { return Ok(()) };
    let lock = dialect.for_update();
    let sql = format!("SELECT {COLUMNS} FROM stacks s WHERE s.id = $1{lock}");
    snapshot.stack = tx.fetch_one(sql, params![id.as_str()], read).await?;
    let lock = dialect.ordered_for_update("h.host_id");
    let sql = format!("SELECT {HOST} FROM stack_hosts h WHERE h.stack_id = $1{lock}");
    snapshot.stack_hosts = tx.fetch_as(sql, params![id.as_str()], read_host).await?;
    let named: Vec<&JobId> =
        snapshot.stack_hosts.iter().filter_map(|row| row.job.as_ref()).collect();
    let mut found = jobs::load(tx, jobs::json_ids(named.iter().copied())).await?;
    let missing: Vec<&JobId> = named.into_iter().filter(|id| !found.contains_key(*id)).collect();
    if !missing.is_empty() {
        found.extend(jobs::load_history(tx, jobs::json_ids(missing)).await?);
    }
    snapshot.stack_jobs = found.into_values().map(|row| row.job).collect();
    Ok(())
}

/// The project as it is looked for; a name is never longer.
pub(super) fn indexed_project(facts: &StackFacts) -> &str {
    facts.project.get(..NAME_BYTES_MAX).unwrap_or(&facts.project)
}

fn text<T: serde::Serialize>(document: &T) -> Result<String, Failure> {
    serde_json::to_string(document).map_err(|_| Failure::unreadable("a stack that is not JSON"))
}

/// Writes stacks: new ones of version 1, and known ones that nobody else changed meanwhile.
pub(super) async fn put(tx: &mut Tx<'_>, stacks: &[Stack]) -> Result<(), Failure> {
    if stacks.is_empty() {
        return Ok(());
    }
    let facts = stacks.iter().map(|one| text(&one.facts)).collect::<Result<Vec<_>, _>>()?;
    let rows = json_rows(stacks.iter().zip(&facts).map(|(stack, facts)| {
        [
            stack.id.as_str().into(),
            stack.path.as_str().into(),
            stack.present.into(),
            stack.suspended.into(),
            stack.removal.as_str().into(),
            stack.revision.as_str().into(),
            facts.as_str().into(),
            indexed_project(&stack.facts).into(),
            stack.created_at.into(),
            stack.updated_at.into(),
            stack.version.into(),
        ]
    }));
    let source = tx.dialect().source(
        1,
        &[
            "id",
            "path",
            "present:i",
            "suspended:i",
            "removal",
            "revision",
            "facts",
            "project",
            "created_at:i",
            "updated_at:i",
            "version:i",
        ],
    );
    let sql = format!(
        "INSERT INTO stacks (id, path, present, suspended, removal, revision, facts, project, \
         created_at, updated_at, version) SELECT v.id, v.path, v.present, v.suspended, v.removal, v.revision, \
         v.facts, v.project, v.created_at, v.updated_at, v.version FROM {source} WHERE 1 = 1 \
         ON CONFLICT (id) DO UPDATE SET path = excluded.path, present = excluded.present, \
         suspended = excluded.suspended, removal = excluded.removal, revision = excluded.revision, \
         facts = excluded.facts, project = excluded.project, updated_at = excluded.updated_at, version = excluded.version \
         WHERE stacks.version = excluded.version - 1"
    );
    written(tx.execute(sql, &[rows]).await?, stacks.len())
}

pub(super) async fn delete(tx: &mut Tx<'_>, id: &StackId) -> Result<(), Failure> {
    tx.execute("DELETE FROM stacks WHERE id = $1", params![id.as_str()]).await.map(|_| ())
}

/// Writes rows of stacks on hosts, as [`put`] does.
pub(super) async fn put_hosts(tx: &mut Tx<'_>, rows: &[StackHost]) -> Result<(), Failure> {
    let documents = rows
        .iter()
        .map(|row| {
            let applied = row.applied.as_ref().map(text).transpose()?;
            let outcome = row.outcome.as_ref().map(text).transpose()?;
            Ok((applied, outcome, text(&row.containers)?, text(&row.watch)?))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let cells = json_rows(rows.iter().zip(&documents).map(
        |(row, (applied, outcome, containers, watch))| {
            [
                row.stack.as_str().into(),
                row.host.as_str().into(),
                row.status.as_str().into(),
                row.targeted.into(),
                row.wanted.as_deref().into(),
                applied.as_deref().into(),
                outcome.as_deref().into(),
                row.retry_at.into(),
                row.job.as_ref().map(|id| id.as_str()).into(),
                containers.as_str().into(),
                watch.as_str().into(),
                row.version.into(),
            ]
        },
    ));
    let source = tx.dialect().source(
        1,
        &[
            "stack_id",
            "host_id",
            "status",
            "targeted:i",
            "wanted",
            "applied",
            "outcome",
            "retry_at:i",
            "job_id",
            "containers",
            "watch",
            "version:i",
        ],
    );
    let sql = format!(
        "INSERT INTO stack_hosts (stack_id, host_id, status, targeted, wanted, applied, outcome, \
         retry_at, job_id, containers, watch, version) SELECT v.stack_id, v.host_id, v.status, v.targeted, \
         v.wanted, v.applied, v.outcome, v.retry_at, v.job_id, v.containers, v.watch, v.version \
         FROM {source} WHERE 1 = 1 ON CONFLICT (stack_id, host_id) DO UPDATE SET \
         status = excluded.status, targeted = excluded.targeted, wanted = excluded.wanted, \
         applied = excluded.applied, outcome = excluded.outcome, retry_at = excluded.retry_at, \
         job_id = excluded.job_id, containers = excluded.containers, watch = excluded.watch, version = excluded.version \
         WHERE stack_hosts.version = excluded.version - 1"
    );
    written(tx.execute(sql, &[cells]).await?, rows.len())
}

pub(super) async fn delete_host(
    tx: &mut Tx<'_>,
    stack: &StackId,
    host: &HostId,
) -> Result<(), Failure> {
    let sql = "DELETE FROM stack_hosts WHERE stack_id = $1 AND host_id = $2";
    tx.execute(sql, params![stack.as_str(), host.as_str()]).await.map(|_| ())
}

fn written(changed: u64, wanted: usize) -> Result<(), Failure> {
    if usize::try_from(changed) == Ok(wanted) { Ok(()) } else { Err(Failure::Overtaken) }
}

impl Store {
    /// The stack of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stack(&self, id: &StackId) -> Result<Option<Stack>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM stacks s WHERE s.id = $1");
        self.read_one("stack", sql, params![id.as_str()], read).await
    }

    /// The stack of that path.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stack_at(&self, path: &str) -> Result<Option<Stack>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM stacks s WHERE s.path = $1");
        self.read_one("stack_at", sql, params![path], read).await
    }

    /// How stacks stand on their hosts: those of one stack, or all.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stack_hosts(&self, stack: Option<&StackId>) -> Result<Vec<StackHost>, StoreError> {
        match stack {
            Some(stack) => {
                let sql = format!(
                    "SELECT {HOST} FROM stack_hosts h WHERE h.stack_id = $1 ORDER BY h.host_id"
                );
                self.read_all("stack_hosts", sql, params![stack.as_str()], read_host).await
            }
            None => {
                let sql =
                    format!("SELECT {HOST} FROM stack_hosts h ORDER BY h.stack_id, h.host_id");
                self.read_all("stack_hosts", sql, &[], read_host).await
            }
        }
    }

    /// How stacks stand on one host.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stacks_on(&self, host: &HostId) -> Result<Vec<StackHost>, StoreError> {
        let sql =
            format!("SELECT {HOST} FROM stack_hosts h WHERE h.host_id = $1 ORDER BY h.stack_id");
        self.read_all("stacks_on", sql, params![host.as_str()], read_host).await
    }

    /// Enrolled hosts, with what targets them.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn places(&self) -> Result<Vec<Place>, StoreError> {
        self.read_all("places", format!("{PLACE} ORDER BY p.id"), &[], read_place).await
    }
}
