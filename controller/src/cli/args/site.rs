//! `hostler site …`

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SiteVerb {
    /// Creates a site
    #[command(after_help = "Example:\n  hostler site create shop")]
    Create {
        /// Lower-case letters, digits and hyphens
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Lists sites
    #[command(visible_alias = "ls", after_help = "Example:\n  hostler site list")]
    List,
    /// Shows one site and its environments
    #[command(after_help = "Example:\n  hostler site show shop")]
    Show {
        /// Name or id
        #[arg(value_name = "SITE")]
        site: String,
    },
    /// Gives a site another name
    #[command(after_help = "Example:\n  hostler site rename shop store")]
    Rename {
        /// Name or id
        #[arg(value_name = "SITE")]
        site: String,
        /// Lower-case letters, digits and hyphens
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Deletes a site that has no environments
    #[command(visible_alias = "rm", after_help = "Example:\n  hostler site delete shop --yes")]
    Delete {
        /// Name or id
        #[arg(value_name = "SITE")]
        site: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}
