//! An environment's caches: switched, reconciled, purged.

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{CacheSet, PurgeMode, PurgeScope};
use serde_json::{Value, json};

use super::enqueue::{Made, Making, enqueue, ready, replay};
use crate::domain::validate::{self, Problems};
use crate::domain::{
    Change, Decision, Environment, EventKind, NewEvent, Refusal, Snapshot, Subject,
};

/// Which flags to change; at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

/// What to purge, as asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// `None`: every cache there is (with URLs: FastCGI alone).
    pub caches: Option<CacheSet>,
    pub urls: Option<Vec<String>>,
    pub dry_run: bool,
}

/// Queues a purge.
///
/// # Errors
/// As [`ready`]; `INVALID_REQUEST` for URLs of another domain or a cache that is not there;
/// `KEY_REUSED`.
pub fn purge(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    asked: &Purge,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(known);
    }
    let environment = ready(snapshot, id)?;
    let mut problems = Problems::default();
    let caches = caches(environment, asked, &mut problems);
    if let Some(urls) = &asked.urls {
        validate::purge::urls(urls, &environment.doc.domain, &mut problems);
    }
    problems.finish()?;
    let mut request = json!({ "caches": names(caches), "dry_run": asked.dry_run });
    if let Some(urls) = &asked.urls {
        request["urls"] = json!(urls);
    }
    Ok(enqueue(snapshot, environment, request, making))
}

fn caches(environment: &Environment, asked: &Purge, problems: &mut Problems) -> CacheSet {
    let there =
        CacheSet { fastcgi: environment.fastcgi.is_some(), redis: environment.redis.is_some() };
    let Some(named) = asked.caches else {
        let caches = CacheSet { redis: there.redis && asked.urls.is_none(), ..there };
        if !caches.fastcgi && !caches.redis {
            problems.add("", "the environment has no cache that this could purge");
        }
        return caches;
    };
    if !named.fastcgi && !named.redis {
        problems.add("/caches", "name at least one cache, or leave `caches` out for every one");
    }
    if named.fastcgi && !there.fastcgi {
        problems.add("/caches", "the environment has no FastCGI cache configured");
    }
    if named.redis && !there.redis {
        problems.add("/caches", "the environment has no Redis cache configured");
    }
    if named.redis && asked.urls.is_some() {
        problems.add("/urls", "Redis keys have no URL: purge Redis in a request without `urls`");
    }
    named
}

fn names(caches: CacheSet) -> Vec<&'static str> {
    let both = [(caches.fastcgi, "fastcgi"), (caches.redis, "redis")];
    both.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
}

/// What a queued purge's request says, as its spec wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeAsk {
    pub caches: CacheSet,
    pub scope: PurgeScope,
    pub mode: PurgeMode,
    pub dry_run: bool,
}

/// Reads the request of a queued purge; `None` if it is not one.
#[must_use]
pub fn purge_ask(request: &Value) -> Option<PurgeAsk> {
    let named = request.get("caches")?.as_array()?;
    let names = |name: &str| named.iter().any(|cache| cache.as_str() == Some(name));
    let caches = CacheSet { fastcgi: names("fastcgi"), redis: names("redis") };
    let dry_run = request.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
    let mode = match request.get("mode") {
        None => PurgeMode::Hard,
        Some(mode) => PurgeMode::parse(mode.as_str()?)?,
    };
    let scope = match request.get("urls") {
        None => PurgeScope::All,
        Some(_) => PurgeScope::Urls { urls: urls_asked(request)? },
    };
    Some(PurgeAsk { caches, scope, mode, dry_run })
}

/// The URLs of a queued job's request.
#[must_use]
pub fn urls_asked(request: &Value) -> Option<Vec<String>> {
    let urls = request.get("urls")?.as_array()?;
    urls.iter().map(|url| url.as_str().map(str::to_owned)).collect()
}
