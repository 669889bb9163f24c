//! Settings: flags, then environment, then a TOML file, then defaults.
//!
//! Invariants: it starts with nothing set at all; an unknown key of the file is an error that
//! names its line; all bad settings are told at once.

mod bundles;
mod file;
mod git;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::pki::{HOST_SECS, HOST_SECS_MAX, HOST_SECS_MIN};
use crate::store::DatabaseUrl;
use crate::telemetry::LogFormat;

pub use bundles::{BundlesArgs, BundlesFile};
pub use file::{FileConfig, FileError};
pub use git::{DesiredConfig, GitArgs, Secrets};

/// Where the API listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7460";
/// Where agents connect (UDP) unless told otherwise.
pub const AGENT_LISTEN_DEFAULT: &str = "0.0.0.0:7461";
/// Where metrics are served unless told otherwise.
pub const METRICS_LISTEN_DEFAULT: &str = "127.0.0.1:7462";
/// The data directory of a controller run by root.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/hostler";

/// Every setting as flags and environment give it. Values are texts so that all that is wrong can
/// be told at once.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Directory of the database and the certificate authority
    #[arg(long, env = "HOSTLER_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP API
    #[arg(long, env = "HOSTLER_LISTEN", value_name = "ADDR:PORT", global = true)]
    pub listen: Option<String>,
    /// Address (UDP) that agents connect to
    #[arg(long, env = "HOSTLER_AGENT_LISTEN", value_name = "ADDR:PORT", global = true)]
    pub agent_listen: Option<String>,
    /// Address of the Prometheus metrics; `off` for none
    #[arg(long, env = "HOSTLER_METRICS_LISTEN", value_name = "ADDR:PORT", global = true)]
    pub metrics_listen: Option<String>,
    /// `sqlite:FILE` or `postgres://…`; a file in the data directory if not given
    #[arg(
        long,
        env = "HOSTLER_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    pub database_url: Option<String>,
    /// TOML file with settings of the same names
    #[arg(long, env = "HOSTLER_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// `text` or `json`
    #[arg(long, env = "HOSTLER_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
    /// How new hosts reach the agents' port (`host:port`, goes into join strings); may be repeated
    #[arg(
        long = "agent-address",
        env = "HOSTLER_AGENT_ADDRESS",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        global = true
    )]
    pub agent_addresses: Vec<String>,
    /// Serve the API without tokens beyond loopback: everybody who reaches it may do everything
    #[arg(
        long,
        env = "HOSTLER_INSECURE_NO_AUTH",
        num_args = 0..=1,
        default_missing_value = "true",
        global = true
    )]
    pub insecure_no_auth: Option<bool>,
    /// Ask for API tokens on loopback too: needed behind a reverse proxy, whose clients all look
    /// local
    #[arg(
        long,
        env = "HOSTLER_REQUIRE_TOKENS",
        num_args = 0..=1,
        default_missing_value = "true",
        global = true
    )]
    pub require_tokens: Option<bool>,
    /// Where API tokens are asked for: let requests without one ask for a refresh, and read
    /// refreshes and stacks
    #[arg(
        long,
        env = "HOSTLER_OPEN_DESIRED_STATE",
        num_args = 0..=1,
        default_missing_value = "true",
        global = true
    )]
    pub open_desired_state: Option<bool>,
    /// How long a host's certificate is good for, in seconds; hosts renew theirs at half of it
    #[arg(long, env = "HOSTLER_HOST_CERTIFICATE_SECS", value_name = "SECONDS", global = true)]
    pub host_certificate_secs: Option<String>,
    #[command(flatten)]
    pub git: GitArgs,
    #[command(flatten)]
    pub bundles: BundlesArgs,
}

/// Every setting, resolved and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub agent_listen: SocketAddr,
    /// `None`: metrics are not served.
    pub metrics_listen: Option<SocketAddr>,
    pub database: DatabaseUrl,
    pub log_format: LogFormat,
    /// Empty: derived from `agent_listen` once it is bound.
    pub agent_addresses: Vec<String>,
    pub insecure_no_auth: bool,
    pub require_tokens: bool,
    /// Refreshes may be asked for, and the desired state read, without a token.
    pub open_desired_state: bool,
    pub host_certificate_secs: u64,
    pub desired: DesiredConfig,
}

/// What the machine says about the process: asked once, in `main`.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub is_root: bool,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    pub secrets: Secrets,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    /// All that is wrong, a line each.
    #[error("{}", .0.join("\n"))]
    Settings(Vec<String>),
}

impl Surroundings {
    /// As the process finds them.
    #[must_use]
    pub fn of_process() -> Self {
        let dir = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            is_root: rustix::process::geteuid().is_root(),
            state_home: dir("XDG_STATE_HOME").filter(|path| path.is_absolute()),
            home: dir("HOME"),
            secrets: Secrets::of_process(),
        }
    }

    fn data_dir(&self) -> PathBuf {
        if self.is_root {
            return PathBuf::from(DATA_DIR_DEFAULT);
        }
        let state = self.state_home.clone();
        let state = state.or_else(|| self.home.as_ref().map(|home| home.join(".local/state")));
        state.map_or_else(|| PathBuf::from(DATA_DIR_DEFAULT), |state| state.join("hostler"))
    }
}

impl Config {
    /// Reads the file that was named, if one was, and resolves everything.
    ///
    /// # Errors
    /// [`ConfigError`], with everything that is wrong.
    pub fn load(settings: Settings, around: &Surroundings) -> Result<Self, ConfigError> {
        let file = match &settings.config {
            Some(path) => FileConfig::read(path)?,
            None => FileConfig::default(),
        };
        Self::resolve(settings, file, around)
    }

