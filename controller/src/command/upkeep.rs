//! `pki` and `migrate`: what is done once for several controllers.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use super::CommandError;
use crate::clock::Clock;
use crate::config::Config;
use crate::pki;
use crate::store::Store;

/// What can be done with the authority's files.
#[derive(Debug, Subcommand)]
pub(super) enum PkiCommand {
    /// Make the files of one more controller of this installation: the root's certificate, and an
    /// issuing key and certificate of its own, good for a year. Run it where root.key is; the new
    /// controller gets the directory as DATA-DIR/pki. When its year ends, run it again
    Issue {
        /// A new directory
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The controller it is for: goes into the certificate's name, for people to read
        #[arg(long)]
        name: String,
    },
}

/// Does what is asked of the authority's files. The database is not needed for it.
pub(super) fn pki(config: &Config, command: PkiCommand) -> Result<(), CommandError> {
    let PkiCommand::Issue { out, name } = command;
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if name.is_empty() || name.len() > 63 || !name.chars().all(fit) {
        let rule = "--name: 1 to 63 letters, digits, `-` and `.`";
        return Err(CommandError::Argument(rule.to_owned()));
    }
    pki::issue(&config.pki_dir(), &out, &name, &Clock::system())?;
    let out = out.display();
    writeln!(
        std::io::stdout(),
        "{out} holds root.crt, issuing.crt and issuing.key.\n\
         Copy it to {name} as its DATA-DIR/pki, readable by its user alone, then remove it here:\n\
         issuing.key signs hosts' certificates of this installation for a year."
    )?;
    Ok(())
}

/// Brings the schema up to date.
pub(super) async fn migrate(config: &Config) -> Result<(), CommandError> {
    let (found, now) = Store::migrate(&config.database).await?;
    let told = if found == now {
        format!("{} has schema version {now} already", config.database)
    } else {
        format!("{}: schema version {found} is now {now}", config.database)
    };
    writeln!(std::io::stdout(), "{told}")?;
    Ok(())
}
