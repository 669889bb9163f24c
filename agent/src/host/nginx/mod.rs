//! nginx as it runs on this host: test, dump, reload, and what its error log says of a reload.
//!
//! Whether a test passed is judged by the exit status alone; the text is only quoted. A reload
//! is a signal: nginx answers nothing, so whether it took is proven elsewhere, by asking it.

mod backends;
pub mod listen;
pub mod tree;

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio_util::sync::CancellationToken;

pub use self::backends::OpenSockets;
use super::process::{self, Invocation, ProcessError};

/// Longest time for `nginx -t` or `-T`.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of `nginx -T` that are read.
const DUMP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of new error log that are looked through.
const LOG_BYTES_MAX: u64 = 256 * 1024;

/// The nginx of this host.
#[derive(Debug, Clone)]
pub struct Nginx {
    /// Program and the arguments that select its configuration.
    pub command: Vec<String>,
    pub pid_file: PathBuf,
    pub error_log: PathBuf,
}

/// What `nginx -t` or `-T` said.
#[derive(Debug, Clone)]
pub struct Tested {
    pub ok: bool,
    pub command: Vec<String>,
    pub status: Option<i32>,
    /// Last bytes it printed on standard error.
    pub tail: String,
    /// With `-T` and `ok`, the configuration as nginx read it.
    pub dump: String,
}

impl Tested {
    /// The line that says why, in nginx's own words.
    #[must_use]
    pub fn line(&self) -> String {
        first_severe(&self.tail)
            .or_else(|| self.tail.lines().rev().find(|line| !line.trim().is_empty()))
            .unwrap_or("nginx printed nothing")
            .to_owned()
    }
}

/// Why nginx could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    /// The program could not be run.
    #[error("nginx could not be run")]
    Run {
        #[from]
        source: ProcessError,
    },
    /// The dump is larger than what is ever read.
    #[error("the nginx configuration has more than {DUMP_BYTES_MAX} bytes")]
    DumpTooLarge,
    /// The process id file does not name a running nginx.
    #[error("nginx is not running: {} does not name it: {reason}", pid_file.display())]
    NotRunning { pid_file: PathBuf, reason: String },
    /// The signal could not be sent.
    #[error("the nginx master process {pid} could not be signalled")]
    Signal {
        pid: i32,
        #[source]
        source: std::io::Error,
    },
}

impl Nginx {
    /// Tests the configuration on disk.
    ///
    /// # Errors
    /// [`NginxError::Run`]; a configuration that fails the test is no error here.
    pub async fn test(&self, cancel: &CancellationToken) -> Result<Tested, NginxError> {
        self.run("-t", 0, cancel).await
    }

    /// Tests the configuration on disk and reads it as nginx does.
    ///
    /// # Errors
    /// [`NginxError::Run`], [`NginxError::DumpTooLarge`].
    pub async fn dump(&self, cancel: &CancellationToken) -> Result<Tested, NginxError> {
        self.run("-T", DUMP_BYTES_MAX, cancel).await
    }

    async fn run(
        &self,
        flag: &str,
        stdout_bytes_max: usize,
        cancel: &CancellationToken,
    ) -> Result<Tested, NginxError> {
        let mut command = self.command.clone();
        command.push(flag.to_owned());
        let invocation = Invocation {
            command: command.clone(),
            timeout: TEST_TIMEOUT,
            stdout_bytes_max,
            secrets: Vec::new(),
            environment: Vec::new(),
            mark: None,
        };
        let finished = process::run(&invocation, cancel).await?;
        if stdout_bytes_max > 0 && finished.stdout_cut {
            return Err(NginxError::DumpTooLarge);
        }
        Ok(Tested {
            ok: finished.success(),
            command,
            status: finished.status,
            tail: finished.tail,
            dump: String::from_utf8_lossy(&finished.stdout).into_owned(),
        })
    }

