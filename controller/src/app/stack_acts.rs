//! What a person does about a stack: syncs, plans, suspends, goes back.

use hostler_protocol::id::{HostId, JobId, StackId};
use hostler_protocol::job::{JobType, StackSyncSpec};

use super::{App, AppError, Asked, Told};
use crate::domain::decide::enqueue::{key_reused, missing, nothing};
use crate::domain::decide::stack::{
    self as decide, Place, Removing, Wish, Wished, trouble, wanted,
};
use crate::domain::desired::{Stack, StackProblem};
use crate::domain::{
    Answered, Decision, JobState, Refusal, RefusalKind, Scope, Snapshot, StackJob,
};
use crate::views;

/// A stack, and what is known of the request.
fn stack_scope(id: &StackId, asked: &Asked) -> Scope {
    Scope { stack: Some(id.clone()), idempotency: asked.scope(), ..Scope::default() }
}

fn broken(stack: &Stack, why: &str) -> Refusal {
    let message = format!("{} cannot be synced as it stands: {why}", stack.path);
    Refusal::new(RefusalKind::Conflict, "STACK_BROKEN", message)
}

/// The jobs an earlier request queued.
fn jobs_again(answered: &Answered) -> Result<Told<views::StackJobs>, AppError> {
    match answered {
        Answered::StackJobs(jobs) => {
            let shown = |one: &StackJob| views::StackJob {
                host: one.name.clone(),
                host_id: one.host.clone().into(),
                job_id: one.job.clone().into(),
            };
            let what = views::StackJobs { jobs: jobs.iter().map(shown).collect() };
            Ok(Told { what, replayed: true })
        }
        Answered::Job(_) | Answered::Stack(_) | Answered::Refresh(_) => Err(key_reused().into()),
    }
}

impl App {
    /// Leaves a stack alone from now on, or goes on with it.
    ///
    /// # Errors
    /// `NOT_FOUND`, `KEY_REUSED`.
    pub async fn suspend_stack(
        &self,
        id: StackId,
        asked: &Asked,
        suspended: bool,
    ) -> Result<Told<views::Stack>, AppError> {
        let now = self.clock.now();
        let which = id.clone();
        let decide =
            move |snapshot: &Snapshot| decide::set_suspended(snapshot, &which, suspended, now);
        self.change_stack("suspend_stack", id, asked, decide).await
    }

