//! Reading jobs: one, a page of them, those that run, what one waits for.

use hostler_protocol::id::{HostId, JobId};

use super::db::params;
use super::jobs::{json_hosts, known_types, read_job, select};
use super::read::{List, cut, rows};
use super::types::{AttemptRef, HostAttempt, JobFilter, Page, Paged, WaitsFor};
use super::{Store, StoreError};
use crate::domain::{Job, JobState};

impl Store {
    /// The job of that id, also when it was moved to history.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        for table in ["jobs j", "jobs_history j"] {
            let sql = format!("{} WHERE j.id = $1", select(table));
            let found = self.read_one("job", sql, params![id.as_str()], read_job).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Jobs by id, newest first, those in history too.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn jobs(&self, filter: &JobFilter, page: &Page) -> Result<Paged<Job>, StoreError> {
        let limit = rows(page);
        let mut found: Vec<Job> = Vec::new();
        // In this order: a job moved between the two reads is seen twice rather than not at all.
        for table in ["jobs j", "jobs_history j"] {
            let list = List::new(select(table), "j.id")
                .newest_first()
                .with("j.state", filter.state.map(JobState::as_str))
                .with("j.job_type", filter.job_type.map(|kind| kind.as_str()))
                .with("j.environment_id", filter.environment.as_ref().map(|id| id.as_str()))
                .with("j.stack_id", filter.stack.as_ref().map(|id| id.as_str()))
                .with("j.host_id", filter.host.as_ref().map(|id| id.as_str()))
                .with("j.site_id", filter.site.as_ref().map(|id| id.as_str()))
                .with("j.parent_id", filter.parent.as_ref().map(|id| id.as_str()))
                .within(
                    "j.id IN (SELECT t.job_id FROM batch_targets t WHERE t.batch_id = ?)",
                    filter.batch.as_ref().map(|id| id.as_str()),
                );
            let (sql, params) = list.page(page.after.as_deref(), limit + 1);
            found.extend(self.read_all("jobs", sql, &params, read_job).await?);
        }
        found.sort_by(|a, b| b.id.cmp(&a.id));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(cut(found, limit, |job| job.id.as_str().to_owned()))
    }

    /// The jobs that follow from one, oldest first, those in history too.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn children(&self, parent: &JobId) -> Result<Vec<JobId>, StoreError> {
        let sql = "SELECT id FROM jobs WHERE parent_id = $1 \
             UNION SELECT id FROM jobs_history WHERE parent_id = $1 ORDER BY id";
        self.read_all("children", sql, params![parent.as_str()], |row| row.parsed()).await
    }

    /// Jobs that run on a host (or are unknown there), oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn running_on(&self, host: &HostId) -> Result<Vec<Job>, StoreError> {
        let sql = format!(
            "{} WHERE j.host_id = $1 AND j.state = 'running' ORDER BY j.position",
            select("jobs j")
        );
        self.read_all("running_on", sql, params![host.as_str()], read_job).await
    }

    /// Jobs that run anywhere, oldest first, but for those of a type only a newer build knows.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn running_all(&self) -> Result<Vec<Job>, StoreError> {
        let sql = format!(
            "{} WHERE j.state = 'running' AND j.job_type IN ({}) ORDER BY j.position",
            select("jobs j"),
            known_types()
        );
        self.read_all("running_all", sql, &[], read_job).await
    }

    /// Running attempts on these hosts that somebody asked to cancel.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn cancel_requested(&self, hosts: &[HostId]) -> Result<Vec<HostAttempt>, StoreError> {
        let source = self.dialect().source(1, &["id"]);
        let sql = format!(
            "SELECT j.host_id, j.id, j.attempt FROM jobs j \
             WHERE j.host_id IN (SELECT v.id FROM {source}) \
             AND j.state = 'running' AND j.cancel_requested_at IS NOT NULL ORDER BY j.position"
        );
        self.read_all("cancel_requested", sql, &[json_hosts(hosts)], |row| {
            let host = row.parsed()?;
            let attempt = AttemptRef { job: row.parsed()?, attempt: row.u32()? };
            Ok(HostAttempt { host, attempt })
        })
        .await
    }

    /// The jobs in front of one in its lanes: the one that runs, and earlier ones that wait.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn waiting_for(&self, job: &JobId) -> Result<Vec<WaitsFor>, StoreError> {
        let sql = "SELECT b.id, b.state, e.lane FROM job_lanes l \
             JOIN jobs j ON j.id = l.job_id AND j.state IN ('queued', 'held') \
             JOIN job_lanes e ON e.lane = l.lane AND e.job_id <> l.job_id \
             JOIN jobs b ON b.id = e.job_id \
             WHERE l.job_id = $1 AND (b.state = 'running' \
                OR (b.state IN ('queued', 'held') AND COALESCE(b.reason, '') <> 'QUARANTINED' \
                AND e.position < l.position)) \
             ORDER BY e.position";
        self.read_all("waiting_for", sql, params![job.as_str()], |row| {
            let job = row.parsed()?;
            let state = row.named("job state", JobState::parse)?;
            Ok(WaitsFor { job, state, lane: row.text()? })
        })
        .await
    }
}
