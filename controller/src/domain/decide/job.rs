//! Jobs as people and other decisions see them: made, cancelled, superseded, retried, released.
//! How an attempt's outcome moves a job is in [`super::settle`].

use hostler_protocol::id::{EnvironmentId, HostId, JobId, RequestId, SiteId, StackId};
use hostler_protocol::job::{Code, Executor, JobError, JobType};
use serde_json::json;

use crate::domain::job::{JobEvent, reason};
use crate::domain::template::LaneKind;
use crate::domain::{
    Change, Decision, Environment, EventKind, Host, Job, JobState, Lane, Micros, NewEvent, NewJob,
    Refusal, RefusalKind, Subject, Template,
};

/// What a new job is about.
#[derive(Debug, Clone)]
pub struct JobInput {
    pub id: JobId,
    pub host_id: HostId,
    pub site_id: Option<SiteId>,
    pub environment_id: Option<EnvironmentId>,
    pub stack_id: Option<StackId>,
    /// What was asked, as a JSON object.
    pub request: serde_json::Value,
    pub request_id: Option<RequestId>,
    pub retry_of: Option<JobId>,
    pub parent_id: Option<JobId>,
    /// The executor the environment chooses.
    pub executor: Option<Executor>,
}

/// A queued job that follows its template, with the lane its template names.
#[must_use]
pub fn new_job(input: JobInput, template: &Template, now: Micros) -> NewJob {
    let of_stack = input.stack_id.as_ref().map(|stack| Lane::stack(stack, &input.host_id));
    let lanes = match (&input.environment_id, template.lane) {
        (Some(environment), LaneKind::Environment) => vec![Lane::environment(environment)],
        (Some(environment), LaneKind::Warm) => vec![Lane::warm(environment)],
        (Some(environment), LaneKind::All) => {
            vec![Lane::environment(environment), Lane::warm(environment)]
        }
        (None, LaneKind::Stack) => of_stack.into_iter().collect(),
        (Some(_), LaneKind::None | LaneKind::Stack) | (None, _) => Vec::new(),
    };
    let job = Job {
        id: input.id,
        position: 0,
        job_type: template.job_type,
        template: template.reference(),
        host_id: input.host_id,
        site_id: input.site_id,
        environment_id: input.environment_id,
        stack_id: input.stack_id,
        state: JobState::Queued,
        reason: None,
        priority: template.priority,
        may_pass_waiting: template.may_pass_waiting,
        request: input.request,
        attempt: 0,
        failures: 0,
        crashes: 0,
        timeout_secs: template.timeout_secs,
        run_after: now,
        expires_at: now.plus_secs(template.ttl_secs),
        created_at: now,
        started_at: None,
        accepted_at: None,
        cancel_requested_at: None,
        finished_at: None,
        lease: 0,
        outcome: None,
        request_id: input.request_id,
        retry_of: input.retry_of,
        parent_id: input.parent_id,
        executor: input.executor,
    };
    NewJob { job, lanes }
}

/// The event of a job that has just been queued.
#[must_use]
pub fn queued_event(job: &Job, now: Micros) -> NewEvent {
    let mut document = json!({ "type": job.job_type.as_str() });
    if let Some(parent) = &job.parent_id {
        document["parent_id"] = parent.as_str().into();
    }
    event(job, EventKind::JobQueued, document, now)
}

/// An event about a job, naming all it belongs to.
#[must_use]
pub fn event(job: &Job, kind: EventKind, document: serde_json::Value, at: Micros) -> NewEvent {
    NewEvent {
        at,
        kind,
        subject: Subject {
            site: job.site_id.clone(),
            environment: job.environment_id.clone(),
            stack: job.stack_id.clone(),
            host: Some(job.host_id.clone()),
            job: Some(job.id.clone()),
        },
        document,
    }
}

/// Ends a job that has not ended, without its host having a say (superseded, its environment
/// deleted, its host revoked, a queued one cancelled). `None` if it has ended already.
#[must_use]
pub fn end(job: &Job, why: &str, now: Micros) -> Option<(Change, NewEvent)> {
    let state = job.state.apply(JobEvent::Cancel)?;
    let mut ended = job.clone();
    ended.state = state;
    ended.reason = Some(why.to_owned());
    ended.finished_at = Some(now);
    let told = event(&ended, EventKind::JobCancelled, json!({ "reason": why }), now);
    Some((update(job, ended), told))
}

/// Cancels a job: at once while it waits, through its host while it runs. A completion that is
/// already on its way wins, and the job then says `succeeded`.
///
/// # Errors
/// `JOB_ENDED` when there is nothing left to cancel.
pub fn cancel(job: &Job, now: Micros) -> Result<Decision<Job>, Refusal> {
    match job.state {
        JobState::Queued | JobState::Held => {
            let (change, told) = end(job, reason::CANCELLED, now).ok_or_else(|| ended(job))?;
            let reply = updated(&change, job);
            Ok(Decision { changes: vec![change], events: vec![told], reply })
        }
        JobState::Running if job.cancel_requested_at.is_some() => {
            Ok(Decision { changes: Vec::new(), events: Vec::new(), reply: job.clone() })
        }
        JobState::Running => {
            let mut asked = job.clone();
            asked.cancel_requested_at = Some(now);
            let told = event(job, EventKind::JobCancelRequested, json!({}), now);
            let reply = asked.clone();
            Ok(Decision { changes: vec![update(job, asked)], events: vec![told], reply })
        }
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => Err(ended(job)),
    }
}

