//! `hostler token …`

use clap::Subcommand;

use super::wait::Span;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenVerb {
    /// Makes a one-time token and prints its join string, this once
    #[command(after_help = "\
The join string is a secret until it is used or expires. It goes to stdout alone, what to do with
it to stderr, so that it can be piped to where it is needed.

Examples:
  hostler token create --name web1
  hostler token create --name web1 --ttl 1h
  hostler token create --name web1 | ssh root@web1 hostler-agent enroll --token-file -")]
    Create {
        /// The name the host gets; its own hostname if left out
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// How long it may be used, in seconds (also 15m, 1h); 15 minutes if left out
        #[arg(long, value_name = "SECS")]
        ttl: Option<Span>,
    },
    /// Lists tokens: waiting, used and expired
    #[command(visible_alias = "ls", after_help = "Example:\n  hostler token list")]
    List,
    /// Deletes a token, so that nobody can use it any more
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  hostler token delete enrol_01kah2m3n4p5q6r7s8t9v0w1x2 --yes"
    )]
    Delete {
        /// The token's id (enrol_…)
        #[arg(value_name = "ID")]
        id: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}
