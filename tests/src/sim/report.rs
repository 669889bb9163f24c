//! How a run went.

use std::collections::BTreeMap;

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A job, a result or a line of a log is gone.
    Lost,
    /// Something was done, counted or applied twice.
    Doubled,
    /// A state that nobody could explain to an operator.
    Unexplained,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub what: String,
}

impl Violation {
    pub(super) fn lost(what: impl Into<String>) -> Self {
        Self { kind: Kind::Lost, what: what.into() }
    }

    pub(super) fn doubled(what: impl Into<String>) -> Self {
        Self { kind: Kind::Doubled, what: what.into() }
    }

    pub(super) fn unexplained(what: impl Into<String>) -> Self {
        Self { kind: Kind::Unexplained, what: what.into() }
    }
}

/// How one seed went.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub seed: u64,
    pub steps: u64,
    pub jobs: u64,
    pub attempts: u64,
    pub effects: u64,
    /// How often each fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// Of everything that happened, in its order.
    pub hash: u64,
    pub violation: Option<Violation>,
    /// What happened, a line each; only where it was asked for.
    pub trace: Vec<String>,
}

/// How many seeds went.
#[derive(Debug, Clone, Default)]
pub struct Total {
    pub seeds: u64,
    pub steps: u64,
    pub jobs: u64,
    pub attempts: u64,
    pub effects: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// Seed and what was broken, by seed.
    pub broken: Vec<(u64, Violation)>,
}

impl Total {
    pub(super) fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.jobs += report.jobs;
        self.attempts += report.attempts;
        self.effects += report.effects;
        for (fault, count) in report.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        if let Some(violation) = report.violation {
            self.broken.push((report.seed, violation));
            self.broken.sort_by_key(|(seed, _)| *seed);
        }
    }

    /// Seeds in which a promise of this kind was broken.
    #[must_use]
    pub fn of(&self, kind: Kind) -> usize {
        self.broken.iter().filter(|(_, violation)| violation.kind == kind).count()
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seeds, steps, jobs, attempts, effects, faults, broken } = self;
        writeln!(
            f,
            "seeds: {seeds}, steps: {steps}, jobs: {jobs}, attempts: {attempts}, effects: {effects}"
        )?;
        let faults: Vec<String> =
            faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        for (seed, violation) in broken {
            writeln!(f, "seed {seed} broke a promise: {}", violation.what)?;
            writeln!(f, "  replay it: cargo run --bin sim -- --seed {seed} --trace")?;
        }
        let (lost, doubled) = (self.of(Kind::Lost), self.of(Kind::Doubled));
        write!(f, "lost: {lost}, doubled: {doubled}, unexplained: {}", self.of(Kind::Unexplained))
    }
}
