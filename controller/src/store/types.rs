//! What the store is asked and what it answers, beside the domain's own types.

use std::sync::Arc;

use hostler_protocol::id::{BatchId, EnvironmentId, HostId, JobId, SiteId, StackId};
use hostler_protocol::job::{JobType, Outcome, Progress};

use crate::domain::{Environment, Job, JobState, Site, Template};

/// Most rows one page holds; a larger `limit` is cut to it.
pub const PAGE_ROWS_MAX: u32 = 1_000;
/// Most entries one slice of a hot verb may hold in one statement; longer slices are split.
pub const SLICE_MAX: usize = 1_000;

/// One attempt of a job: the fence. Nothing is believed of an attempt that is not the job's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef {
    pub job: JobId,
    pub attempt: u32,
}

/// An attempt and the host it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAttempt {
    pub host: HostId,
    pub attempt: AttemptRef,
}

/// What became of a job handed to `enqueue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueAnswer {
    /// Queued at this position.
    Queued { position: i64 },
    /// A job of that id was there already; nothing was changed.
    Duplicate,
}

/// A host this controller holds a session with, and how many more jobs it can take now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHost {
    pub host: HostId,
    /// The epoch `session_open` gave; a host whose session is another one by now gets nothing.
    pub epoch: u64,
    /// Most jobs claimed for this host by this call.
    pub slots: u32,
}

/// A job that was claimed, with what is needed to resolve its spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// Running, with its new attempt.
    pub job: Job,
    pub environment: Option<Environment>,
    pub site: Option<Site>,
    /// What stands in the environment's row cannot be read.
    pub unreadable: bool,
    /// The `seq` of the attempt's `job.started` event: larger than that of any attempt before.
    pub generation: u64,
}

/// A host's report that an attempt is over.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub attempt: AttemptRef,
    /// Who says so: only the job's own host is believed.
    pub host: HostId,
    pub outcome: Outcome,
    /// What the job runs by; of the job's own type.
    pub template: Arc<Template>,
    /// What a warm-up that follows from it runs; `None`: none can.
    pub warm_template: Option<Arc<Template>>,
}

/// What became of a settlement. All but an error are final: the outcome may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleAnswer {
    /// Applied; the job is in this state now.
    Settled(JobState),
    /// The same attempt's outcome was applied before; nothing was changed.
    AlreadySettled,
    /// Not the job's current attempt: kept as a `job.late_outcome` event, not applied.
    Stale,
    /// The job belongs to another host; nothing was changed.
    WrongHost,
    /// There is no such job.
    Unknown,
}

/// One line of live progress; appended once per (job, attempt, sequence).
#[derive(Debug, Clone)]
pub struct ProgressLine {
    pub attempt: AttemptRef,
    pub host: HostId,
    /// Grows within the attempt, from 1; a line not above the last one stored is dropped.
    pub sequence: u64,
    pub progress: Progress,
}

/// A keyset page: at most `limit` rows past `after` (an id the last page gave as its next).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub after: Option<String>,
    pub limit: u32,
}

impl Page {
    /// The first `limit` rows.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The page after `next`.
    #[must_use]
    pub fn after(next: impl Into<String>, limit: u32) -> Self {
        Self { after: Some(next.into()), limit }
    }
}

/// Rows of a page, and what to ask for the next one with (`None`: this was the last).
pub type Paged<T> = (Vec<T>, Option<String>);

/// Which environments to list; parts that are set all have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentFilter {
    pub site: Option<SiteId>,
    pub host: Option<HostId>,
}

/// Which jobs to list; parts that are set all have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub state: Option<JobState>,
    pub job_type: Option<JobType>,
    pub environment: Option<EnvironmentId>,
    pub host: Option<HostId>,
    pub site: Option<SiteId>,
    pub stack: Option<StackId>,
    /// The job they follow from.
    pub parent: Option<JobId>,
    /// The batch that queued them.
    pub batch: Option<BatchId>,
}

/// Which events to read; parts that are set all have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub job: Option<JobId>,
    pub environment: Option<EnvironmentId>,
    pub host: Option<HostId>,
    pub site: Option<SiteId>,
    pub stack: Option<StackId>,
}

/// An earlier job in a lane of the one asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitsFor {
    pub job: JobId,
    pub state: JobState,
    pub lane: String,
}

/// The queue in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    pub queued: u64,
    pub running: u64,
    pub held: u64,
    /// When the oldest queued job was made.
    pub oldest_queued_at: Option<crate::domain::Micros>,
    pub hosts_connected: u64,
    /// Of those: whose clock is further off than is worth a word.
    pub hosts_clock_skewed: u64,
    /// Of those: when the first of their certificates ends.
    pub certificate_ends_first_at: Option<crate::domain::Micros>,
}
