//! What is read of many stacks at once: everything, a page, or only whether anything has changed.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, JobId, StackId};

use super::db::{Dialect, Value, json_rows, params};
use super::stacks::{COLUMNS, HOST, indexed_project, read, read_host};
use super::{Store, StoreError, jobs};
use crate::domain::Job;
use crate::domain::decide::stack::{Overview, Place};
use crate::domain::desired::{Stack, StackHost};

/// Steps along `after` that are taken one by one; what goes further is read together with all else.
const STEPS_MAX: usize = 8;

/// Of everything a look at stacks is made on, what is another as soon as that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StacksMark(Vec<String>);

impl Store {
    /// Every stack, by path.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn all_stacks(&self) -> Result<Vec<Stack>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM stacks s ORDER BY s.path");
        self.read_all("all_stacks", sql, &[], read).await
    }

    /// Stacks by path, those behind a path, at most so many.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stacks_behind(
        &self,
        path: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Stack>, StoreError> {
        // No path is empty.
        let sql =
            format!("SELECT {COLUMNS} FROM stacks s WHERE s.path > $1 ORDER BY s.path LIMIT $2");
        let values = params![path.unwrap_or_default(), limit];
        self.read_all("stacks_behind", sql, values, read).await
    }

    /// Everything that says what is to be done about stacks.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stack_overview(&self) -> Result<Overview, StoreError> {
        let desired = self.desired_state().await?;
        let stacks = self.all_stacks().await?;
        if stacks.is_empty() {
            return Ok(Overview { desired, ..Overview::default() });
        }
        let (rows, places) = (self.stack_hosts(None).await?, self.places().await?);
        let mut found: BTreeMap<JobId, Job> = BTreeMap::new();
        for table in ["jobs j", "jobs_history j"] {
            let sql = format!("{} JOIN stack_hosts r ON r.job_id = j.id", jobs::select(table));
            let read = self.read_all("stack_jobs", sql, &[], jobs::read_job).await?;
            found.extend(read.into_iter().map(|job| (job.id.clone(), job)));
        }
        let away = self.hosts_away().await?;
        Ok(Overview { desired, stacks, rows, places, away, jobs: found })
    }

    async fn hosts_away(&self) -> Result<BTreeSet<HostId>, StoreError> {
        let sql = "SELECT h.id FROM hosts h WHERE h.state = 'enrolled' \
                   AND h.id NOT IN (SELECT p.host_id FROM host_sessions p)";
        let away = self.read_all("hosts_away", sql, &[], |row| row.parsed()).await?;
        Ok(away.into_iter().collect())
    }

    /// What says how these stacks stand among the hosts given: with them come those that may be in their way, which are of the same project or before them in their
    /// order.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn overview_of(
        &self,
        stacks: &[Stack],
        places: Vec<Place>,
    ) -> Result<Overview, StoreError> {
        let desired = self.desired_state().await?;
        let projects = stacks.iter().map(|stack| indexed_project(&stack.facts));
        let projects: BTreeSet<&str> = projects.filter(|project| !project.is_empty()).collect();
        let mut known: BTreeMap<StackId, Stack> =
            stacks.iter().map(|stack| (stack.id.clone(), stack.clone())).collect();
        let akin = self.stacks_with("project", &projects).await?;
        known.extend(akin.into_iter().map(|stack| (stack.id.clone(), stack)));
        let all: Vec<Stack> = match self.before(stacks).await? {
            Some(before) => {
                known.extend(before.into_iter().map(|stack| (stack.id.clone(), stack)));
                known.into_values().collect()
            }
            None => self.all_stacks().await?,
        };
        let rows = self.rows_of(&all).await?;
        let jobs = self.jobs_of(&rows).await?;
        let away = self.hosts_away().await?;
        Ok(Overview { desired, stacks: all, rows, places, away, jobs })
    }

    /// The jobs that rows name.
    async fn jobs_of(&self, rows: &[StackHost]) -> Result<BTreeMap<JobId, Job>, StoreError> {
        let ids = rows.iter().filter_map(|row| row.job.as_ref());
        let ids: Vec<_> = ids.map(|id| [Value::from(id.as_str())]).collect();
        let mut found = BTreeMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        let values = json_rows(ids);
        let source = self.dialect().source(1, &["id"]);
        for table in ["jobs j", "jobs_history j"] {
            let select = jobs::select(table);
            let sql = format!("{select} WHERE j.id IN (SELECT v.id FROM {source})");
            let read = self
                .read_all("jobs_of", sql, std::slice::from_ref(&values), jobs::read_job)
                .await?;
            found.extend(read.into_iter().map(|job| (job.id.clone(), job)));
        }
        Ok(found)
    }

    /// The stacks that these come after, and so on; `None` where that leads too far.
    async fn before(&self, stacks: &[Stack]) -> Result<Option<Vec<Stack>>, StoreError> {
        let mut seen: BTreeSet<String> = stacks.iter().map(|stack| stack.path.clone()).collect();
        let mut found: Vec<Stack> = Vec::new();
        let mut last = stacks.to_vec();
        for _ in 0..STEPS_MAX {
            let after = last.iter().flat_map(|stack| &stack.facts.settings.after);
            let next: BTreeSet<&str> =
                after.map(String::as_str).filter(|path| !seen.contains(*path)).collect();
            if next.is_empty() {
                return Ok(Some(found));
            }
            let read = self.stacks_with("path", &next).await?;
            seen.extend(next.into_iter().map(str::to_owned).collect::<Vec<_>>());
            found.extend(read.iter().cloned());
            last = read;
        }
        Ok(None)
    }

    async fn stacks_with(
        &self,
        column: &'static str,
        values: &BTreeSet<&str>,
    ) -> Result<Vec<Stack>, StoreError> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let source = self.dialect().source(1, &["value"]);
        let sql = format!(
            "SELECT {COLUMNS} FROM stacks s WHERE s.{column} IN (SELECT v.value FROM {source})"
        );
        let values = json_rows(values.iter().map(|value| [Value::from(*value)]));
        self.read_all("stacks_with", sql, &[values], read).await
    }

    async fn rows_of(&self, stacks: &[Stack]) -> Result<Vec<StackHost>, StoreError> {
        let source = self.dialect().source(1, &["id"]);
        let sql = format!(
            "SELECT {HOST} FROM stack_hosts h WHERE h.stack_id IN (SELECT v.id FROM {source})"
        );
        let ids = json_rows(stacks.iter().map(|stack| [Value::from(stack.id.as_str())]));
        self.read_all("rows_of", sql, &[ids], read_host).await
    }

    /// The mark of what [`Store::stack_overview`] answers, the commit that holds aside. It is read from
    /// indexes: a row's version grows with each change of it, and ids are never used again.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn stacks_mark(&self) -> Result<StacksMark, StoreError> {
        let mut parts = Vec::new();
        for (cells, from) in MARKED {
            let from = format!("FROM (SELECT {cells} AS cells {from}) AS m");
            let sql = match self.dialect() {
                Dialect::Sqlite => {
                    format!("SELECT group_concat(m.cells, ',' ORDER BY m.cells) {from}")
                }
                Dialect::Postgres => {
                    format!("SELECT md5(string_agg(m.cells, ',' ORDER BY m.cells)) {from}")
                }
            };
            let part = self.read_one("stacks_mark", sql, &[], |row| row.opt_text()).await?;
            parts.push(part.flatten().unwrap_or_default());
        }
        Ok(StacksMark(parts))
    }
}

/// What is marked: cells, and where they are.
const MARKED: [(&str, &str); 5] = [
    ("s.id || ' ' || s.version", "FROM stacks s"),
    ("h.stack_id || ' ' || h.host_id || ' ' || h.version", "FROM stack_hosts h"),
    (JOB_CELLS, "FROM stack_hosts h JOIN jobs j ON j.id = h.job_id WHERE h.job_id IS NOT NULL"),
    (
        JOB_CELLS,
        "FROM stack_hosts h JOIN jobs_history j ON j.id = h.job_id WHERE h.job_id IS NOT NULL",
    ),
    (
        "p.id || ' ' || p.name || ' ' || p.labels || ' ' || \
         (SELECT count(*) FROM host_sessions e WHERE e.host_id = p.id)",
        "FROM hosts p WHERE p.state = 'enrolled'",
    ),
];

const JOB_CELLS: &str = "j.id || ' ' || j.state || ' ' || j.attempt || ' ' || j.run_after";
