//! What a job that succeeded has to say, by type.

use serde::{Deserialize, Serialize};

/// Result of `env_cache_toggle`. Each part is present if the environment has that cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToggleResult {
    /// The generation the live configuration answered with.
    pub generation: u64,
    #[serde(default)]
    pub fastcgi: Option<FlagResult>,
    #[serde(default)]
    pub redis: Option<FlagResult>,
}

/// One cache after a toggle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagResult {
    /// What the host does now.
    pub enabled: bool,
    /// Whether this job changed it.
    pub changed: bool,
    /// What was observed, in words a person can check (`second request answered HIT`).
    pub proof: String,
    /// Entries or keys purged on the way.
    #[serde(default)]
    pub purged: u64,
}

/// Result of `cache_purge`; with `dry_run` the counts are what would be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeResult {
    pub dry_run: bool,
    #[serde(default)]
    pub fastcgi: Option<FastcgiPurge>,
    #[serde(default)]
    pub redis: Option<RedisPurge>,
}

/// The FastCGI part of a purge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastcgiPurge {
    /// Entries found.
    pub found: u64,
    /// Entries gone.
    pub removed: u64,
    /// Bytes those entries held on disk.
    pub bytes: u64,
    /// With a scope of `all` entries leave at once and are deleted and counted afterwards: false
    /// when the count was cut short (`counted_entries_max`).
    #[serde(default = "yes")]
    pub counted: bool,
    /// Per URL, in the order asked; empty for a scope of `all`.
    #[serde(default)]
    pub urls: Vec<UrlPurge>,
}

fn yes() -> bool {
    true
}

/// One URL of a purge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlPurge {
    pub url: String,
    pub found: u64,
    pub removed: u64,
    pub bytes: u64,
    /// Cache status of a request that reads the visitors' entry and stores nothing; only the
    /// first [`super::PROBED_URLS_MAX`] URLs are probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CacheStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<CacheStatus>,
}

/// What nginx says of a request: the values of `$upstream_cache_status`
/// (<https://nginx.org/en/docs/http/ngx_http_upstream_module.html#var_upstream_cache_status>),
/// `OFF` where no cache is configured, and `UNKNOWN` where the probe itself failed, or could not see
/// the entry because it is one of a scheme the probe origin does not speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CacheStatus {
    Miss,
    Bypass,
    Expired,
    Stale,
    Updating,
    Revalidated,
    Hit,
    Off,
    #[serde(other)]
    Unknown,
}

/// The Redis part of a purge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisPurge {
    pub found: u64,
    pub removed: u64,
    /// Memory of the keys found, by Redis' own estimate (`MEMORY USAGE`); 0 where the environment's
    /// Redis user may not ask for it.
    #[serde(default)]
    pub bytes: u64,
}

/// Result of `env_check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// True when no finding is an error.
    pub ok: bool,
    pub findings: Vec<CheckFinding>,
}

/// One thing `env_check` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// Stable code of what was looked at, in lower case (`nginx_include_http`).
    pub check: String,
    pub severity: Severity,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Ok,
    Warning,
    Error,
}

/// Result of `env_delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveResult {
    /// Files removed or emptied, absolute paths.
    pub files: Vec<String>,
    /// Cache entries removed with the zone.
    pub purged: u64,
}
