//! What a job is told to do.

use serde::{Deserialize, Serialize};

use super::environment::EnvironmentDoc;
use super::executor::Executor;
use super::stack::{StackDoc, StackDownSpec, StackPlanSpec, StackSyncSpec};
use crate::id::{EnvironmentId, StackId};

/// Most URLs one purge may name.
pub const PURGE_URLS_MAX: usize = 10_000;
/// Most URLs whose cache status is probed before and after a purge, per job.
pub const PROBED_URLS_MAX: usize = 10;
/// Most URL prefixes one purge may name.
pub const PURGE_PREFIXES_MAX: usize = 100;
/// Most tags one purge may name.
pub const PURGE_TAGS_MAX: usize = 256;
/// Longest tag, in bytes: visible ASCII, as in a `Surrogate-Key` header.
pub const TAG_BYTES_MAX: usize = 1024;
/// Most URLs one warm-up may name.
pub const WARM_URLS_MAX: usize = 10_000;
/// Longest lists of URLs, prefixes and tags of one request together, in bytes of JSON: what is
/// left of [`crate::SPEC_BYTES_MAX`] is for the environment.
pub const LISTS_BYTES_MAX: usize = 960 * 1024;

/// The type of a job: its name in the API, in templates and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

impl JobType {
    /// Every job type, in the order they were added.
    pub const ALL: [Self; 10] = [
        Self::EnvCacheToggle,
        Self::CachePurge,
        Self::EnvCheck,
        Self::EnvDelete,
        Self::CacheWarm,
        Self::CacheFacts,
        Self::CacheExplain,
        Self::StackSync,
        Self::StackDown,
        Self::StackPlan,
    ];

    /// The type's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnvCacheToggle => "env_cache_toggle",
            Self::CachePurge => "cache_purge",
            Self::EnvCheck => "env_check",
            Self::EnvDelete => "env_delete",
            Self::CacheWarm => "cache_warm",
            Self::CacheFacts => "cache_facts",
            Self::CacheExplain => "cache_explain",
            Self::StackSync => "stack_sync",
            Self::StackDown => "stack_down",
            Self::StackPlan => "stack_plan",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What stands in a `Run` frame: the specification and who carries it out. An agent from before
/// there was a choice reads the specification alone and is `native`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDoc {
    #[serde(default)]
    pub executor: Executor,
    #[serde(flatten)]
    pub spec: JobSpec,
    /// An attempt that the agent's end cut off: at its next start the agent asks the host how far it
    /// came, and calls it a success where the host does what was wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

impl From<JobSpec> for JobDoc {
    /// By the agent itself.
    fn from(spec: JobSpec) -> Self {
        Self { executor: Executor::Native, probe: false, spec }
    }
}

/// A job's specification, resolved when the job is claimed. A reader that does not know the
/// `type` refuses the job with `UNKNOWN_JOB_TYPE`; it never guesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobSpec {
    EnvCacheToggle(ToggleSpec),
    CachePurge(PurgeSpec),
    EnvCheck(CheckSpec),
    EnvDelete(RemoveSpec),
    CacheWarm(WarmSpec),
    CacheFacts(FactsSpec),
    CacheExplain(ExplainSpec),
    StackSync(Box<StackSyncSpec>),
    StackDown(StackDownSpec),
    StackPlan(Box<StackPlanSpec>),
}

impl JobSpec {
    /// The type of this job.
    #[must_use]
    pub fn job_type(&self) -> JobType {
        match self {
            Self::EnvCacheToggle(_) => JobType::EnvCacheToggle,
            Self::CachePurge(_) => JobType::CachePurge,
            Self::EnvCheck(_) => JobType::EnvCheck,
            Self::EnvDelete(_) => JobType::EnvDelete,
            Self::CacheWarm(_) => JobType::CacheWarm,
            Self::CacheFacts(_) => JobType::CacheFacts,
            Self::CacheExplain(_) => JobType::CacheExplain,
            Self::StackSync(_) => JobType::StackSync,
            Self::StackDown(_) => JobType::StackDown,
            Self::StackPlan(_) => JobType::StackPlan,
        }
    }

    /// The environment it works on, if it is about one.
    #[must_use]
    pub fn environment(&self) -> Option<&EnvironmentDoc> {
        match self {
            Self::EnvCacheToggle(ToggleSpec { environment, .. })
            | Self::CachePurge(PurgeSpec { environment, .. })
            | Self::EnvCheck(CheckSpec { environment })
            | Self::EnvDelete(RemoveSpec { environment, .. })
            | Self::CacheWarm(WarmSpec { environment, .. })
            | Self::CacheFacts(FactsSpec { environment })
            | Self::CacheExplain(ExplainSpec { environment, .. }) => Some(environment),
            Self::StackSync(_) | Self::StackDown(_) | Self::StackPlan(_) => None,
        }
    }

