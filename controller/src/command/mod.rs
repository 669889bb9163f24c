//! The command line of `hostler-controller`.

mod serve;
mod tokens;
mod upkeep;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Settings, Surroundings};
use crate::telemetry::TelemetryError;

const EXAMPLES: &str = "\
Examples:
  hostler-controller serve
      Serve with the embedded database: API on 127.0.0.1:7460, agents on UDP port 7461.
  hostler-controller serve --data-dir /srv/hostler --agent-address ctl.example.com:7461
  hostler-controller serve --config /etc/hostler/controller.toml
  hostler-controller enrolment-token create --name web-1
      Print a join string: on the new host, `hostler-agent enroll` asks for it.
  hostler-controller api-token create --name deploy --scope operate --expires-in 90d
  hostler-controller pki issue --name ctl-2 --out ctl-2-pki
      Files of one more controller on the same PostgreSQL: copied there as DATA-DIR/pki.
  hostler-controller migrate --database-url postgres://hostler@db/hostler
      Bring the database up to this build's schema, every controller of an older build being stopped.
Log lines are filtered by HOSTLER_LOG (`info`, `warn,hostler_controller=debug`).";

/// Hostler's controller: API, job queue, certificate authority and agents' sessions.
#[derive(Debug, Parser)]
#[command(name = "hostler-controller", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    Serve,
    /// Tokens of the API, kept in the database; for use beside a running controller too
    #[command(subcommand)]
    ApiToken(tokens::ApiTokenCommand),
    /// One-time tokens for new hosts
    #[command(subcommand)]
    EnrolmentToken(tokens::EnrolmentTokenCommand),
    /// The certificate authority's files
    #[command(subcommand)]
    Pki(upkeep::PkiCommand),
    /// Bring the database's schema up to date. An embedded SQLite file needs this never; on
    /// PostgreSQL stop every controller of an older build first
    Migrate,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Run(#[from] crate::RunError),
    #[error("the certificate authority cannot be used")]
    Pki(#[from] crate::pki::PkiError),
    #[error("the database cannot be migrated")]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    App(#[from] crate::app::AppError),
    #[error("the answer cannot be written")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Argument(String),
}

/// Does what the command line says.
///
/// # Errors
/// [`CommandError`], for `main` to show.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    let config = Config::load(cli.settings, &Surroundings::of_process())?;
    let filter = std::env::var("HOSTLER_LOG").ok();
    crate::telemetry::log(config.log_format, filter.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    match cli.command {
        Command::Serve => runtime.block_on(serve::serve(config)),
        Command::ApiToken(command) => runtime.block_on(tokens::api(&config, command)),
        Command::EnrolmentToken(command) => runtime.block_on(tokens::enrolment(&config, command)),
        Command::Pki(command) => upkeep::pki(&config, command),
        Command::Migrate => runtime.block_on(upkeep::migrate(&config)),
    }
}

/// An error and what it came from, in one line.
#[must_use]
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
