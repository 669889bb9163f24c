//! The caches of an environment: what should be, what is, and the requests that change it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::present::present;
use super::{JobError, Timestamp};

/// One of an environment's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheName {
    /// nginx's cache of rendered pages.
    Fastcgi,
    /// The application's object cache.
    Redis,
}

/// One cache: what should be and what the host is known to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheFlag {
    /// Whether it should be on.
    pub desired: bool,
    /// Whether it is on; null until a job has proven it.
    pub applied: Option<bool>,
    pub applied_at: Option<Timestamp>,
    /// Why the last toggle failed; null after a success.
    pub last_error: Option<JobError>,
}

/// The caches of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheState {
    #[schema(value_type = super::EnvironmentIdText)]
    pub environment_id: String,
    /// Whether what is applied is what is desired, for every cache there is.
    pub in_sync: bool,
    /// Null: the environment has no FastCGI cache.
    pub fastcgi: Option<CacheFlag>,
    /// Null: the environment has no Redis cache.
    pub redis: Option<CacheFlag>,
}

/// Which caches should be on; only the flags named change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub struct SetCaches {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fastcgi_cache_enabled: Option<bool>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub redis_cache_enabled: Option<bool>,
}

/// What becomes of the entries a purge is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PurgeMode {
    /// Gone: the next visitor gets a new page.
    Hard,
    /// Stale: the next visitor gets the old page while it is made anew behind them. Pages given by
    /// URL that are no longer there are removed instead; 100 are asked in one purge.
    Soft,
    /// Made anew past the cache and stored over the old entry: no visitor ever waits.
    Refresh,
}

/// What to purge; everything left out means both caches, all of them. `urls`, `prefixes` and
/// `tags` together name whatever one of them names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeCaches {
    /// Which caches; left out: every cache the environment has (with `urls`, `prefixes` or `tags`:
    /// FastCGI alone).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 2)]
    pub caches: Option<Vec<CacheName>>,
    /// Exactly these absolute URLs of the environment's domain, with all their variants.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 10000)]
    pub urls: Option<Vec<String>>,
    /// The paths of `urls` with any query string too.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub query_variants: Option<bool>,
    /// Every page whose absolute URL begins with one of these; without a path it means `/`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 100)]
    pub prefixes: Option<Vec<String>>,
    /// Every page whose `Surrogate-Key` header holds one of these: visible ASCII, at most 1,024
    /// bytes each.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 256)]
    pub tags: Option<Vec<String>>,
    /// What becomes of pages; Redis keys are removed in every mode. Left out: `hard`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = "hard")]
    pub mode: Option<PurgeMode>,
    /// Queue a warm-up when the purge has succeeded: of `urls`, of the pages its result lists, and
    /// of the home page if it was not about URLs alone. Not after a dry run.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub warm: Option<bool>,
    /// Count what would be removed, remove nothing.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub dry_run: Option<bool>,
}

/// Which pages to warm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmCache {
    /// Absolute URLs of the environment's domain.
    #[schema(min_items = 1, max_items = 10000)]
    pub urls: Vec<String>,
}

/// Which page to explain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainUrl {
    /// An absolute URL of the environment's domain.
    #[schema(min_length = 1, max_length = 4096, example = "https://shop.example/")]
    pub url: String,
}