    /// Resolves flags and environment over a file over the defaults.
    ///
    /// # Errors
    /// [`ConfigError::Settings`], a line for each bad setting.
    pub fn resolve(
        settings: Settings,
        file: FileConfig,
        around: &Surroundings,
    ) -> Result<Self, ConfigError> {
        let mut wrong = Vec::new();
        let data_dir = settings.data_dir.or(file.data_dir).unwrap_or_else(|| around.data_dir());
        if data_dir.as_os_str().is_empty() {
            wrong.push("data-dir: name a directory".to_owned());
        }
        let listen = settings.listen.or(file.listen);
        let listen = address("listen", listen, LISTEN_DEFAULT, &mut wrong);
        let agent_listen = settings.agent_listen.or(file.agent_listen);
        let agent_listen = address("agent-listen", agent_listen, AGENT_LISTEN_DEFAULT, &mut wrong);
        let metrics_listen = settings.metrics_listen.or(file.metrics_listen);
        let metrics_listen = match metrics_listen.as_deref() {
            Some("off") => None,
            _ => {
                Some(address("metrics-listen", metrics_listen, METRICS_LISTEN_DEFAULT, &mut wrong))
            }
        };
        let database = database(settings.database_url.or(file.database_url), &data_dir, &mut wrong);
        let log_format = settings.log_format.or(file.log_format);
        let log_format = log_format.as_deref().unwrap_or("text");
        let log_format = LogFormat::parse(log_format).unwrap_or_else(|| {
            wrong.push(format!("log-format: `{log_format}` is neither `text` nor `json`"));
            LogFormat::Text
        });
        let agent_addresses = if settings.agent_addresses.is_empty() {
            file.agent_address.unwrap_or_default()
        } else {
            settings.agent_addresses
        };
        if agent_addresses.len() > hostler_protocol::join::ADDRESSES_MAX {
            wrong.push("agent-address: too many".to_owned());
        }
        for address in &agent_addresses {
            if !hostler_protocol::join::is_address(address) {
                wrong.push(format!("agent-address: `{address}` is not of the form host:port"));
            }
        }
        let insecure_no_auth = settings.insecure_no_auth.or(file.insecure_no_auth).unwrap_or(false);
        let require_tokens = settings.require_tokens.or(file.require_tokens).unwrap_or(false);
        let open_desired_state =
            settings.open_desired_state.or(file.open_desired_state).unwrap_or(false);
        if insecure_no_auth && require_tokens {
            wrong.push("require-tokens and insecure-no-auth contradict each other".to_owned());
        }
        let host_certificate_secs = certificate_secs(
            settings.host_certificate_secs,
            file.host_certificate_secs,
            &mut wrong,
        );
        let sections = (
            file.git.unwrap_or_default(),
            file.webhook.unwrap_or_default(),
            file.stacks.unwrap_or_default(),
        );
        let mut desired = git::resolve(settings.git, around.secrets.clone(), sections, &mut wrong);
        let bucket = file.bundles.unwrap_or_default();
        desired.bucket = bundles::resolve(settings.bundles, bucket, &mut wrong);
        if !wrong.is_empty() {
            return Err(ConfigError::Settings(wrong));
        }
        Ok(Self {
            data_dir,
            listen,
            agent_listen,
            metrics_listen,
            database,
            log_format,
            agent_addresses,
            insecure_no_auth,
            require_tokens,
            open_desired_state,
            host_certificate_secs,
            desired,
        })
    }

    /// Where the certificate authority lives.
    #[must_use]
    pub fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    /// What goes into join strings: what was set or, where nothing was, what new hosts can most
    /// likely reach: this machine's name, and loopback for an agent on this very machine.
    #[must_use]
    pub fn join_addresses(&self, bound: SocketAddr, nodename: &str) -> Vec<String> {
        if !self.agent_addresses.is_empty() {
            return self.agent_addresses.clone();
        }
        if !bound.ip().is_unspecified() {
            return vec![bound.to_string()];
        }
        let port = bound.port();
        let loopback: IpAddr = match bound {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        let by_name = format!("{nodename}:{port}");
        let by_name = hostler_protocol::join::is_address(&by_name).then_some(by_name);
        by_name.into_iter().chain([SocketAddr::new(loopback, port).to_string()]).collect()
    }
}

fn address(
    name: &str,
    given: Option<String>,
    default: &str,
    wrong: &mut Vec<String>,
) -> SocketAddr {
    let text = given.as_deref().unwrap_or(default);
    text.parse().unwrap_or_else(|_| {
        wrong.push(format!("{name}: `{text}` is not of the form address:port (`{default}`)"));
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn certificate_secs(given: Option<String>, of_file: Option<u64>, wrong: &mut Vec<String>) -> u64 {
    let text = given.or(of_file.map(|secs| secs.to_string()));
    let Some(text) = text else { return HOST_SECS };
    let secs = text.parse().ok().filter(|secs| (HOST_SECS_MIN..=HOST_SECS_MAX).contains(secs));
    secs.unwrap_or_else(|| {
        wrong.push(format!(
            "host-certificate-secs: `{text}` is not a number from {HOST_SECS_MIN} to \
             {HOST_SECS_MAX} (7 days are {HOST_SECS})"
        ));
        HOST_SECS
    })
}

fn database(given: Option<String>, data_dir: &Path, wrong: &mut Vec<String>) -> DatabaseUrl {
    let embedded = DatabaseUrl::Sqlite(data_dir.join("hostler.db"));
    let Some(text) = given else { return embedded };
    // The text may hold a password: it is never repeated.
    text.parse().unwrap_or_else(|error| {
        wrong.push(format!("database-url: {error}"));
        embedded
    })
}

#[cfg(test)]
mod tests;
