//! Looks at the config repository.

use hostler_controller::views::{Refresh, RefreshState, RefreshStatus};
use reqwest::Method;
use serde_json::Value;

use crate::cli::Context;
use crate::cli::args::{RefreshArgs, RefreshVerb, Wait};
use crate::cli::client::view;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;

use super::poll::Polled;

/// Milliseconds between two looks at a refresh that is waited for.
const LOOK_MS: u64 = 250;

pub(super) async fn run(context: &Context, args: RefreshArgs) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let wait = args.wait();
    match args.verb {
        None => ask(context, wait, args.idempotency_key.as_deref()).await,
        Some(RefreshVerb::Status) => {
            let document = client.get(&["refresh-status"]).await?;
            if out.is_json() {
                out.json(&document)?;
            } else {
                out.text(&draw::refresh_status(out, &view::<RefreshStatus>(&document)?))?;
            }
            Ok(Exit::Ok)
        }
        Some(RefreshVerb::List { limit }) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let rows = client.list(&["refreshes"], &[], limit).await?;
            if out.is_json() {
                out.json(&rows)?;
            } else {
                let found = rows.iter().map(view).collect::<Result<Vec<Refresh>, _>>()?;
                out.text(&draw::refreshes(out, &found))?;
            }
            Ok(Exit::Ok)
        }
        Some(RefreshVerb::Show { id }) => {
            print(context, &client.get(&["refreshes", &id]).await?)?;
            Ok(Exit::Ok)
        }
    }
}

fn print(context: &Context, document: &Value) -> Result<(), CliError> {
    if context.out.is_json() {
        return context.out.json(document);
    }
    context.out.text(&draw::refresh(&context.out, &view(document)?))
}

async fn ask(context: &Context, wait: Wait, key: Option<&str>) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let asked = client.send(Method::POST, &["refresh"], None, key).await?;
    let id = view::<Refresh>(&asked)?.id;
    let resume = format!("look at it: hostler refresh show {id}");
    let limit = match wait {
        Wait::Follow(limit) => limit,
        Wait::No => {
            if out.is_json() {
                out.json(&asked)?;
            } else {
                out.text(&id)?;
            }
            out.say(&resume);
            return Ok(Exit::Ok);
        }
    };
    let polled = Polled { path: ["refreshes", &id], name: "refresh", resume, every_ms: LOOK_MS };
    let Some(document) = polled.wait(context, limit, standing).await? else {
        return Ok(Exit::Interrupted);
    };
    print(context, &document)?;
    Ok(exit(view::<Refresh>(&document)?.status))
}

/// How a refresh stands; nothing of one that has ended.
fn standing(document: &Value) -> Result<Option<String>, CliError> {
    let refresh: Refresh = view(document)?;
    let how = match refresh.status {
        RefreshState::Queued => "waits for the refresh that runs",
        RefreshState::Refreshing | RefreshState::Completed | RefreshState::Failed => {
            "reading the repository"
        }
    };
    Ok(refresh.finished_at.is_none().then(|| how.to_owned()))
}

fn exit(status: RefreshState) -> Exit {
    match status {
        RefreshState::Completed => Exit::Ok,
        RefreshState::Failed => Exit::JobFailed,
        RefreshState::Queued | RefreshState::Refreshing => Exit::Pending,
    }
}
