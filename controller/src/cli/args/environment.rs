//! `hostler env …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::wait::WaitArgs;

/// What kind of application an environment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Kind {
    Php,
    Wordpress,
}

/// Who carries jobs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Executing {
    Native,
    Ansible,
    // As the job's template says. (A doc comment would stretch --help.)
    Template,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EnvironmentVerb {
    /// Creates an environment; nothing happens on its host yet
    #[command(after_help = "\
An environment gets a FastCGI cache unless --no-fastcgi is given, and a Redis cache if --redis-url
is; both are off until `hostler cache set` switches them on. --from-file takes the document of the
API (`hostler env show -o json` shows its fields); other options win over it.

Examples:
  hostler env create shop/production --host web1 --domain shop.example --docroot /var/www/shop
  hostler env create shop/production --host web1 --domain shop.example --docroot /var/www/shop \\
      --kind wordpress --redis-url redis://127.0.0.1:6379/0 --redis-prefix shop-production:
  hostler env create shop/staging --from-file staging.json
  jq .staging sites.json | hostler env create shop/staging --from-file -")]
    Create(Box<CreateArgs>),
    /// Lists environments
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  hostler env list --site shop
  hostler env list --label tier=prod
  hostler env list --host web1 -o json"
    )]
    List {
        /// Only those of this site: name or id
        #[arg(long, value_name = "SITE")]
        site: Option<String>,
        /// Only those on this host: name or id
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Only those with this label, their own or their host's; given again, both have to hold
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// Shows one environment
    #[command(after_help = "Example:\n  hostler env show shop/production")]
    Show {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
    },
    /// Changes an environment; what is not named stays
    #[command(after_help = "\
Examples:
  hostler env change shop/production --fastcgi-valid-secs 600
  hostler env change shop/production --name live
  hostler env change shop/production --executor ansible
  hostler env change shop/production --no-redis")]
    Change(Box<ChangeArgs>),
    /// Sets labels of an environment, and takes labels away
    #[command(after_help = "\
KEY=VALUE sets a label, KEY- takes it away; others stay. An environment has its host's labels too,
unless it says otherwise itself.

Examples:
  hostler env label shop/production tier=prod
  hostler env label shop/production tier-")]
    Label {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
        /// What to set or take away
        #[arg(value_name = "KEY=VALUE", required = true)]
        labels: Vec<String>,
    },
    /// Takes back what Hostler put on the host and forgets the environment; the site's files stay
    #[command(
        visible_alias = "rm",
        after_help = "\
What is still queued for it is cancelled. An offline host's environment stays until it is back.

Example:
  hostler env delete shop/staging --yes --wait"
    )]
    Delete {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Looks at the host and says what would be wrong; changes nothing
    #[command(after_help = "\
Waits for the findings (60 s at most) unless --no-wait says otherwise. Exit code 1 if one of them
is an error.

Example:
  hostler env check shop/production")]
    Check {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// `site/name`; the site must exist
    #[arg(value_name = "SITE/NAME")]
    pub(in crate::cli) environment: String,
    #[command(flatten)]
    pub(in crate::cli) fields: Fields,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ChangeArgs {
    /// `site/name` or id
    #[arg(value_name = "ENV")]
    pub(in crate::cli) environment: String,
    /// Its new name within the site
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) fields: Fields,
}

/// Every field of an environment.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Fields {
    /// JSON document with any of the fields below; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) from_file: Option<PathBuf>,
    /// The host it is on: name or id
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) host: Option<String>,
    /// The host name visitors use
    #[arg(long, value_name = "DOMAIN")]
    pub(in crate::cli) domain: Option<String>,
    /// What it runs [a new one: php]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(in crate::cli) kind: Option<Kind>,
    /// Where the application's files are
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) docroot: Option<String>,
    /// The system user it runs as [a new one: www-data]
    #[arg(long, value_name = "USER")]
    pub(in crate::cli) user: Option<String>,
    /// Who carries out toggles, purges and warm-ups; `template`: as each job's template says [a new
    /// one: template]
    #[arg(long, value_enum, value_name = "EXECUTOR")]
    pub(in crate::cli) executor: Option<Executing>,
    #[command(flatten)]
    pub(in crate::cli) nginx: NginxFields,
    #[command(flatten)]
    pub(in crate::cli) fastcgi: FastcgiFields,
    #[command(flatten)]
    pub(in crate::cli) redis: RedisFields,
    #[command(flatten)]
    pub(in crate::cli) health: HealthFields,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "nginx")]
