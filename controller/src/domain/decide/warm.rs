//! Warm-ups of an environment's page cache: asked for, or following from a purge.

use std::collections::BTreeSet;

use hostler_protocol::id::{EnvironmentId, JobId};
use hostler_protocol::job::{
    JobType, LISTS_BYTES_MAX, Outcome, PurgeResult, PurgeScope, WARM_URLS_MAX,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::enqueue::{Made, Making, end_superseded, enqueue, ready, replay};
use super::job::{JobInput, new_job, queued_event};
use super::purge::purge_ask;
use crate::domain::validate::purge::json_bytes;
use crate::domain::validate::{self, Problems};
use crate::domain::{
    Change, Decision, Environment, EnvironmentState, Job, Micros, NewEvent, Refusal, RefusalKind,
    Snapshot, Template,
};

/// Queues a warm-up.
///
/// # Errors
/// As [`ready`]; `INVALID_REQUEST`, `CACHE_OFF`, `KEY_REUSED`.
pub fn warm(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    urls: &[String],
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    if let Some(known) = replay(snapshot, making)? {
        return Ok(known);
    }
    let environment = ready(snapshot, id)?;
    let mut problems = Problems::default();
    if environment.fastcgi.is_none() {
        problems.add("", "the environment has no FastCGI cache configured");
    }
    let urls = validate::purge::warm_urls(urls, &environment.doc.domain, &mut problems);
    problems.finish()?;
    if !is_wanted(environment) {
        let message = "the environment's FastCGI cache is off: switch it on first";
        return Err(Refusal::new(RefusalKind::Conflict, "CACHE_OFF", message));
    }
    Ok(enqueue(snapshot, environment, json!({ "urls": urls }), making))
}

/// Whether there should be a cache to warm.
fn is_wanted(environment: &Environment) -> bool {
    environment.state == EnvironmentState::Active
        && environment.fastcgi.as_ref().is_some_and(|flag| flag.desired)
}

/// What a queued warm-up's request says: the URLs, and since when pages count as warm.
#[must_use]
pub fn warm_ask(request: &Value) -> Option<(Vec<String>, Option<i64>)> {
    let urls = request.get("urls")?.as_array()?;
    let urls = urls.iter().map(|url| url.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    Some((urls, request.get("wanted_at_us").and_then(Value::as_i64)))
}

/// Whether a job that succeeds is to be followed by a warm-up.
#[must_use]
pub fn is_followed(job: &Job) -> bool {
    job.job_type == JobType::CachePurge
        && purge_ask(&job.request).is_some_and(|ask| ask.warm && !ask.dry_run)
}

/// The warm-up that follows from a purge that has succeeded: what it named, or what its result
/// lists, and the home page where it did not go by URL. `None` when nothing is left to warm or
/// nobody wants it any more. `waiting`: warm-ups of the environment that wait.
///
/// The child's id comes from its parent's, so that one purge never has two.
#[must_use]
pub fn following(
    parent: &Job,
    environment: &Environment,
    outcome: &Outcome,
    waiting: &[Job],
    template: &Template,
    now: Micros,
) -> Option<(Vec<Change>, Vec<NewEvent>)> {
    if !is_followed(parent) || !is_wanted(environment) {
        return None;
    }
    let urls = left_to_warm(parent, environment, outcome)?;
    // Whatever was stored since the purge began is new, a page refreshed in place above all.
    let since = parent.started_at.unwrap_or(parent.created_at);
    let request = json!({ "urls": urls, "wanted_at_us": since.0 });
    // One asked for since then wants its pages newer than that.
    let waiting = waiting.iter().filter(|job| job.created_at <= since);
    let (mut changes, mut events) = end_superseded(waiting, template, &request, now);
    let input = JobInput {
        id: child_id(&parent.id, now),
        host_id: parent.host_id.clone(),
        site_id: parent.site_id.clone(),
        environment_id: parent.environment_id.clone(),
        stack_id: None,
        request,
        request_id: parent.request_id.clone(),
        retry_of: None,
        parent_id: Some(parent.id.clone()),
        executor: environment.doc.executor,
    };
    let new = new_job(input, template, now);
    events.push(queued_event(&new.job, now));
    changes.push(Change::EnqueueJob(Box::new(new)));
    Some((changes, events))
}

fn child_id(parent: &JobId, now: Micros) -> JobId {
    let digest = Sha256::digest(format!("{parent}/warm"));
    let random = std::array::from_fn(|place| digest[place]);
    JobId::from_parts(u64::try_from(now.0 / 1000).unwrap_or(0), random)
}

fn left_to_warm(parent: &Job, environment: &Environment, outcome: &Outcome) -> Option<Vec<String>> {
    let asked = purge_ask(&parent.request)?;
    let result = outcome.result.clone().and_then(|result| serde_json::from_value(result).ok());
    let result: Option<PurgeResult> = result;
    let listed = result.and_then(|result| result.fastcgi).map(|pages| pages.urls);
    let listed = listed.unwrap_or_default();
    let refreshed: BTreeSet<&str> =
        listed.iter().filter(|page| page.refreshed > 0).map(|page| page.url.as_str()).collect();
    let (named, by_url) = match asked.scope {
        PurgeScope::All => (Vec::new(), false),
        PurgeScope::Urls { urls } => (urls, true),
        PurgeScope::Select(selection) => {
            let by_url = selection.prefixes.is_empty() && selection.tags.is_empty();
            (selection.urls, by_url)
        }
    };
    let home = (!by_url).then(|| home(environment));
    let all = home.into_iter().chain(named).chain(listed.iter().map(|page| page.url.clone()));
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let left: Vec<String> = all
        .filter(|url| !refreshed.contains(url.as_str()) && seen.insert(url.clone()))
        .take(WARM_URLS_MAX)
        .take_while(|url| {
            bytes += json_bytes(url);
            bytes <= LISTS_BYTES_MAX
        })
        .collect();
    (!left.is_empty()).then_some(left)
}

/// The home page, by the scheme nginx is asked in.
#[must_use]
pub(super) fn home(environment: &Environment) -> String {
    let doc = &environment.doc;
    let tls = doc.nginx.probe_origin.starts_with("https://");
    format!("{}://{}/", if tls { "https" } else { "http" }, doc.domain)
}

#[cfg(test)]
#[path = "warm_tests.rs"]
mod tests;
