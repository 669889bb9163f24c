//! Jobs.

use clap::ValueEnum;
use hostler_controller::views::Job;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::{JobListArgs, JobVerb, Wait, WaitArgs};
use crate::cli::client::view;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names::{self, Names};

use super::queued::{queued, watch};

pub(super) async fn run(context: &Context, verb: JobVerb) -> Result<Exit, CliError> {
    match verb {
        JobVerb::List(args) => list(context, args).await,
        JobVerb::Show { id } => {
            let document = context.client.get(&["jobs", &id]).await?;
            if context.out.is_json() {
                context.out.json(&document)?;
            } else {
                let names = Names::read(&context.client).await?;
                let job: Job = view(&document)?;
                context.out.text(&draw::job(&context.out, &job, &names))?;
            }
            Ok(Exit::Ok)
        }
        JobVerb::Watch { id, limit } => watch(context, &id, limit.map(|span| span.0)).await,
        JobVerb::Cancel { id, force, wait } => {
            let how = force.then(|| json!({ "force": true }));
            let exit = change(context, &id, "cancel", how.as_ref(), &wait).await?;
            Ok(if wait.or(Wait::No) == Wait::No { exit } else { cancelled(context, exit) })
        }
        JobVerb::Retry { id, wait } => change(context, &id, "retry", None, &wait).await,
        JobVerb::Release { id, wait } => change(context, &id, "release", None, &wait).await,
    }
}

async fn change(
    context: &Context,
    id: &str,
    verb: &str,
    body: Option<&Value>,
    wait: &WaitArgs,
) -> Result<Exit, CliError> {
    let key = wait.idempotency_key.as_deref();
    let answer = context.client.send(Method::POST, &["jobs", id, verb], body, key).await?;
    queued(context, &answer, wait.or(Wait::No)).await
}

/// How a cancel went whose job was followed to its end: being cancelled is its success.
fn cancelled(context: &Context, exit: Exit) -> Exit {
    match exit {
        Exit::JobCancelled => Exit::Ok,
        Exit::Ok => {
            context.out.say("it succeeded before it could be cancelled");
            Exit::Failure
        }
        Exit::Failure
        | Exit::Usage
        | Exit::NotFound
        | Exit::Auth
        | Exit::Refused
        | Exit::JobFailed
        | Exit::Pending
        | Exit::Unreachable
        | Exit::Interrupted => exit,
    }
}

async fn list(context: &Context, args: JobListArgs) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let mut filter: Vec<(&str, String)> = Vec::new();
    if let Some(state) = args.state {
        filter.push(("state", typed(&state)));
    }
    if let Some(job_type) = args.job_type {
        filter.push(("type", typed(&job_type)));
    }
    if let Some(environment) = &args.environment {
        filter.push(("environment", names::environment(client, environment).await?));
    }
    if let Some(host) = &args.host {
        filter.push(("host", names::host(client, host).await?));
    }
    if let Some(site) = &args.site {
        filter.push(("site", names::site(client, site).await?));
    }
    if let Some(stack) = &args.stack {
        filter.push(("stack", names::stack(client, stack).await?));
    }
    filter.extend(args.parent.map(|parent| ("parent", parent)));
    filter.extend(args.batch.map(|batch| ("batch", batch)));
    let filter: Vec<_> = filter.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let rows = client.list(&["jobs"], &filter, args.limit as usize).await?;
    if out.is_json() {
        out.json(&rows)?;
    } else {
        let jobs = rows.iter().map(view).collect::<Result<Vec<Job>, _>>()?;
        let names = Names::read(client).await?;
        out.text(&draw::jobs(out, &jobs, &names))?;
    }
    Ok(Exit::Ok)
}

/// The word that stands for a value on the command line, which is the API's word too.
pub(super) fn typed(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
