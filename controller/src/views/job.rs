//! Jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::present::present;
use super::{Executor, Timestamp};

/// The type of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobType {
    EnvCacheToggle,
    CachePurge,
    EnvCheck,
    EnvDelete,
    CacheWarm,
    CacheFacts,
    CacheExplain,
    StackSync,
    StackDown,
    StackPlan,
}

/// What state a job is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits; `waits_for` says for what.
    Queued,
    /// Handed to its host (with the reason `UNKNOWN`: its host is gone and nobody knows how far it
    /// came).
    Running,
    /// Waits for a person: release or cancel it.
    Held,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    /// Whether the job is over for good.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Held => false,
        }
    }
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Only a person or another request can help.
    Never,
    /// The same job may succeed later.
    Later,
    /// It was cut off; it may run again at once.
    AtOnce,
}

/// Why an attempt did not succeed. No field ever carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// A stable code (`NGINX_TEST_FAILED`).
    pub code: String,
    /// One sentence a person can act on.
    pub message: String,
    pub retry: Retry,
    /// The step that failed.
    pub step: Option<String>,
    /// The command that was run: program and arguments.
    pub command: Option<Vec<String>>,
    pub exit_status: Option<i32>,
    /// The last 10 KiB of what it printed, secrets redacted; left out of lists.
    pub output_tail: Option<String>,
    /// What a person can do about it.
    pub hint: Option<String>,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Started,
    Done,
    Skipped,
    Failed,
    /// Undone after a later step failed.
    RolledBack,
}

/// One step of a job's last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobStep {
    /// Stable name (`nginx_test`).
    pub step: String,
    pub state: StepState,
    pub message: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// An earlier job of the same environment.
    Lane,
    /// Its host, which is not connected.
    Host,
    /// A time: the next retry.
    Time,
    /// A person who releases or cancels it.
    Person,
}

/// One thing a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitsFor {
    pub kind: WaitKind,
    /// In a sentence.
    pub message: String,
    /// The job in front, for a lane.
    #[schema(value_type = Option<super::JobIdText>)]
    pub job_id: Option<String>,
    /// The host, if that is what it waits for.
    #[schema(value_type = Option<super::HostIdText>)]
    pub host_id: Option<String>,
    /// The time, if that is what it waits for.
    pub until: Option<Timestamp>,
}

/// One unit of work on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    #[schema(value_type = super::JobIdText)]
    pub id: String,
    #[serde(rename = "type")]
    pub job_type: JobType,
    pub state: JobState,
    /// Why it is in that state, as a stable code, if there is more to say.
    pub reason: Option<String>,
    /// `namespace/name@version` of the template it runs.
    pub template: String,
    #[schema(value_type = super::HostIdText)]
    pub host_id: String,
    #[schema(value_type = Option<super::SiteIdText>)]
    pub site_id: Option<String>,
    #[schema(value_type = Option<super::EnvironmentIdText>)]
    pub environment_id: Option<String>,
    /// The stack it is about; it has no environment then.
    #[schema(value_type = Option<super::StackIdText>)]
    pub stack_id: Option<String>,
    /// Larger runs first.
    pub priority: i32,
    /// Who carries it out: resolved anew each time it is handed to its host.
    #[serde(default)]
    #[schema(required)]
    pub executor: Executor,
    /// What was asked; in lists of jobs, lists in it end after 20 items.
    #[schema(value_type = Object)]
    pub request: serde_json::Value,
    /// How often it was handed to its host.
    pub attempt: u32,
    /// Attempts that failed by themselves.
    pub failures: u32,
    /// Attempts that were cut off with their agent.
    pub crashes: u32,
    /// Bound on one attempt, in seconds.
    pub timeout_secs: u32,
    /// Not handed out before.
    pub run_after: Timestamp,
    /// Fails with the reason `EXPIRED` if it has not started by then.
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// When its agent had it in its journal.
    pub accepted_at: Option<Timestamp>,
    pub cancel_requested_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// The last attempt's error, if it did not succeed.
    pub error: Option<JobError>,
    /// What it has to say, by type; null unless it succeeded, and always in lists.
    #[schema(value_type = Option<Object>)]
    pub result: Option<serde_json::Value>,
    /// The last attempt's steps; empty in lists.
    pub steps: Vec<JobStep>,
    /// What keeps it waiting; empty when nothing does, and in lists.
    pub waits_for: Vec<WaitsFor>,
    /// The request it came from.
    #[schema(value_type = Option<super::RequestIdText>)]
    pub request_id: Option<String>,
    /// The job it repeats, if a person retried one.
    #[schema(value_type = Option<super::JobIdText>)]
    pub retry_of: Option<String>,
    /// The job it follows from.
    #[serde(default)]
    #[schema(required, value_type = Option<super::JobIdText>)]
    pub parent_id: Option<String>,
    /// The batch that queued it; null in lists.
    #[serde(default)]
    #[schema(required, value_type = Option<super::BatchIdText>)]
    pub batch_id: Option<String>,
    /// The jobs that follow from it; empty in lists.
    #[serde(default)]
    #[schema(required, value_type = Vec<super::JobIdText>)]
    pub children: Vec<String>,
}

/// How to cancel a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelJob {
    /// Give up a running job whose host is gone (its reason is `UNKNOWN`): it ends at once, and
    /// what its host may still report of it is kept as an event and never applied.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub force: Option<bool>,
}

/// One page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    pub items: Vec<Job>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// A job was queued; `Location` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobAccepted {
    #[schema(value_type = super::JobIdText)]
    pub job_id: String,
}
