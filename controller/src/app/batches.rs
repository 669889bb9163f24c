//! Batches: made (or only shown), carried on, looked at, cancelled.

use futures_util::StreamExt as _;
use hostler_protocol::id::{BatchId, JobId};
use hostler_protocol::job::{Code, JobType};

use super::asked::Asked;
use super::batch_targets::{Fleet, select};
use super::batch_view as view;
use super::caches::{flags_asked, purge_asked};
use super::{App, AppError};
use crate::domain::batch::CONCURRENCY_DEFAULT;
use crate::domain::decide::batch::{self, MadeBatch, Next};
use crate::domain::decide::enqueue::{Making, missing, nothing};
use crate::domain::validate::Problems;
use crate::domain::{
    Batch, BatchAction, BatchOptions, BatchState, Environment, Host, Refusal, RefusalKind, Scope,
    Snapshot, Target, TargetState,
};
use crate::store::{Page, StoreError, TransactError};
use crate::views;

/// Jobs of one batch queued at once: each is a unit of its own, and units share their commits.
const STARTS_AT_ONCE: usize = 64;

/// What a batch would do, or the batch that does it.
#[derive(Debug)]
pub enum BatchAnswer {
    Plan(views::BatchPlan),
    Made(MadeBatch),
}

/// A target that was chosen, and why it could not take the job now.
struct Chosen<'f> {
    environment: &'f Environment,
    host: Option<&'f Host>,
    refusal: Option<Refusal>,
}

