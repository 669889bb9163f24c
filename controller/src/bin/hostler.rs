//! `hostler`, the operator's command: a client of the controller's HTTP API.

#[path = "../cli/mod.rs"]
mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
