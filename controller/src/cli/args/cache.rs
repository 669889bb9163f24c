//! `hostler cache …`

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::wait::WaitArgs;

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Switch {
    On,
    Off,
}

/// One of the two caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Only {
    Fastcgi,
    Redis,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheVerb {
    /// Switches caches on or off; what is not named stays
    #[command(after_help = "\
Examples:
  hostler cache set shop/production --fastcgi on --redis on --wait
  hostler cache set shop/production --fastcgi off")]
    Set(SetArgs),
    /// Removes entries from caches: everything, or exactly these URLs
    #[command(after_help = "\
Without --url and --urls-from both caches of the environment are emptied, those of its neighbours
are not touched. With URLs only the FastCGI cache is, for each of their variants. A dry run waits
for its counts (60 s at most) unless --no-wait says otherwise.

Examples:
  hostler cache purge shop/production --wait
  hostler cache purge shop/production --url https://shop.example/ --url https://shop.example/cart
  git diff --name-only | ./urls.sh | hostler cache purge shop/production --urls-from -
  hostler cache purge shop/production --only redis --dry-run")]
    Purge(PurgeArgs),
    /// Shows what should be on, what is, and since when
    #[command(after_help = "Example:\n  hostler cache show shop/production")]
    Show {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
    },
    /// Makes the host be as the switches say, again
    #[command(after_help = "Example:\n  hostler cache reconcile shop/production --wait")]
    Reconcile {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("caches").args(["fastcgi", "redis"]).required(true).multiple(true))]
pub(in crate::cli) struct SetArgs {
    /// `site/name` or id
    #[arg(value_name = "ENV")]
    pub(in crate::cli) environment: String,
    /// nginx's cache of rendered pages
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(in crate::cli) fastcgi: Option<Switch>,
    /// The application's object cache
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(in crate::cli) redis: Option<Switch>,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PurgeArgs {
    /// `site/name` or id
    #[arg(value_name = "ENV")]
    pub(in crate::cli) environment: String,
    /// Remove exactly this URL, with all its variants; may be given again
    #[arg(long = "url", value_name = "URL")]
    pub(in crate::cli) urls: Vec<String>,
    /// Remove the URLs in this file, one on each line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) urls_from: Option<PathBuf>,
    /// Only this cache
    #[arg(long, value_enum, value_name = "CACHE")]
    pub(in crate::cli) only: Option<Only>,
    /// Count what would be removed, remove nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}
