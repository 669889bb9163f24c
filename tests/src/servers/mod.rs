//! Real servers on loopback: each has its own directory and ports of its own, is known to be the
//! one that answers, and is stopped by its own process id when its guard is dropped.

pub mod age;
pub mod docker;
pub mod git;
pub mod nginx;
pub mod php;
mod port;
pub mod postgres;
pub mod redis;
pub mod s3;
pub mod tls;

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub use port::free_port;

/// How long a server may take to start or to stop.
pub const SERVER_SECS_MAX: u64 = 20;

/// A server could not be started or used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);

impl ServerError {
    /// An error with what was being done and why it failed.
    pub fn new(doing: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {why}"))
    }
}

/// A command of the tests' own.
#[expect(clippy::disallowed_methods, reason = "the tests start real servers")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Now, for deadlines of the tests' own.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests wait for real processes")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Whether this process may change users (and therefore has to, for some servers).
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A new directory below the system's temporary one that other users may traverse.
///
/// # Errors
/// When it cannot be made.
pub fn directory(name: &str) -> Result<tempfile::TempDir, ServerError> {
    let made = tempfile::Builder::new()
        .prefix(&format!("hostler-{name}-"))
        .tempdir()
        .map_err(|error| ServerError::new("making a temporary directory", error))?;
    std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(0o755)).map_err(
        |error| ServerError::new("opening the temporary directory to its servers", error),
    )?;
    Ok(made)
}

/// Writes a file, making the directories above it.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| ServerError::new(&format!("making {}", parent.display()), error))?;
    }
    std::fs::write(path, text)
        .map_err(|error| ServerError::new(&format!("writing {}", path.display()), error))
}

/// Asks again and again until the answer is there; says what was waited for when it is not.
///
/// # Errors
/// When `secs_max` have passed.
pub fn wait_for<T>(
    what: &str,
    secs_max: u64,
    mut ask: impl FnMut() -> Option<T>,
) -> Result<T, ServerError> {
    let deadline = instant() + Duration::from_secs(secs_max);
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if instant() >= deadline {
            return Err(ServerError(format!("waited {secs_max} s in vain for {what}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The first file a pattern's directory holds whose name begins as given (`/usr/sbin`, `php-fpm`).
#[must_use]
pub fn find(directory: &str, begins: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(begins))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.pop()
}

/// A child process that ends with its guard.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program; what it prints goes to `log`.
    ///
    /// # Errors
    /// When the program is not there or the log cannot be made.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, ServerError> {
        let out = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| ServerError::new(&format!("opening {}", log.display()), error))?;
        let err = out.try_clone().map_err(|error| ServerError::new("sharing a log", error))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| ServerError::new(&format!("starting {name}"), error))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal to this very process.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Gone already is what a signal is for.
            kill_process(pid, signal).unwrap_or(());
        }
    }

    /// Kills it on the spot, as a crash would.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        drop(self.child.wait());
    }

    /// Asks it to end and waits; the exit code if it ended by itself in time.
    pub fn stop(&mut self) -> Option<i32> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status.code();
        }
        self.signal(Signal::TERM);
        let ended = wait_for(&format!("{} to stop", self.name), SERVER_SECS_MAX, || {
            self.child.try_wait().ok().flatten()
        });
        if let Ok(status) = ended {
            return status.code();
        }
        self.kill();
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The answer to a plain HTTP request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Header lines as sent, without the status line.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One GET over a connection of its own, as a visitor would send it.
///
/// # Errors
/// When nobody answers or the answer is not HTTP.
pub fn get(
    port: u16,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, ServerError> {
    let what = format!("GET http://{host}{path}");
    let failed = |error: std::io::Error| ServerError::new(&what, error);
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(SERVER_SECS_MAX))).map_err(failed)?;
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    exchange(stream, &what, &request)
}

/// Sends a request over a connection and reads the answer to the connection's end.
fn exchange(
    mut stream: impl Read + Write,
    what: &str,
    request: &str,
) -> Result<Answer, ServerError> {
    let failed = |error: std::io::Error| ServerError::new(what, error);
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| ServerError(format!("{what}: no HTTP answer: {text}")))?;
    let (status_line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| ServerError(format!("no status in {status_line:?}")))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The processes whose parent is this one.
fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.split(' ').nth(1) == Some(parent.to_string().as_str())
    })
    .collect()
}