    /// Worker processes that still take new connections. After a reload the old ones do so for a
    /// moment longer; their process title says when they have stopped. Empty where the system
    /// does not tell.
    #[must_use]
    pub fn accepting_workers(&self) -> BTreeSet<i32> {
        let Ok(pid) = self.master() else { return BTreeSet::new() };
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let title = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| {
                let title = String::from_utf8_lossy(&title(pid)).into_owned();
                title.contains("worker process") && !title.contains("shutting down")
            })
            .collect()
    }

    /// Whether there is a master process that could be told anything.
    ///
    /// # Errors
    /// [`NginxError::NotRunning`].
    pub fn check_running(&self) -> Result<(), NginxError> {
        self.master().map(|_| ())
    }

    /// Tells the master process to load the configuration on disk.
    ///
    /// # Errors
    /// [`NginxError::NotRunning`], [`NginxError::Signal`].
    pub fn reload(&self) -> Result<(), NginxError> {
        let pid = self.master()?;
        let signal = |pid| rustix::process::kill_process(pid, Signal::HUP);
        match Pid::from_raw(pid).map(signal) {
            Some(Ok(())) => Ok(()),
            Some(Err(errno)) => Err(NginxError::Signal { pid, source: errno.into() }),
            None => Err(NginxError::NotRunning {
                pid_file: self.pid_file.clone(),
                reason: "it holds no process id".to_owned(),
            }),
        }
    }

    /// Process id of the running master process.
    ///
    /// # Errors
    /// [`NginxError::NotRunning`].
    pub fn master(&self) -> Result<i32, NginxError> {
        let not_running = |reason: &str| NginxError::NotRunning {
            pid_file: self.pid_file.clone(),
            reason: reason.to_owned(),
        };
        let text = std::fs::read_to_string(&self.pid_file)
            .map_err(|error| not_running(&error.to_string()))?;
        let pid: i32 = text.trim().parse().map_err(|_| not_running("it holds no number"))?;
        // A file left by a dead nginx may name somebody else's process by now.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .map_err(|_| not_running("there is no such process"))?;
        if !name.starts_with("nginx") {
            return Err(not_running("that process is not nginx"));
        }
        Ok(pid)
    }

    /// Where the error log ends now, in bytes.
    #[must_use]
    pub fn log_mark(&self) -> u64 {
        std::fs::metadata(&self.error_log).map_or(0, |metadata| metadata.len())
    }

    /// The first severe line nginx logged after the mark; `None` when there is none, or the log
    /// cannot be read.
    #[must_use]
    pub fn severe_since(&self, mark: u64) -> Option<String> {
        let text = read_from(&self.error_log, mark).ok()?;
        first_severe(&text).map(str::to_owned)
    }

    /// Whether nginx logged after the mark that it cannot go on with a configuration.
    #[must_use]
    pub fn emergency_since(&self, mark: u64) -> bool {
        read_from(&self.error_log, mark).is_ok_and(|text| text.contains("[emerg]"))
    }
}

fn read_from(path: &Path, mark: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    // A log that is shorter than it was has been rotated: read the new one from its beginning.
    let start = if file.metadata()?.len() < mark { 0 } else { mark };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn first_severe(text: &str) -> Option<&str> {
    ["[emerg]", "[alert]", "[crit]"]
        .iter()
        .find_map(|level| text.lines().find(|line| line.contains(level)))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_line_is_quoted() {
        let text = "a [warn] b\nc [crit] d\ne [emerg] f\n";
        assert_eq!(first_severe(text), Some("e [emerg] f"));
        assert_eq!(first_severe("a [warn] b\n"), None);
    }

    #[test]
    fn a_stale_pid_file_is_not_signalled() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("nginx.pid");
        std::fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
        let nginx = Nginx { command: Vec::new(), pid_file, error_log: PathBuf::new() };
        let error = nginx.reload().unwrap_err();
        assert!(matches!(error, NginxError::NotRunning { .. }), "{error}");
    }
}
