//! Jobs: listed, shown with what they wait for, cancelled, retried, released.

use hostler_protocol::id::JobId;
use hostler_protocol::job::{Executor, JobType};

use super::asked::Asked;
use super::view::Around;
use super::{App, AppError, view};
use crate::domain::decide::enqueue::{self, Made, missing};
use crate::domain::decide::job as decide;
use crate::domain::job::reason;
use crate::domain::{
    Change, Decision, EnvironmentState, HostState, Job, JobState, Micros, Refusal, RefusalKind,
    Scope, Snapshot,
};
use crate::store::{JobFilter, Page, StoreError};
use crate::views::{self, WaitKind, WaitsFor};

/// Most earlier jobs that are named as being in front of one.
const WAITS_FOR_MAX: usize = 10;

impl App {
    /// One page of jobs, newest first.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_jobs(
        &self,
        filter: &JobFilter,
        page: &Page,
    ) -> Result<views::JobPage, AppError> {
        let (items, next) = self.store.jobs(filter, page).await?;
        let row = |job: Job| {
            let executor = self.executor(&job);
            view::job_row(job, executor)
        };
        Ok(views::JobPage { items: items.into_iter().map(row).collect(), next })
    }

    /// One job, with what it waits for.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_job(&self, id: &JobId) -> Result<views::Job, AppError> {
        let job = self.store.job(id).await?.ok_or_else(|| missing("job", id))?;
        self.with_waits(job).await
    }

    /// The job with what it waits for, and what follows from it.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn with_waits(&self, mut job: Job) -> Result<views::Job, AppError> {
        let waits_for = self.waits_for(&job).await?;
        let children = self.store.children(&job.id).await?;
        let batch = self.store.batch_of(&job.id).await?;
        // What waits will be carried out as its environment says then, hence as it says now.
        if let (JobState::Queued, Some(id)) = (job.state, &job.environment_id) {
            match self.store.environment(id).await {
                Ok(Some(environment)) => job.executor = environment.doc.executor,
                // The job says what comes of that, once it is claimed.
                Ok(None) | Err(StoreError::Unreadable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let executor = self.executor(&job);
        Ok(view::job(job, executor, Around { waits_for, children, batch }))
    }

    fn executor(&self, job: &Job) -> Executor {
        self.templates.for_job(&job.template, job.job_type).executor_for(job.executor)
    }

    async fn waits_for(&self, job: &Job) -> Result<Vec<WaitsFor>, AppError> {
        let unknown = job.reason.as_deref() == Some(reason::UNKNOWN);
        let mut waits = Vec::new();
        match job.state {
            JobState::Held => waits.push(person(job)),
            JobState::Running if unknown => waits.extend(self.host_offline(job).await?),
            JobState::Queued => {
                waits.extend(time_wait(job, self.clock.now()));
                for earlier in
                    self.store.waiting_for(&job.id).await?.into_iter().take(WAITS_FOR_MAX)
                {
                    let message = format!(
                        "an earlier job of the same environment is {}",
                        earlier.state.as_str()
                    );
                    let job_id = Some(earlier.job.into());
                    waits.push(WaitsFor { job_id, ..wait(WaitKind::Lane, message) });
                }
                waits.extend(self.host_offline(job).await?);
            }
            JobState::Running | JobState::Succeeded | JobState::Failed | JobState::Cancelled => {}
        }
        Ok(waits)
    }

    async fn host_offline(&self, job: &Job) -> Result<Option<WaitsFor>, AppError> {
        let host = self.store.host(&job.host_id).await?;
        if host.as_ref().is_some_and(|host| host.connected) {
            return Ok(None);
        }
        let held = host.as_ref().is_some_and(|host| host.held_at.is_some());
        let name = host.map_or_else(|| job.host_id.to_string(), |host| host.name);
        let message = match job.state {
            _ if held => format!(
                "the host {name} is held, since two agents show its identity: revoke it, and enrol \
                 each machine anew"
            ),
            JobState::Running => format!(
                "the host {name} is not connected; how far the job came is known when it \
                 returns; if it never will, cancel the job with force"
            ),
            JobState::Queued
            | JobState::Held
            | JobState::Succeeded
            | JobState::Failed
            | JobState::Cancelled => format!("the host {name} is not connected"),
        };
        let host_id = Some(job.host_id.clone().into());
        Ok(Some(WaitsFor { host_id, ..wait(WaitKind::Host, message) }))
    }

    /// Cancels a job: at once while it waits, through its host while it runs.
    ///
    /// # Errors
    /// `NOT_FOUND`, `JOB_ENDED`.
    pub async fn cancel_job(&self, id: JobId) -> Result<views::Job, AppError> {
        let now = self.clock.now();
        self.change_job("cancel_job", id, move |job| decide::cancel(job, now)).await
    }

    /// Gives a job up whose host is gone; see [`decide::abandon`].
    ///
    /// # Errors
    /// `NOT_FOUND`, `JOB_ENDED`, `JOB_NOT_UNKNOWN`.
    pub async fn abandon_job(&self, id: JobId) -> Result<views::Job, AppError> {
        let now = self.clock.now();
        let first = self.store.job(&id).await?.ok_or_else(|| missing("job", &id))?;
        let scope = Scope { job: Some(id.clone()), host: Some(first.host_id), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| {
            let job = snapshot.job.as_ref().ok_or_else(|| missing("job", &id))?;
            decide::abandon(job, snapshot.environment.as_ref(), snapshot.host.as_ref(), now)
        };
        let given_up = self.store.transact("abandon_job", scope, decide).await?.reply;
        self.with_waits(given_up).await
    }

    /// Lets a held job go.
    ///
    /// # Errors
    /// `NOT_FOUND`, `JOB_NOT_HELD`.
    pub async fn release_job(&self, id: JobId) -> Result<views::Job, AppError> {
        let now = self.clock.now();
        self.change_job("release_job", id, move |job| decide::release(job, now)).await
    }

    async fn change_job(
        &self,
        name: &'static str,
        id: JobId,
        change: impl Fn(&Job) -> Result<Decision<Job>, Refusal> + Send + Sync + 'static,
    ) -> Result<views::Job, AppError> {
        let scope = Scope { job: Some(id.clone()), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| {
            change(snapshot.job.as_ref().ok_or_else(|| missing("job", &id))?)
        };
        let changed = self.store.transact(name, scope, decide).await?.reply;
        self.with_waits(changed).await
    }

    /// Repeats an ended job as a new one.
    ///
    /// # Errors
    /// `NOT_FOUND`, `JOB_NOT_ENDED`, `KEY_REUSED`, `ENVIRONMENT_GONE`, and as
    /// [`enqueue::usable`].
    pub async fn retry_job(&self, id: JobId, asked: &Asked) -> Result<Made, AppError> {
        let first = self.store.job(&id).await?.ok_or_else(|| missing("job", &id))?;
        let making = self.making(asked, first.job_type)?;
        let scope = Scope {
            job: Some(id.clone()),
            environment: first.environment_id,
            idempotency: asked.scope(),
            ..Scope::default()
        };
        let decide = move |snapshot: &Snapshot| {
            if let Some(known) = enqueue::replay(snapshot, &making)? {
                return Ok(known);
            }
            let job = snapshot.job.as_ref().ok_or_else(|| missing("job", &id))?;
            can_repeat(job, snapshot)?;
            let (new, request) = (making.job_id.clone(), making.request_id.clone());
            let made = decide::retry(job, new, request, &making.template, making.now)?;
            let mut changes = made.changes;
            changes.extend(making.idempotency.clone().map(Change::RecordIdempotency));
            let reply = Made { job_id: made.reply, replayed: false };
            Ok(Decision { changes, events: made.events, reply })
        };
        Ok(self.store.transact("retry_job", scope, decide).await?.reply)
    }
}

/// Whether what the job worked on can still take one.
fn can_repeat(job: &Job, snapshot: &Snapshot) -> Result<(), Refusal> {
    if job.environment_id.is_none() {
        return Ok(());
    }
    let Some(environment) = &snapshot.environment else {
        let message = "the job's environment is gone";
        return Err(Refusal::new(RefusalKind::Conflict, "ENVIRONMENT_GONE", message));
    };
    let removal = job.job_type == JobType::EnvDelete;
    if removal && environment.state == EnvironmentState::Deleting {
        return match snapshot.host.as_ref().map(|host| host.state) {
            Some(HostState::Revoked) => {
                let message = "its host is revoked, so nobody would run it; delete the \
                     environment again instead: on a revoked host it is gone at once";
                Err(Refusal::new(RefusalKind::Conflict, "HOST_REVOKED", message))
            }
            Some(HostState::Enrolled) | None => Ok(()),
        };
    }
    if environment.host_id != job.host_id {
        let message = "the environment has moved to another host since; ask for a new job instead";
        return Err(Refusal::new(RefusalKind::Conflict, "ENVIRONMENT_MOVED", message));
    }
    enqueue::usable(environment, snapshot.host.as_ref())
}

fn wait(kind: WaitKind, message: impl Into<String>) -> WaitsFor {
    WaitsFor { kind, message: message.into(), job_id: None, host_id: None, until: None }
}

fn person(job: &Job) -> WaitsFor {
    let why = job.reason.as_deref().unwrap_or("held");
    wait(WaitKind::Person, format!("a person has to release or cancel it ({why})"))
}

fn time_wait(job: &Job, now: Micros) -> Option<WaitsFor> {
    job.waits_for_retry(now).then(|| WaitsFor {
        until: Some(view::time(job.run_after)),
        ..wait(WaitKind::Time, "the next attempt comes after a pause")
    })
}
