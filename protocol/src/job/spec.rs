//! What a job is told to do.

use serde::{Deserialize, Serialize};

use super::environment::EnvironmentDoc;

/// Most URLs one purge may name.
pub const PURGE_URLS_MAX: usize = 10_000;
/// Most URLs whose cache status is probed before and after a purge, per job.
pub const PROBED_URLS_MAX: usize = 10;

/// The type of a job: its name in the API, in templates and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobType {
    EnvCacheToggle,
    CachePurge,
    EnvCheck,
    EnvDelete,
}

impl JobType {
    /// Every job type, in the order they were added.
    pub const ALL: [Self; 4] =
        [Self::EnvCacheToggle, Self::CachePurge, Self::EnvCheck, Self::EnvDelete];

    /// The type's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnvCacheToggle => "env_cache_toggle",
            Self::CachePurge => "cache_purge",
            Self::EnvCheck => "env_check",
            Self::EnvDelete => "env_delete",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
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
        }
    }

    /// The environment it works on.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentDoc {
        match self {
            Self::EnvCacheToggle(spec) => &spec.environment,
            Self::CachePurge(spec) => &spec.environment,
            Self::EnvCheck(spec) => &spec.environment,
            Self::EnvDelete(spec) => &spec.environment,
        }
    }
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

/// What a purge removes from the FastCGI cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PurgeScope {
    /// Every entry.
    All,
    /// Exactly these absolute URLs, with all their variants.
    Urls { urls: Vec<String> },
}

/// Remove entries from an environment's caches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeSpec {
    pub environment: EnvironmentDoc,
    pub caches: CacheSet,
    pub scope: PurgeScope,
    /// Count what would be removed, remove nothing.
    #[serde(default)]
    pub dry_run: bool,
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
