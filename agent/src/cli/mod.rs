//! The command line of `hostler-agent`.
//!
//! Answers go to standard output, everything else to standard error. Exit codes: 0 done, 1 it
//! did not work, 2 the command was not understood.

mod age_key;
mod doctor;
mod doctor_ansible;
mod doctor_docker;
mod enroll;
mod finding;
mod run;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, LogFormat};
use crate::session::chain;

const EXAMPLES: &str = "\
Examples:
  hostler-agent enroll --token-file token    enrol this host
  hostler-agent run                          keep it connected and run its jobs
  hostler-agent doctor                       say what is wrong
  hostler-agent age-key                      say what secrets for this host are encrypted to";

/// Hostler's agent: connects this host to its controller and runs its jobs.
#[derive(Debug, Parser)]
#[command(name = "hostler-agent", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this host with a one-time token.
    Enroll(enroll::Args),
    /// Stay connected and run jobs, until told to stop.
    Run(run::Args),
    /// Look at everything the agent needs and say what is wrong.
    Doctor(doctor::Args),
    /// Print what to encrypt files to so that this host can read them; makes its age key if it has
    /// none.
    AgeKey(age_key::Args),
}

/// Options of every command that reads the configuration.
#[derive(Debug, clap::Args)]
struct Common {
    /// The configuration file (TOML) [default: /etc/hostler/agent.toml, if it exists].
    #[arg(long, value_name = "FILE", env = "HOSTLER_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Where identity and journal are kept [default: /var/lib/hostler-agent].
    #[arg(long, value_name = "DIR", env = "HOSTLER_AGENT_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// What this host permits (TOML) [default: /etc/hostler/policy.toml, if it exists].
    #[arg(long, value_name = "FILE", env = "HOSTLER_AGENT_POLICY")]
    policy: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, value_enum, env = "HOSTLER_AGENT_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

impl Common {
    fn load(self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        config.state_dir = self.state_dir.unwrap_or(config.state_dir);
        config.policy = self.policy.or(config.policy);
        config.log_format = self.log_format.unwrap_or(config.log_format);
        config.check()?;
        Ok(config)
    }
}

/// A failure with its causes, for people.
#[derive(Debug)]
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Enroll(args) => enroll::enroll(args),
        Command::Run(args) => run::run(args),
        Command::Doctor(args) => doctor::doctor(args),
        Command::AgeKey(args) => age_key::age_key(args),
    };
    done.unwrap_or_else(|Failure(text)| {
        complain(&text);
        ExitCode::FAILURE
    })
}

/// One line on standard error; a closed one is no reason to fail.
fn complain(text: &str) {
    if writeln!(std::io::stderr().lock(), "hostler-agent: {text}").is_err() {
        tracing::debug!("standard error is closed");
    }
}

/// Lines on standard output.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
    Ok(())
}

/// One thread is enough for an agent; blocking work gets a few more while it lasts.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(512 * 1024)
        .build()?)
}

/// Whether a path exists, as far as this user can tell.
fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_override_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "state_dir = \"/a\"\njobs_max = 3\n").unwrap();
        let common = Common {
            config: Some(file),
            state_dir: Some("/b".into()),
            policy: None,
            log_format: Some(LogFormat::Json),
        };
        let config = common.load().unwrap();
        assert_eq!((config.state_dir, config.jobs_max), ("/b".into(), 3));
        assert_eq!(config.log_format, LogFormat::Json);
    }
}
