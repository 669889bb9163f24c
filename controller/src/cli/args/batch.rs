//! `hostler batch …`

use clap::{ArgGroup, Args, Subcommand};

use super::cache::{PurgeWhat, Switches, UrlArgs};
use super::wait::{Span, WaitArgs};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BatchVerb {
    /// Removes entries from the caches of many environments
    #[command(after_help = "\
URLs and prefixes may begin with `/`: they are of each environment's own domain then.

Examples:
  hostler batch purge --label tier=prod --dry-run
  hostler batch purge --site shop --url /feed --url / --wait
  hostler batch purge --all --canary 2 --batch-size 20 --stop-on-failure --wait")]
    Purge {
        #[command(flatten)]
        batch: BatchArgs,
        #[command(flatten)]
        what: PurgeWhat,
    },
    /// Switches caches of many environments on or off
    #[command(after_help = "\
Example:
  hostler batch set --label tier=prod --fastcgi on --canary 1 --failures-max 2 --wait")]
    Set {
        #[command(flatten)]
        batch: BatchArgs,
        #[command(flatten)]
        switches: Switches,
    },
    /// Makes many hosts be as the switches say, again
    #[command(after_help = "Example:\n  hostler batch reconcile --host web1 --wait")]
    Reconcile {
        #[command(flatten)]
        batch: BatchArgs,
    },
    /// Fetches pages of many environments into their caches
    #[command(after_help = "\
URLs may begin with `/`: they are of each environment's own domain then.

Example:
  hostler batch warm --site shop --url / --url /news --concurrency 2 --wait")]
    Warm {
        #[command(flatten)]
        batch: BatchArgs,
        #[command(flatten)]
        urls: UrlArgs,
    },
    /// Looks at many hosts and says what would be wrong; changes nothing
    #[command(after_help = "Example:\n  hostler batch check --all --wait")]
    Check {
        #[command(flatten)]
        batch: BatchArgs,
    },
    /// Lists batches, newest first
    #[command(visible_alias = "ls", after_help = "Example:\n  hostler batch list --limit 5")]
    List {
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "ROWS")]
        limit: u32,
    },
    /// Shows one batch: how its targets stand, which failed, which did not answer
    #[command(after_help = "\
Examples:
  hostler batch show batch_01kah2m3n4p5q6r7s8t9v0w1x2
  hostler batch show batch_01kah2m3n4p5q6r7s8t9v0w1x2 --targets")]
    Show {
        /// The batch's id (batch_…)
        #[arg(value_name = "ID")]
        id: String,
        /// Every target, in the order they are taken up
        #[arg(long)]
        targets: bool,
    },
    /// Follows a batch to its end; the exit code says how it ended
    #[command(after_help = "\
Ctrl-C stops watching, never the batch. A batch some host of which does not answer goes on: --for
ends the waiting.

Example:
  hostler batch watch batch_01kah2m3n4p5q6r7s8t9v0w1x2 --for 5m")]
    Watch {
        /// The batch's id (batch_…)
        #[arg(value_name = "ID")]
        id: String,
        /// For this long at most, in seconds (also 5m, 1h)
        #[arg(long = "for", value_name = "SECS")]
        limit: Option<Span>,
    },
    /// Cancels a batch: nothing further is taken up, what runs is stopped on its host
    #[command(after_help = "Example:\n  hostler batch cancel batch_01kah2m3n4p5q6r7s8t9v0w1x2")]
    Cancel {
        /// The batch's id (batch_…)
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// How a batch goes about it.
#[derive(Debug, Args)]
pub(in crate::cli) struct BatchArgs {
    #[command(flatten)]
    pub(in crate::cli) targets: Targets,
    /// Jobs open at once; hosts that do not answer are not counted [10]
    #[arg(long, value_name = "JOBS", help_heading = "Batch")]
    pub(in crate::cli) concurrency: Option<u32>,
    /// Environments taken up together; the next follow when these have ended [all]
    #[arg(long, value_name = "COUNT", help_heading = "Batch")]
    pub(in crate::cli) batch_size: Option<u32>,
    /// So many go first, and unless they succeed nothing else is taken up [0]
    #[arg(long, value_name = "COUNT", help_heading = "Batch")]
    pub(in crate::cli) canary: Option<u32>,
    /// Take nothing further up after the first failure
    #[arg(long, conflicts_with = "failures_max", help_heading = "Batch")]
    pub(in crate::cli) stop_on_failure: bool,
    /// Take nothing further up after more failures than this [whatever fails]
    #[arg(long, value_name = "COUNT", help_heading = "Batch")]
    pub(in crate::cli) failures_max: Option<u32>,
    /// A job no host has begun after so long is given up (seconds; also 5m, 1h)
    #[arg(long, value_name = "SECS", help_heading = "Batch")]
    pub(in crate::cli) answer_within: Option<Span>,
    /// Say exactly which environments are meant, in which order, and do nothing
    #[arg(long, help_heading = "Batch")]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

/// Which environments; what is named together all has to hold.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Targets",
    group = ArgGroup::new("targets").args(["environments", "hosts", "sites", "labels", "all"])
        .required(true).multiple(true)
)]
pub(in crate::cli) struct Targets {
    /// This environment, `site/name` or id; may be given again
    #[arg(long = "env", value_name = "ENV")]
    pub(in crate::cli) environments: Vec<String>,
    /// Those on this host, name or id; may be given again
    #[arg(long = "host", value_name = "HOST")]
    pub(in crate::cli) hosts: Vec<String>,
    /// Those of this site, name or id; may be given again
    #[arg(long = "site", value_name = "SITE")]
    pub(in crate::cli) sites: Vec<String>,
    /// Those with this label, their own or their host's; given again, both have to hold
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(in crate::cli) labels: Vec<String>,
    /// Every environment there is
    #[arg(long, conflicts_with_all = ["environments", "hosts", "sites", "labels"])]
    pub(in crate::cli) all: bool,
}
