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

/// What becomes of purged pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Mode {
    Hard,
    Soft,
    Refresh,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheVerb {
    /// Switches caches on or off; what is not named stays
    #[command(after_help = "\
Examples:
  hostler cache set shop/production --fastcgi on --redis on --wait
  hostler cache set shop/production --fastcgi off")]
    Set(SetArgs),
    /// Removes entries from caches: everything, or what URLs, prefixes and tags name
    #[command(after_help = "\
Without --url, --urls-from, --prefix and --tag both caches of the environment are emptied, those of
its neighbours are not touched. With them only the FastCGI cache is, of whatever one of them names.

Modes: hard, the page is gone and the next visitor gets a new one; soft, the next visitor gets the
old page while it is made anew behind them, and pages given by URL that are no longer there are
removed (100 are asked in one purge); refresh, pages are made anew first and no visitor ever waits.
Redis keys are removed in every mode.

A dry run waits for its counts (60 s at most) unless --no-wait says otherwise.

Examples:
  hostler cache purge shop/production --wait
  hostler cache purge shop/production --url https://shop.example/ --url https://shop.example/cart
  hostler cache purge shop/production --prefix https://shop.example/blog/ --mode soft
  hostler cache purge shop/production --tag post-17 --tag author-3 --mode refresh
  hostler cache purge shop/production --url https://shop.example/ --query-variants --warm
  git diff --name-only | ./urls.sh | hostler cache purge shop/production --urls-from -
  hostler cache purge shop/production --only redis --dry-run")]
    Purge(PurgeArgs),
    /// Fetches pages into the cache, over what is there, so that visitors find them
    #[command(after_help = "\
Examples:
  hostler cache warm shop/production --url https://shop.example/ --wait
  curl -s https://shop.example/sitemap.txt | hostler cache warm shop/production --urls-from -")]
    Warm(WarmArgs),
    /// Shows what should be on, what is, since when, and what is in the page cache
    #[command(after_help = "\
The figures come from the host: where it is offline, or slow to answer (10 s), a line says so.

Examples:
  hostler cache show shop/production
  hostler cache show shop/production --no-facts -o json")]
    Show {
        /// `site/name` or id
        #[arg(value_name = "ENV")]
        environment: String,
        /// Ask the controller alone, not the host
        #[arg(long)]
        no_facts: bool,
    },
    /// Says what the page cache does with one URL, and why
    #[command(after_help = "\
The environment is the one whose domain is the URL's host. Waits for the answer (60 s at most)
unless --no-wait says otherwise.

Examples:
  hostler cache explain https://shop.example/cart
  hostler cache explain https://shop.example/ --env shop/staging")]
    Explain {
        /// An absolute URL
        #[arg(value_name = "URL")]
        url: String,
        /// The environment: `site/name` or id
        #[arg(long = "env", value_name = "ENV")]
        environment: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
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
pub(in crate::cli) struct SetArgs {
    /// `site/name` or id
    #[arg(value_name = "ENV")]
    pub(in crate::cli) environment: String,
    #[command(flatten)]
    pub(in crate::cli) switches: Switches,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

/// Which caches are to be on.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("caches").args(["fastcgi", "redis"]).required(true).multiple(true))]
pub(in crate::cli) struct Switches {
    /// nginx's cache of rendered pages
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(in crate::cli) fastcgi: Option<Switch>,
    /// The application's object cache
    #[arg(long, value_enum, value_name = "SWITCH")]
    pub(in crate::cli) redis: Option<Switch>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PurgeArgs {
    /// `site/name` or id
    #[arg(value_name = "ENV")]
    pub(in crate::cli) environment: String,
    #[command(flatten)]
    pub(in crate::cli) what: PurgeWhat,
    /// Count what would be removed, remove nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

/// What a purge removes, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct PurgeWhat {
    #[command(flatten)]
    pub(in crate::cli) urls: UrlArgs,
    /// The paths of the URLs with any query string too
    #[arg(long)]
    pub(in crate::cli) query_variants: bool,
    /// Every page whose URL begins with this absolute one; may be given again
    #[arg(long = "prefix", value_name = "URL")]
    pub(in crate::cli) prefixes: Vec<String>,
    /// Every page whose Surrogate-Key header holds this; may be given again
    #[arg(long = "tag", value_name = "TAG")]
    pub(in crate::cli) tags: Vec<String>,
    /// What becomes of the pages [hard]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(in crate::cli) mode: Option<Mode>,
    /// Then fetch the pages anew, as a job of its own
    #[arg(long)]
    pub(in crate::cli) warm: bool,
    /// Only this cache
    #[arg(long, value_enum, value_name = "CACHE")]
    pub(in crate::cli) only: Option<Only>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WarmArgs {
    /// `site/name` or id
    #[arg(value_name = "ENV")]
    pub(in crate::cli) environment: String,
    #[command(flatten)]
    pub(in crate::cli) urls: UrlArgs,
    #[command(flatten)]
    pub(in crate::cli) wait: WaitArgs,
}

/// Pages by their URLs.
#[derive(Debug, Args)]
pub(in crate::cli) struct UrlArgs {
    /// Exactly this URL, with all its variants; may be given again
    #[arg(long = "url", value_name = "URL")]
    pub(in crate::cli) urls: Vec<String>,
    /// The URLs in this file, one on each line; `-` reads standard input
    #[arg(long, alias = "urls-file", value_name = "FILE")]
    pub(in crate::cli) urls_from: Option<PathBuf>,
}
