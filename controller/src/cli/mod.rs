//! The operator's command line: one noun, one verb, one HTTP request or a few.
//!
//! Invariants: of the controller it knows the documents of the API (`views`) and nothing else;
//! data goes to stdout, everything said to a person to stderr; a job is only ever called ended
//! because the controller's row says so, never because a stream did; secrets come from the
//! environment or a file and go nowhere but into the request's header.

mod args;
mod client;
mod command;
mod confirm;
mod draw;
mod error;
mod exit;
mod follow;
mod names;
mod output;
mod progress;
mod report;
mod sse;
mod suggest;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use client::Client;
use error::CliError;
use exit::Exit;
use output::Output;

/// What a command works with.
struct Context {
    client: Client,
    out: Output,
}

/// Reads the arguments, runs the command, reports an error, and says how it went as exit code.
pub(crate) fn main() -> ExitCode {
    // A mistake in the arguments ends the process here, with clap's own exit code, which is 2.
    let cli = Cli::parse();
    let out = Output::new(cli.global.output);
    let exit = match run(cli, out.clone()) {
        Ok(exit) => exit,
        Err(error) => report::report(&error, &out),
    };
    ExitCode::from(exit.code())
}

fn run(cli: Cli, out: Output) -> Result<Exit, CliError> {
    if let args::Noun::Completions { shell } = cli.noun {
        return command::completions(shell, &out);
    }
    let client = Client::new(&cli.global, &out)?;
    let context = Context { client, out };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?
        .block_on(command::run(&context, cli.noun))
}