    /// Changes something of a stack, unless the same request did so before; the stack as it is now.
    pub(super) async fn change_stack<T: 'static>(
        &self,
        name: &'static str,
        id: StackId,
        asked: &Asked,
        decide: impl Fn(&Snapshot) -> Result<Decision<T>, Refusal> + Send + Sync + 'static,
    ) -> Result<Told<views::Stack>, AppError> {
        let scope = stack_scope(&id, asked);
        let (which, asked, now) = (id.clone(), asked.clone(), self.clock.now());
        let decide = move |snapshot: &Snapshot| {
            if asked.answered(snapshot.idempotency.as_ref())?.is_some() {
                return Ok(nothing(true));
            }
            let Decision { mut changes, events, reply: _ } = decide(snapshot)?;
            changes.extend(asked.remember(Answered::Stack(which.clone()), now));
            Ok(Decision { changes, events, reply: false })
        };
        let replayed = self.store.transact(name, scope, decide).await?.reply;
        Ok(Told { what: self.show_stack(&id).await?, replayed })
    }

    /// Queues a sync on each host that is meant, or its removal where that is asked for.
    ///
    /// # Errors
    /// As [`decide::sync_now`] or [`decide::remove_now`]; `INVALID_REQUEST`.
    pub async fn sync_stack(
        &self,
        id: StackId,
        asked: &Asked,
        what: views::SyncStack,
    ) -> Result<Told<views::StackJobs>, AppError> {
        if what.remove {
            if what.force || what.adopt {
                let message = "`remove` takes a stack down: `force` and `adopt` are about syncs";
                let mut refusal = Refusal::new(RefusalKind::Invalid, "INVALID_REQUEST", message);
                refusal.fields.push(("/remove".to_owned(), "not together with others".to_owned()));
                return Err(refusal.into());
            }
            return self.remove_stack(id, asked, what.hosts).await;
        }
        let wish = Wish::Sync { force: what.force, adopt: what.adopt };
        self.wish(id, asked, wish, what.hosts).await
    }

    /// Takes a stack down where it is to go, whatever its removal waits for.
    async fn remove_stack(
        &self,
        id: StackId,
        asked: &Asked,
        hosts: Option<Vec<String>>,
    ) -> Result<Told<views::StackJobs>, AppError> {
        if let Some(known) = self.answered(asked).await? {
            return jobs_again(&known);
        }
        let removing = Removing {
            stack: id.clone(),
            hosts: self.hosts_named(hosts).await?,
            job_ids: self.job_ids(self.store.stack_hosts(Some(&id)).await?.len())?,
            template: self.templates.for_type(JobType::StackDown).as_ref().clone(),
            request_id: Some(asked.request_id.clone()),
            now: self.clock.now(),
        };
        let places = self.store.places().await?;
        let decide = move |snapshot: &Snapshot| decide::remove_now(snapshot, &removing);
        self.queue("remove_stack", &id, asked, places, decide).await
    }

    /// Asks each host that is meant what a sync would do.
    ///
    /// # Errors
    /// As [`decide::sync_now`].
    pub async fn plan_stack(
        &self,
        id: StackId,
        asked: &Asked,
        what: views::PlanStack,
    ) -> Result<Told<views::StackJobs>, AppError> {
        self.wish(id, asked, Wish::Plan, what.hosts).await
    }

    /// Goes back, on one host, to what an earlier job synced there; the stack is suspended by it.
    ///
    /// # Errors
    /// `NOT_FOUND`; `NOT_A_SYNC` for a job that did not sync this stack; as [`decide::sync_now`].
    pub async fn roll_back_stack(
        &self,
        id: StackId,
        asked: &Asked,
        what: views::RollBackStack,
    ) -> Result<Told<views::StackJobs>, AppError> {
        if let Some(known) = self.answered(asked).await? {
            return jobs_again(&known);
        }
        let unknown = || missing("job", &what.job_id);
        let job: JobId = what.job_id.parse().map_err(|_| unknown())?;
        let job = self.store.job(&job).await?.ok_or_else(unknown)?;
        let spec = job.request.get("spec").cloned().unwrap_or_default();
        let spec = serde_json::from_value::<StackSyncSpec>(spec).ok();
        let of_stack = job.stack_id.as_ref() == Some(&id)
            && job.job_type == JobType::StackSync
            && job.state == JobState::Succeeded;
        let Some(to) = spec.filter(|_| of_stack) else {
            let message = "name a sync of this stack that succeeded (`hostler job list --stack`)";
            return Err(Refusal::new(RefusalKind::Conflict, "NOT_A_SYNC", message).into());
        };
        let text = |name: &str| job.request.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let wish = Wish::Back {
            to: Box::new(to),
            revision: text("revision").unwrap_or_default(),
            compose_hash: text("compose_hash"),
        };
        self.wish(id, asked, wish, Some(vec![job.host_id.into()])).await
    }

    /// The hosts of these names, where names are given.
    pub(super) async fn hosts_named(
        &self,
        names: Option<Vec<String>>,
    ) -> Result<Option<Vec<HostId>>, AppError> {
        let Some(names) = names else { return Ok(None) };
        if names.is_empty() {
            let message = "name a host, or leave `hosts` out for all of them";
            let mut refusal = Refusal::new(RefusalKind::Invalid, "INVALID_REQUEST", message);
            refusal.fields.push(("/hosts".to_owned(), message.to_owned()));
            return Err(refusal.into());
        }
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let host = self.named_host(&name).await?;
            found.push(host.ok_or_else(|| missing("host", &name))?.id);
        }
        found.sort();
        found.dedup();
        Ok(Some(found))
    }

    async fn wish(
        &self,
        id: StackId,
        asked: &Asked,
        wish: Wish,
        hosts: Option<Vec<String>>,
    ) -> Result<Told<views::StackJobs>, AppError> {
        if let Some(known) = self.answered(asked).await? {
            return jobs_again(&known);
        }
        let stack = self.store.stack(&id).await?.ok_or_else(|| missing("stack", &id))?;
        let places = self.store.places().await?;
        if wish != Wish::Plan {
            let near = self.store.overview_of(std::slice::from_ref(&stack), places.clone()).await?;
            if let Some(StackProblem { code, message }) = trouble(&near).remove(&id) {
                return Err(broken(&stack, &format!("{message} ({code})")).into());
            }
        }
        let wanted = wanted(&stack, &places);
        let hosts = self.hosts_named(hosts).await?;
        let bundle = match wish {
            Wish::Back { .. } => None,
            Wish::Sync { .. } | Wish::Plan => self.made_bundle(&stack).await?,
        };
        let refused = stack.facts.bundle_digest.as_deref().and_then(|d| self.desired.refusal(d));
        if let (Some(why), Wish::Sync { .. } | Wish::Plan) = (refused, &wish) {
            return Err(broken(&stack, &why.message).into());
        }
        let job_type = if wish == Wish::Plan { JobType::StackPlan } else { JobType::StackSync };
        let wished = Wished {
            stack: id.clone(),
            wish,
            job_ids: self.job_ids(hosts.as_ref().map_or(wanted.len(), Vec::len))?,
            hosts,
            wanted,
            bundle,
            template: self.templates.for_type(job_type).as_ref().clone(),
            request_id: Some(asked.request_id.clone()),
            now: self.clock.now(),
        };
        let decide = move |snapshot: &Snapshot| decide::sync_now(snapshot, &wished);
        self.queue("wish_stack", &id, asked, places, decide).await
    }

    /// Queues jobs, unless the same request did so before.
    async fn queue(
        &self,
        name: &'static str,
        id: &StackId,
        asked: &Asked,
        places: Vec<Place>,
        decide: impl Fn(&Snapshot) -> Result<Decision<Vec<(HostId, JobId)>>, Refusal>
        + Send
        + Sync
        + 'static,
    ) -> Result<Told<views::StackJobs>, AppError> {
        let scope = stack_scope(id, asked);
        let (asked, now) = (asked.clone(), self.clock.now());
        let decide = move |snapshot: &Snapshot| {
            if let Some(known) = asked.answered(snapshot.idempotency.as_ref())? {
                return Ok(nothing((known.clone(), true)));
            }
            let Decision { mut changes, events, reply } = decide(snapshot)?;
            let named = |(host, job): (HostId, JobId)| {
                let place = places.iter().find(|place| place.host == host);
                let name = place.map_or_else(|| host.to_string(), |place| place.name.clone());
                StackJob { host, name, job }
            };
            let answered = Answered::StackJobs(reply.into_iter().map(named).collect());
            changes.extend(asked.remember(answered.clone(), now));
            Ok(Decision { changes, events, reply: (answered, false) })
        };
        let (answered, replayed) = self.store.transact(name, scope, decide).await?.reply;
        Ok(Told { replayed, ..jobs_again(&answered)? })
    }
}
