//! A job: one unit of work on one host, and the only place its state changes.
//!
//! Three counters: `attempt` is the fence (each claim makes a new one, and nothing is believed of
//! an older one), `failures` counts attempts that failed by themselves, `crashes` those that were
//! cut off with their agent. Ended states are final; a retry by hand is a new job.

use hostler_protocol::id::{EnvironmentId, HostId, JobId, RequestId, SiteId, StackId};
use hostler_protocol::job::{Executor, JobType};

use super::Micros;

/// What state a job is in. Everything finer is a reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Waits: for its lane, its host, or a time.
    Queued,
    /// Handed to its host, or unknown there (`reason` says `UNKNOWN`).
    Running,
    /// Waits for a person.
    Held,
    Succeeded,
    Failed,
    Cancelled,
}

/// What can happen to a job's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// Claimed for its host: a new attempt begins.
    Claim,
    Succeed,
    Fail,
    /// The attempt is over, another follows (after a time, or at once).
    Requeue,
    Hold,
    /// A person lets a held job go.
    Release,
    Cancel,
    /// Its time to live is over.
    Expire,
}

impl JobEvent {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::Claim,
        Self::Succeed,
        Self::Fail,
        Self::Requeue,
        Self::Hold,
        Self::Release,
        Self::Cancel,
        Self::Expire,
    ];

    /// The event's name in charts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Succeed => "succeed",
            Self::Fail => "fail",
            Self::Requeue => "requeue",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
        }
    }
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Held, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The state's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Held => "held",
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

    /// Whether the job is over for good.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Held => false,
        }
    }

    /// The state after an event, or `None` where the event cannot happen.
    #[must_use]
    pub fn apply(self, event: JobEvent) -> Option<Self> {
        match (self, event) {
            (Self::Queued, JobEvent::Claim) => Some(Self::Running),
            (Self::Running, JobEvent::Succeed) => Some(Self::Succeeded),
            (Self::Running, JobEvent::Fail) | (Self::Queued, JobEvent::Expire) => {
                Some(Self::Failed)
            }
            (Self::Running, JobEvent::Requeue) | (Self::Held, JobEvent::Release) => {
                Some(Self::Queued)
            }
            (Self::Queued | Self::Running, JobEvent::Hold) => Some(Self::Held),
            (Self::Queued | Self::Running | Self::Held, JobEvent::Cancel) => Some(Self::Cancelled),
            (
                Self::Queued,
                JobEvent::Succeed | JobEvent::Fail | JobEvent::Requeue | JobEvent::Release,
            )
            | (Self::Running, JobEvent::Claim | JobEvent::Release | JobEvent::Expire)
            | (
                Self::Held,
                JobEvent::Claim
                | JobEvent::Succeed
                | JobEvent::Fail
                | JobEvent::Requeue
                | JobEvent::Hold
                | JobEvent::Expire,
            )
            | (Self::Succeeded | Self::Failed | Self::Cancelled, _) => None,
        }
    }
}