impl App {
    /// Makes a batch, or with `dry_run` says what it would do. Nothing is refused because a host is
    /// away; what can be known to be wrong with the request for every target is.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `KEY_REUSED`; the refusal of the targets if no single one can take the
    /// job.
    pub async fn create_batch(
        &self,
        asked: &Asked,
        request: views::CreateBatch,
    ) -> Result<BatchAnswer, AppError> {
        let dry_run = request.dry_run.unwrap_or(false);
        if !dry_run && let Some(known) = self.made_before(asked).await? {
            return Ok(BatchAnswer::Made(known));
        }
        let fleet = self.fleet().await?;
        let mut problems = Problems::default();
        let meant = select(&fleet, &request.targets, &mut problems);
        let (action, options) = (action(request.action.clone()), options(&request));
        batch::check_options(&options, meant.len(), &mut problems);
        problems.finish()?;
        let mut chosen = self.probe(&fleet, meant, &action, asked)?;
        if let Some(refusal) = nobody_can(&chosen) {
            return Err(refusal.into());
        }
        canaries_first(&mut chosen, options.canary);
        let targets: Vec<Target> = chosen.iter().enumerate().map(target).collect();
        if dry_run {
            let refusals = chosen.iter().map(|one| one.refusal.clone()).collect::<Vec<_>>();
            let connected = chosen.iter().map(|one| one.host.is_some_and(|host| host.connected));
            return Ok(BatchAnswer::Plan(view::plan(
                &options,
                targets.into_iter().zip(connected.zip(refusals)),
            )));
        }
        let idempotency = asked.idempotency.as_ref();
        let made = Batch {
            id: self.clock.new_batch_id()?,
            state: BatchState::Running,
            reason: None,
            action,
            options,
            principal: asked.principal.clone(),
            idempotency: idempotency.map(|known| (known.key.clone(), known.request_sha256.clone())),
            request_id: Some(asked.request_id.clone()),
            created_at: self.clock.now(),
            stopped_at: None,
            finished_at: None,
        };
        let scope = Scope { batch_keyed: asked.scope(), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| batch::create(snapshot, &made, &targets);
        Ok(BatchAnswer::Made(self.store.transact("create_batch", scope, decide).await?.reply))
    }

    /// The batch this request made when it came before. Looked for first: what the request means
    /// may be something else by now, or nothing.
    async fn made_before(&self, asked: &Asked) -> Result<Option<MadeBatch>, AppError> {
        let Some(known) = &asked.idempotency else { return Ok(None) };
        let sha256 = known.request_sha256.clone();
        let scope = Scope { batch_keyed: asked.scope(), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| batch::replay(snapshot, &sha256).map(nothing);
        Ok(self.store.transact("replay_batch", scope, decide).await?.reply)
    }

    /// Asks of each environment whether it could take the job now.
    fn probe<'f>(
        &self,
        fleet: &'f Fleet,
        meant: Vec<&'f Environment>,
        action: &BatchAction,
        asked: &Asked,
    ) -> Result<Vec<Chosen<'f>>, AppError> {
        let nobody = Asked { idempotency: None, ..asked.clone() };
        let making = self.making(&nobody, job_type(action))?;
        let probe = |environment: &'f Environment| {
            let host = fleet.hosts.get(&environment.host_id);
            let snapshot = Snapshot {
                environment: Some(environment.clone()),
                host: host.cloned(),
                ..Snapshot::default()
            };
            let refusal = batch::job_of(&snapshot, environment, action, &making).err();
            Chosen { environment, host, refusal }
        };
        Ok(meant.into_iter().map(probe).collect())
    }

    /// Carries on every batch that has not ended; `true` if there is one. Doing it twice, or in two
    /// places at once, does no harm. One that cannot be carried on keeps no other waiting.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; the next look does what this one could not.
    pub async fn advance_batches(&self) -> Result<bool, AppError> {
        let open = self.store.open_batches().await?;
        for id in &open {
            match self.advance_batch(id).await {
                Ok(()) => {}
                Err(AppError::Store(error)) if !error.is_temporary() => tracing::error!(
                    batch.id = %id,
                    error = &error as &dyn std::error::Error,
                    "a batch cannot be carried on"
                ),
                Err(error) => return Err(error),
            }
        }
        Ok(!open.is_empty())
    }

    async fn advance_batch(&self, id: &BatchId) -> Result<(), AppError> {
        let now = self.clock.now();
        let scope = Scope { batch: Some(id.clone()), batch_seen: true, ..Scope::default() };
        let decide = move |snapshot: &Snapshot| {
            let known = snapshot.batch.as_ref();
            Ok(known.map_or_else(
                || nothing((None, Next::default())),
                |known| {
                    let decided = batch::advance(known, &snapshot.batch_seen, now);
                    crate::domain::Decision {
                        changes: decided.changes,
                        events: decided.events,
                        reply: (Some(job_type(&known.action)), decided.reply),
                    }
                },
            ))
        };
        let (job_type, next) = self.store.transact("advance_batch", scope, decide).await?.reply;
        let Some(job_type) = job_type else { return Ok(()) };
        let mut starts = futures_util::stream::iter(next.start)
            .map(|target| self.start_target(id, target, job_type))
            .buffer_unordered(STARTS_AT_ONCE);
        let mut unreadable = Vec::new();
        while let Some(started) = starts.next().await {
            unreadable.extend(started?);
        }
        for (place, what) in unreadable {
            self.refuse_target(id, place, &what).await?;
        }
        for job in next.take_back.into_iter().filter_map(|target| target.job) {
            let scope = Scope { job: Some(job), ..Scope::default() };
            let decide = move |snapshot: &Snapshot| batch::take_back(snapshot, now);
            self.store.transact("take_back", scope, decide).await?;
        }
        for job in next.cancel.into_iter().filter_map(|target| target.job) {
            self.cancel_quietly(job).await?;
        }
        Ok(())
    }

    /// Queues a target's job; the target's place and what there is about it that cannot be read.
    async fn start_target(
        &self,
        id: &BatchId,
        target: Target,
        job_type: JobType,
    ) -> Result<Option<(u32, String)>, AppError> {
        let making = self.making_for(job_type)?;
        let place = target.place;
        let scope = Scope {
            batch: Some(id.clone()),
            batch_target: Some(place),
            environment: Some(target.environment),
            ..Scope::default()
        };
        let decide = move |snapshot: &Snapshot| batch::start(snapshot, &making);
        match self.store.transact("start_target", scope, decide).await {
            Ok(_) => Ok(None),
            Err(TransactError::Store(StoreError::Unreadable { what, .. })) => {
                Ok(Some((place, what)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that what is to be read for a target cannot be: it will be no more readable the next
    /// time, and the others are none the worse.
    async fn refuse_target(&self, id: &BatchId, place: u32, what: &str) -> Result<(), AppError> {
        let message = format!("the database holds {what}, which cannot be read");
        let scope =
            Scope { batch: Some(id.clone()), batch_target: Some(place), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| {
            Ok(batch::refuse(snapshot, Code::Undecodable.as_str(), message.clone()))
        };
        self.store.transact("refuse_target", scope, decide).await?;
        Ok(())
    }

    fn making_for(&self, job_type: JobType) -> Result<Making, AppError> {
        let template = self.templates.for_type(job_type).as_ref().clone();
        let (job_id, now) = (self.clock.new_job_id()?, self.clock.now());
        Ok(Making { job_id, request_id: None, template, idempotency: None, now })
    }

    /// One page of batches, newest first.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_batches(
        &self,
        state: Option<BatchState>,
        page: &Page,
    ) -> Result<views::BatchPage, AppError> {
        let (found, next) = self.store.batches(state, page).await?;
        let mut items = Vec::with_capacity(found.len());
        for batch in found {
            let seen = self.store.batch_seen(&batch.id).await?;
            items.push(view::batch(batch, &seen));
        }
        Ok(views::BatchPage { items, next })
    }

    /// One batch: how many of its targets stand how, and who did not answer.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_batch(&self, id: &BatchId) -> Result<views::Batch, AppError> {
        let batch = self.store.batch(id).await?.ok_or_else(|| missing("batch", id))?;
        let seen = self.store.batch_seen(id).await?;
        Ok(view::batch(batch, &seen))
    }

    /// One page of a batch's targets, in the order they are taken up.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn list_targets(
        &self,
        id: &BatchId,
        from: u32,
        limit: u32,
    ) -> Result<views::BatchTargetPage, AppError> {
        let batch = self.store.batch(id).await?.ok_or_else(|| missing("batch", id))?;
        let mut seen = self.store.batch_targets(id, from, limit.saturating_add(1)).await?;
        let more = seen.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        seen.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = seen.last().filter(|_| more).map(|last| last.target.place + 1);
        let items = seen.into_iter().map(|one| view::target(&batch, one)).collect();
        Ok(views::BatchTargetPage { items, next })
    }

    /// Cancels a batch, and every job of it that has not ended.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BATCH_ENDED`.
    pub async fn cancel_batch(&self, id: BatchId) -> Result<views::Batch, AppError> {
        let now = self.clock.now();
        let scope = Scope { batch: Some(id.clone()), ..Scope::default() };
        let asked = id.clone();
        let decide = move |snapshot: &Snapshot| batch::cancel(snapshot, &asked, now);
        self.store.transact("cancel_batch", scope, decide).await?;
        // Once to cancel its jobs (what is left undone here, the loop does), once to note their ends.
        self.advance_batch(&id).await?;
        self.advance_batch(&id).await?;
        self.show_batch(&id).await
    }

    /// Cancels a job, unless it has ended meanwhile.
    async fn cancel_quietly(&self, job: JobId) -> Result<(), AppError> {
        match self.cancel_job(job).await {
            Err(AppError::Refused(refusal)) if refusal.code == "JOB_ENDED" => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// The job type an action's jobs are of.
fn job_type(action: &BatchAction) -> JobType {
    match action {
        BatchAction::Check => JobType::EnvCheck,
        BatchAction::SetCaches(_) | BatchAction::Reconcile => JobType::EnvCacheToggle,
        BatchAction::Purge(_) => JobType::CachePurge,
        BatchAction::Warm { .. } => JobType::CacheWarm,
    }
}

fn action(asked: views::BatchAction) -> BatchAction {
    match asked {
        views::BatchAction::EnvCheck => BatchAction::Check,
        views::BatchAction::CacheSet(flags) => BatchAction::SetCaches(flags_asked(&flags)),
        views::BatchAction::CacheReconcile => BatchAction::Reconcile,
        views::BatchAction::CachePurge(what) => BatchAction::Purge(Box::new(purge_asked(*what))),
        views::BatchAction::CacheWarm(what) => BatchAction::Warm { urls: what.urls },
    }
}

fn options(request: &views::CreateBatch) -> BatchOptions {
    BatchOptions {
        concurrency: request.concurrency.unwrap_or(CONCURRENCY_DEFAULT),
        batch_size: request.batch_size,
        canary: request.canary.unwrap_or(0),
        failures_max: request.failures_max,
        answer_within_secs: request.answer_within_secs,
    }
}

/// What is wrong with the request, if it is wrong for every target alike.
fn nobody_can(chosen: &[Chosen<'_>]) -> Option<Refusal> {
    let first = chosen.first()?.refusal.clone()?;
    if chosen.iter().any(|one| one.refusal.is_none()) {
        return None;
    }
    let place = |(pointer, detail): (String, String)| (format!("/action/request{pointer}"), detail);
    let fields = match first.kind {
        RefusalKind::Invalid => first.fields.into_iter().map(place).collect(),
        RefusalKind::NotFound
        | RefusalKind::Conflict
        | RefusalKind::KeyReused
        | RefusalKind::Denied => first.fields,
    };
    let named = &chosen.first()?.environment.doc;
    let name = format!("{}/{}", named.site, named.name);
    let message = match chosen.len() {
        1 => format!("{name} cannot take this job: {}", first.message),
        all => {
            format!(
                "none of the {all} environments can take this job; of {name}: {}",
                first.message
            )
        }
    };
    Some(Refusal { message, fields, ..first })
}

/// Canaries are to answer: those that can take the job on a host that is connected come first.
fn canaries_first(chosen: &mut [Chosen<'_>], canary: u32) {
    if canary > 0 {
        let ready =
            |one: &Chosen<'_>| one.refusal.is_none() && one.host.is_some_and(|host| host.connected);
        chosen.sort_by_key(|one| !ready(one));
    }
}

fn target((place, chosen): (usize, &Chosen<'_>)) -> Target {
    let doc = &chosen.environment.doc;
    Target {
        place: u32::try_from(place).unwrap_or(u32::MAX),
        environment: chosen.environment.id.clone(),
        host: chosen.environment.host_id.clone(),
        name: format!("{}/{}", doc.site, doc.name),
        host_name: chosen.host.map(|host| host.name.clone()).unwrap_or_default(),
        state: TargetState::Pending,
        reason: None,
        message: None,
        job: None,
    }
}
