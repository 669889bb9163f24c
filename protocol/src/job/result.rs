//! What a job that succeeded has to say, by type.

use serde::{Deserialize, Serialize};

use super::spec::PurgeMode;

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

/// The FastCGI part of a purge. `found` is `removed` + `softened` + `refreshed` + `failed`, unless
/// entries went away by themselves meanwhile; in a dry run only `found` and `bytes` count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastcgiPurge {
    /// Entries found.
    pub found: u64,
    /// Entries gone.
    pub removed: u64,
    /// Entries made stale.
    #[serde(default)]
    pub softened: u64,
    /// Entries made anew in place.
    #[serde(default)]
    pub refreshed: u64,
    /// Entries that could not be made anew and stay as they were.
    #[serde(default)]
    pub failed: u64,
    /// Bytes the entries found held on disk.
    pub bytes: u64,
    /// With a scope of `all` entries leave at once and are deleted and counted afterwards: false
    /// when the count was cut short (`counted_entries_max`).
    #[serde(default = "yes")]
    pub counted: bool,
    /// What was asked for; `hard` in results from before there was a choice.
    #[serde(default)]
    pub mode: PurgeMode,
    /// Why entries were treated in another mode than asked; empty if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_note: Option<String>,
    /// How long keys that were being rendered during the purge are watched for and purged again,
    /// in seconds after the purge; 0: not at all.
    #[serde(default)]
    pub watched_secs: u32,
    /// Per URL, in the order asked; empty for a scope of `all`.
    #[serde(default)]
    pub urls: Vec<UrlPurge>,
}

impl Default for FastcgiPurge {
    fn default() -> Self {
        Self {
            found: 0,
            removed: 0,
            softened: 0,
            refreshed: 0,
            failed: 0,
            bytes: 0,
            counted: true,
            mode: PurgeMode::Hard,
            mode_note: None,
            watched_secs: 0,
            urls: Vec::new(),
        }
    }
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
    #[serde(default)]
    pub softened: u64,
    #[serde(default)]
    pub refreshed: u64,
    #[serde(default)]
    pub failed: u64,
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

/// Result of `cache_warm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmResult {
    /// URLs fetched and stored.
    pub warmed: u64,
    /// URLs that were warm already.
    pub fresh: u64,
    /// URLs answered in a way that is not stored.
    pub not_stored: u64,
    /// URLs that got no good answer.
    pub failed: u64,
    /// URLs not asked for: the warm-up was no longer wanted, or too much went wrong.
    #[serde(default)]
    pub dropped: u64,
    /// Why URLs were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_because: Option<String>,
    /// Most requests that were under way at once.
    pub concurrency: u32,
    /// In the order asked.
    pub urls: Vec<UrlWarm>,
}

/// One URL of a warm-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlWarm {
    pub url: String,
    pub state: WarmState,
    /// HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long the page took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Why it is as it is, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What became of a URL of a warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmState {
    Warmed,
    Fresh,
    NotStored,
    Failed,
    Dropped,
    #[serde(other)]
    Unknown,
}

/// Result of `cache_facts`: what lies in the page cache. Ages in seconds by the host's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsResult {
    pub entries: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Entries a visitor would get without PHP.
    pub fresh: u64,
    /// Entries past their time.
    pub stale: u64,
    /// Files that are no entries of a format this agent knows.
    pub unreadable: u64,
    /// Age of the entry stored first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_secs: Option<u64>,
    /// Age of the entry stored last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_secs: Option<u64>,
    /// False when the scan was cut short (`scanned_entries_max`).
    pub whole: bool,
    /// How long the scan took, in milliseconds.
    pub took_ms: u64,
    /// Whether soft purges work with the nginx that runs, as last tested: null if not tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_works: Option<bool>,
}

/// Result of `cache_explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainResult {
    pub url: String,
    /// What a visitor's request would be answered from.
    pub status: CacheStatus,
    /// HTTP status of that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// Whether an answer to this URL is, or would be, stored.
    pub cacheable: bool,
    /// What speaks for and against it, the deciding reason first.
    pub reasons: Vec<ExplainReason>,
    /// The entries stored for this URL.
    pub entries: Vec<ExplainEntry>,
}

/// One reason of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReason {
    /// Stable, lower case (`cache_off`, `bypass_uri`, `set_cookie`, `stored`).
    pub code: String,
    pub message: String,
}

/// One stored entry of an explained URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainEntry {
    /// The key it is stored under.
    pub key: String,
    /// The file, an absolute path.
    pub file: String,
    pub bytes: u64,
    /// Since when it is stored, in seconds.
    pub age_secs: u64,
    /// How long it is still fresh, in seconds; negative: stale for so long.
    pub fresh_secs: i64,
    /// Request headers it varies by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// Its `Surrogate-Key` tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}
