//! Environments: created, changed, checked, deleted.

use hostler_protocol::id::{EnvironmentId, HostId, SiteId};
use hostler_protocol::job::{Code, EnvironmentDoc, JobType};
use serde_json::json;

use super::draft::{self, Draft};
use super::enqueue::{Made, Making, enqueue, missing, nothing, ready, replay};
use super::job::{cancel, end};
use crate::domain::environment::EnvironmentEvent;
use crate::domain::job::reason;
use crate::domain::label::{self, Labels};
use crate::domain::validate::{self, overlap, redis};
use crate::domain::{
    Answered, CacheFlag, Change, Decision, Environment, EnvironmentState, EventKind, Host,
    HostState, Job, JobState, Micros, NewEvent, Refusal, RefusalKind, Snapshot, Subject,
};

fn about(environment: &Environment, kind: EventKind, at: Micros) -> NewEvent {
    NewEvent {
        at,
        kind,
        subject: Subject {
            site: Some(environment.site_id.clone()),
            environment: Some(environment.id.clone()),
            host: Some(environment.host_id.clone()),
            job: None,
            stack: None,
        },
        document: json!({ "site": environment.doc.site, "name": environment.doc.name }),
    }
}

fn off() -> CacheFlag {
    CacheFlag { desired: false, applied: None, applied_at: None, last_error: None }
}

/// The Redis server the document names, if other hosts can mean the same one.
#[must_use]
pub fn redis_scope(doc: &EnvironmentDoc) -> Option<String> {
    redis::server(&doc.redis.as_ref()?.url).ok()?.shared_key()
}

/// A new environment of the snapshot's site on the snapshot's host.
///
/// # Errors
/// `NOT_FOUND` for the site, `INVALID_REQUEST` (an unknown host too), `HOST_REVOKED`,
/// `NAME_TAKEN`, `OVERLAP`.
pub fn create(
    snapshot: &Snapshot,
    site_id: &SiteId,
    id: EnvironmentId,
    draft: &Draft,
    now: Micros,
) -> Result<Decision<Environment>, Refusal> {
    let site = snapshot.site.as_ref().ok_or_else(|| missing("site", site_id))?;
    let base = draft::defaults(id, &site.name, draft.name.as_deref().unwrap_or_default());
    let doc = draft::apply(draft, base);
    let host = usable_host(snapshot)?;
    let mut problems = validate::environment::document(&doc);
    let labels = label::apply(&Labels::new(), &draft.labels, "/labels", &mut problems);
    problems.finish()?;
    overlaps(&doc, host, snapshot)?;
    name_taken(&doc, snapshot)?;
    let environment = Environment {
        id: doc.id.clone(),
        site_id: site.id.clone(),
        host_id: host.id.clone(),
        state: EnvironmentState::Active,
        fastcgi: doc.fastcgi.as_ref().map(|_| off()),
        redis: doc.redis.as_ref().map(|_| off()),
        doc,
        labels,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    Ok(Decision {
        events: vec![about(&environment, EventKind::EnvironmentCreated, now)],
        changes: vec![Change::InsertEnvironment(Box::new(environment.clone()))],
        reply: environment,
    })
}

/// The host a request names: it must be there and not revoked.
fn usable_host(snapshot: &Snapshot) -> Result<&Host, Refusal> {
    let host = snapshot.host.as_ref().ok_or_else(|| {
        let mut problems = validate::Problems::default();
        problems.add("/host", "there is no host of this id or name");
        problems.finish().err().unwrap_or_else(|| missing("host", "of this name"))
    })?;
    match host.state {
        HostState::Enrolled => Ok(host),
        HostState::Revoked => Err(Refusal::new(
            RefusalKind::Conflict,
            "HOST_REVOKED",
            format!("the host `{}` is revoked and never comes back", host.name),
        )),
    }
}

fn overlaps(doc: &EnvironmentDoc, host: &Host, snapshot: &Snapshot) -> Result<(), Refusal> {
    let others = snapshot.host_environments.iter().chain(&snapshot.redis_environments);
    overlap::check(doc, &host.id, others)
}

fn name_taken(doc: &EnvironmentDoc, snapshot: &Snapshot) -> Result<(), Refusal> {
    let twin = |other: &&Environment| other.doc.name == doc.name && other.id != doc.id;
    if snapshot.site_environments.iter().find(twin).is_some() {
        let message = format!("the site has an environment named `{}` already", doc.name);
        let mut refusal = Refusal::new(RefusalKind::Conflict, "NAME_TAKEN", message);
        refusal.fields.push(("/name".to_owned(), "taken".to_owned()));
        return Err(refusal);
    }
    Ok(())
}

/// Changes what the draft names. Jobs that wait or run are not disturbed: a job's spec is
/// resolved when it is claimed. `host` is the host asked for, if one was; `gone` a host that is known
/// to be revoked, which is for good: nobody can turn anything off there, so nothing has to be before an
/// environment moves away from it.
///
/// # Errors
/// `NOT_FOUND`, `ENVIRONMENT_DELETING`, `CACHES_ON`, `JOBS_WAITING`, and as [`create`].
pub fn change(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    draft: &Draft,
    host: Option<&HostId>,
    gone: Option<&HostId>,
    now: Micros,
) -> Result<Decision<Environment>, Refusal> {
    let before = snapshot.environment.as_ref().ok_or_else(|| missing("environment", id))?;
    if before.state == EnvironmentState::Deleting {
        let message = "the environment is being deleted";
        return Err(Refusal::new(RefusalKind::Conflict, "ENVIRONMENT_DELETING", message));
    }
    let mut after = before.clone();
    after.doc = draft::apply(draft, before.doc.clone());
    if let Some(host) = host {
        after.host_id = host.clone();
    }
    let host = usable_host(snapshot)?;
    let mut problems = validate::environment::document(&after.doc);
    after.labels = label::apply(&before.labels, &draft.labels, "/labels", &mut problems);
    problems.finish()?;
    overlaps(&after.doc, host, snapshot)?;
    name_taken(&after.doc, snapshot)?;
    if after.host_id == before.host_id || gone != Some(&before.host_id) {
        needs_caches_off(before, &after, toggle_under_way(&snapshot.environment_jobs))?;
    }
    if after.host_id != before.host_id && !snapshot.environment_jobs.is_empty() {
        let message = "jobs of the environment still wait or run on its host; a job never moves \
                       to another host: let them end or cancel them first";
        return Err(Refusal::new(RefusalKind::Conflict, "JOBS_WAITING", message));
    }
    // What was proven was proven on the old host.
    let proven = after.host_id == before.host_id;
    let flag = |before: &Option<CacheFlag>| before.clone().filter(|_| proven);
    after.fastcgi = flag_after(after.doc.fastcgi.is_some(), flag(&before.fastcgi));
    after.redis = flag_after(after.doc.redis.is_some(), flag(&before.redis));
    if after == *before {
        return Ok(nothing(after));
    }
    after.version += 1;
    after.updated_at = now;
    Ok(Decision {
        events: vec![about(&after, EventKind::EnvironmentChanged, now)],
        changes: vec![Change::UpdateEnvironment(Box::new(after.clone()))],
        reply: after,
    })
}

fn flag_after(present: bool, before: Option<CacheFlag>) -> Option<CacheFlag> {
    present.then(|| before.unwrap_or_else(off))
}

/// Whether a cache may be on: one whose last toggle could not be put back may be either.
fn may_be_on(flag: Option<&CacheFlag>) -> bool {
    let unknown = |flag: &CacheFlag| {
        let error = flag.last_error.as_ref().and_then(|error| error["code"].as_str());
        flag.applied.is_none() && error == Some(Code::NginxRollbackFailed.as_str())
    };
    flag.is_some_and(|flag| flag.desired || flag.applied == Some(true) || unknown(flag))
}

/// Whether a toggle is at its host, or was: what it does there is not in the flags yet. One that
/// has never been handed out will take up the flags as they are then.
fn toggle_under_way(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| job.job_type == JobType::EnvCacheToggle && job.attempt > 0)
}

