//! The part of an environment an agent needs to know to work on it.

use serde::{Deserialize, Serialize};

use super::executor::Executor;
use crate::id::EnvironmentId;

/// The cache key nginx setups of this kind use most: scheme, method, host, path with query.
pub const KEY_FORMAT_DEFAULT: &str = "$scheme$request_method$host$request_uri";

/// What kind of application an environment runs; decides the bypass rules and the Redis switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// Any PHP application; reads its Redis switch from a file.
    Php,
    /// WordPress with an installed object-cache plugin.
    Wordpress,
}

/// One environment, as its host sees it. Paths are absolute and normalised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentDoc {
    pub id: EnvironmentId,
    /// Name of the site it belongs to, for messages.
    pub site: String,
    /// Name within the site (`production`), for messages.
    pub name: String,
    /// The host name visitors use, lower case.
    pub domain: String,
    pub kind: AppKind,
    pub docroot: String,
    /// The system user the application runs as.
    pub user: String,
    pub nginx: NginxDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fastcgi: Option<FastcgiDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisDoc>,
    pub health: HealthDoc,
    /// Who carries jobs out here, where a playbook exists for them; `None`: as their template says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
}

/// The three files the agent renders and the operator's vhost includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NginxDoc {
    /// Included in `http {}`: cache zone and maps.
    pub http_file: String,
    /// Included in the `server {}` of the domain: generation probe.
    pub server_file: String,
    /// Included in the `location {}` that passes to PHP: cache directives.
    pub location_file: String,
    /// Where probes connect on the host, `http://127.0.0.1:80`; the `Host` header is the domain.
    pub probe_origin: String,
}

/// The FastCGI cache of one environment: one directory and one zone of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastcgiDoc {
    pub cache_dir: String,
    /// `$scheme`, `$request_method`, `$host`, `$request_uri` and literal text between them.
    pub key_format: String,
    /// Size of the key zone, in MiB (about 8,000 keys each).
    pub zone_mib: u32,
    /// Upper bound of the cache on disk, in MiB.
    pub size_mib_max: u32,
    /// Entries nobody asked for during this time go, in seconds.
    pub inactive_secs: u32,
    /// How long a stored 200, 301 or 302 is fresh, in seconds.
    pub valid_secs: u32,
}

/// The Redis object cache of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisDoc {
    /// `redis://[user@]host:port[/database]` or `unix:///path`, never with a password.
    pub url: String,
    /// A file on the host that holds the password (first line), if one is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// Every key of the environment begins with this text, taken literally.
    pub prefix: String,
    /// `php` only: the JSON file the application reads to learn whether to use Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_file: Option<String>,
}

/// How the environment is known to be well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthDoc {
    /// Path requested, beginning with `/`.
    pub path: String,
    /// Status expected.
    pub status: u16,
    /// Bound on the request, in milliseconds.
    pub timeout_ms: u32,
}
