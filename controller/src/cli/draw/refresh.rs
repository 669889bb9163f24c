//! Looks at the config repository.

use comfy_table::{Cell, Color};
use hostler_controller::views::{Refresh, RefreshError, RefreshState, RefreshStatus};

use crate::cli::output::{Output, cell, colored};

use super::units::{between, size, when, when_if, word, yes_no};

pub(in crate::cli) fn refreshes(out: &Output, all: &[Refresh]) -> String {
    let rows = all.iter().map(|one| {
        vec![
            cell(&one.id),
            if one.replaced_by.is_some() { cell("replaced") } else { state(one.status) },
            cell(word(&one.trigger)),
            cell(when(one.requested_at)),
            cell(between(one.started_at, one.finished_at)),
            cell(one.revision.as_deref().map_or("-", short)),
            cell(found(one)),
        ]
    });
    let heading = ["ID", "STATUS", "TRIGGER", "REQUESTED", "TOOK", "REVISION", "FOUND"];
    out.table(&heading, rows.collect())
}

/// What a look found, or why it failed, in one line.
fn found(one: &Refresh) -> String {
    if let Some(error) = &one.error {
        return error.code.clone();
    }
    let Some(counts) = &one.counts else { return "-".to_owned() };
    let some = [
        (counts.added, "added"),
        (counts.changed, "changed"),
        (counts.removed, "removed"),
        (counts.problems, "with problems"),
    ];
    let plural = if counts.stacks == 1 { "" } else { "s" };
    let mut text = format!("{} stack{plural}", counts.stacks);
    for (count, name) in some.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {name}"));
    }
    text
}

pub(in crate::cli) fn refresh(out: &Output, one: &Refresh) -> String {
    let mut pairs = vec![
        ("Refresh", cell(&one.id)),
        ("Status", state(one.status)),
        ("Trigger", cell(word(&one.trigger))),
        ("Requested", cell(when(one.requested_at))),
        ("Started", cell(when_if(one.started_at))),
        ("Finished", cell(when_if(one.finished_at))),
        ("Took", cell(between(one.started_at, one.finished_at))),
        ("Revision", cell(one.revision.as_deref().unwrap_or("-"))),
    ];
    match &one.error {
        Some(error) => pairs.push(("Error", colored(why(error), Color::Red))),
        None => pairs.push(("Found", cell(found(one)))),
    }
    if let (Some(fetch), Some(read)) = (one.fetch_ms, one.read_ms) {
        let bytes = size(one.bytes_received.unwrap_or(0));
        pairs.push(("Fetched", cell(format!("{bytes} in {fetch} ms, read in {read} ms"))));
    }
    out.pairs(pairs)
}

pub(in crate::cli) fn refresh_status(out: &Output, status: &RefreshStatus) -> String {
    if !status.configured {
        return "no repository is configured: set HOSTLER_GIT_URL for the controller".to_owned();
    }
    let stale = if status.stale {
        colored("yes: the last refresh failed, what was known before stays", Color::Yellow)
    } else {
        cell(yes_no(false))
    };
    let or_dash = |one: Option<RefreshState>| one.map_or_else(|| cell("-"), state);
    let mut pairs = vec![
        ("Status", or_dash(status.status)),
        ("Last outcome", or_dash(status.outcome)),
        ("Finished", cell(when_if(status.finished_at))),
        ("Last success", cell(when_if(status.last_success_at))),
        ("Stale", stale),
        ("Revision", cell(status.revision.as_deref().unwrap_or("-"))),
    ];
    if let Some(commit) = &status.commit {
        let at = when(commit.committed_at);
        pairs.push(("Commit", cell(format!("{} ({}, {at})", commit.summary, commit.author))));
    }
    if let Some(trigger) = &status.trigger {
        pairs.push(("Trigger", cell(word(trigger))));
    }
    if let Some(last) = status.last.as_ref().filter(|last| last.error.is_none()) {
        pairs.push(("Found", cell(found(last))));
    }
    if let Some(error) = &status.error {
        pairs.push(("Error", colored(why(error), Color::Red)));
    }
    for (name, open) in [("Running", &status.running), ("Queued", &status.queued)] {
        pairs.extend(open.as_ref().map(|one| (name, cell(&one.id))));
    }
    out.pairs(pairs)
}

fn why(error: &RefreshError) -> String {
    format!("{}: {} ({})", error.code, error.message, error.class)
}

fn state(state: RefreshState) -> Cell {
    let text = word(&state);
    match state {
        RefreshState::Refreshing => colored(text, Color::Cyan),
        RefreshState::Queued => cell(text),
        RefreshState::Completed => colored(text, Color::Green),
        RefreshState::Failed => colored(text, Color::Red),
    }
}

/// The beginning of a commit's or a bundle's name, which is enough for people.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
