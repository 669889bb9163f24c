//! `hostler`, the program: what it sends, prints and exits with. Against a scripted controller
//! where the answer has to be a certain one, against a real one for the rest.

mod caches;
mod errors;
mod fake;
mod real;
mod refreshes;
mod requests;
mod samples;
mod stacks;
mod tls;
mod watching;

use std::io::Write;
use std::process::{Command, Stdio};

use hostler_tests::servers::command;
use hostler_tests::system::program;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Checks the exit code; what was printed is in the message if it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "another exit code than docs/CLI.md says\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{}", self.stdout))
    }
}

/// `hostler`, talking to a port of loopback, with nothing of the caller's environment in it.
fn hostler(port: u16, arguments: &[&str]) -> Command {
    let mut command = command(program("hostler").unwrap());
    command.env_clear().env("HOSTLER_SERVER", format!("http://127.0.0.1:{port}"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn run(port: u16, arguments: &[&str]) -> Ran {
    finish(&mut hostler(port, arguments))
}

fn finish(command: &mut Command) -> Ran {
    ran(command.output().unwrap())
}

/// Runs it with something on its standard input.
fn run_with_input(port: u16, arguments: &[&str], input: &str) -> Ran {
    let mut command = hostler(port, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A run that needs no input may have ended already.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    ran(child.wait_with_output().unwrap())
}

fn ran(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
