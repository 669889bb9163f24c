//! What the demos tell: each line with the time since they began, and what programs say below it.

use std::io::Write;
use std::time::Instant;

use crate::servers::{ServerError, command, instant};
use crate::system::{Controller, program};

/// Tells what a demo does, on its standard output.
#[derive(Debug)]
pub struct Teller {
    began: Instant,
}

impl Teller {
    /// Its time begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: instant() }
    }

    /// A line of the demo's own.
    pub fn say(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let secs = self.began.elapsed().as_secs_f64();
        // Nobody reads any more: then there is nobody to tell that, either.
        writeln!(out, "[{secs:6.2} s] {text}").and_then(|()| out.flush()).unwrap_or(());
    }

    /// What somebody else said.
    pub fn show(&self, text: &str) {
        for line in text.lines() {
            writeln!(std::io::stdout().lock(), "             {line}").unwrap_or(());
        }
    }

    /// Runs the command line at a controller and shows what it says.
    ///
    /// # Errors
    /// What it said, if it ended with another status than 0.
    pub fn hostler(&self, controller: &Controller, arguments: &[&str]) -> Result<(), ServerError> {
        self.show(&self.quietly(controller, arguments)?);
        Ok(())
    }

    /// The same, and what it says is given back.
    ///
    /// # Errors
    /// What it said, if it ended with another status than 0.
    pub fn quietly(
        &self,
        controller: &Controller,
        arguments: &[&str],
    ) -> Result<String, ServerError> {
        self.show(&format!("$ hostler {}", arguments.join(" ")));
        let out = command(program("hostler")?)
            .args(arguments)
            .env("HOSTLER_SERVER", format!("http://127.0.0.1:{}", controller.api_port))
            .output()
            .map_err(|error| ServerError::new("running hostler", error))?;
        let told = String::from_utf8_lossy(&[out.stderr, out.stdout].concat()).into_owned();
        if out.status.success() {
            return Ok(told);
        }
        Err(ServerError(format!("hostler ended with {}:\n{told}", out.status)))
    }
}

/// Says why a demo ended, on the standard error.
pub fn complain(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").unwrap_or(());
}
