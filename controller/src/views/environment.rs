//! Environments as they are read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CacheState, Labels, Timestamp};

/// What kind of application an environment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    Php,
    Wordpress,
}

/// Who carries a job out on its host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// The agent itself.
    #[default]
    Native,
    /// `ansible-playbook` on the host.
    Ansible,
}

/// What state an environment is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentState {
    Active,
    /// Something could not be put right; a person has to look.
    Failed,
    /// Its removal waits or runs; it vanishes when its host has confirmed.
    Deleting,
}

/// The nginx files Hostler renders and the vhost includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NginxSettings {
    /// Included in `http {}`.
    pub http_file: String,
    /// Included in the domain's `server {}`.
    pub server_file: String,
    /// Included in the `location {}` that passes to PHP.
    pub location_file: String,
    /// Where probes connect on the host.
    pub probe_origin: String,
}

/// The FastCGI cache: one directory and one zone of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FastcgiSettings {
    pub cache_dir: String,
    pub key_format: String,
    /// Size of the key zone, in MiB.
    pub zone_mib: u32,
    /// Upper bound of the cache on disk, in MiB.
    pub size_mib_max: u32,
    /// Entries nobody asked for during this time go, in seconds.
    pub inactive_secs: u32,
    /// How long a stored page is fresh, in seconds.
    pub valid_secs: u32,
}

/// The Redis object cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedisSettings {
    /// Without a password: that stands in a file on the host.
    pub url: String,
    pub password_file: Option<String>,
    /// Every key of the environment begins with this text.
    pub prefix: String,
    /// `php` only: the JSON file the application reads to learn whether to use Redis.
    pub switch_file: Option<String>,
}

/// How the environment is known to be well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthSettings {
    pub path: String,
    /// Status expected.
    pub status: u16,
    /// Bound on the request, in milliseconds.
    pub timeout_ms: u32,
}

/// One deployment of a site on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    #[schema(value_type = super::EnvironmentIdText)]
    pub id: String,
    #[schema(value_type = super::SiteIdText)]
    pub site_id: String,
    /// The site's name.
    pub site: String,
    /// Unique within the site (`production`).
    pub name: String,
    #[schema(value_type = super::HostIdText)]
    pub host_id: String,
    pub state: EnvironmentState,
    /// The host name visitors use.
    pub domain: String,
    pub kind: AppKind,
    pub docroot: String,
    /// The system user the application runs as.
    pub user: String,
    pub nginx: NginxSettings,
    /// Null: it has no FastCGI cache.
    pub fastcgi: Option<FastcgiSettings>,
    /// Null: it has no Redis cache.
    pub redis: Option<RedisSettings>,
    pub health: HealthSettings,
    /// Who carries out toggles, purges and warm-ups here. Null: as their template says.
    #[serde(default)]
    #[schema(required)]
    pub executor: Option<Executor>,
    /// What people call it, beside its host's labels; its host is never told.
    #[serde(default)]
    #[schema(required)]
    pub labels: Labels,
    pub cache: CacheState,
    /// Grows by one with each change.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One page of environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentPage {
    pub items: Vec<Environment>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}
