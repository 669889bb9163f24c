//! What a phase prints at its end.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use super::judge::{Evidence, Verdict};
use super::phase::{Phase, kinds};

/// Lines of one list that are printed; the count is always whole.
const LINES_MAX: usize = 40;

/// The figures of a phase.
#[derive(Debug)]
pub struct Report {
    lines: Vec<String>,
    pub verdict: Verdict,
}

impl Report {
    /// Counts what there is to count.
    #[must_use]
    pub fn new(
        phase: &Phase<'_>,
        evidence: &Evidence,
        tcp_passed: usize,
        verdict: Verdict,
        quiet_secs: u64,
        sent_again: usize,
    ) -> Self {
        let (purges, switches, checks) = kinds(&evidence.accepted);
        let accepted = evidence.accepted.len();
        let mut lines = vec![
            format!("seed: {} ({} of {} s)", phase.seed, phase.name, phase.secs),
            format!("agents: {}", phase.shape.hosts),
        ];
        lines.push(format!("faults: {}", counted(evidence.faults.iter().map(|f| f.kind.as_str()))));
        lines.push(format!("TCP connections while UDP was blocked: {tcp_passed}"));
        lines.push(format!(
            "jobs accepted: {accepted} of {} ({purges} purges, {switches} switches, {checks} checks); \
             {sent_again} requests were sent more than once",
            phase.jobs
        ));
        let attempts: i64 = evidence.jobs.iter().filter_map(|job| job["attempt"].as_i64()).sum();
        let crashes: i64 = evidence.jobs.iter().filter_map(|job| job["crashes"].as_i64()).sum();
        lines.push(format!("attempts: {attempts}, cut off with their agent: {crashes}"));
        let ends: Vec<String> = evidence.jobs.iter().map(end).collect();
        lines.push(format!("jobs by end: {}", counted(ends.iter().map(String::as_str))));
        lines.push(format!("accepted to ended: {}", latency(&evidence.jobs)));
        lines.push(format!("quiet after: {quiet_secs} s"));
        Self { lines, verdict }
    }

    /// Whether nothing is to be complained of.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict == Verdict::default()
    }

    /// Prints it.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        let Verdict { lost, doubled, unexplained } = &self.verdict;
        for (name, list) in [("lost", lost), ("doubled", doubled), ("unexplained", unexplained)] {
            for told in list.iter().take(LINES_MAX) {
                writeln!(out, "  {name}: {told}")?;
            }
        }
        writeln!(out, "lost: {}", lost.len())?;
        writeln!(out, "doubled: {}", doubled.len())?;
        writeln!(out, "unexplained: {}", unexplained.len())
    }
}

fn end(job: &Value) -> String {
    let state = job["state"].as_str().unwrap_or("?");
    job["reason"].as_str().map_or_else(|| state.to_owned(), |reason| format!("{state} {reason}"))
}

fn counted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let told: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    told.join(", ")
}

fn latency(jobs: &[Value]) -> String {
    let took = |job: &Value| Some(job["finished_at"].as_i64()? - job["created_at"].as_i64()?);
    let mut took: Vec<i64> = jobs.iter().filter_map(took).collect();
    took.sort_unstable();
    let at = |percent: usize| {
        let place = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or(0) / 1000
    };
    format!("p50 {} ms, p99 {} ms, longest {} ms", at(50), at(99), at(100))
}
