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
    /// Sets labels of a host, and takes labels away; environments on it have them too
    #[command(after_help = "\
KEY=VALUE sets a label, KEY- takes it away; others stay.

Examples:
  hostler host label web1 rack=b7 region=eu
  hostler host label web1 rack-")]
    Label {
        /// Name or id
        #[arg(value_name = "HOST")]
        host: String,
        /// What to set or take away
        #[arg(value_name = "KEY=VALUE", required = true)]
        labels: Vec<String>,
    },
    /// Shuts a host out: closes its session, refuses its certificate, ends its jobs
    #[command(after_help = "\
An evicted host may be enrolled again with a new token, as another host. A banned host's keys are
refused for good, whatever token comes with them, also after the host is deleted; an evicted host
may still be banned. An evicted host's name may be given away at once, a banned one's when it is deleted.

Examples:
  hostler host revoke web1 --yes
  hostler host revoke web1 --ban --yes")]
    Revoke {
        /// Name or id
        #[arg(value_name = "HOST")]
        host: String,
        /// It may be enrolled again with a new token (the default)
        #[arg(long, conflicts_with = "ban")]
        evict: bool,
        /// Its keys are refused for good
        #[arg(long)]
        ban: bool,
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
