//! Stacks.

use std::collections::BTreeSet;

use hostler_controller::views::{
    AcceptDrift, Job, PlanStack, RefreshStatus, RollBackStack, Stack, StackJobs, StackRow,
    SyncStack,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::{StackVerb, StatusArg, Wait, WaitAllArgs};
use crate::cli::client::view;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::names;

use super::environment::LOOK;
use super::follow_all::follow_all;
use super::job::typed;

/// Jobs of its history that are shown with a stack.
const HISTORY_ROWS: usize = 10;
/// Syncs among which an earlier bundle is looked for.
const SYNCS_MAX: usize = 200;
/// Fewest characters that stand for a bundle.
const BUNDLE_CHARS_MIN: usize = 7;

pub(super) async fn run(context: &Context, verb: StackVerb) -> Result<Exit, CliError> {
    match verb {
        StackVerb::List { status, host, out_of_sync, drifted } => {
            let flags = [("out_of_sync", out_of_sync), ("drifted", drifted)];
            list(context, status, host, &flags).await
        }
        StackVerb::Show { stack } => show(context, &stack).await,
        StackVerb::Plan { stack, hosts, wait } => {
            let body = json!(PlanStack { hosts: some(hosts) });
            let id = names::stack(&context.client, &stack).await?;
            queue(context, &id, "plan", &body, &wait, LOOK).await
        }
        StackVerb::Sync { stack, hosts, force, adopt, remove, wait } => {
            let body = json!(SyncStack { hosts: some(hosts), force, adopt, remove });
            let id = names::stack(&context.client, &stack).await?;
            queue(context, &id, "sync", &body, &wait, Wait::No).await
        }
        StackVerb::Suspend { stack } => change(context, &stack, "suspend", None).await,
        StackVerb::Resume { stack } => change(context, &stack, "resume", None).await,
        StackVerb::AcceptDrift { stack, hosts } => {
            let body = json!(AcceptDrift { hosts: some(hosts) });
            change(context, &stack, "accept-drift", Some(&body)).await
        }
        StackVerb::Rollback { stack, host, to, wait } => {
            roll_back(context, &stack, host.as_deref(), to.as_deref(), &wait).await
        }
    }
}

fn some(hosts: Vec<String>) -> Option<Vec<String>> {
    (!hosts.is_empty()).then_some(hosts)
}

async fn list(
    context: &Context,
    status: Option<StatusArg>,
    host: Option<String>,
    flags: &[(&'static str, bool)],
) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let mut filter: Vec<(&str, String)> = Vec::new();
    filter.extend(status.map(|status| ("status", typed(&status))));
    if let Some(host) = &host {
        filter.push(("host", names::host(client, host).await?));
    }
    let set = flags.iter().filter(|(_, set)| *set);
    filter.extend(set.map(|(name, _)| (*name, "true".to_owned())));
    let filter: Vec<_> = filter.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let rows = client.list(&["stacks"], &filter, usize::MAX).await?;
    if out.is_json() {
        out.json(&rows)?;
        return Ok(Exit::Ok);
    }
    let stacks = rows.iter().map(view).collect::<Result<Vec<StackRow>, _>>()?;
    out.text(&draw::stacks(out, &stacks))?;
    let state: RefreshStatus = view(&client.get(&["refresh-status"]).await?)?;
    if !state.configured {
        out.say("no repository is configured: set HOSTLER_GIT_URL for the controller");
    } else if state.stale {
        let since = state.last_success_at.map_or_else(|| "never".to_owned(), draw::when);
        out.say(&format!(
            "stale: the last refresh failed; this is of {since} (hostler refresh status says more)"
        ));
    } else if state.last_success_at.is_none() {
        out.say("the repository was not read yet: hostler refresh status says more");
    }
    Ok(Exit::Ok)
}

async fn show(context: &Context, stack: &str) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let id = names::stack(client, stack).await?;
    let mut document = client.get(&["stacks", &id]).await?;
    let history = client.list(&["jobs"], &[("stack", &id)], HISTORY_ROWS).await?;
    if out.is_json() {
        document["history"] = Value::Array(history);
        out.json(&document)?;
        return Ok(Exit::Ok);
    }
    let shown: Stack = view(&document)?;
    let mut text = draw::stack(out, &shown);
    let jobs = history.iter().map(view).collect::<Result<Vec<Job>, _>>()?;
    if !jobs.is_empty() {
        let host = |id: &str| {
            let on = shown.on.iter().find(|on| on.host_id == id);
            on.map_or_else(|| id.to_owned(), |on| on.host.clone())
        };
        text.push_str(&format!("\n\n{}", draw::history(out, &jobs, host)));
    }
    out.text(&text)?;
    Ok(Exit::Ok)
}

/// Sends a request that is answered with the stack, and shows that.
async fn change(
    context: &Context,
    stack: &str,
    verb: &str,
    body: Option<&Value>,
) -> Result<Exit, CliError> {
    let (client, out) = (&context.client, &context.out);
    let id = names::stack(client, stack).await?;
    let document = client.send(Method::POST, &["stacks", &id, verb], body, None).await?;
    let shown: Stack = view(&document)?;
    if out.is_json() {
        out.json(&document)?;
    } else {
        out.text(&draw::stack(out, &shown))?;
    }
    if verb == "resume" && shown.row.suspended {
        out.say("its compose file says `suspend`: until that is gone it is left alone");
    }
    Ok(Exit::Ok)
}

/// Sends a request that queues a job on each host, and follows these as far as is asked for.
async fn queue(
    context: &Context,
    id: &str,
    verb: &str,
    body: &Value,
    wait: &WaitAllArgs,
    default: Wait,
) -> Result<Exit, CliError> {
    let path = ["stacks", id, verb];
    let key = wait.idempotency_key.as_deref();
    let answer = context.client.send(Method::POST, &path, Some(body), key).await?;
    let queued: StackJobs = view(&answer)?;
    if let Wait::Follow(limit) = wait.or(default) {
        return follow_all(context, &queued.jobs, limit).await;
    }
    let out = &context.out;
    if out.is_json() {
        out.json(&answer)?;
    } else {
        let ids: Vec<&str> = queued.jobs.iter().map(|job| job.job_id.as_str()).collect();
        out.text(&ids.join("\n"))?;
    }
    for job in &queued.jobs {
        out.say(&format!("{}: follow it: hostler job watch {}", job.host, job.job_id));
    }
    Ok(Exit::Ok)
}

async fn roll_back(
    context: &Context,
    stack: &str,
    host: Option<&str>,
    to: Option<&str>,
    wait: &WaitAllArgs,
) -> Result<Exit, CliError> {
    let id = names::stack(&context.client, stack).await?;
    let job_id = match to {
        Some(job) if job.starts_with("job_") => job.to_owned(),
        Some(_) | None => earlier(context, &id, host, to).await?,
    };
    let body = json!(RollBackStack { job_id });
    let exit = queue(context, &id, "rollback", &body, wait, Wait::No).await?;
    context.out.say(&format!(
        "{stack} is suspended now; hostler stack resume {stack} goes on with what the repository says"
    ));
    Ok(exit)
}

/// The newest sync on a host that applied another bundle than the present one: the one that is
/// named, if one is.
async fn earlier(
    context: &Context,
    id: &str,
    host: Option<&str>,
    bundle: Option<&str>,
) -> Result<String, CliError> {
    if let Some(short) = bundle.filter(|bundle| bundle.len() < BUNDLE_CHARS_MIN) {
        let message = format!(
            "--to takes a job (job_…), or at least {BUNDLE_CHARS_MIN} characters of a bundle's name: \
             {short} is neither"
        );
        return Err(CliError::Usage(message));
    }
    let client = &context.client;
    let shown: Stack = view(&client.get(&["stacks", id]).await?)?;
    let path = &shown.row.path;
    let on = match host {
        Some(named) => {
            let host_id = names::host(client, named).await?;
            shown
                .on
                .iter()
                .find(|on| on.host_id == host_id)
                .ok_or_else(|| CliError::Usage(format!("{path} is not on {named}")))?
        }
        None => match shown.on.as_slice() {
            [one] => one,
            [] => return Err(CliError::Usage(format!("{path} is on no host"))),
            several => {
                let hosts: Vec<&str> = several.iter().map(|on| on.host.as_str()).collect();
                let which = hosts.join(", ");
                return Err(CliError::Usage(format!("{path} is on {which}: say which by --host")));
            }
        },
    };
    let filter =
        [("stack", id), ("host", &on.host_id), ("type", "stack_sync"), ("state", "succeeded")];
    let rows = client.list(&["jobs"], &filter, SYNCS_MAX).await?;
    let present = on.applied_bundle.as_deref();
    let of = |job: &Value| {
        let bundle = job.pointer("/request/spec/bundle").and_then(Value::as_str);
        bundle.map(str::to_owned)
    };
    let meant = |job: &&Value| {
        of(job).is_some_and(|of_job| match bundle {
            Some(wanted) => of_job.starts_with(wanted),
            None => Some(of_job.as_str()) != present,
        })
    };
    if let Some(wanted) = bundle {
        let named: BTreeSet<_> = rows.iter().filter(meant).filter_map(of).collect();
        if named.len() > 1 {
            let message = format!("several bundles of {path} begin with {wanted}: give more of it");
            return Err(CliError::Usage(message));
        }
    }
    let found = rows.iter().find(meant);
    let found = found.and_then(|job| job["id"].as_str()).map(str::to_owned);
    found.ok_or_else(|| {
        let what = match bundle {
            Some(bundle) => format!("no sync of {path} on {} applied a bundle {bundle}…", on.host),
            None => format!("no other bundle of {path} was applied on {} before", on.host),
        };
        CliError::Usage(format!("{what}; hostler stack show {path} lists its syncs"))
    })
}
