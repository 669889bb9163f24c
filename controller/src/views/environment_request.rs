//! Environments as they are created and changed. What is left out of a creation gets a default,
//! what is left out of a change stays; a null takes a cache away.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::present::{nullable, present};
use super::{AppKind, Executor, LabelChanges, Labels};

/// A new environment of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnvironment {
    /// Unique within the site; lower-case letters, digits and hyphens.
    #[schema(
        pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        max_length = 63,
        example = "production"
    )]
    pub name: String,
    /// Id or name of the host it is on.
    #[schema(min_length = 1, max_length = 253, example = "web1")]
    pub host: String,
    /// The host name visitors use.
    #[schema(min_length = 1, max_length = 253, example = "shop.example")]
    pub domain: String,
    pub kind: AppKind,
    /// Where the application's files are, absolute.
    #[schema(min_length = 2, max_length = 1024, example = "/var/www/shop")]
    pub docroot: String,
    /// The system user the application runs as.
    #[schema(min_length = 1, max_length = 32, example = "www-data")]
    pub user: String,
    /// Left out: files under `/etc/nginx/hostler/`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub nginx: Option<NewNginx>,
    /// Left out: no FastCGI cache; `{}`: one with every default.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fastcgi: Option<NewFastcgi>,
    /// Left out: no Redis cache.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub redis: Option<NewRedis>,
    /// Left out: `/` answers 200 within 5 s.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub health: Option<NewHealth>,
    /// Who carries out toggles, purges and warm-ups here. Left out or null: as their template says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
    /// What people call it; left out: nothing.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<Labels>,
}

/// The nginx files of a new environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNginx {
    /// Included in `http {}`; default `/etc/nginx/hostler/<site>-<name>/http.conf`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.conf$")]
    pub http_file: Option<String>,
    /// Included in the domain's `server {}`; default `…/server.conf`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.conf$")]
    pub server_file: Option<String>,
    /// Included in the `location {}` that passes to PHP; default `…/location.conf`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.conf$")]
    pub location_file: Option<String>,
    /// Where probes connect on the host: `http://` or `https://` and a loopback address with
    /// port. Pages are refreshed and warmed in its scheme: `https://` where nginx itself ends TLS,
    /// and where a site answers in HTTPS only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 256, default = "http://127.0.0.1:80")]
    pub probe_origin: Option<String>,
}

/// The FastCGI cache of a new environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFastcgi {
    /// Its own directory; default `/var/cache/nginx/hostler/<site>-<name>`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024)]
    pub cache_dir: Option<String>,
    /// `$scheme`, `$request_method`, `$host`, `$request_uri` and literal text.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        max_length = 256,
        default = "$scheme$request_method$host$request_uri"
    )]
    pub key_format: Option<String>,
    /// Size of the key zone, in MiB.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1024, default = 10)]
    pub zone_mib: Option<u32>,
    /// Upper bound of the cache on disk, in MiB.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1048576, default = 1024)]
    pub size_mib_max: Option<u32>,
    /// Entries nobody asked for during this time go, in seconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 31536000, default = 86400)]
    pub inactive_secs: Option<u32>,
    /// How long a stored page is fresh, in seconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 31536000, default = 3600)]
    pub valid_secs: Option<u32>,
}

/// The Redis cache of a new environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRedis {
    /// `redis://[user@]host:port[/database]` or `unix:///path`, never with a password.
    #[schema(min_length = 1, max_length = 512, example = "redis://127.0.0.1:6379/0")]
    pub url: String,
    /// A file on the host that holds the password (first line).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024)]
    pub password_file: Option<String>,
    /// Every key of the environment begins with this text, taken literally.
    #[schema(min_length = 1, max_length = 128, example = "shop-production:")]
    pub prefix: String,
    /// `php` only, and needed there: the JSON file the application reads.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.json$")]
    pub switch_file: Option<String>,
}

/// The health check of a new environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHealth {
    /// Path requested, beginning with `/`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 1024, default = "/")]
    pub path: Option<String>,
    /// Status expected.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 100, maximum = 599, default = 200)]
    pub status: Option<u16>,
    /// Bound on the request, in milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 100, maximum = 60000, default = 5000)]
    pub timeout_ms: Option<u32>,
}

/// A change of an environment; what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub struct ChangeEnvironment {
    /// Unique within the site.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length = 63)]
    pub name: Option<String>,
    /// Id or name of another host; its caches must be off.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 253)]
    pub host: Option<String>,
    /// The host name visitors use.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 253)]
    pub domain: Option<String>,
    /// What kind of application it runs.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kind: Option<AppKind>,
    /// Where the application's files are, absolute.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024)]
    pub docroot: Option<String>,
    /// The system user the application runs as.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 32)]
    pub user: Option<String>,
    /// What is left out stays.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub nginx: Option<ChangeNginx>,
    /// Null takes the FastCGI cache away; it must be off.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ChangeFastcgi>)]
    pub fastcgi: Option<Option<ChangeFastcgi>>,
    /// Null takes the Redis cache away; it must be off.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ChangeRedis>)]
    pub redis: Option<Option<ChangeRedis>>,
    /// What is left out stays.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub health: Option<ChangeHealth>,
    /// Null: as the job's template says.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Executor>)]
    pub executor: Option<Option<Executor>>,
    /// Labels to set, and (as null) to take away; others stay.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<LabelChanges>,
}

/// A change of the nginx files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeNginx {
    /// Included in `http {}`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.conf$")]
    pub http_file: Option<String>,
    /// Included in the domain's `server {}`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.conf$")]
    pub server_file: Option<String>,
    /// Included in the `location {}` that passes to PHP.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.conf$")]
    pub location_file: Option<String>,
    /// Where probes connect on the host: `http://` or `https://` and a loopback address with port.
    /// Pages are refreshed and warmed in its scheme: `https://` where nginx itself ends TLS.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 256)]
    pub probe_origin: Option<String>,
}

/// A change of the FastCGI cache, or a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeFastcgi {
    /// Its own directory; default `/var/cache/nginx/hostler/<site>-<name>`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024)]
    pub cache_dir: Option<String>,
    /// `$scheme`, `$request_method`, `$host`, `$request_uri` and literal text.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 256)]
    pub key_format: Option<String>,
    /// Size of the key zone, in MiB.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1024)]
    pub zone_mib: Option<u32>,
    /// Upper bound of the cache on disk, in MiB.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 1048576)]
    pub size_mib_max: Option<u32>,
    /// Entries nobody asked for during this time go, in seconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 31536000)]
    pub inactive_secs: Option<u32>,
    /// How long a stored page is fresh, in seconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 31536000)]
    pub valid_secs: Option<u32>,
}

/// A change of the Redis cache, or a new one (then `url` and `prefix` are needed).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRedis {
    /// As in the creation.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 512)]
    pub url: Option<String>,
    /// A file on the host that holds the password (first line).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024)]
    pub password_file: Option<String>,
    /// As in the creation.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    pub prefix: Option<String>,
    /// `php` only, and needed there: the JSON file the application reads.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 2, max_length = 1024, pattern = "^/.*[^/]\\.json$")]
    pub switch_file: Option<String>,
}

/// A change of the health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeHealth {
    /// Path requested, beginning with `/`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 1024)]
    pub path: Option<String>,
    /// Status expected.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 100, maximum = 599)]
    pub status: Option<u16>,
    /// Bound on the request, in milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 100, maximum = 60000)]
    pub timeout_ms: Option<u32>,
}
