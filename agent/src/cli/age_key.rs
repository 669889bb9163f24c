//! `hostler-agent age-key`: what to encrypt files to, so that this host can read them.

use std::process::ExitCode;

use zeroize::Zeroizing;

use super::finding::{Finding, State, bad, good};
use super::{Common, Failure, complain, say};
use crate::clock::Clock;
use crate::config::Config;
use crate::host::age::{KeyError, Keys};
use crate::session::chain;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}

/// Prints the recipients of this host's keys, one a line; makes a key first where there is none.
pub(super) fn age_key(args: Args) -> Result<ExitCode, Failure> {
    let path = args.common.load()?.age_key;
    let keys = match Keys::read(&path) {
        Err(KeyError::Missing { .. }) => {
            let keys = Keys::make(&path, Zeroizing::new(Clock::system().random()))?;
            complain(&format!("made a key: {}; keep a copy of it somewhere safe", path.display()));
            keys
        }
        there => there?,
    };
    say(&format!("{}\n", keys.recipients().join("\n")))?;
    Ok(ExitCode::SUCCESS)
}

/// What `doctor` says of the keys. Without any nothing is wrong as long as nothing is encrypted.
pub(super) fn look(config: &Config) -> Finding {
    const CHECK: &str = "age key";
    match Keys::read(&config.age_key) {
        Ok(keys) => good(CHECK, format!("files are encrypted to {}", keys.recipients().join(", "))),
        Err(KeyError::Missing { path }) => {
            good(CHECK, format!("none ({} does not exist): no encrypted files", path.display()))
        }
        Err(error) => {
            let hint = "Until that is right, stacks with encrypted files are not synced.";
            bad(CHECK, State::Error, chain(&error), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doctor_says_whether_the_keys_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { age_key: dir.path().join("age.key"), ..Config::default() };
        assert_eq!(look(&config).state, State::Ok);
        let made = Keys::make(&config.age_key, Zeroizing::new([3; 32])).unwrap();
        let found = look(&config);
        assert_eq!(found.state, State::Ok);
        assert!(found.message.contains(&made.recipients()[0]), "{}", found.message);
        std::fs::write(&config.age_key, "AGE-SECRET-KEY-1DAMAGED\n").unwrap();
        let found = look(&config);
        assert_eq!(found.state, State::Error);
        assert!(!found.message.contains("DAMAGED"), "{}", found.message);
    }
}