    /// What it works on.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let stack = |doc: &StackDoc| Subject::Stack(doc.id.clone());
        match self {
            Self::EnvCacheToggle(ToggleSpec { environment, .. })
            | Self::CachePurge(PurgeSpec { environment, .. })
            | Self::EnvCheck(CheckSpec { environment })
            | Self::EnvDelete(RemoveSpec { environment, .. })
            | Self::CacheWarm(WarmSpec { environment, .. })
            | Self::CacheFacts(FactsSpec { environment })
            | Self::CacheExplain(ExplainSpec { environment, .. }) => {
                Subject::Environment(environment.id.clone())
            }
            Self::StackSync(spec) => stack(&spec.stack),
            Self::StackDown(spec) => stack(&spec.stack),
            Self::StackPlan(spec) => stack(&spec.0.stack),
        }
    }

    /// What it changes on the host: of all jobs that change one subject, one runs at a time.
    #[must_use]
    pub fn changes(&self) -> Option<Subject> {
        match self {
            Self::EnvCacheToggle(_)
            | Self::CachePurge(_)
            | Self::EnvDelete(_)
            | Self::StackSync(_)
            | Self::StackDown(_) => Some(self.subject()),
            Self::EnvCheck(_)
            | Self::CacheWarm(_)
            | Self::CacheFacts(_)
            | Self::CacheExplain(_)
            | Self::StackPlan(_) => None,
        }
    }
}

/// What a job is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Environment(EnvironmentId),
    Stack(StackId),
}

/// Make both caches of an environment be as these flags say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToggleSpec {
    pub environment: EnvironmentDoc,
    /// `None`: the environment has no such cache configured.
    #[serde(default)]
    pub fastcgi_enabled: Option<bool>,
    #[serde(default)]
    pub redis_enabled: Option<bool>,
    /// Number the rendered configuration carries and the generation probe must answer; every
    /// attempt of every toggle of an environment has a larger one than those before it.
    pub generation: u64,
}

/// Which caches a purge touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSet {
    pub fastcgi: bool,
    pub redis: bool,
}

/// What a purge is about in the FastCGI cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PurgeScope {
    /// Every entry.
    All,
    /// Exactly these absolute URLs, with all their variants.
    Urls { urls: Vec<String> },
    /// Whatever one of these matches.
    Select(Selection),
}

/// Entries by what they are about; at least one list is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Absolute URLs, each with all its `Vary` variants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Also the same paths with any query string.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub query_variants: bool,
    /// Absolute URLs; the host is compared whole, path and query by their beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Entries whose stored `Surrogate-Key` header holds one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What becomes of the entries a purge is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurgeMode {
    /// Gone: the next visitor gets a new page.
    #[default]
    Hard,
    /// Stale: the next visitor gets the old page while it is made anew behind them. Pages that
    /// are no longer there are removed instead.
    Soft,
    /// Made anew past the cache and stored over the old entry: no visitor ever waits.
    Refresh,
}

impl PurgeMode {
    /// The mode's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Refresh => "refresh",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Hard, Self::Soft, Self::Refresh].into_iter().find(|mode| mode.as_str() == name)
    }
}

/// Purge an environment's caches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeSpec {
    pub environment: EnvironmentDoc,
    pub caches: CacheSet,
    pub scope: PurgeScope,
    /// What becomes of FastCGI entries; Redis keys are always removed.
    #[serde(default)]
    pub mode: PurgeMode,
    /// Count what would be purged, change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Fetch pages past the cache and store them, over what is there: nobody misses meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmSpec {
    pub environment: EnvironmentDoc,
    /// Absolute URLs of the environment's domain.
    pub urls: Vec<String>,
    /// Entries stored at this time or later are warm already, so that a job that was cut off goes
    /// on where it was; microseconds UTC by the controller's clock.
    pub wanted_at_us: i64,
    /// What the controller's clock said when it handed this out: the host's own clock at that
    /// moment tells how far the two are apart. Absent: take them for equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at_us: Option<i64>,
}

/// Say what is in an environment's page cache; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsSpec {
    pub environment: EnvironmentDoc,
}

/// Say what the cache does with one URL and why; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainSpec {
    pub environment: EnvironmentDoc,
    pub url: String,
}

/// Look at the host and say what would be wrong; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpec {
    pub environment: EnvironmentDoc,
}

/// Take back everything Hostler rendered for an environment; the site itself stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveSpec {
    pub environment: EnvironmentDoc,
    /// As in [`ToggleSpec::generation`].
    pub generation: u64,
}
