//! Stacks: lists, and one with how it stands on each of its hosts.

use comfy_table::{Cell, Color};
use hostler_controller::views::{
    Job, JobState, Stack, StackOnHost, StackRow, StackStatus, StackTargets,
};

use crate::cli::output::{Output, cell, clean, colored};

use super::refresh::short;
use super::sync::action;
use super::units::{labels, when, when_if, word, yes_no};

pub(in crate::cli) fn stacks(out: &Output, all: &[StackRow]) -> String {
    let rows = all.iter().map(|stack| {
        vec![
            cell(&stack.path),
            status(stack.status),
            row_in_sync(stack),
            cell(stack.hosts.to_string()),
            cell(when_if(stack.last_sync_at)),
            cell(short(&stack.changed_in)),
            notes(stack),
            cell(&stack.id),
        ]
    });
    let heading = ["STACK", "STATUS", "IN SYNC", "HOSTS", "LAST SYNC", "CHANGED IN", "NOTE", "ID"];
    out.table(&heading, rows.collect())
}

/// What is out of the ordinary about a stack, in one line.
fn notes(stack: &StackRow) -> Cell {
    let mut notes = Vec::new();
    if stack.hosts == 0 && stack.problem.is_none() && stack.status == StackStatus::Missing {
        notes.push("on no host".to_owned());
    }
    if stack.suspended {
        notes.push("suspended".to_owned());
    }
    if stack.failed_hosts > 0 {
        notes.push(format!("failed on {}", stack.failed_hosts));
    }
    if stack.unhealthy_hosts > 0 {
        notes.push(format!("unhealthy on {}", stack.unhealthy_hosts));
    }
    if stack.unseen_hosts > 0 {
        notes.push(format!("not seen on {}", stack.unseen_hosts));
    }
    if stack.removal_held.is_some() {
        notes.push("removal waits".to_owned());
    }
    if stack.drifted {
        notes.push("drifted".to_owned());
    }
    if stack.waits.is_some() {
        notes.push("waits".to_owned());
    }
    let broken = stack.problem.is_some() || stack.failed_hosts > 0 || stack.unhealthy_hosts > 0;
    notes.extend(stack.problem.as_ref().map(|problem| problem.code.clone()));
    match (notes.is_empty(), broken) {
        (true, _) => cell("-"),
        (false, true) => colored(notes.join(", "), Color::Red),
        (false, false) => colored(notes.join(", "), Color::Yellow),
    }
}

fn status(status: StackStatus) -> Cell {
    let text = word(&status);
    match status {
        StackStatus::Missing | StackStatus::Deleting => colored(text, Color::Yellow),
        StackStatus::Syncing => colored(text, Color::Cyan),
        StackStatus::Synced => colored(text, Color::Green),
    }
}

fn in_sync(out_of_sync: bool) -> Cell {
    if out_of_sync { colored("no", Color::Yellow) } else { cell("yes") }
}

/// A stack on no host, or on its way out, has nothing to be in step with.
fn row_in_sync(row: &StackRow) -> Cell {
    match row.hosts == 0 || row.status == StackStatus::Deleting {
        true => cell("-"),
        false => in_sync(row.out_of_sync),
    }
}

