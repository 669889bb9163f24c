//! `hostler host …`

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum HostVerb {
    /// Lists hosts
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  hostler host list\n  hostler host list -o json"
    )]
    List,
    /// Shows one host, with what its agent said of it
    #[command(after_help = "Example:\n  hostler host show web1")]
    Show {
        /// Name or id
        #[arg(value_name = "HOST")]
        host: String,
    },
    /// Gives a host another name
    #[command(after_help = "Example:\n  hostler host rename ip-10-0-0-4 web1")]
    Rename {
        /// Name or id
        #[arg(value_name = "HOST")]
        host: String,
        /// The new name: a host name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Refuses a host's certificate for good and closes its session
    #[command(after_help = "\
The host has to be enrolled again to come back, as another host.

Example:
  hostler host revoke web1 --yes")]
    Revoke {
        /// Name or id
        #[arg(value_name = "HOST")]
        host: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Forgets a revoked host that has no environments
    #[command(visible_alias = "rm", after_help = "Example:\n  hostler host delete web1 --yes")]
    Delete {
        /// Name or id
        #[arg(value_name = "HOST")]
        host: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}
