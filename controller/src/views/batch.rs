//! Batches: one request for many environments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::present::present;
use super::{Labels, PurgeCaches, SetCaches, Timestamp, WarmCache};

/// What is done to each environment, as the request that does it to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum BatchAction {
    /// Look at each host and say what would be wrong.
    EnvCheck,
    /// Switch caches on or off.
    CacheSet(SetCaches),
    /// Apply again what should be.
    CacheReconcile,
    /// Purge. URLs and prefixes may begin with `/`: they are of each environment's own domain then.
    CachePurge(Box<PurgeCaches>),
    /// Fetch pages into the cache. URLs may begin with `/`, as for a purge.
    CacheWarm(WarmCache),
}

/// Which environments; what is named together all has to hold. At least one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchTargets {
    /// These, by id or as `site/name`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 10000)]
    pub environments: Option<Vec<String>>,
    /// Those on these hosts, by id or name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 10000)]
    pub hosts: Option<Vec<String>>,
    /// Those of these sites, by id or name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 10000)]
    pub sites: Option<Vec<String>>,
    /// Those that carry all of these labels (at least one), themselves or by their host.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<Labels>,
    /// Every environment there is.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub all: Option<bool>,
}

/// A batch to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBatch {
    pub action: BatchAction,
    pub targets: BatchTargets,
    /// Jobs open at once; one whose host does not answer is not counted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1000, default = 10)]
    pub concurrency: Option<u32>,
    /// Environments taken up together: the next ones follow when these have ended, but for those
    /// whose host does not answer. Left out: all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub batch_size: Option<u32>,
    /// So many go first, of those whose hosts are connected; unless all of them succeed nothing
    /// else is taken up.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = 0)]
    pub canary: Option<u32>,
    /// With more failures than this nothing further is taken up, and what no host has begun is
    /// cancelled; 0 stops at the first. Left out: whatever fails.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failures_max: Option<u32>,
    /// A job whose host has not begun it after so many seconds ends as `EXPIRED`. Left out: as its
    /// template says (a purge: a day).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 31536000)]
    pub answer_within_secs: Option<u64>,
    /// Say exactly which environments are meant and in which order, and do nothing.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub dry_run: Option<bool>,
}

/// Why an environment could not take the job now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedRefusal {
    /// Stable, upper case.
    pub code: String,
    pub message: String,
}

/// An environment a batch would be about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedTarget {
    /// 0: a canary; the others are taken up from 1 on.
    pub wave: u32,
    #[schema(value_type = super::EnvironmentIdText)]
    pub environment_id: String,
    /// `site/name`.
    pub environment: String,
    #[schema(value_type = super::HostIdText)]
    pub host_id: String,
    /// The host's name.
    pub host: String,
    /// Whether its host is connected now; the job waits for it otherwise.
    pub connected: bool,
    /// Null: it could take the job.
    pub refused: Option<PlannedRefusal>,
}

/// What a batch would do: every environment it is about, in the order they would be taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchPlan {
    pub targets: Vec<PlannedTarget>,
}

/// A batch was made; `Location` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchAccepted {
    #[schema(value_type = super::BatchIdText)]
    pub batch_id: String,
}

/// What state a batch is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Some target has not ended; one that waits for its host or a person keeps it so.
    Running,
    /// Every target succeeded.
    Succeeded,
    /// Every target has ended, and not every one succeeded.
    Failed,
    /// The same, after a person cancelled it.
    Cancelled,
}

impl BatchState {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// How a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// Not taken up yet.
    Pending,
    Queued,
    Running,
    Held,
    Succeeded,
    Failed,
    Cancelled,
    /// The environment could not take the job when its turn came; `reason` and `message` say why.
    Refused,
    /// Never taken up: the batch was stopped before.
    Skipped,
}

/// Targets by how they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchCounts {
    pub targets: u32,
    pub pending: u32,
    pub queued: u32,
    pub running: u32,
    pub held: u32,
    pub succeeded: u32,
    pub failed: u32,
    pub cancelled: u32,
    pub refused: u32,
    pub skipped: u32,
    /// Of all of these: whose host has not said how it went, or never will.
    pub unanswered: u32,
}

/// One environment of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchTarget {
    /// The order in which they are taken up, from 0.
    pub place: u32,
    /// 0: a canary.
    pub wave: u32,
    #[schema(value_type = super::EnvironmentIdText)]
    pub environment_id: String,
    /// `site/name` when the batch was made.
    pub environment: String,
    #[schema(value_type = super::HostIdText)]
    pub host_id: String,
    /// The host's name when the batch was made.
    pub host: String,
    /// Whether its host is connected now.
    pub connected: bool,
    pub state: TargetState,
    /// Why it stands so, as a stable code, if there is more to say.
    pub reason: Option<String>,
    /// The same in a sentence: why the environment refused the job, why its last attempt failed, or
    /// what a check found to be wrong (`CHECK_FAILED`).
    pub message: Option<String>,
    /// False: its host is away or fell silent in the middle, or the job ended without it.
    pub answered: bool,
    /// Null until it is taken up, and for one that never was.
    #[schema(value_type = Option<super::JobIdText>)]
    pub job_id: Option<String>,
}

/// One page of a batch's targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchTargetPage {
    pub items: Vec<BatchTarget>,
    /// Send it back as `from` for the next page; null on the last one.
    pub next: Option<u32>,
}

/// One request for many environments, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    #[schema(value_type = super::BatchIdText)]
    pub id: String,
    pub state: BatchState,
    /// Why nothing further is taken up: `CANARY_FAILED`, `TOO_MANY_FAILURES`, `CANCELLED`.
    pub reason: Option<String>,
    pub action: BatchAction,
    pub concurrency: u32,
    pub batch_size: Option<u32>,
    pub canary: u32,
    pub failures_max: Option<u32>,
    pub answer_within_secs: Option<u64>,
    pub counts: BatchCounts,
    /// The first 100 targets that did not answer; `counts` says how many there are.
    pub unanswered: Vec<BatchTarget>,
    /// The first 100 that failed, were cancelled or refused, or are held.
    pub failures: Vec<BatchTarget>,
    /// The request it came from.
    #[schema(value_type = Option<super::RequestIdText>)]
    pub request_id: Option<String>,
    pub created_at: Timestamp,
    /// Since when nothing further is taken up, if it was stopped.
    pub stopped_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// One page of batches, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchPage {
    pub items: Vec<Batch>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}