pub(in crate::cli) fn stack(out: &Output, stack: &Stack) -> String {
    let row = &stack.row;
    let or_dash = |text: &Option<String>| cell(text.as_deref().unwrap_or("-"));
    let mut pairs = vec![
        ("Stack", cell(&row.path)),
        ("Id", cell(&row.id)),
        ("Status", status(row.status)),
        ("In sync", row_in_sync(row)),
        ("Suspended", cell(yes_no(row.suspended))),
        ("Project", cell(&row.project)),
        ("Hosts", cell(targets(stack))),
        ("Compose file", cell(files(stack))),
        ("Compose SHA-256", or_dash(&row.hash)),
        ("Tree", cell(&stack.tree_oid)),
        ("Bundle digest", or_dash(&stack.bundle_digest)),
        ("Revision", cell(&row.revision)),
        ("Changed in", cell(&row.changed_in)),
    ];
    if !stack.targets.after.is_empty() {
        pairs.push(("After", cell(stack.targets.after.join(", "))));
    }
    if let Some(problem) = &row.problem {
        let text = format!("{}: {}", problem.code, problem.message);
        pairs.push(("Problem", colored(text, Color::Red)));
    }
    if let Some(waits) = &row.waits {
        let text = format!("{}: {}", waits.code, waits.message);
        pairs.push(("Waits", colored(text, Color::Yellow)));
    }
    pairs.extend(stack.warnings.iter().map(|told| ("Warning", colored(told, Color::Yellow))));
    if let Some(held) = &row.removal_held {
        pairs.push(("Removal", colored(removal(held), Color::Yellow)));
    }
    let mut text = out.pairs(pairs);
    if !stack.on.is_empty() {
        text.push_str(&format!("\n\n{}", hosts(out, &stack.on)));
    }
    for on in &stack.on {
        text.push_str(&last(out, on));
    }
    let drift = drift(out, &stack.on);
    if !drift.is_empty() {
        text.push_str(&format!("\n\n{drift}"));
    }
    let containers = containers(out, &stack.on);
    if !containers.is_empty() {
        text.push_str(&format!("\n\n{containers}"));
    }
    text
}

fn files(stack: &Stack) -> String {
    let directory = if stack.directory.is_empty() { "." } else { &stack.directory };
    let over = stack.override_file.as_ref().map(|file| format!(" and {file}"));
    format!("{directory}/{}{}", stack.row.compose_file, over.unwrap_or_default())
}

fn targets(stack: &Stack) -> String {
    let targets: &StackTargets = &stack.targets;
    let known = |name: &String| stack.on.iter().any(|on| on.host == *name);
    let named = |name: &String| match known(name) {
        true => name.clone(),
        false => format!("{name} (does not run it)"),
    };
    let mut parts: Vec<String> = targets.hosts.iter().map(named).collect();
    if !targets.labels.0.is_empty() {
        parts.push(format!("those with {}", labels(&targets.labels)));
    }
    if parts.is_empty() { "none named".to_owned() } else { parts.join(", ") }
}

/// What a removal waits for, and what may be done about that.
fn removal(waits: &str) -> String {
    let why = match waits {
        "protected" => "it is protected",
        "many" => "it went away together with too much else",
        "suspended" => "it is suspended",
        "declined" => {
            return "was declined: hostler stack sync STACK --remove takes it down all the same"
                .to_owned();
        }
        other => other,
    };
    format!("waits for a person, since {why}: hostler job release JOB takes it down")
}

fn hosts(out: &Output, on: &[StackOnHost]) -> String {
    let rows = on.iter().map(|on| {
        let name = match on.connected {
            true => cell(&on.host),
            false => colored(format!("{} (away)", on.host), Color::Yellow),
        };
        vec![
            name,
            status(on.status),
            in_sync(on.out_of_sync),
            cell(on.applied_revision.as_deref().map_or("-", short)),
            cell(on.applied_bundle.as_deref().map_or("-", short)),
            cell(when_if(on.applied_at)),
            cell(when_if(on.seen_at)),
            cell(when_if(on.retry_at)),
            cell(on.job_id.as_deref().unwrap_or("-")),
        ]
    });
    let heading =
        ["HOST", "STATUS", "IN SYNC", "APPLIED", "BUNDLE", "SINCE", "SEEN", "RETRY AT", "JOB"];
    let mut text = out.table(&heading, rows.collect());
    for on in on {
        if let Some(why) = &on.docker_unavailable {
            text.push_str(&clean(&format!("\n{}: Docker cannot be asked: {why}", on.host)));
        }
        if let Some(error) = &on.job_error {
            text.push_str(&clean(&format!("\n{}: the job under way has failed so far", on.host)));
            text.push_str(
                &on.retry_at
                    .map_or_else(String::new, |at| format!(" and is tried again at {}", when(at))),
            );
            text.push_str(&format!("\n{}", super::job::error("  ", error)));
        }
        if let Some(waits) = &on.removal_waits {
            text.push_str(&clean(&format!("\n{}: its removal {}", on.host, removal(waits))));
        }
        if let Some(since) = on.loop_since {
            text.push_str(&clean(&format!(
                "\n{}: drift came back again and again and is no longer put right since {}: find out \
                 who changes it, then sync it by hand",
                on.host,
                when(since)
            )));
        }
    }
    text
}

