//! Batches: lists, one with how its targets stand, what one would do.

use comfy_table::{Cell, Color};
use hostler_controller::views::{
    Batch, BatchAction, BatchPlan, BatchState, BatchTarget, TargetState,
};

use crate::cli::output::{Output, cell, colored};

use super::units::{between, when, when_if, word};

pub(in crate::cli) fn batches(out: &Output, all: &[Batch]) -> String {
    let rows = all.iter().map(|batch| {
        vec![
            cell(&batch.id),
            cell(action(batch)),
            state(batch),
            cell(standing(batch)),
            cell(when(batch.created_at)),
            cell(between(Some(batch.created_at), batch.finished_at)),
            cell(batch.reason.as_deref().unwrap_or("-")),
        ]
    });
    out.table(&["ID", "ACTION", "STATE", "TARGETS", "CREATED", "TOOK", "WHY"], rows.collect())
}

/// How the targets stand, in one line: what is not there is left out.
pub(in crate::cli) fn standing(batch: &Batch) -> String {
    let counts = &batch.counts;
    let all = [
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.refused, "refused"),
        (counts.held, "held"),
        (counts.running, "running"),
        (counts.queued, "queued"),
        (counts.pending, "pending"),
        (counts.skipped, "skipped"),
    ];
    let some = all.iter().filter(|(count, _)| *count > 0);
    let mut text =
        some.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ");
    if counts.unanswered > 0 {
        text.push_str(&format!(" ({} did not answer)", counts.unanswered));
    }
    format!("{} of {}: {text}", counts.targets - counts.pending, counts.targets)
}

pub(in crate::cli) fn batch(out: &Output, batch: &Batch) -> String {
    let or = |value: Option<u32>, otherwise: &str| {
        value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
    };
    let pairs = vec![
        ("Batch", cell(&batch.id)),
        ("Action", cell(action(batch))),
        ("State", state(batch)),
        ("Why", cell(batch.reason.as_deref().unwrap_or("-"))),
        ("Targets", cell(standing(batch))),
        ("Canaries", cell(batch.canary.to_string())),
        ("Batch size", cell(or(batch.batch_size, "all"))),
        ("Concurrency", cell(batch.concurrency.to_string())),
        ("Failures permitted", cell(or(batch.failures_max, "any number"))),
        ("Created", cell(when(batch.created_at))),
        ("Stopped", cell(when_if(batch.stopped_at))),
        ("Finished", cell(when_if(batch.finished_at))),
    ];
    let mut text = out.pairs(pairs);
    for (heading, listed) in [
        ("Did not answer", &batch.unanswered),
        ("Failed, refused, cancelled or held", &batch.failures),
    ] {
        if !listed.is_empty() {
            text.push_str(&format!("\n\n{heading}:\n{}", targets(out, listed)));
        }
    }
    text
}

pub(in crate::cli) fn targets(out: &Output, targets: &[BatchTarget]) -> String {
    let rows = targets.iter().map(|target| {
        let why = target.message.as_deref().or(target.reason.as_deref());
        vec![
            cell(&target.environment),
            host(&target.host, target.connected),
            cell(target.wave.to_string()),
            target_state(target),
            cell(why.unwrap_or("-")),
            cell(target.job_id.as_deref().unwrap_or("-")),
        ]
    });
    out.table(&["ENVIRONMENT", "HOST", "WAVE", "STATE", "WHY", "JOB"], rows.collect())
}

pub(in crate::cli) fn plan(out: &Output, plan: &BatchPlan) -> String {
    let rows = plan.targets.iter().map(|target| {
        let refused = target.refused.as_ref();
        let refused = refused.map(|why| format!("{}: {}", why.code, why.message));
        vec![
            cell(if target.wave == 0 { "canary".to_owned() } else { target.wave.to_string() }),
            cell(&target.environment),
            host(&target.host, target.connected),
            refused.map_or_else(|| cell("yes"), |why| colored(format!("no: {why}"), Color::Red)),
        ]
    });
    out.table(&["WAVE", "ENVIRONMENT", "HOST", "CAN TAKE IT"], rows.collect())
}

fn host(name: &str, connected: bool) -> Cell {
    if connected { cell(name) } else { colored(format!("{name} (away)"), Color::Yellow) }
}

fn action(batch: &Batch) -> &'static str {
    match &batch.action {
        BatchAction::EnvCheck => "check",
        BatchAction::CacheSet(_) => "set",
        BatchAction::CacheReconcile => "reconcile",
        BatchAction::CachePurge(_) => "purge",
        BatchAction::CacheWarm(_) => "warm",
    }
}

fn state(batch: &Batch) -> Cell {
    let text = word(&batch.state);
    match batch.state {
        BatchState::Running => colored(text, Color::Cyan),
        BatchState::Succeeded => colored(text, Color::Green),
        BatchState::Failed => colored(text, Color::Red),
        BatchState::Cancelled => colored(text, Color::Yellow),
    }
}

fn target_state(target: &BatchTarget) -> Cell {
    let mut text = word(&target.state);
    if !target.answered {
        text.push_str(", no answer");
    }
    match target.state {
        TargetState::Pending | TargetState::Queued | TargetState::Skipped => cell(text),
        TargetState::Running => colored(text, Color::Cyan),
        TargetState::Held | TargetState::Cancelled => colored(text, Color::Yellow),
        TargetState::Succeeded => colored(text, Color::Green),
        TargetState::Failed | TargetState::Refused => colored(text, Color::Red),
    }
}
