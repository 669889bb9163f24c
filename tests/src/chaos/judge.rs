//! The oracle: what the run left behind against what it was told.
//!
//! Pure: it gets what clients were told, rows of the database, lines of the logs, faults and
//! entries that are still in caches, and answers with three lists that must be empty.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::clients::{Accepted, Asked};
use super::faults::Fault;
use super::logs::{AFTERMATH_SECS, Line, Writer, explains};
use super::plan::Kind;
use super::service::Exit;

/// Everything there is to know of a phase once it is quiet.
#[derive(Debug, Default)]
pub struct Evidence {
    pub accepted: Vec<Accepted>,
    /// `id job_type state reason attempt failures crashes created_at finished_at host`, the host by
    /// its name.
    pub jobs: Vec<Value>,
    /// `seq kind job_id attempt`, in the order of `seq`.
    pub events: Vec<Value>,
    pub lines: Vec<Line>,
    pub faults: Vec<Fault>,
    pub exits: Vec<Exit>,
    /// Jobs whose entry is still where it was, the same file.
    pub left: HashSet<String>,
    /// What was seen to be wrong on the way.
    pub wrong: Vec<String>,
}

/// What must be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Accepted, and neither ended nor held with a reason.
    pub lost: Vec<String>,
    /// Begun twice, or begun after the end.
    pub doubled: Vec<String>,
    /// Anything else that no fault explains.
    pub unexplained: Vec<String>,
}

/// A line "job starts" of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Attempt {
    job: String,
    number: i64,
}

/// Judges a phase.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict { unexplained: evidence.wrong.clone(), ..Verdict::default() };
    if evidence.accepted.is_empty() {
        verdict.unexplained.push("not one request was accepted: this proves nothing".to_owned());
    }
    let jobs: HashMap<&str, &Value> =
        evidence.jobs.iter().map(|job| (job["id"].as_str().unwrap_or_default(), job)).collect();
    lost(evidence, &jobs, &mut verdict);
    let begun = begun(evidence);
    doubled(&begun, &jobs, &mut verdict);
    let claimed = events(evidence, &mut verdict);
    unclaimed(&begun, &claimed, &mut verdict);
    claims_without_proof(evidence, &jobs, &begun, &mut verdict);
    failures(evidence, &mut verdict);
    logs(evidence, &mut verdict);
    exits(evidence, &mut verdict);
    verdict
}

/// Ended, or held and saying why.
fn is_settled(job: &Value) -> bool {
    match job["state"].as_str().unwrap_or_default() {
        "succeeded" | "failed" | "cancelled" => true,
        "held" => job["reason"].is_string(),
        _ => false,
    }
}

fn lost(evidence: &Evidence, jobs: &HashMap<&str, &Value>, verdict: &mut Verdict) {
    let mut others = jobs.clone();
    for accepted in &evidence.accepted {
        others.remove(accepted.job.as_str());
        match jobs.get(accepted.job.as_str()) {
            None => verdict.lost.push(format!("{} is not in the database", accepted.job)),
            Some(job) if !is_settled(job) => verdict.lost.push(format!("{job}")),
            Some(_) => {}
        }
    }
    // What follows from others, and what set the world up, nobody sent: it has to end all the same.
    for job in others.values().filter(|job| !is_settled(job)) {
        verdict.unexplained.push(format!("a job nobody waits for has no end: {job}"));
    }
}

/// When and where each attempt began: host and seconds.
fn begun(evidence: &Evidence) -> BTreeMap<Attempt, Vec<(usize, f64)>> {
    let mut begun: BTreeMap<Attempt, Vec<(usize, f64)>> = BTreeMap::new();
    for line in &evidence.lines {
        if let (Writer::Agent(host), "job starts") = (line.writer, line.message.as_str()) {
            let job = line.fields["job"].as_str().unwrap_or_default().to_owned();
            let number = line.fields["attempt"].as_i64().unwrap_or(-1);
            begun.entry(Attempt { job, number }).or_default().push((host, line.at_secs));
        }
    }
    begun
}