/// Gives a job up, whatever became of it: as [`cancel`] while it waits; while its attempt is
/// unknown it ends here and now, and what its host may still say of it is kept and never applied.
/// A toggle given up leaves nobody knowing what is applied.
///
/// # Errors
/// `JOB_ENDED`; `JOB_NOT_UNKNOWN` while its host can still tell how it went.
pub fn abandon(
    job: &Job,
    environment: Option<&Environment>,
    host: Option<&Host>,
    now: Micros,
) -> Result<Decision<Job>, Refusal> {
    if job.state != JobState::Running {
        return cancel(job, now);
    }
    let unknown = job.reason.as_deref() == Some(reason::UNKNOWN);
    if !unknown || host.is_some_and(|host| host.connected) {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            "JOB_NOT_UNKNOWN",
            "the job's host is connected, or was until a moment ago, and can still tell how the \
             job went: cancel it without force; once the job's reason is UNKNOWN it can be given up",
        ));
    }
    let (change, told) = end(job, reason::ABANDONED, now).ok_or_else(|| ended(job))?;
    let reply = updated(&change, job);
    let (mut changes, mut events) = (vec![change], vec![told]);
    if let (JobType::EnvCacheToggle, Some(environment)) = (job.job_type, environment) {
        let (change, told) = nobody_knows(job, environment, "its host was away", now);
        changes.push(change);
        events.push(told);
    }
    Ok(Decision { changes, events, reply })
}

/// The environment whose toggle may have been applied, or not: it was given up while something was so.
pub(super) fn nobody_knows(
    job: &Job,
    environment: &Environment,
    while_what: &str,
    now: Micros,
) -> (Change, NewEvent) {
    let message = format!(
        "job {} was given up while {while_what}: it may have switched this cache or not",
        job.id
    );
    let error = serde_json::to_value(JobError::new(Code::Abandoned, message)).ok();
    let mut after = environment.clone();
    for flag in [after.fastcgi.as_mut(), after.redis.as_mut()].into_iter().flatten() {
        flag.applied = None;
        flag.last_error.clone_from(&error);
    }
    after.version += 1;
    after.updated_at = now;
    let mut about = event(job, EventKind::EnvironmentChanged, json!({}), now);
    about.subject.job = None;
    (Change::UpdateEnvironment(Box::new(after)), about)
}

/// Lets a held job go: it is queued again, with its counters of crashes started anew.
///
/// # Errors
/// `JOB_NOT_HELD` in any other state.
pub fn release(job: &Job, now: Micros) -> Result<Decision<Job>, Refusal> {
    if job.state != JobState::Held {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            "JOB_NOT_HELD",
            format!("the job is {}; only a held job can be released", job.state.as_str()),
        ));
    }
    let mut released = job.clone();
    released.state = JobState::Queued;
    released.reason = None;
    released.crashes = 0;
    released.run_after = now;
    let told = event(&released, EventKind::JobReleased, json!({}), now);
    let reply = released.clone();
    Ok(Decision { changes: vec![update(job, released)], events: vec![told], reply })
}

/// Repeats an ended job as a new one that names it.
///
/// # Errors
/// `JOB_NOT_ENDED` while the first still waits or runs; `STACK_JOB` for one about a stack.
pub fn retry(
    job: &Job,
    id: JobId,
    request_id: Option<RequestId>,
    template: &Template,
    now: Micros,
) -> Result<Decision<JobId>, Refusal> {
    if !job.state.is_ended() {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            "JOB_NOT_ENDED",
            format!("the job is still {}; only an ended job can be retried", job.state.as_str()),
        ));
    }
    if job.stack_id.is_some() {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            "STACK_JOB",
            "a stack's job says what was wanted then, and is not repeated: ask for a sync of the stack, \
             or roll it back to that job",
        ));
    }
    let input = JobInput {
        id: id.clone(),
        host_id: job.host_id.clone(),
        site_id: job.site_id.clone(),
        environment_id: job.environment_id.clone(),
        stack_id: None,
        request: job.request.clone(),
        request_id,
        retry_of: Some(job.id.clone()),
        parent_id: job.parent_id.clone(),
        executor: job.executor,
    };
    let new = new_job(input, template, now);
    let told = queued_event(&new.job, now);
    Ok(Decision { changes: vec![Change::EnqueueJob(Box::new(new))], events: vec![told], reply: id })
}

/// The change that writes `after` where `before` stood.
#[must_use]
pub fn update(before: &Job, after: Job) -> Change {
    Change::UpdateJob { job: Box::new(after), was: (before.state, before.attempt) }
}

fn updated(change: &Change, otherwise: &Job) -> Job {
    if let Change::UpdateJob { job, .. } = change { (**job).clone() } else { otherwise.clone() }
}

fn ended(job: &Job) -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        "JOB_ENDED",
        format!("the job has already ended ({})", job.state.as_str()),
    )
}
