//! Job templates: how a job type runs. Shipped ones are YAML compiled in (`crate::templates`).

use hostler_protocol::job::JobType;

pub use hostler_protocol::job::Executor;

/// What becomes of an attempt that was cut off in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInterrupt {
    /// The work is idempotent: a new attempt at once.
    Rerun,
    /// The host is asked what it does now: if that is what was wanted the attempt has succeeded,
    /// otherwise a new one begins at once.
    Probe,
    /// A person decides.
    Hold,
}

/// Which other jobs of its environment a job excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// None: it only looks.
    None,
    /// Every job that changes the environment.
    Environment,
    /// Other warm-ups alone: a long one must not keep a purge or a toggle waiting.
    Warm,
    /// Every job that changes the environment, and warm-ups too.
    All,
    /// Every job that changes the stack on that host.
    Stack,
}

/// Whether there is a playbook for jobs of that type; only then is there a choice of executor.
#[must_use]
pub fn has_playbook(job_type: JobType) -> bool {
    match job_type {
        JobType::EnvCacheToggle | JobType::CachePurge | JobType::CacheWarm => true,
        JobType::EnvCheck
        | JobType::EnvDelete
        | JobType::CacheFacts
        | JobType::CacheExplain
        | JobType::StackSync
        | JobType::StackDown
        | JobType::StackPlan => false,
    }
}

/// A versioned definition of how a job type runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub namespace: String,
    pub name: String,
    /// `jobs.template_version` is `namespace/name@version`.
    pub version: String,
    pub job_type: JobType,
    pub executor: Executor,
    /// Bound on one attempt, in seconds.
    pub timeout_secs: u32,
    /// Seconds to wait before each retry; its length is the number of retries.
    pub retry_after_secs: Vec<u32>,
    pub lane: LaneKind,
    /// Whether the job may start while an earlier one of its lane waits for a retry.
    pub may_pass_waiting: bool,
    /// Whether a newer job of this type ends older ones of the same environment still queued.
    pub supersedes_queued: bool,
    pub on_interrupt: OnInterrupt,
    /// Attempts that may stop their agent before the job is held as `QUARANTINED`.
    pub crashes_max: u32,
    /// How long a job may wait for its host, in seconds.
    pub ttl_secs: u64,
    /// Larger runs first.
    pub priority: i32,
}

impl Template {
    /// The reference a job keeps: `namespace/name@version`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}@{}", self.namespace, self.name, self.version)
    }

    /// Who carries out a job of this template in an environment with that choice.
    #[must_use]
    pub fn executor_for(&self, chosen: Option<Executor>) -> Executor {
        chosen.filter(|_| has_playbook(self.job_type)).unwrap_or(self.executor)
    }
}
