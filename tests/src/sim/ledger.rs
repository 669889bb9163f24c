//! What really happened, kept outside of everything that may forget: the oracle's memory.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::JobId;
use hostler_protocol::message::AttemptRef;

use super::report::Violation;

/// What an agent has promised, with its disk as the only thing that keeps it.
#[derive(Debug, Clone, Default)]
pub(super) struct Promised {
    /// Accepted or begun, and not forgotten after an acknowledgement.
    pub(super) accepted: BTreeSet<AttemptRef>,
    /// Outcomes said to be on disk, and not forgotten.
    pub(super) finished: BTreeSet<AttemptRef>,
    /// Acknowledged: the journal may have forgotten them, or not.
    pub(super) acknowledged: BTreeSet<AttemptRef>,
}

/// What an action is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Succeeds,
    /// Fails so many times with an error that may pass, then succeeds.
    Flaky(u32),
    Fails,
    /// Never ends by itself.
    Hangs,
    /// As [`Nature::Hangs`], and does not listen to a cancellation either.
    Deaf,
    Panics,
    /// Takes its agent down, each time.
    Poison,
}

/// What really happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) natures: BTreeMap<JobId, Nature>,
    /// Attempts whose action was started, on whichever agent.
    pub(super) started: BTreeMap<AttemptRef, usize>,
    /// Effects, in their order, with the agent.
    pub(super) effects: Vec<(AttemptRef, usize)>,
    applied: BTreeSet<AttemptRef>,
    /// Outcome documents as they went to a journal.
    pub(super) outcomes: BTreeMap<AttemptRef, BTreeSet<Vec<u8>>>,
    /// Jobs the API has answered for, with the idempotency key.
    pub(super) promised: BTreeMap<JobId, Option<String>>,
    pub(super) keys: BTreeMap<String, JobId>,
    /// Jobs promised after the last backup: a restored controller does not know them.
    pub(super) since_backup: BTreeSet<JobId>,
    /// A controller was restored from an older backup.
    pub(super) restored: bool,
    /// Jobs that a restored controller does not know.
    pub(super) forgiven: BTreeSet<JobId>,
    /// Attempts the database has given an answer about.
    pub(super) answered: BTreeSet<AttemptRef>,
    /// Lines of progress that the database has taken while their attempt was the running one.
    pub(super) lines: BTreeSet<(AttemptRef, u64)>,
}

impl Ledger {
    pub(super) fn start(&mut self, attempt: &AttemptRef, agent: usize) -> Result<(), Violation> {
        match self.started.insert(attempt.clone(), agent) {
            None => Ok(()),
            Some(before) => Err(Violation::doubled(format!(
                "{} attempt {} was started twice: by agent {before}, then by agent {agent}",
                attempt.job, attempt.attempt
            ))),
        }
    }

    pub(super) fn effect(&mut self, attempt: &AttemptRef, agent: usize) -> Result<(), Violation> {
        let name = format!("{} attempt {}", attempt.job, attempt.attempt);
        if !self.started.contains_key(attempt) {
            return Err(Violation::unexplained(format!("{name} had an effect and was not begun")));
        }
        if !self.applied.insert(attempt.clone()) {
            return Err(Violation::doubled(format!("{name} had its effect twice")));
        }
        self.effects.push((attempt.clone(), agent));
        Ok(())
    }

    pub(super) fn has_effect(&self, attempt: &AttemptRef) -> bool {
        self.applied.contains(attempt)
    }

    /// Whether an agent had this document in its journal as the outcome of the attempt.
    pub(super) fn journalled(&self, attempt: &AttemptRef, document: &[u8]) -> bool {
        self.outcomes.get(attempt).is_some_and(|known| known.contains(document))
    }
}