fn doubled(
    begun: &BTreeMap<Attempt, Vec<(usize, f64)>>,
    jobs: &HashMap<&str, &Value>,
    verdict: &mut Verdict,
) {
    for (attempt, times) in begun {
        let Attempt { job, number } = attempt;
        if times.len() > 1 {
            verdict.doubled.push(format!("attempt {number} of {job} began {} times", times.len()));
        }
        let Some(row) = jobs.get(job.as_str()) else {
            let told =
                format!("attempt {number} of {job} began and the job is not in the database");
            verdict.unexplained.push(told);
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit into 2^53")]
        let finished = row["finished_at"].as_i64().map(|at| at as f64 / 1e6);
        for (host, at_secs) in times {
            if finished.is_some_and(|finished| *at_secs > finished) {
                verdict.doubled.push(format!("attempt {number} of {job} began after its end"));
            }
            if row["host"] != format!("host-{host:02}") {
                let told =
                    format!("attempt {number} of {job} began on host-{host:02}, not its own");
                verdict.doubled.push(told);
            }
        }
    }
}

/// Looks at the event log; which attempts it says were claimed.
fn events(evidence: &Evidence, verdict: &mut Verdict) -> HashSet<Attempt> {
    let (mut claimed, mut ended) = (HashSet::new(), HashMap::new());
    for (place, event) in (1i64..).zip(&evidence.events) {
        if event["seq"].as_i64() != Some(place) {
            let told = format!("event {place} should follow and {} does", event["seq"]);
            verdict.unexplained.push(told);
            break;
        }
        let job = event["job_id"].as_str().unwrap_or_default();
        match event["kind"].as_str().unwrap_or_default() {
            "job.started" => {
                let number = event["attempt"].as_i64().unwrap_or(-1);
                if !claimed.insert(Attempt { job: job.to_owned(), number }) {
                    verdict.doubled.push(format!("attempt {number} of {job} was claimed twice"));
                }
                if ended.contains_key(job) {
                    verdict.doubled.push(format!("{job} was claimed after its end"));
                }
            }
            kind @ ("job.succeeded" | "job.failed" | "job.cancelled") => {
                if let Some(before) = ended.insert(job.to_owned(), kind.to_owned()) {
                    verdict.doubled.push(format!("{job} ended twice: {before}, then {kind}"));
                }
            }
            _ => {}
        }
    }
    claimed
}

fn unclaimed(
    begun: &BTreeMap<Attempt, Vec<(usize, f64)>>,
    claimed: &HashSet<Attempt>,
    verdict: &mut Verdict,
) {
    for attempt in begun.keys().filter(|attempt| !claimed.contains(attempt)) {
        let Attempt { job, number } = attempt;
        verdict.unexplained.push(format!("attempt {number} of {job} began without a claim"));
    }
}

/// What is said to have succeeded began on its host, and its effect is there.
fn claims_without_proof(
    evidence: &Evidence,
    jobs: &HashMap<&str, &Value>,
    begun: &BTreeMap<Attempt, Vec<(usize, f64)>>,
    verdict: &mut Verdict,
) {
    for accepted in &evidence.accepted {
        let Some(row) = jobs.get(accepted.job.as_str()) else { continue };
        if row["state"] != "succeeded" {
            continue;
        }
        let number = row["attempt"].as_i64().unwrap_or(-1);
        if !begun.contains_key(&Attempt { job: accepted.job.clone(), number }) {
            let told = format!("{} succeeded and attempt {number} never began", accepted.job);
            verdict.unexplained.push(told);
        }
        if accepted.wanted.asked == Asked::Purge && evidence.left.contains(&accepted.job) {
            let entry = accepted.entry.as_ref().map(|(path, _)| path.display().to_string());
            let told = format!("{} succeeded and {entry:?} is still there", accepted.job);
            verdict.unexplained.push(told);
        }
    }
}

/// Codes of failed jobs that a full disk of their host explains.
const OF_FULL_DISKS: &[&str] = &["NO_SPACE", "JOURNAL_FAILED", "FILE_FAILED"];

fn failures(evidence: &Evidence, verdict: &mut Verdict) {
    let full = |host: &Value| {
        evidence.faults.iter().any(|fault| {
            fault.kind == Kind::AgentDiskFull && *host == format!("host-{:02}", fault.target)
        })
    };
    for job in evidence.jobs.iter().filter(|job| job["state"] == "failed") {
        let reason = job["reason"].as_str().unwrap_or_default();
        if !(OF_FULL_DISKS.contains(&reason) && full(&job["host"])) {
            verdict.unexplained.push(format!("a failed job: {job}"));
        }
    }
    for job in evidence.jobs.iter().filter(|job| job["state"] == "cancelled") {
        if job["reason"] != "SUPERSEDED" {
            verdict.unexplained.push(format!("a cancelled job: {job}"));
        }
    }
}

fn logs(evidence: &Evidence, verdict: &mut Verdict) {
    for line in evidence.lines.iter().filter(|line| line.is_remarkable()) {
        let fatal = fatal_of(line);
        if !fatal.is_some_and(|message| start_failed(evidence, line.writer, message))
            && !line.is_explained(&evidence.faults)
        {
            verdict.unexplained.push(format!("{:?} logged: {}", line.writer, line.text));
        }
    }
}

/// The last word of a program that could not start, which is for people and no JSON.
fn fatal_of(line: &Line) -> Option<&str> {
    let name = match line.writer {
        Writer::Controller => "hostler-controller: ",
        Writer::Agent(_) => "hostler-agent: ",
    };
    line.text.strip_prefix(name)
}

/// Such a word has no time: it is explained by an exit that is, of the same program.
fn start_failed(evidence: &Evidence, writer: Writer, message: &str) -> bool {
    let about = match writer {
        Writer::Controller => message.contains("database"),
        Writer::Agent(_) => message.contains("journal") || message.contains("state directory"),
    };
    let of_writer = |exit: &&Exit| match writer {
        Writer::Controller => exit.name.starts_with("controller"),
        Writer::Agent(host) => exit.name == format!("host-{host:02}"),
    };
    about && evidence.exits.iter().filter(of_writer).any(|exit| exit_explained(evidence, exit))
}

fn exit_explained(evidence: &Evidence, exit: &Exit) -> bool {
    let host = exit.name.strip_prefix("host-").and_then(|number| number.parse().ok());
    let (writer, kinds): (_, &[Kind]) = match host {
        Some(host) => (Writer::Agent(host), &[Kind::AgentDiskFull]),
        None => (
            Writer::Controller,
            &[Kind::PostgresKill, Kind::PostgresRestart, Kind::ControllerDiskFull],
        ),
    };
    exit.code == Some(1)
        && evidence.faults.iter().any(|fault| {
            kinds.contains(&fault.kind) && explains(fault, writer, exit.at_secs, AFTERMATH_SECS)
        })
}

fn exits(evidence: &Evidence, verdict: &mut Verdict) {
    for exit in evidence.exits.iter().filter(|exit| !exit_explained(evidence, exit)) {
        verdict.unexplained.push(format!("{} ended with {:?}", exit.name, exit.code));
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
