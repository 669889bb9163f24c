//! `hostler stack …`

use clap::{Subcommand, ValueEnum};

use super::wait::WaitAllArgs;

/// A stack's status, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StatusArg {
    Missing,
    Syncing,
    Synced,
    Deleting,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum StackVerb {
    /// Lists stacks with their status
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  hostler stack list
  hostler stack list --status syncing --host web1
  hostler stack list --out-of-sync -o json"
    )]
    List {
        /// Only those of this status
        #[arg(long, value_enum, value_name = "STATUS")]
        status: Option<StatusArg>,
        /// Only those on this host, or meant for it: name or id
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Only those of which a host runs something else than the repository says
        #[arg(long)]
        out_of_sync: bool,
        /// Only those of which a host is no longer as it was synced
        #[arg(long)]
        drifted: bool,
    },
    /// Shows one stack: what should run, what does on each host, the last syncs and why
    #[command(after_help = "\
Examples:
  hostler stack show shop/web
  hostler stack show stack_01kah2m3n4p5q6r7s8t9v0w1x2 -o json")]
    Show {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
    },
    /// Asks the hosts what a sync would do, and why; changes nothing
    #[command(after_help = "\
Waits for the answer, 60 seconds at most; --wait=SECS waits longer, --no-wait not at all.

Examples:
  hostler stack plan shop/web
  hostler stack plan shop/web --host web1 -o json")]
    Plan {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
        /// Only on this host, name or id; may be given again
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        #[command(flatten)]
        wait: WaitAllArgs,
    },
    /// Syncs a stack now, also one whose last sync failed for good
    #[command(after_help = "\
Stacks are synced by themselves when the repository changes: this is for not waiting, and for
trying again what failed for good.

Examples:
  hostler stack sync shop/web --wait
  hostler stack sync shop/web --host web1 --force --wait=5m
  hostler stack sync shop/web --adopt --wait       take over a project that is not Hostler's yet
  hostler stack sync shop/old --remove --wait      take down what is to go and waits for a person")]
    Sync {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
        /// Only on this host, name or id; may be given again
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Also where the host runs just this already
        #[arg(long)]
        force: bool,
        /// Take over a project of that name that runs on the host and is not Hostler's
        #[arg(long)]
        adopt: bool,
        /// Take it down where it is `deleting`, also where that waits for a person or was cancelled
        #[arg(long, conflicts_with_all = ["force", "adopt"])]
        remove: bool,
        #[command(flatten)]
        wait: WaitAllArgs,
    },
    /// Leaves a stack alone from now on: neither synced nor taken down
    #[command(after_help = "Example:\n  hostler stack suspend shop/web")]
    Suspend {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
    },
    /// Goes on with a suspended stack
    #[command(after_help = "Example:\n  hostler stack resume shop/web")]
    Resume {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
    },
    /// Says that what differs from what was synced is well, until it changes
    #[command(after_help = "\
`hostler stack show` lists what differs. What is accepted is neither shown as drift nor put right,
until it changes or something else is synced.

Examples:
  hostler stack accept-drift shop/web
  hostler stack accept-drift shop/web --host web1")]
    AcceptDrift {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
        /// Only on this host, name or id; may be given again
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
    },
    /// Goes back, on one host, to what an earlier sync applied; suspends the stack
    #[command(after_help = "\
Without --to it goes back to what ran before the present bundle. The stack is suspended by it, or
the next refresh would undo it: `hostler stack resume` goes on with what the repository says.
`hostler stack show` lists the syncs with their bundles.

Examples:
  hostler stack rollback shop/web --wait
  hostler stack rollback shop/web --host web1 --to job_01kah2m3n4p5q6r7s8t9v0w1x2
  hostler stack rollback shop/web --to 3f9a12c0 --wait       the beginning of a bundle's name")]
    Rollback {
        /// The stack: its path or its id (stack_…)
        #[arg(value_name = "STACK")]
        stack: String,
        /// The host, name or id; needed where the stack is on several
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// A sync's job (job_…), or a bundle (BUNDLE in `stack show`) by the beginning of its name, 7 characters or more
        #[arg(long, value_name = "JOB|BUNDLE")]
        to: Option<String>,
        #[command(flatten)]
        wait: WaitAllArgs,
    },
}
