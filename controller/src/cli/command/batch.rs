//! Batches.

use std::time::Duration;

use hostler_controller::views::{
    Batch, BatchAccepted, BatchAction, BatchPlan, BatchState, BatchTarget, BatchTargets,
    CreateBatch,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::{BatchArgs, BatchVerb, Targets, Wait};
use crate::cli::client::{Client, view};
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

use super::poll::Polled;
use super::{cache, label};

/// Milliseconds between two looks at a batch that is followed.
const LOOK_MS: u64 = 500;
/// Targets read at once.
const TARGETS_PAGE: &str = "200";

pub(super) async fn run(context: &Context, verb: BatchVerb) -> Result<Exit, CliError> {
    match verb {
        BatchVerb::Purge { batch, what } => {
            let action = BatchAction::CachePurge(Box::new(cache::purged(what)?));
            create(context, batch, action).await
        }
        BatchVerb::Set { batch, switches } => {
            create(context, batch, BatchAction::CacheSet(cache::switched(&switches))).await
        }
        BatchVerb::Reconcile { batch } => create(context, batch, BatchAction::CacheReconcile).await,
        BatchVerb::Warm { batch, urls } => {
            create(context, batch, BatchAction::CacheWarm(cache::warmed(urls)?)).await
        }
        BatchVerb::Check { batch } => create(context, batch, BatchAction::EnvCheck).await,
        BatchVerb::List { limit } => list(context, limit).await,
        BatchVerb::Show { id, targets } => show(context, &id, targets).await,
        BatchVerb::Watch { id, limit } => watch(context, &id, limit.map(|limit| limit.0)).await,
        BatchVerb::Cancel { id } => {
            let path = ["batches", id.as_str(), "cancel"];
            let document = context.client.send(Method::POST, &path, None, None).await?;
            print(context, &document)?;
            Ok(Exit::Ok)
        }
    }
}

async fn create(context: &Context, args: BatchArgs, action: BatchAction) -> Result<Exit, CliError> {
    let body = CreateBatch {
        action,
        targets: targets(args.targets)?,
        concurrency: args.concurrency,
        batch_size: args.batch_size,
        canary: args.canary,
        failures_max: if args.stop_on_failure { Some(0) } else { args.failures_max },
        answer_within_secs: args.answer_within.map(|span| span.0.as_secs()),
        dry_run: args.dry_run.then_some(true),
    };
    let (client, out) = (&context.client, &context.out);
    let key = args.wait.idempotency_key.as_deref();
    let sent = client.send(Method::POST, &["batches"], Some(&json!(body)), key).await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return Err(refused(client, &body.targets, error).await),
    };
    if args.dry_run {
        if out.is_json() {
            out.json(&answer)?;
        } else {
            let plan: BatchPlan = view(&answer)?;
            out.text(&draw::plan(out, &plan))?;
            out.say(&format!("{} environments; nothing was done", plan.targets.len()));
        }
        return Ok(Exit::Ok);
    }
    let id = view::<BatchAccepted>(&answer)?.batch_id;
    match args.wait.or(Wait::No) {
        Wait::Follow(limit) => watch(context, &id, limit).await,
        Wait::No => {
            if out.is_json() {
                out.json(&answer)?;
            } else {
                out.text(&id)?;
            }
            out.say(&format!("follow it: hostler batch watch {id}"));
            Ok(Exit::Ok)
        }
    }
}

/// A name that is none is told as everywhere, with the nearest there is.
async fn refused(client: &Client, targets: &BatchTargets, error: CliError) -> CliError {
    let CliError::Problem(problem) = &error else { return error };
    for wrong in &problem.errors {
        let Some((list, place)) =
            wrong.pointer.strip_prefix("/targets/").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let named = match list {
            "environments" => &targets.environments,
            "hosts" => &targets.hosts,
            "sites" => &targets.sites,
            _ => continue,
        };
        let name = named.as_ref().zip(place.parse::<usize>().ok());
        let Some(name) = name.and_then(|(named, place)| named.get(place)) else { continue };
        let known = match list {
            "environments" => names::environment(client, name).await,
            "hosts" => names::host(client, name).await,
            _ => names::site(client, name).await,
        };
        if let Err(unknown @ CliError::UnknownName { .. }) = known {
            return unknown;
        }
    }
    error
}

fn targets(args: Targets) -> Result<BatchTargets, CliError> {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let labels = label::wanted(&args.labels)?;
    Ok(BatchTargets {
        environments: some(args.environments),
        hosts: some(args.hosts),
        sites: some(args.sites),
        labels: (!labels.0.is_empty()).then_some(labels),
        all: args.all.then_some(true),
    })
}

async fn list(context: &Context, limit: u32) -> Result<Exit, CliError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let rows = context.client.list(&["batches"], &[], limit).await?;
    if context.out.is_json() {
        context.out.json(&rows)?;
    } else {
        let found = rows.iter().map(view).collect::<Result<Vec<Batch>, _>>()?;
        context.out.text(&draw::batches(&context.out, &found))?;
    }
    Ok(Exit::Ok)
}

async fn show(context: &Context, id: &str, with_targets: bool) -> Result<Exit, CliError> {
    if !with_targets {
        print(context, &context.client.get(&["batches", id]).await?)?;
        return Ok(Exit::Ok);
    }
    let (mut rows, mut from) = (Vec::new(), 0);
    loop {
        let query = [("from", from.to_string()), ("limit", TARGETS_PAGE.to_owned())];
        let page = context.client.get_with(&["batches", id, "targets"], &query).await?;
        rows.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    if context.out.is_json() {
        context.out.json(&rows)?;
    } else {
        let found = rows.iter().map(view).collect::<Result<Vec<BatchTarget>, _>>()?;
        context.out.text(&draw::targets(&context.out, &found))?;
    }
    Ok(Exit::Ok)
}

fn print(context: &Context, document: &Value) -> Result<(), CliError> {
    if context.out.is_json() {
        return context.out.json(document);
    }
    context.out.text(&draw::batch(&context.out, &view(document)?))
}

/// Follows a batch to its end, or for so long; prints it.
async fn watch(context: &Context, id: &str, limit: Option<Duration>) -> Result<Exit, CliError> {
    let polled = Polled {
        path: ["batches", id],
        name: "batch",
        resume: format!("follow it: hostler batch watch {id}"),
        every_ms: LOOK_MS,
    };
    let standing = |document: &Value| {
        let batch: Batch = view(document)?;
        Ok((!batch.state.is_ended()).then(|| draw::standing(&batch)))
    };
    let Some(document) = polled.wait(context, limit, standing).await? else {
        return Ok(Exit::Interrupted);
    };
    print(context, &document)?;
    Ok(exit(view::<Batch>(&document)?.state))
}

fn exit(state: BatchState) -> Exit {
    match state {
        BatchState::Succeeded => Exit::Ok,
        BatchState::Failed => Exit::JobFailed,
        BatchState::Cancelled => Exit::JobCancelled,
        BatchState::Running => Exit::Pending,
    }
}
