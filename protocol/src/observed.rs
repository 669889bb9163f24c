//! What an agent sees of its host: actual state, beside what jobs said of their own work.
//!
//! Reports are level-triggered: each says how a stack is now, later ones replace earlier ones, and
//! a whole one follows on each session's begin and on a period. None is acknowledged.

use serde::{Deserialize, Serialize};

use crate::id::StackId;
use crate::job::ContainerDoc;

/// Most differences one report names of a stack; `drift_more` counts the rest.
pub const NAMED_DRIFT_MAX: usize = 100;

/// A report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Why Docker cannot be asked, where it cannot: then the report says nothing of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    #[serde(default)]
    pub stacks: Vec<ObservedStack>,
}

/// A stack the host was given to run, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedStack {
    pub stack: StackId,
    /// The desired digest the host applied last: what `drift` was seen against. Empty where none was
    /// applied yet: then there is no drift, and the containers are what a failed sync left.
    pub desired: String,
    pub seen_at_us: i64,
    pub containers: Vec<ContainerDoc>,
    #[serde(default)]
    pub drift: Vec<Drift>,
    #[serde(default)]
    pub drift_more: u64,
}

/// What is not as it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// A service has no container.
    ServiceMissing,
    /// A service's container does not run, though it is meant to.
    ServiceStopped,
    /// A service's container was made from other settings.
    ServiceChanged,
    /// A container of a service the stack does not have.
    ServiceUnknown,
    /// A file of the stack has other content.
    FileChanged,
    /// A file of the stack is gone.
    FileMissing,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Drift {
    pub kind: DriftKind,
    /// The service, or the path of the file.
    pub subject: String,
}
