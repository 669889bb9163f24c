//! `api-token` and `enrolment-token`: straight on the database.

use std::io::Write as _;
use std::str::FromStr as _;

use clap::{Subcommand, ValueEnum};
use hostler_protocol::id::ApiTokenId;

use super::CommandError;
use crate::app::{App, view};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{ApiScope, ApiToken, Micros};
use crate::store::Page;
use crate::views;

/// Tokens shown at once.
const TOKENS_SHOWN_MAX: u32 = 1000;

/// What can be done with API tokens.
#[derive(Debug, Subcommand)]
pub(super) enum ApiTokenCommand {
    /// Make a token and print it, this once
    Create {
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it may do; a stronger scope includes the weaker
        #[arg(long, value_enum)]
        scope: ScopeName,
        /// How long it is good for (`90d`, `12h`, `30m`, `3600s`); for ever if not given
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
    /// List tokens, without their secrets
    List,
    /// End a token at once
    Revoke {
        /// The token's id (`tok_…`)
        id: String,
    },
}

/// What can be done with enrolment tokens.
#[derive(Debug, Subcommand)]
pub(super) enum EnrolmentTokenCommand {
    /// Make a one-time token and print its join string, this once
    Create {
        /// The name the host gets; its own host name if not given
        #[arg(long)]
        name: Option<String>,
        /// How long it is good for (`15m` if not given)
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
}

/// The scopes as the command line names them.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ScopeName {
    /// Look at everything
    Read,
    /// Also caches and jobs
    Operate,
    /// Also sites, environments, hosts and enrolment tokens
    Admin,
}

impl ScopeName {
    fn scope(self) -> ApiScope {
        match self {
            Self::Read => ApiScope::Read,
            Self::Operate => ApiScope::Operate,
            Self::Admin => ApiScope::Admin,
        }
    }
}

/// Does what is asked of API tokens.
pub(super) async fn api(config: &Config, command: ApiTokenCommand) -> Result<(), CommandError> {
    let app = open(config).await?;
    let done = api_with(&app, command).await;
    app.store.close().await;
    done
}

async fn api_with(app: &App, command: ApiTokenCommand) -> Result<(), CommandError> {
    match command {
        ApiTokenCommand::Create { name, scope, expires_in } => {
            let secs = expires_in.as_deref().map(seconds).transpose()?;
            let (token, text) = app.create_api_token(name, scope.scope(), secs).await?;
            // The token alone on standard output: it can be piped to where it is kept.
            writeln!(std::io::stderr(), "{}", line(&token, app.clock.now()))?;
            print(&text)
        }
        ApiTokenCommand::List => {
            let page = Page::first(TOKENS_SHOWN_MAX);
            let (tokens, more) =
                app.store.api_tokens(&page).await.map_err(crate::app::AppError::from)?;
            let now = app.clock.now();
            let mut lines: Vec<String> = tokens.iter().map(|token| line(token, now)).collect();
            if more.is_some() {
                lines.push("… and more".to_owned());
            }
            print(&if lines.is_empty() { "no API tokens".to_owned() } else { lines.join("\n") })
        }
        ApiTokenCommand::Revoke { id } => {
            let id = ApiTokenId::from_str(&id)
                .map_err(|error| CommandError::Argument(error.to_string()))?;
            let token = app.revoke_api_token(id).await?;
            print(&line(&token, app.clock.now()))
        }
    }
}

/// Does what is asked of enrolment tokens.
pub(super) async fn enrolment(
    config: &Config,
    command: EnrolmentTokenCommand,
) -> Result<(), CommandError> {
    let EnrolmentTokenCommand::Create { name, expires_in } = command;
    let ttl_secs = expires_in.as_deref().map(seconds).transpose()?;
    if config.agent_listen.port() == 0 && config.agent_addresses.is_empty() {
        return Err(CommandError::Argument(
            "with --agent-listen on port 0 name the port agents reach: --agent-address".to_owned(),
        ));
    }
    let app = open(config).await?;
    let asked = views::CreateEnrolmentToken { host_name: name, ttl_secs };
    let made = app.create_enrolment_token(asked).await;
    app.store.close().await;
    print(&made?.join)
}

async fn open(config: &Config) -> Result<App, CommandError> {
    let (app, _) = crate::open(config, Clock::system(), config.agent_listen).await?;
    Ok(app)
}

fn print(text: &str) -> Result<(), CommandError> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

fn line(token: &ApiToken, now: Micros) -> String {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {}", view::time(at)),
        (None, Some(at)) if at <= now => format!("expired {}", view::time(at)),
        (None, Some(at)) => format!("until {}", view::time(at)),
        (None, None) => "for ever".to_owned(),
    };
    format!("{}  {:<8}{state}  {}", token.id, token.scope.as_str(), token.name)
}

/// Seconds of a time like `90d`.
fn seconds(text: &str) -> Result<u64, CommandError> {
    let wrong =
        || CommandError::Argument(format!("`{text}` is not a time like 90d, 12h, 30m or 3600s"));
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit_secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit_secs).filter(|secs| *secs > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, secs) in [("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), ("5s", 5)] {
            assert_eq!(seconds(text).ok(), Some(secs), "{text}");
        }
        for bad in ["", "d", "0d", "90", "-1d", "1w", "99999999999999999d", "é"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
