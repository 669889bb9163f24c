//! A process that is started again when it has ended, as a service manager does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bench::clock::wall_secs;
use crate::servers::{Process, ServerError, instant};

/// Milliseconds before what has ended is started again.
const RESTART_MS: u64 = 400;

type Start = Box<dyn Fn() -> Result<Process, ServerError> + Send + Sync>;

/// A process that ended without having been told to.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    pub name: String,
    /// Seconds since the Unix epoch.
    pub at_secs: f64,
    /// `None`: by a signal.
    pub code: Option<i32>,
}

/// A process that is kept running.
pub struct Service {
    pub name: String,
    pub log: PathBuf,
    start: Start,
    process: Option<Process>,
    /// Told to end: it may.
    told: bool,
    due: Option<Instant>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("name", &self.name).field("process", &self.process).finish()
    }
}

impl Service {
    /// One that is started by `start` and logs to `log`; it does not run yet.
    #[must_use]
    pub fn new(name: String, log: PathBuf, start: Start) -> Self {
        Self { name, log, start, process: None, told: false, due: None }
    }

    /// Starts it now.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn run(&mut self) -> Result<(), ServerError> {
        self.process = Some((self.start)()?);
        (self.told, self.due) = (false, None);
        Ok(())
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.restart_later();
        }
    }

    /// Tells it to end; it is started again when it has.
    pub fn tell_to_stop(&mut self) {
        if let Some(process) = &self.process {
            self.told = true;
            process.signal(Signal::TERM);
        }
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn restart_later(&mut self) {
        self.due = Some(instant() + Duration::from_millis(RESTART_MS));
    }

    /// Starts it again if it has ended; how it ended, if that was not asked for.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tend(&mut self) -> Result<Option<Exit>, ServerError> {
        let ended = self.process.as_mut().and_then(Process::ended);
        let mut exit = None;
        if let Some(status) = ended {
            self.process = None;
            let clean = self.told && status.code() == Some(0);
            let (name, code) = (self.name.clone(), status.code());
            exit = (!clean).then(|| Exit { name, at_secs: wall_secs(), code });
            self.restart_later();
        }
        if self.due.is_some_and(|due| instant() >= due) {
            self.run()?;
        }
        Ok(exit)
    }
}