/// Why a job is where it is, beside its error's code.
pub mod reason {
    macro_rules! reasons {
        ($($name:ident, $state:literal, $says:literal;)*) => {
            $(#[doc = concat!($state, ": ", $says)] pub const $name: &str = stringify!($name);)*
            /// Every reason: its code, the states it stands beside, and what it says.
            pub const ALL: &[(&str, &str, &str)] = &[$(($name, $state, $says),)*];
        };
    }

    reasons! {
        RETRY, "queued", "it waits out a back-off after a failure that may pass";
        UNKNOWN, "running", "its agent is gone and nobody knows how far it came";
        SUPERSEDED, "cancelled", "a newer job of its kind covers it";
        EXPIRED, "failed", "its host did not come back in time";
        QUARANTINED, "held", "it stopped its agent too often, or one side cannot read what the other \
            means by it; it is set aside, and jobs behind it in its lanes go on";
        INTERRUPTED, "queued, held", "the attempt was cut off";
        CANCELLED, "cancelled", "somebody cancelled it";
        ABANDONED, "cancelled", "a person gave up an attempt whose host was gone; what it did there \
            is not known";
        ENVIRONMENT_DELETED, "cancelled", "its environment was deleted";
        BATCH_STOPPED, "cancelled", "its batch was stopped before its host had begun it";
        HOST_REVOKED, "cancelled", "its host was revoked";
        REMOVAL_PROTECTED, "held", "it would take down a stack that is protected";
        REMOVAL_MANY, "held", "more stacks went away at once, or left hosts, than may go unasked";
        REMOVAL_SUSPENDED, "held", "it would take down a stack that is suspended";
        STACK_KEPT, "cancelled", "its stack is wanted again, or is no longer wanted as it was";
    }
}

/// A named exclusion: of all jobs in one lane, one runs at a time, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub String);

impl Lane {
    /// The lane of everything that changes an environment.
    #[must_use]
    pub fn environment(id: &EnvironmentId) -> Self {
        Self(id.as_str().to_owned())
    }

    /// The lane of everything that changes a stack on one host.
    #[must_use]
    pub fn stack(stack: &StackId, host: &HostId) -> Self {
        Self(format!("{}@{}", stack.as_str(), host.as_str()))
    }

    /// The lane of an environment's warm-ups.
    #[must_use]
    pub fn warm(id: &EnvironmentId) -> Self {
        Self(format!("{}/warm", id.as_str()))
    }
}

/// One unit of work on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    /// The order in which jobs came, dense enough to sort by; given by the store.
    pub position: i64,
    pub job_type: JobType,
    /// `namespace/name@version` of the template it runs.
    pub template: String,
    pub host_id: HostId,
    pub site_id: Option<SiteId>,
    pub environment_id: Option<EnvironmentId>,
    /// The stack it is about; it has no environment then.
    pub stack_id: Option<StackId>,
    pub state: JobState,
    pub reason: Option<String>,
    pub priority: i32,
    pub may_pass_waiting: bool,
    /// What was asked, as a JSON object (the resolved spec is made when the job is claimed).
    pub request: serde_json::Value,
    pub attempt: u32,
    pub failures: u32,
    pub crashes: u32,
    /// Bound on one attempt, in seconds.
    pub timeout_secs: u32,
    /// Not claimed before.
    pub run_after: Micros,
    /// Fails as `EXPIRED` if still queued and never started then.
    pub expires_at: Micros,
    pub created_at: Micros,
    pub started_at: Option<Micros>,
    /// When the agent had the current attempt in its journal.
    pub accepted_at: Option<Micros>,
    pub cancel_requested_at: Option<Micros>,
    pub finished_at: Option<Micros>,
    /// Grows with each renewal of the current attempt's lease.
    pub lease: i64,
    /// The outcome document of the last finished attempt.
    pub outcome: Option<serde_json::Value>,
    /// The request it came from.
    pub request_id: Option<RequestId>,
    /// The job this one repeats, if it was retried by hand.
    pub retry_of: Option<JobId>,
    /// The job this one follows from.
    pub parent_id: Option<JobId>,
    /// The executor its environment chose when it was last handed out, or queued.
    pub executor: Option<Executor>,
}

impl Job {
    /// Whether no attempt before the current one can have begun: none of them failed or was cut
    /// off, and `started_at` is of a claim after the last time the job was put back.
    #[must_use]
    pub fn is_first_begun(&self) -> bool {
        self.failures == 0
            && self.crashes == 0
            && (self.outcome.is_none() || self.started_at.is_none_or(|at| at >= self.run_after))
    }

    /// Whether it waits out a back-off.
    #[must_use]
    pub fn waits_for_retry(&self, now: Micros) -> bool {
        self.state == JobState::Queued && self.run_after > now
    }
}

/// A job about to be queued, with its lanes (none: it excludes nothing).
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    pub job: Job,
    pub lanes: Vec<Lane>,
}