pub(in crate::cli) struct NginxFields {
    /// File to include in `http {}` [/etc/nginx/hostler/SITE-NAME/http.conf]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) http_file: Option<String>,
    /// File to include in the domain's `server {}` [.../server.conf]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) server_file: Option<String>,
    /// File to include in the `location {}` that passes to PHP [.../location.conf]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) location_file: Option<String>,
    /// Where probes connect on the host [http://127.0.0.1:80]
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) probe_origin: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "FastCGI cache")]
pub(in crate::cli) struct FastcgiFields {
    /// No FastCGI cache
    #[arg(long)]
    pub(in crate::cli) no_fastcgi: bool,
    /// Its own directory [/var/cache/nginx/hostler/SITE-NAME]
    #[arg(long, value_name = "DIR", conflicts_with = "no_fastcgi")]
    pub(in crate::cli) fastcgi_dir: Option<String>,
    /// Format of its keys [$scheme$request_method$host$request_uri]
    #[arg(long, value_name = "FORMAT", conflicts_with = "no_fastcgi")]
    pub(in crate::cli) fastcgi_key: Option<String>,
    /// Size of the key zone, in MiB [10]
    #[arg(long, value_name = "MIB", conflicts_with = "no_fastcgi")]
    pub(in crate::cli) fastcgi_zone_mib: Option<u32>,
    /// Upper bound on disk, in MiB [1024]
    #[arg(long, value_name = "MIB", conflicts_with = "no_fastcgi")]
    pub(in crate::cli) fastcgi_size_mib_max: Option<u32>,
    /// Entries nobody asks for go after so many seconds [86400]
    #[arg(long, value_name = "SECS", conflicts_with = "no_fastcgi")]
    pub(in crate::cli) fastcgi_inactive_secs: Option<u32>,
    /// A stored page is fresh for so many seconds [3600]
    #[arg(long, value_name = "SECS", conflicts_with = "no_fastcgi")]
    pub(in crate::cli) fastcgi_valid_secs: Option<u32>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Redis cache")]
pub(in crate::cli) struct RedisFields {
    /// No Redis cache
    #[arg(long)]
    pub(in crate::cli) no_redis: bool,
    /// redis://[user@]host:port[/database] or unix:///path, never with a password
    #[arg(long, value_name = "URL", conflicts_with = "no_redis")]
    pub(in crate::cli) redis_url: Option<String>,
    /// Every key of the environment begins with this [a new one: SITE-NAME:]
    #[arg(long, value_name = "TEXT", conflicts_with = "no_redis")]
    pub(in crate::cli) redis_prefix: Option<String>,
    /// File on the host that holds the password
    #[arg(long, value_name = "FILE", conflicts_with = "no_redis")]
    pub(in crate::cli) redis_password_file: Option<String>,
    /// php: JSON file the application reads to learn whether to use Redis
    #[arg(long, value_name = "FILE", conflicts_with = "no_redis")]
    pub(in crate::cli) redis_switch_file: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Health check")]
pub(in crate::cli) struct HealthFields {
    /// Path requested [/]
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) health_path: Option<String>,
    /// Status expected [200]
    #[arg(long, value_name = "STATUS")]
    pub(in crate::cli) health_status: Option<u16>,
    /// Bound on the request, in milliseconds [5000]
    #[arg(long, value_name = "MS")]
    pub(in crate::cli) health_timeout_ms: Option<u32>,
}