/// What is not as it was synced, host by host.
fn drift(out: &Output, on: &[StackOnHost]) -> String {
    let mut rows = Vec::new();
    for on in on {
        rows.extend(on.drift.iter().map(|one| {
            let what = one.kind.replace('_', " ");
            let what = if one.accepted { cell(what) } else { colored(what, Color::Yellow) };
            vec![cell(&on.host), what, cell(&one.subject), cell(yes_no(one.accepted))]
        }));
        if on.drift_more > 0 {
            let more = format!("and {} more", on.drift_more);
            rows.push(vec![cell(&on.host), cell(more), cell("-"), cell("-")]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    out.table(&["HOST", "DRIFT", "OF", "ACCEPTED"], rows)
}

/// How the last job on a host ended: why it was begun, what it did, what went wrong.
fn last(out: &Output, on: &StackOnHost) -> String {
    let Some(last) = &on.last else { return String::new() };
    let how = if last.succeeded { "succeeded" } else { "failed" };
    let mut text = clean(&format!(
        "\n\n{}: the last job {how} {}, since {} ({})",
        on.host,
        when(last.at),
        last.reason,
        last.job_id
    ));
    if let Some(error) = &last.error {
        text.push('\n');
        text.push_str(&super::job::error("  ", error));
    }
    let done = last.services.iter().filter(|one| one.action != "unchanged");
    let rows: Vec<_> = done
        .map(|one| vec![cell(&one.service), action(&one.action), cell(one.reasons.join("; "))])
        .collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n{}", out.table(&["SERVICE", "WAS", "WHY"], rows)));
    }
    text
}

fn containers(out: &Output, on: &[StackOnHost]) -> String {
    let rows: Vec<_> = on
        .iter()
        .flat_map(|on| on.containers.iter().map(move |one| (on, one)))
        .map(|(on, one)| {
            let exited = one.exit_code.filter(|_| one.state != "running");
            let state =
                exited.map_or_else(|| one.state.clone(), |c| format!("{} ({c})", one.state));
            vec![
                cell(&on.host),
                cell(&one.name),
                cell(&one.service),
                cell(&one.image),
                cell(state),
                health(one.health.as_deref()),
                cell(one.restarts.to_string()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading = ["HOST", "CONTAINER", "SERVICE", "IMAGE", "STATE", "HEALTH", "RESTARTS"];
    out.table(&heading, rows)
}

fn health(health: Option<&str>) -> Cell {
    match health {
        Some("healthy") => colored("healthy", Color::Green),
        Some("unhealthy") => colored("unhealthy", Color::Red),
        Some(other) => cell(other),
        None => cell("-"),
    }
}

/// The jobs about a stack, newest first: what was synced where, and why.
pub(in crate::cli) fn history(out: &Output, jobs: &[Job], host: impl Fn(&str) -> String) -> String {
    let rows = jobs.iter().map(|job| {
        let text = |place: &str| job.request.pointer(place).and_then(|value| value.as_str());
        vec![
            cell(&job.id),
            cell(word(&job.job_type)),
            state(job),
            cell(host(&job.host_id)),
            cell(when(job.created_at)),
            cell(text("/revision").map_or("-", short)),
            cell(text("/spec/bundle").map_or("-", short)),
            cell(text("/why").unwrap_or("-")),
        ]
    });
    let heading = ["JOB", "TYPE", "STATE", "HOST", "CREATED", "REVISION", "BUNDLE", "WHY"];
    out.table(&heading, rows.collect())
}

fn state(job: &Job) -> Cell {
    let code = job.error.as_ref().map(|error| error.code.as_str()).or(job.reason.as_deref());
    let text = match (job.state, code) {
        (JobState::Failed | JobState::Cancelled | JobState::Held, Some(code)) => {
            format!("{} ({code})", word(&job.state))
        }
        (_, _) => word(&job.state),
    };
    super::job::colored_state(job.state, text)
}
