//! `hostler refresh …`

use clap::{Args, Subcommand};

use super::wait::{Limit, Wait, asked};

/// With no verb it asks for a look at the repository.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct RefreshArgs {
    #[command(subcommand)]
    pub(in crate::cli) verb: Option<RefreshVerb>,
    /// Wait for its end, or for SECS at most (also 5m, 1h); the exit code says how it went
    #[arg(
        long,
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "forever"
    )]
    wait: Option<Limit>,
    /// The same key again answers with the same refresh instead of another
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) idempotency_key: Option<String>,
}

impl RefreshArgs {
    /// What was asked.
    pub(in crate::cli) fn wait(&self) -> Wait {
        asked(self.wait, false, Wait::No)
    }
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RefreshVerb {
    /// Shows how the desired state stands: which commit, since when, and whether it may be stale
    #[command(after_help = "\
Examples:
  hostler refresh status
  hostler refresh status -o json | jq .stale")]
    Status,
    /// Lists refreshes, newest first
    #[command(visible_alias = "ls", after_help = "Example:\n  hostler refresh list --limit 5")]
    List {
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "ROWS")]
        limit: u32,
    },
    /// Shows one refresh; of one that a newer one replaced, the one that answers for it
    #[command(after_help = "Example:\n  hostler refresh show refresh_01kah2m3n4p5q6r7s8t9v0w1x2")]
    Show {
        /// The refresh's id (refresh_…)
        #[arg(value_name = "ID")]
        id: String,
    },
}
