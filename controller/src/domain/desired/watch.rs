//! What a host sees of a stack between jobs, and how often it was put right for it.

use hostler_protocol::observed::Drift;
use serde::{Deserialize, Serialize};

use crate::domain::Micros;

/// Drift that is put right so often within [`REVERTS_SECS`] comes back by itself: a person is needed.
pub const REVERTS_MAX: usize = 5;
/// See [`REVERTS_MAX`]; in seconds.
pub const REVERTS_SECS: u64 = 3600;

/// What is known of a stack on a host from watching it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// When the host looked last.
    #[serde(default)]
    pub seen_at_us: Option<i64>,
    /// Why Docker could not be asked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// What is not as it was applied, sorted; `drift_more` counts what is not named.
    #[serde(default)]
    pub drift: Vec<Drift>,
    #[serde(default)]
    pub drift_more: u64,
    /// What of it a person has accepted. Drift that went away and comes back is not.
    #[serde(default)]
    pub accepted: Vec<Drift>,
    /// When drift was put right unasked, newest last; [`REVERTS_MAX`] at most.
    #[serde(default)]
    pub reverts_us: Vec<i64>,
    /// Since when drift is no longer put right, since it came back again and again. Something new
    /// to sync, and a person who asks for a sync, end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped_us: Option<i64>,
}

impl Watch {
    /// Drift nobody has accepted.
    pub fn open_drift(&self) -> impl Iterator<Item = &Drift> {
        self.drift.iter().filter(|drift| !self.accepted.contains(drift))
    }

    /// Whether the host is not as it was applied, and nobody said that is well.
    #[must_use]
    pub fn is_drifted(&self) -> bool {
        self.open_drift().next().is_some() || (self.drift_more > 0 && self.accepted.is_empty())
    }

    /// Whether drift was put right so often that putting it right again is no use.
    #[must_use]
    pub fn loops(&self, now: Micros) -> bool {
        let since = now.minus_secs(REVERTS_SECS).0;
        self.reverts_us.iter().filter(|at| **at > since).count() >= REVERTS_MAX
    }

    /// Notes that drift is put right.
    pub fn reverting(&mut self, now: Micros) {
        let since = now.minus_secs(REVERTS_SECS).0;
        self.reverts_us.retain(|at| *at > since);
        self.reverts_us.push(now.0);
    }

    /// Something else is to run, or a person asked: what was counted no longer counts.
    pub fn begin_anew(&mut self) {
        self.reverts_us.clear();
        self.tripped_us = None;
    }

    /// A sync has put everything right, or is what drift is seen against from now on.
    pub fn synced(&mut self) {
        self.drift.clear();
        self.drift_more = 0;
        self.accepted.clear();
        self.unavailable = None;
    }
}
