//! What each command does: names to ids, requests, documents to tables.

mod batch;
mod cache;
mod environment;
mod fields;
mod follow_all;
mod host;
mod input;
mod job;
mod label;
mod look;
mod poll;
mod queued;
mod refresh;
mod site;
mod stack;
mod token;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use super::args::{Cli, Noun};
use super::error::CliError;
use super::exit::Exit;
use super::output::Output;

/// Runs one command against the controller.
pub(super) async fn run(context: &Context, noun: Noun) -> Result<Exit, CliError> {
    match noun {
        Noun::Host(verb) => host::run(context, verb).await,
        Noun::Token(verb) => token::run(context, verb).await,
        Noun::Site(verb) => site::run(context, verb).await,
        Noun::Env(verb) => environment::run(context, verb).await,
        Noun::Cache(verb) => cache::run(context, verb).await,
        Noun::Job(verb) => job::run(context, verb).await,
        Noun::Batch(verb) => batch::run(context, verb).await,
        Noun::Stack(verb) => stack::run(context, verb).await,
        Noun::Refresh(args) => refresh::run(context, args).await,
        Noun::Completions { shell } => completions(shell, &context.out),
    }
}

/// Prints a completion script; needs no controller.
pub(super) fn completions(shell: Shell, out: &Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hostler", &mut script);
    out.text(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
