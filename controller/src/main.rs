//! `hostler-controller`: see [`hostler_controller::command`].

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use hostler_controller::command::{Cli, explain, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "hostler-controller: {}", explain(&error)));
            ExitCode::FAILURE
        }
    }
}
