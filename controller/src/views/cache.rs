//! The caches of an environment: what should be, what is, and the two requests that change it.

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

/// What to purge; everything left out means both caches, all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeCaches {
    /// Which caches; left out: every cache the environment has (with `urls`: FastCGI alone).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 2)]
    pub caches: Option<Vec<CacheName>>,
    /// Exactly these absolute URLs of the environment's domain, with all their variants.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 10000)]
    pub urls: Option<Vec<String>>,
    /// Count what would be removed, remove nothing.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, default = false)]
    pub dry_run: Option<bool>,
    /// Known, not built yet: refused with `NOT_SUPPORTED_YET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub prefixes: Option<serde_json::Value>,
    /// Known, not built yet: refused with `NOT_SUPPORTED_YET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub tags: Option<serde_json::Value>,
    /// Known, not built yet: refused with `NOT_SUPPORTED_YET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub mode: Option<serde_json::Value>,
    /// Known, not built yet: refused with `NOT_SUPPORTED_YET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub warm: Option<serde_json::Value>,
}