/// What is on at the old place would stay there: files and entries that nobody owns any more.
fn needs_caches_off(
    before: &Environment,
    after: &Environment,
    under_way: bool,
) -> Result<(), Refusal> {
    let mut problems = validate::Problems::default();
    let on = |flag: &Option<CacheFlag>| may_be_on(flag.as_ref()) || (under_way && flag.is_some());
    let (fastcgi_on, redis_on) = (on(&before.fastcgi), on(&before.redis));
    if after.host_id != before.host_id && (fastcgi_on || redis_on) {
        problems.add("/host", "turn both caches off first: they would stay on on the old host");
    }
    let dir = |doc: &EnvironmentDoc| doc.fastcgi.as_ref().map(|part| part.cache_dir.clone());
    if fastcgi_on && dir(&before.doc) != dir(&after.doc) {
        let pointer = if after.doc.fastcgi.is_some() { "/fastcgi/cache_dir" } else { "/fastcgi" };
        problems.add(
            pointer,
            "turn the FastCGI cache off first: turning it off purges the directory, and nginx \
             would go on using the old one until the next toggle",
        );
    }
    if fastcgi_on && before.doc.nginx != after.doc.nginx && moved(before, after) {
        problems.add(
            "/nginx",
            "turn the FastCGI cache off first: the files at the old place would stay in effect",
        );
    }
    let key = |doc: &EnvironmentDoc| doc.fastcgi.as_ref().map(|part| part.key_format.clone());
    if fastcgi_on && after.doc.fastcgi.is_some() && key(&before.doc) != key(&after.doc) {
        problems.add(
            "/fastcgi/key_format",
            "turn the FastCGI cache off first: entries under the old key would never be found \
             again by a purge of their URL",
        );
    }
    if redis_on && before.doc.kind != after.doc.kind {
        problems.add("/kind", "turn the Redis cache off first: each kind has a switch of its own");
    }
    let switch = |doc: &EnvironmentDoc| doc.redis.as_ref().and_then(|it| it.switch_file.clone());
    if redis_on
        && after.doc.kind == before.doc.kind
        && after.doc.redis.is_some()
        && switch(&before.doc) != switch(&after.doc)
    {
        problems.add(
            "/redis/switch_file",
            "turn the Redis cache off first: the file at the old place would go on saying `on`",
        );
    }
    if redis_on && after.doc.redis.is_none() {
        problems.add("/redis", "turn the Redis cache off first: nobody could do it afterwards");
    }
    let Some((_, first)) = problems.found().first() else { return Ok(()) };
    let flags = [before.fastcgi.as_ref(), before.redis.as_ref()];
    let mut refusal = if flags.into_iter().any(may_be_on) {
        Refusal::new(RefusalKind::Conflict, "CACHES_ON", first.clone())
    } else {
        let message =
            "a toggle of the environment's caches has not ended: wait for it, or cancel it";
        Refusal::new(RefusalKind::Conflict, "JOBS_WAITING", message)
    };
    refusal.fields = problems.found().to_vec();
    Err(refusal)
}

