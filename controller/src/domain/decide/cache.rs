//! An environment's caches: switched, reconciled.

use hostler_protocol::id::EnvironmentId;
use serde_json::{Value, json};

use super::enqueue::{Made, Making, enqueue, ready, replay};
use crate::domain::validate::Problems;
use crate::domain::{
    Change, Decision, Environment, EventKind, NewEvent, Refusal, Snapshot, Subject,
};

/// Which flags to change; at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SetFlags {
    pub fastcgi: Option<bool>,
    pub redis: Option<bool>,
}

/// Sets what should be, at once, and queues the job that makes it so. What is applied stays as
/// it is until that job has proven otherwise.
///
/// # Errors
/// As [`ready`]; `INVALID_REQUEST` for no flag, or one of a cache the environment does not have;
/// `KEY_REUSED`.
pub fn set(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    flags: SetFlags,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(known);
    }
    let environment = ready(snapshot, id)?;
    let mut problems = Problems::default();
    if flags == SetFlags::default() {
        problems.add("", "name at least one of fastcgi_cache_enabled and redis_cache_enabled");
    }
    let has = [
        ("/fastcgi_cache_enabled", flags.fastcgi, environment.fastcgi.is_some(), "FastCGI"),
        ("/redis_cache_enabled", flags.redis, environment.redis.is_some(), "Redis"),
    ];
    for (pointer, asked, present, cache) in has {
        if asked.is_some() && !present {
            problems.add(pointer, format!("the environment has no {cache} cache configured"));
        }
    }
    problems.finish()?;

    let mut after = environment.clone();
    let mut request = serde_json::Map::new();
    if let (Some(flag), Some(desired)) = (&mut after.fastcgi, flags.fastcgi) {
        flag.desired = desired;
        request.insert("fastcgi_cache_enabled".to_owned(), desired.into());
    }
    if let (Some(flag), Some(desired)) = (&mut after.redis, flags.redis) {
        flag.desired = desired;
        request.insert("redis_cache_enabled".to_owned(), desired.into());
    }
    let mut decision = enqueue(snapshot, environment, Value::Object(request), making);
    if after != *environment {
        after.version += 1;
        after.updated_at = making.now;
        decision.events.insert(0, desired_changed(&after, making));
        decision.changes.insert(0, Change::UpdateEnvironment(Box::new(after)));
    }
    Ok(decision)
}

fn desired_changed(environment: &Environment, making: &Making) -> NewEvent {
    NewEvent {
        at: making.now,
        kind: EventKind::EnvironmentChanged,
        subject: Subject {
            site: Some(environment.site_id.clone()),
            environment: Some(environment.id.clone()),
            host: Some(environment.host_id.clone()),
            job: None,
            stack: None,
        },
        document: json!({
            "fastcgi_desired": environment.fastcgi.as_ref().map(|flag| flag.desired),
            "redis_desired": environment.redis.as_ref().map(|flag| flag.desired),
        }),
    }
}

/// Applies again what should be.
///
/// # Errors
/// As [`ready`]; `NO_CACHES` (as `INVALID_REQUEST`) when there is none; `KEY_REUSED`.
pub fn reconcile(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(known);
    }
    let environment = ready(snapshot, id)?;
    if environment.fastcgi.is_none() && environment.redis.is_none() {
        let mut problems = Problems::default();
        problems.add("", "the environment has no cache configured");
        problems.finish()?;
    }
    Ok(enqueue(snapshot, environment, json!({}), making))
}
