//! `hostler job …`

use clap::{Args, Subcommand, ValueEnum};

use super::wait::WaitArgs;

/// A job's state, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StateArg {
    Queued,
    Running,
    Held,
    Succeeded,
    Failed,
    Cancelled,
}

/// A job's type, as a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum TypeArg {
    EnvCacheToggle,
    CachePurge,
    EnvCheck,
    EnvDelete,
    CacheWarm,
    CacheFacts,
    CacheExplain,
    StackSync,
    StackDown,
    StackPlan,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum JobVerb {
    /// Lists jobs, newest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  hostler job list --state failed
  hostler job list --env shop/production --type cache_purge --limit 5
  hostler job list --host web1 -o json"
    )]
    List(JobListArgs),
    /// Shows one job: its steps, what it waits for, how it ended
    #[command(after_help = "Example:\n  hostler job show job_01kah2m3n4p5q6r7s8t9v0w1x2 -o json")]
    Show {
        /// The job's id (job_…)
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Follows a job to its end; the exit code says how it ended
    #[command(after_help = "\
Ctrl-C stops watching, never the job.

Examples:
  hostler job watch job_01kah2m3n4p5q6r7s8t9v0w1x2
  hostler job watch job_01kah2m3n4p5q6r7s8t9v0w1x2 --for 5m")]
    Watch {
        /// The job's id (job_…)
        #[arg(value_name = "ID")]
        id: String,
        /// For this long at most, in seconds (also 5m, 1h)
        #[arg(long = "for", value_name = "SECS")]
        limit: Option<super::Span>,
    },
    /// Cancels a job; one that runs is stopped on its host
    #[command(after_help = "\
With --wait the exit code is 0 once the job is cancelled, and 1 if it succeeded before.

A running job whose host is gone (reason UNKNOWN) is settled when the host returns. If it never
will, --force gives the job up: it ends at once, and what it did on the host is not known.

Examples:
  hostler job cancel job_01kah2m3n4p5q6r7s8t9v0w1x2 --wait
  hostler job cancel job_01kah2m3n4p5q6r7s8t9v0w1x2 --force")]
    Cancel {
        /// The job's id (job_…)
        #[arg(value_name = "ID")]
        id: String,
        /// Give up a job whose host is gone, without waiting for its return
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Queues a new job that repeats one that has ended
    #[command(after_help = "Example:\n  hostler job retry job_01kah2m3n4p5q6r7s8t9v0w1x2 --wait")]
    Retry {
        /// The job's id (job_…)
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Queues a held job again
    #[command(after_help = "Example:\n  hostler job release job_01kah2m3n4p5q6r7s8t9v0w1x2 --wait")]
    Release {
        /// The job's id (job_…)
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct JobListArgs {
    /// Only jobs in this state
    #[arg(long, value_enum, value_name = "STATE")]
    pub(in crate::cli) state: Option<StateArg>,
    /// Only jobs of this type
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub(in crate::cli) job_type: Option<TypeArg>,
    /// Only jobs of this environment: `site/name` or id
    #[arg(long = "env", value_name = "ENV")]
    pub(in crate::cli) environment: Option<String>,
    /// Only jobs on this host: name or id
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) host: Option<String>,
    /// Only jobs of this site: name or id
    #[arg(long, value_name = "SITE")]
    pub(in crate::cli) site: Option<String>,
    /// Only jobs about this stack: path or id
    #[arg(long, value_name = "STACK")]
    pub(in crate::cli) stack: Option<String>,
    /// Only jobs that follow from this one
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) parent: Option<String>,
    /// Only jobs of this batch
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) batch: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "ROWS")]
    pub(in crate::cli) limit: u32,
}
