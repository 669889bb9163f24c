//! A batch: one request for many environments, and what became of it on each of them.
//!
//! A batch is the parent of the jobs it queues, one for each target, and has no host or lane of its
//! own. It has ended when every target has; a target whose host does not answer keeps it open, in
//! plain sight.

use hostler_protocol::id::{BatchId, EnvironmentId, HostId, JobId, RequestId};

use super::decide::cache::SetFlags;
use super::decide::purge::Purge;
use super::{JobState, Micros};

/// Most environments one batch is about.
pub const TARGETS_MAX: usize = 10_000;
/// Jobs of a batch that may be open at once, unless it says otherwise.
pub const CONCURRENCY_DEFAULT: u32 = 10;
/// The most it may say.
pub const CONCURRENCY_MAX: u32 = 1_000;

/// What state a batch is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BatchState {
    Running,
    /// Every target succeeded.
    Succeeded,
    /// Every target has ended, and not every one succeeded.
    Failed,
    /// As `Failed`, after a person cancelled it.
    Cancelled,
}

impl BatchState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The state's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// Why a batch takes up no further targets.
pub mod stop {
    /// A canary did not succeed.
    pub const CANARY_FAILED: &str = "CANARY_FAILED";
    /// More targets failed than it permits.
    pub const TOO_MANY_FAILURES: &str = "TOO_MANY_FAILURES";
    /// A person cancelled it.
    pub const CANCELLED: &str = "CANCELLED";
}

/// Why a target failed whose job succeeded: its check found errors.
pub const CHECK_FAILED: &str = "CHECK_FAILED";

/// What is done to each environment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", content = "request", rename_all = "snake_case")]
pub enum BatchAction {
    Check,
    SetCaches(SetFlags),
    Reconcile,
    /// URLs and prefixes that begin with `/` are of each environment's own domain.
    Purge(Box<Purge>),
    /// As for `Purge`.
    Warm {
        urls: Vec<String>,
    },
}

/// How a batch goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BatchOptions {
    /// Jobs open at once; one whose host does not answer is not counted.
    pub concurrency: u32,
    /// Targets taken up together; the next ones follow when these have ended. `None`: all.
    pub batch_size: Option<u32>,
    /// So many targets go first, alone, and must succeed.
    pub canary: u32,
    /// With more failures than this nothing further is taken up. `None`: whatever fails.
    pub failures_max: Option<u32>,
    /// A job whose host has not begun it after so many seconds ends as `EXPIRED`. `None`: as its
    /// template says.
    pub answer_within_secs: Option<u64>,
}

/// One request for many environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub id: BatchId,
    pub state: BatchState,
    /// Why nothing further is taken up; see [`stop`].
    pub reason: Option<String>,
    pub action: BatchAction,
    pub options: BatchOptions,
    /// Who asked: an API token's id, or `local`.
    pub principal: String,
    /// Its `Idempotency-Key`, and the SHA-256 of method, path and body, hex.
    pub idempotency: Option<(String, String)>,
    pub request_id: Option<RequestId>,
    pub created_at: Micros,
    pub stopped_at: Option<Micros>,
    pub finished_at: Option<Micros>,
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetState {
    /// Not taken up yet.
    Pending,
    /// Its job was queued; the job's own state says how it goes.
    Started,
    Succeeded,
    Failed,
    Cancelled,
    /// The environment could not take the job when its turn came.
    Refused,
    /// Never taken up: the batch was stopped before.
    Skipped,
}

impl TargetState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Started,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Refused,
        Self::Skipped,
    ];

    /// The state's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Pending | Self::Started => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Refused | Self::Skipped => {
                true
            }
        }
    }

    /// Whether it counts against what the batch permits.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::Cancelled | Self::Refused => true,
            Self::Pending | Self::Started | Self::Succeeded | Self::Skipped => false,
        }
    }

    /// What the end of a target's job makes of it; `None` while the job has not ended.
    #[must_use]
    pub fn of_job(job: &SeenJob) -> Option<Self> {
        match job.state {
            JobState::Queued | JobState::Running | JobState::Held => None,
            JobState::Succeeded if job.found_wrong.is_some() => Some(Self::Failed),
            JobState::Succeeded => Some(Self::Succeeded),
            JobState::Failed => Some(Self::Failed),
            JobState::Cancelled => Some(Self::Cancelled),
        }
    }
}

/// One environment a batch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The order in which they are taken up, from 0.
    pub place: u32,
    pub environment: EnvironmentId,
    pub host: HostId,
    /// `site/name` when the batch was made.
    pub name: String,
    pub host_name: String,
    pub state: TargetState,
    /// A reason or error code, if there is more to say.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    pub job: Option<JobId>,
}

/// A target's job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenJob {
    pub state: JobState,
    pub reason: Option<String>,
    /// An attempt may have begun. One that was claimed and never delivered has not.
    pub begun: bool,
    /// Somebody asked to cancel it.
    pub stopping: bool,
    /// Why its last attempt failed, if it did.
    pub failure: Option<String>,
    /// What a check found to be wrong, in a sentence: it succeeded in finding that, and its host is
    /// not as it should be.
    pub found_wrong: Option<String>,
}

/// A target with what can be seen of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub target: Target,
    /// `None` before it is queued, and when it is no longer known.
    pub job: Option<SeenJob>,
    /// Whether its host has a session.
    pub connected: bool,
    /// When its host's last session began or ended.
    pub last_seen_at: Option<Micros>,
}

impl Seen {
    /// Whether its host is away, and not just between two sessions: when a controller is started anew,
    /// all of them are for a moment, and what waits for one of them must not be taken for given up.
    #[must_use]
    pub fn is_away(&self, now: Micros) -> bool {
        let lately = |at: Micros| at.plus_secs(AWAY_SECS) > now;
        !self.connected && !self.last_seen_at.is_some_and(lately)
    }
}

/// How long a host may be without a session until nobody waits for it, in seconds: agents look for
/// their controller again within a minute.
pub const AWAY_SECS: u64 = 60;
