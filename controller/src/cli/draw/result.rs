//! What jobs that succeeded have to say, by type. The documents are read leniently: a field of
//! a later agent is skipped, a missing one is a dash.

use comfy_table::Color;
use hostler_controller::views::{Job, JobType};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::output::{Output, cell, clean, colored};

use super::units::{on_off, yes_no};
use super::{pages, purge, sync};

/// The job's result; empty if there is none.
pub(super) fn result(out: &Output, job: &Job) -> String {
    match job.job_type {
        JobType::EnvCacheToggle => read(job).map(|found| toggle(out, &found)),
        JobType::CachePurge => read(job).map(|found| purge::purge(out, &found)),
        JobType::EnvCheck => read(job).map(|found| check(out, &found)),
        JobType::EnvDelete => read(job).map(|found| removal(&found)),
        JobType::CacheWarm => read(job).map(|found| pages::warm(out, &found)),
        JobType::CacheFacts => read(job).map(|found| pages::figures(out, &found)),
        JobType::CacheExplain => read(job).map(|found| pages::explain(out, &found)),
        JobType::StackSync => read(job).map(|found| sync::sync(out, &found)),
        JobType::StackPlan => read(job).map(|found| sync::plan(out, &found)),
        JobType::StackDown => read(job).map(|found| sync::down(&found)),
    }
    .unwrap_or_default()
}

/// Whether the job is a check that found an error.
pub(in crate::cli) fn found_errors(job: &Job) -> bool {
    job.job_type == JobType::EnvCheck && read::<Check>(job).is_some_and(|check| !check.ok)
}

fn read<T: DeserializeOwned>(job: &Job) -> Option<T> {
    job.result.as_ref().and_then(|result| T::deserialize(result).ok())
}

#[derive(Debug, Deserialize)]
struct Toggle {
    fastcgi: Option<Flag>,
    redis: Option<Flag>,
}

#[derive(Debug, Deserialize)]
struct Flag {
    enabled: bool,
    changed: bool,
    #[serde(default)]
    proof: String,
    #[serde(default)]
    purged: u64,
}

fn toggle(out: &Output, toggle: &Toggle) -> String {
    let flags = [("fastcgi", &toggle.fastcgi), ("redis", &toggle.redis)];
    let rows = flags.into_iter().filter_map(|(name, flag)| {
        let flag = flag.as_ref()?;
        Some(vec![
            cell(name),
            cell(on_off(flag.enabled)),
            cell(yes_no(flag.changed)),
            cell(flag.purged.to_string()),
            cell(&flag.proof),
        ])
    });
    out.table(&["CACHE", "IS", "CHANGED", "PURGED", "PROOF"], rows.collect())
}

#[derive(Debug, Deserialize)]
struct Check {
    ok: bool,
    #[serde(default)]
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    check: String,
    severity: String,
    #[serde(default)]
    message: String,
    hint: Option<String>,
}

fn check(out: &Output, check: &Check) -> String {
    let rows = check.findings.iter().map(|finding| {
        let severity = match finding.severity.as_str() {
            "ok" => colored("ok", Color::Green),
            "warning" => colored("warning", Color::Yellow),
            "error" => colored("error", Color::Red),
            other => cell(other),
        };
        vec![severity, cell(&finding.check), cell(&finding.message)]
    });
    let mut text = out.table(&["FINDING", "CHECK", "MESSAGE"], rows.collect());
    let hints = check.findings.iter().filter(|finding| finding.severity != "ok");
    for (finding, hint) in hints.filter_map(|one| one.hint.as_ref().map(|hint| (one, hint))) {
        text.push_str(&clean(&format!("\n\n{}: {hint}", finding.check)));
    }
    text
}

#[derive(Debug, Deserialize)]
struct Removal {
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    purged: u64,
}

fn removal(removal: &Removal) -> String {
    let mut text = format!("{} cache entries removed", removal.purged);
    for file in &removal.files {
        text.push_str(&format!("\nremoved {file}"));
    }
    clean(&text)
}
