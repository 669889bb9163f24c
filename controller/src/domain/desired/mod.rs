//! Desired state as it is kept: looks at the config repository, the snapshot that holds, the stacks
//! it has or had, and how each stands on each of its hosts.
//!
//! What is wanted, what was tried and what is applied are different fields. Only what a host has
//! confirmed is applied.

mod refresh;
mod watch;

use std::collections::BTreeMap;

use hostler_protocol::id::{HostId, JobId, RefreshId, StackId};
use hostler_protocol::job::{ContainerDoc, JobError, PullPolicy, ServiceChange, UserStopped};
use serde::{Deserialize, Serialize};

use super::Micros;
use super::stack::StackStatus;
use super::stack::hostler::DriftPolicy;

pub use refresh::{Refresh, RefreshError, RefreshReport, RefreshState, Trigger};
pub use watch::{REVERTS_MAX, REVERTS_SECS, Watch};

/// The snapshot that holds: which commit, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// Repository, reference and directory it was read from, without secrets: a change of these is
    /// another source.
    pub source: String,
    pub revision: String,
    pub commit: Commit,
    pub refresh: RefreshId,
    pub taken_at: Micros,
}

/// What is known of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub author: String,
    /// First line of its message.
    pub summary: String,
    pub committed_at_us: i64,
}

/// Whether the removal of a stack that went away may go on by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Removal {
    #[default]
    Free,
    /// The stack said it is protected.
    Protected,
    /// It went away, or left hosts, together with too much else. A stack that is there is so until what
    /// it left has gone.
    Many,
}

impl Removal {
    const ALL: [Self; 3] = [Self::Free, Self::Protected, Self::Many];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Protected => "protected",
            Self::Many => "many",
        }
    }

    /// The removal of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// A stack: a directory of the repository that holds, or held, a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    pub id: StackId,
    /// Below the deploy directory; `.` is that itself.
    pub path: String,
    /// Whether the snapshot has it.
    pub present: bool,
    /// A person said to leave it alone.
    pub suspended: bool,
    pub removal: Removal,
    /// Of the newest snapshot that had it.
    pub revision: String,
    pub facts: StackFacts,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub version: i64,
}

/// What the repository says of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFacts {
    /// The compose project.
    pub project: String,
    /// The file that counts, and what stands beside it to override it: names in the directory.
    pub compose_file: String,
    #[serde(default)]
    pub override_file: Option<String>,
    /// The directory, relative to the repository's root; empty is the root.
    pub directory: String,
    /// SHA-256 of the compose file, lower-case hex.
    #[serde(default)]
    pub compose_hash: Option<String>,
    pub tree_oid: String,
    /// Stands for all its files, and those elsewhere it refers to.
    #[serde(default)]
    pub bundle_digest: Option<String>,
    pub settings: StackSettings,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why it is not synced until a commit puts that right.
    #[serde(default)]
    pub problem: Option<StackProblem>,
}

/// What is wrong with a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackProblem {
    pub code: String,
    pub message: String,
}

/// Where a stack runs and how it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackSettings {
    /// Host names.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Hosts with all of these labels; none: no host by its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub after: Vec<String>,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub pull: PullPolicy,
    pub health_secs: u32,
    #[serde(default)]
    pub user_stopped: UserStopped,
    /// What becomes of a host that is no longer as it was synced.
    #[serde(default)]
    pub drift: DriftPolicy,
    /// Its compose file says to leave it alone.
    #[serde(default)]
    pub suspend: bool,
}

/// A stack on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct StackHost {
    pub stack: StackId,
    pub host: HostId,
    pub status: StackStatus,
    /// Whether the stack is meant to run there.
    pub targeted: bool,
    /// The desired digest, where it can be said.
    pub wanted: Option<String>,
    /// What the host confirmed last.
    pub applied: Option<Applied>,
    /// How the last attempt ended.
    pub outcome: Option<Attempted>,
    /// A failure that may pass is not tried again before.
    pub retry_at: Option<Micros>,
    /// The job that has not ended.
    pub job: Option<JobId>,
    /// As last reported.
    pub containers: Vec<ContainerDoc>,
    pub watch: Watch,
    pub version: i64,
}

/// What a host runs, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The desired digest.
    pub desired: String,
    /// The compose project it runs as.
    #[serde(default)]
    pub project: Option<String>,
    pub bundle: String,
    pub revision: String,
    pub at_us: i64,
    #[serde(default)]
    pub compose_hash: Option<String>,
    /// What `up` needs besides the bundle, so that it can be gone back to.
    pub directory: String,
    pub compose_files: Vec<String>,
}

/// How an attempt to sync or to take down ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempted {
    pub job: JobId,
    /// The desired digest; absent where it was taken down.
    #[serde(default)]
    pub desired: Option<String>,
    pub succeeded: bool,
    pub at_us: i64,
    #[serde(default)]
    pub error: Option<JobError>,
    #[serde(default)]
    pub services: Vec<ServiceChange>,
    /// Why it was begun, for people.
    pub reason: String,
}

impl StackHost {
    /// A stack that is meant to run on a host where it never did.
    #[must_use]
    pub fn new(stack: StackId, host: HostId) -> Self {
        Self {
            stack,
            host,
            status: StackStatus::Missing,
            targeted: true,
            wanted: None,
            applied: None,
            outcome: None,
            retry_at: None,
            job: None,
            containers: Vec::new(),
            watch: Watch::default(),
            version: 0,
        }
    }

    /// Whether the host runs something else than what is wanted.
    #[must_use]
    pub fn is_out_of_sync(&self) -> bool {
        match (&self.wanted, &self.applied) {
            (Some(wanted), Some(applied)) => *wanted != applied.desired,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether a container there is unhealthy or ends again and again, as seen last.
    #[must_use]
    pub fn is_unhealthy(&self) -> bool {
        let is_ill = |one: &ContainerDoc| {
            one.health.as_deref() == Some("unhealthy") || one.state == "restarting"
        };
        self.containers.iter().any(is_ill)
    }
}
