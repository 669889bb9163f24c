//! Looking into the page cache of a host.

use hostler_controller::views::{Environment, ExplainUrl, Job, JobAccepted, JobState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::WaitArgs;
use crate::cli::client::{Client, view};
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

use super::environment::LOOK;
use super::queued::request;

/// How long the figures of a host are waited for, in seconds.
const FACTS_SECS_MAX: u64 = 10;

/// Shows the switches, and with `facts` what the host says is in the page cache.
pub(super) async fn show(
    context: &Context,
    environment: &str,
    facts: bool,
) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let id = names::environment(client, environment).await?;
    let mut document = client.get(&["environments", &id, "cache"]).await?;
    let facts = match facts && !document["fastcgi"].is_null() {
        true => Some(facts_of(client, &id).await),
        false => None,
    };
    if out.is_json() {
        if let Some(facts) = &facts {
            document["facts"] = facts.as_ref().map_or(Value::Null, Value::clone);
        }
        out.json(&document)?;
    } else {
        let mut text = draw::caches(out, &view(&document)?);
        if let Some(Ok(facts)) = &facts {
            text.push_str("\n\n");
            text.push_str(&draw::facts(out, facts));
        }
        out.text(&text)?;
    }
    if let Some(Err(why)) = facts {
        out.say(&format!("no figures from the host: {why}"));
    }
    Ok(Exit::Ok)
}

/// The result of a look at the host, or why there is none. The switches are shown all the same.
async fn facts_of(client: &Client, environment: &str) -> Result<Value, String> {
    let asked = client.ask(&["environments", environment, "cache", "facts"], FACTS_SECS_MAX).await;
    let mut answer = asked.map_err(|error| error.to_string())?;
    if let Ok(accepted) = view::<JobAccepted>(&answer) {
        let read = client.get(&["jobs", &accepted.job_id]).await;
        answer = read.map_err(|error| error.to_string())?;
    }
    let job: Job = view(&answer).map_err(|error| error.to_string())?;
    match job.state {
        JobState::Succeeded => Ok(job.result.unwrap_or(json!({}))),
        JobState::Queued => {
            // Nobody waits for it any more; one that stays queued ends by itself all the same.
            let path = ["jobs", job.id.as_str(), "cancel"];
            drop(client.send(Method::POST, &path, None, None).await);
            let waits: Vec<&str> = job.waits_for.iter().map(|one| one.message.as_str()).collect();
            let why = if waits.is_empty() { "it is busy".to_owned() } else { waits.join("; ") };
            Err(why)
        }
        JobState::Running => {
            Err(format!("it is still counting; follow it: hostler job watch {}", job.id))
        }
        JobState::Held | JobState::Failed | JobState::Cancelled => {
            let error = job.error.map(|error| format!("{}: {}", error.code, error.message));
            Err(error.or(job.reason).unwrap_or_else(|| "the look at it failed".to_owned()))
        }
    }
}

/// Asks what the cache does with a URL.
pub(super) async fn explain(
    context: &Context,
    url: &str,
    environment: Option<&str>,
    wait: &WaitArgs,
) -> Result<Exit, CliError> {
    let id = match environment {
        Some(named) => names::environment(&context.client, named).await?,
        None => environment_of(&context.client, url).await?,
    };
    let path = ["environments", &id, "cache", "explain"];
    let body = ExplainUrl { url: url.to_owned() };
    request(context, Method::POST, &path, Some(body), wait, LOOK).await
}

/// The one environment whose domain is the URL's host.
async fn environment_of(client: &Client, url: &str) -> Result<String, CliError> {
    let parsed = reqwest::Url::parse(url).ok();
    let Some(host) = parsed.as_ref().and_then(|url| url.host_str()) else {
        return Err(CliError::Usage(format!("`{url}` is no absolute URL")));
    };
    // The dot of a rooted name is no part of a domain.
    let host = host.strip_suffix('.').unwrap_or(host);
    let found: Vec<Environment> = names::all(client, "environments", &[]).await?;
    let of_domain: Vec<&Environment> = found.iter().filter(|one| one.domain == host).collect();
    match of_domain.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(names::unknown("domain", host, found.iter().map(|one| one.domain.as_str()))),
        several => {
            let names: Vec<_> = several.iter().map(|one| names::full_name(one)).collect();
            let which = names.join(", ");
            Err(CliError::Usage(format!("{host} is the domain of {which}: say which by --env")))
        }
    }
}
