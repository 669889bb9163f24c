//! Jobs: lists, one with all there is to say, and how one ended.

use comfy_table::{Cell, Color};
use hostler_controller::views::{Job, JobError, JobState, JobStep, StepState};
use serde_json::Value;

use crate::cli::names::Names;
use crate::cli::output::{Output, cell, clean, colored};
use crate::cli::progress::state_of;

use super::result::result;
use super::units::{between, took, when, when_if, word};

pub(in crate::cli) fn jobs(out: &Output, jobs: &[Job], names: &Names) -> String {
    let rows = jobs.iter().map(|job| {
        vec![
            cell(&job.id),
            cell(word(&job.job_type)),
            state(job),
            cell(about(job, names)),
            cell(names.of(&job.host_id)),
            cell(when(job.created_at)),
            cell(between(job.started_at, job.finished_at)),
            cell(why(job)),
        ]
    });
    let heading = ["ID", "TYPE", "STATE", "ABOUT", "HOST", "CREATED", "TOOK", "WHY"];
    out.table(&heading, rows.collect())
}

/// The environment's name, or the stack's path, which its jobs carry with them.
fn about<'a>(job: &'a Job, names: &'a Names) -> &'a str {
    let path = || {
        let paths = ["/spec/stack/path", "/down/stack/path"];
        paths.iter().find_map(|place| job.request.pointer(place)).and_then(Value::as_str)
    };
    match (&job.environment_id, &job.stack_id) {
        (Some(environment), _) => names.of(environment),
        (None, Some(stack)) => path().unwrap_or(stack),
        (None, None) => "-",
    }
}

fn why(job: &Job) -> &str {
    let error = job.error.as_ref().map(|error| error.code.as_str());
    job.reason.as_deref().or(error).unwrap_or("-")
}

fn state(job: &Job) -> Cell {
    colored_state(job.state, word(&job.state))
}

/// A text in the colour of a state.
pub(super) fn colored_state(state: JobState, text: String) -> Cell {
    match state {
        JobState::Queued => cell(text),
        JobState::Running => colored(text, Color::Cyan),
        JobState::Held | JobState::Cancelled => colored(text, Color::Yellow),
        JobState::Succeeded => colored(text, Color::Green),
        JobState::Failed => colored(text, Color::Red),
    }
}

pub(in crate::cli) fn job(out: &Output, job: &Job, names: &Names) -> String {
    let mut pairs = vec![
        ("Job", cell(&job.id)),
        ("Type", cell(word(&job.job_type))),
        ("State", state(job)),
        (if job.stack_id.is_some() { "Stack" } else { "Environment" }, cell(about(job, names))),
        ("Host", cell(names.of(&job.host_id))),
        ("Template", cell(&job.template)),
        ("Executor", cell(word(&job.executor))),
        ("Request", cell(job.request.to_string())),
        ("Attempt", cell(attempts(job))),
        ("Created", cell(when(job.created_at))),
        ("Started", cell(when_if(job.started_at))),
        ("Finished", cell(when_if(job.finished_at))),
        ("Took", cell(between(job.started_at, job.finished_at))),
    ];
    if let Some(reason) = &job.reason {
        pairs.insert(3, ("Reason", cell(reason)));
    }
    if let Some(at) = job.cancel_requested_at {
        pairs.push(("Cancel requested", cell(when(at))));
    }
    if !job.state.is_ended() {
        pairs.push(("Expires", cell(when(job.expires_at))));
    }
    if let Some(other) = &job.retry_of {
        pairs.push(("Retry of", cell(other)));
    }
    if let Some(batch) = &job.batch_id {
        pairs.push(("Batch", cell(batch)));
    }
    if let Some(parent) = &job.parent_id {
        pairs.push(("Follows from", cell(parent)));
    }
    pairs.extend(job.children.iter().map(|child| ("Followed by", cell(child))));
    if let Some(request) = &job.request_id {
        pairs.push(("Request id", cell(request)));
    }
    let waits = job.waits_for.iter().map(|wait| cell(&wait.message));
    pairs.extend(waits.map(|wait| ("Waits for", wait)));
    let mut text = out.pairs(pairs);
    append(&mut text, steps(out, &job.steps));
    append(&mut text, ending(out, job));
    text
}

fn attempts(job: &Job) -> String {
    match (job.failures, job.crashes) {
        (0, 0) => job.attempt.to_string(),
        (failures, crashes) => {
            format!("{} ({failures} failed, {crashes} cut off)", job.attempt)
        }
    }
}

/// How a job that was waited for stands: one line, then its result or its error.
pub(in crate::cli) fn job_outcome(out: &Output, job: &Job) -> String {
    let mut text = format!("{} {} {}", word(&job.state), word(&job.job_type), clean(&job.id));
    if job.state.is_ended() && job.started_at.is_some() {
        text.push_str(&format!(" in {}", between(job.started_at, job.finished_at)));
    }
    // Nobody asked for an end by any other reason than this one.
    if let (JobState::Cancelled, Some(why)) = (job.state, &job.reason)
        && why != "CANCELLED"
    {
        text.push_str(&format!(" ({})", clean(why)));
    }
    if let Some(doing) = state_of(job) {
        text.push_str(&format!("\n{}", clean(&doing)));
    }
    append(&mut text, ending(out, job));
    text
}

fn ending(out: &Output, job: &Job) -> String {
    let mut text = String::new();
    if let Some(failure) = &job.error {
        append(&mut text, error("", failure));
    } else if let (JobState::Failed, Some(reason)) = (job.state, &job.reason) {
        append(&mut text, clean(reason));
    }
    append(&mut text, result(out, job));
    text
}

/// Puts a part behind an empty line.
fn append(text: &mut String, part: String) {
    if part.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(&part);
}

fn steps(out: &Output, steps: &[JobStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let rows = steps.iter().map(|step| {
        let text = word(&step.state).replace('_', " ");
        let state = match step.state {
            StepState::Done => colored(text, Color::Green),
            StepState::Failed => colored(text, Color::Red),
            StepState::RolledBack => colored(text, Color::Yellow),
            StepState::Started | StepState::Skipped => cell(text),
        };
        vec![cell(&step.step), state, cell(took(step.took_us)), cell(&step.message)]
    });
    out.table(&["STEP", "STATE", "TOOK", "MESSAGE"], rows.collect())
}

/// A structured error, in full.
pub(super) fn error(prefix: &str, error: &JobError) -> String {
    let mut text = format!("{prefix}{}: {}", error.code, error.message);
    if let Some(step) = &error.step {
        text.push_str(&format!("\n  step: {step}"));
    }
    if let Some(command) = &error.command {
        text.push_str(&format!("\n  command: {}", command.join(" ")));
    }
    if let Some(status) = error.exit_status {
        text.push_str(&format!("\n  exit status: {status}"));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    if let Some(output) = error.output_tail.as_deref().filter(|tail| !tail.trim().is_empty()) {
        let lines = output.trim_end().lines().map(|line| format!("\n  | {line}"));
        text.push_str(&lines.collect::<String>());
    }
    clean(&text)
}