fn moved(before: &Environment, after: &Environment) -> bool {
    let files = |doc: &EnvironmentDoc| {
        let nginx = &doc.nginx;
        [nginx.http_file.clone(), nginx.server_file.clone(), nginx.location_file.clone()]
    };
    files(&before.doc) != files(&after.doc)
}

/// Looks at the host: a job that changes nothing and waits for nobody.
///
/// # Errors
/// As [`ready`]; `KEY_REUSED`.
pub fn check_job(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(known);
    }
    let environment = ready(snapshot, id)?;
    Ok(enqueue(snapshot, environment, json!({}), making))
}

/// What became of a request to delete an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// A job takes our files off the host first.
    Job(Made),
    /// Its host is revoked, nothing can be taken back there: the row is gone at once.
    Gone,
}

/// Deletes an environment: what waits is cancelled, then a job takes our files off the host, and
/// the row goes when the host has confirmed. Asked again, it names the job that is at it.
///
/// # Errors
/// `NOT_FOUND`, `KEY_REUSED`.
pub fn delete(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    making: &Making,
) -> Result<Decision<Deletion>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(nothing(Deletion::Job(known.reply)));
    }
    let before = snapshot.environment.as_ref().ok_or_else(|| missing("environment", id))?;
    let revoked = snapshot.host.as_ref().is_some_and(|host| host.state == HostState::Revoked);
    let at_it = snapshot.environment_jobs.iter().find(|job| {
        job.job_type == making.template.job_type && before.state == EnvironmentState::Deleting
    });
    if let (Some(job), false) = (at_it, revoked) {
        let made = Made { job_id: job.id.clone(), replayed: false };
        let mut decision = nothing(Deletion::Job(made));
        decision.changes.extend(making.idempotency.clone().map(|mut record| {
            record.answered = Answered::Job(job.id.clone());
            Change::RecordIdempotency(record)
        }));
        return Ok(decision);
    }
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    let waiting = snapshot.environment_jobs.iter().filter(|job| match job.state {
        JobState::Queued | JobState::Held => true,
        JobState::Running => revoked,
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => false,
    });
    for (change, told) in
        waiting.filter_map(|job| end(job, reason::ENVIRONMENT_DELETED, making.now))
    {
        changes.push(change);
        events.push(told);
    }
    // What waits for the lanes of the deletion would wait for the last page.
    let warming = |job: &&Job| job.job_type == JobType::CacheWarm && job.state == JobState::Running;
    for job in snapshot.environment_jobs.iter().filter(warming).filter(|_| !revoked) {
        let asked = cancel(job, making.now)?;
        changes.extend(asked.changes);
        events.extend(asked.events);
    }
    if revoked {
        changes.push(Change::DeleteEnvironment(before.id.clone()));
        events.push(about(before, EventKind::EnvironmentDeleted, making.now));
        return Ok(Decision { changes, events, reply: Deletion::Gone });
    }
    if let Some(state) = before.state.apply(EnvironmentEvent::DeleteRequested) {
        let mut after = before.clone();
        after.state = state;
        after.version += 1;
        after.updated_at = making.now;
        events.push(about(&after, EventKind::EnvironmentChanged, making.now));
        changes.push(Change::UpdateEnvironment(Box::new(after)));
    }
    let queued = enqueue(&Snapshot::default(), before, json!({}), making);
    changes.extend(queued.changes);
    events.extend(queued.events);
    Ok(Decision { changes, events, reply: Deletion::Job(queued.reply) })
}
