//! `hostler-agent enroll`: the secret comes from a file, standard input, the environment or a
//! systemd credential; never from the command line, where everybody can read it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use hostler_protocol::join::{JOIN_BYTES_MAX, Join};
use zeroize::Zeroizing;

use super::{Common, Failure, runtime, say};
use crate::clock::Clock;
use crate::config;
use crate::identity::{self, Enrolment};
use crate::observe::Facts;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// A file with the join string, or `-` for standard input. Without it: the variable
    /// HOSTLER_ENROL_TOKEN, or the systemd credential `hostler-enrol-token`.
    #[arg(long, value_name = "FILE|-")]
    token_file: Option<PathBuf>,
    /// Where the controller listens for agents, instead of what the join string says; repeatable.
    #[arg(long, value_name = "HOST:PORT")]
    controller: Vec<String>,
    /// Replace an identity this host already has.
    #[arg(long)]
    replace: bool,
}

pub(super) fn enroll(args: Args) -> Result<ExitCode, Failure> {
    let config = args.common.load()?;
    let token = token(args.token_file)?;
    let mut join = Join::parse(&token)?;
    if !args.controller.is_empty() {
        if let Some(bad) =
            args.controller.iter().find(|address| !hostler_protocol::join::is_address(address))
        {
            return Err(Failure(format!("{bad:?} is not `host:port`")));
        }
        join.addresses = args.controller;
    }
    let facts = Facts::gather();
    let enrolment = Enrolment {
        join: &join,
        state_dir: &config.state_dir,
        hostname: facts.hostname.clone(),
        facts: facts.document(),
        replace: args.replace,
        clock: Clock::system(),
    };
    let card = runtime()?.block_on(identity::enrol(enrolment))?;
    say(&format!("enrolled as {} ({})\n", card.name, card.host))?;
    Ok(ExitCode::SUCCESS)
}

fn token(file: Option<PathBuf>) -> Result<Zeroizing<String>, Failure> {
    let limit = JOIN_BYTES_MAX as u64 + 2;
    let mut text = Zeroizing::new(String::with_capacity(JOIN_BYTES_MAX + 2));
    match file {
        Some(path) if path.as_os_str() == "-" => {
            std::io::stdin().lock().take(limit).read_to_string(&mut text)?;
        }
        Some(path) => read(&path, limit, &mut text)?,
        None => match config::enrolment_token() {
            config::Token::Text(token) => *text = token,
            config::Token::File(path) => read(&path, limit, &mut text)?,
            config::Token::None => {
                return Err(Failure(
                    "no join string: pass --token-file FILE, or `-` for standard input".to_owned(),
                ));
            }
        },
    }
    Ok(text)
}

fn read(path: &std::path::Path, limit: u64, text: &mut String) -> Result<(), Failure> {
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_string(text))
        .map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
    Ok(())
}
