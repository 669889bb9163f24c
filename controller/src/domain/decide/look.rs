//! Questions about an environment's page cache: jobs that change nothing and wait for nobody.

use hostler_protocol::id::EnvironmentId;
use serde_json::json;

use super::enqueue::{Made, Making, enqueue, ready, replay};
use crate::domain::validate::{self, Problems};
use crate::domain::{Decision, Refusal, Snapshot};

/// Asks the host what is in the cache.
///
/// # Errors
/// As [`ready`]; `INVALID_REQUEST` without a FastCGI cache, `KEY_REUSED`.
pub fn facts(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    ask(snapshot, id, None, making)
}

/// Asks the host what the cache does with one URL.
///
/// # Errors
/// As [`facts`]; `INVALID_REQUEST` for a URL that is not of the domain.
pub fn explain(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    url: &str,
    making: &Making,
) -> Result<Decision<Made>, Refusal> {
    ask(snapshot, id, Some(url), making)
}

fn ask(
    snapshot: &Snapshot,
    id: &EnvironmentId,
    url: Option<&str>,
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
    let mut request = json!({});
    if let Some(url) = url {
        match validate::purge::url(url, &environment.doc.domain) {
            Ok(plain) => request = json!({ "url": plain }),
            Err(why) => problems.add("/url", why),
        }
    }
    problems.finish()?;
    Ok(enqueue(snapshot, environment, request, making))
}
