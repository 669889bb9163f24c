//! Starting programs: no shell, a process group of its own, a time limit, bounded output.
//!
//! The only `Command::new` of the agent.

mod marks;

use std::process::Stdio;
use std::time::Duration;

use hostler_protocol::OUTPUT_TAIL_BYTES_MAX;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

pub use marks::end_marked;

/// How long a group may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of output kept beyond its tail until secrets are taken out: one that the tail's beginning
/// goes through is found whole.
const SECRET_BYTES: usize = 4096;
/// What stands where a secret was.
const REDACTED: &str = "[redacted]";

/// A program to run.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Program and arguments; never contains a secret.
    pub command: Vec<String>,
    pub timeout: Duration,
    /// Bytes of standard output kept from its beginning; what follows is read and dropped.
    pub stdout_bytes_max: usize,
    /// Texts replaced in the output tail.
    pub secrets: Vec<String>,
    /// Variables beside `PATH` and `LC_ALL`, or in their place: nothing else is inherited.
    pub environment: Vec<(&'static str, String)>,
    /// What everything the program starts is known by, wherever it goes: see [`end_marked`].
    pub mark: Option<String>,
}

/// A program that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    /// Whether standard output was longer than its limit.
    pub stdout_cut: bool,
    /// The last bytes of standard error, or of standard output if that was silent.
    pub tail: String,
}

impl Finished {
    /// Whether the program says it succeeded.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

/// Why a program did not come to its own end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such program.
    #[error("there is no program `{program}`")]
    Missing { program: String },
    /// It could not be started or waited for.
    #[error("`{program}` could not be run")]
    Run {
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// It ran longer than it may; its whole group was ended.
    #[error("`{program}` ran longer than {} ms", timeout.as_millis())]
    TimedOut { program: String, timeout: Duration },
    /// The job was cancelled; its whole group was ended.
    #[error("`{program}` was stopped because the job was cancelled")]
    Cancelled { program: String },
}

/// Runs a program to its end, to its time limit or to the cancellation.
///
/// # Errors
/// [`ProcessError`]; a program that ends with a status other than 0 is no error here.
#[expect(clippy::disallowed_methods, reason = "this is the door the lint points to")]
pub async fn run(
    invocation: &Invocation,
    cancel: &CancellationToken,
) -> Result<Finished, ProcessError> {
    let program = invocation.command.first().cloned().unwrap_or_default();
    let mut child = Command::new(&program)
        .args(invocation.command.iter().skip(1))
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .envs(invocation.environment.iter().map(|(name, value)| (*name, value.as_str())))
        .envs(invocation.mark.iter().map(|mark| (marks::VARIABLE, mark.as_str())))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                ProcessError::Missing { program: program.clone() }
            } else {
                ProcessError::Run { program: program.clone(), source }
            }
        })?;
    let mut out = Kept { first_max: invocation.stdout_bytes_max, ..Kept::default() };
    let mut err = Kept::default();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = {
        let work = async {
            let ((), (), status) =
                tokio::join!(drain(stdout, &mut out), drain(stderr, &mut err), child.wait());
            status
        };
        tokio::select! {
            status = work => Some(status),
            () = cancel.cancelled() => None,
            () = tokio::time::sleep(invocation.timeout) => None,
        }
    };
    let Some(status) = ended else {
        let known = invocation.mark.as_ref().map(|mark| marks::family(mark));
        end_group(&mut child).await;
        if let Some(mark) = &invocation.mark {
            // Also who lost its parent by that and has no mark.
            for held in known.iter().flatten() {
                held.end();
            }
            end_marked(mark);
        }
        return Err(if cancel.is_cancelled() {
            ProcessError::Cancelled { program }
        } else {
            ProcessError::TimedOut { program, timeout: invocation.timeout }
        });
    };
    let status = status.map_err(|source| ProcessError::Run { program, source })?;
    let tail = if err.last.is_empty() { &out.last } else { &err.last };
    let tail = redact(&String::from_utf8_lossy(tail), &invocation.secrets);
    Ok(Finished {
        status: status.code(),
        tail: end_of(&tail, OUTPUT_TAIL_BYTES_MAX).to_owned(),
        stdout_cut: out.cut,
        stdout: out.first,
    })
}

/// Replaces every secret in a text; the longest first, so that no rest of one is left where another
/// is part of it.
#[must_use]
pub fn redact(text: &str, secrets: &[String]) -> String {
    let mut secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
        .into_iter()
        .filter(|secret| !secret.is_empty())
        .fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
}

/// The end of a text, of so many bytes at most.
fn end_of(text: &str, bytes_max: usize) -> &str {
    let from = (text.len().saturating_sub(bytes_max)..=text.len())
        .find(|from| text.is_char_boundary(*from))
        .unwrap_or(text.len());
    &text[from..]
}

#[derive(Default)]
struct Kept {
    first: Vec<u8>,
    first_max: usize,
    cut: bool,
    last: Vec<u8>,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let room = self.first_max.saturating_sub(self.first.len());
        self.first.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.cut |= self.first_max > 0 && bytes.len() > room;
        self.last.extend_from_slice(bytes);
        let over = self.last.len().saturating_sub(OUTPUT_TAIL_BYTES_MAX + SECRET_BYTES);
        self.last.drain(..over);
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Kept) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    // An error on a pipe means its other end is gone: the same as its end.
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        kept.add(&buffer[..length]);
    }
}

async fn end_group(child: &mut Child) {
    let Some(group) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else {
        return;
    };
    for (signal, wait) in [(Signal::TERM, GRACE), (Signal::KILL, GRACE)] {
        if kill_process_group(group, signal).is_err() {
            return;
        }
        if tokio::time::timeout(wait, child.wait()).await.is_ok() && signal == Signal::KILL {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout_ms: u64) -> Invocation {
        Invocation {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_millis(timeout_ms),
            stdout_bytes_max: 64,
            secrets: vec!["hunter2".to_owned()],
            environment: Vec::new(),
            mark: None,
        }
    }

    #[tokio::test]
    async fn status_output_and_redaction() {
        let token = CancellationToken::new();
        let done = run(&sh("echo out; echo my hunter2 >&2; exit 3", 10_000), &token).await.unwrap();
        assert_eq!(done.status, Some(3));
        assert_eq!(done.stdout, b"out\n");
        assert_eq!(done.tail, "my [redacted]\n");
    }

    #[tokio::test]
    async fn the_tail_is_bounded() {
        let token = CancellationToken::new();
        let script = "head -c 100000 /dev/zero | tr '\\0' x";
        let done = run(&sh(script, 10_000), &token).await.unwrap();
        assert_eq!(done.tail.len(), OUTPUT_TAIL_BYTES_MAX);
        assert!(done.stdout_cut && done.stdout.len() == 64);
    }

    #[tokio::test]
    async fn no_part_of_a_secret_is_left_where_the_tail_begins_or_another_is_part_of_it() {
        let token = CancellationToken::new();
        let script = format!("printf hunter2hunter2; head -c {} /dev/zero | tr '\\0' x", {
            OUTPUT_TAIL_BYTES_MAX - 3
        });
        let secrets = vec!["hunter2".to_owned(), "hunter2hunter2".to_owned()];
        let done = run(&Invocation { secrets, ..sh(&script, 10_000) }, &token).await.unwrap();
        assert!(done.tail.starts_with("ed]xx") && done.tail.len() == OUTPUT_TAIL_BYTES_MAX);
        let both = ["cdef".to_owned(), "abcdefgh".to_owned()];
        assert_eq!(redact("abcdefgh cdef", &both), "[redacted] [redacted]");
    }

    #[tokio::test]
    async fn too_long_and_missing_are_told_apart() {
        let token = CancellationToken::new();
        let error = run(&sh("sleep 60 & wait", 50), &token).await.unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
        let mut missing = sh("", 50);
        missing.command = vec!["hostler-no-such-program".to_owned()];
        let error = run(&missing, &token).await.unwrap_err();
        assert!(matches!(error, ProcessError::Missing { .. }), "{error}");
    }

    #[tokio::test]
    async fn cancelling_ends_the_group() {
        let token = CancellationToken::new();
        token.cancel();
        let error = run(&sh("sleep 60 & wait", 60_000), &token).await.unwrap_err();
        assert!(matches!(error, ProcessError::Cancelled { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_left_its_group_ends_too() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let script = format!("setsid sleep 60 & echo $! > {}; wait", pid_file.display());
        let mark = directory.path().display().to_string();
        let cancel = CancellationToken::new();
        let stop = async {
            // The pid is whole once its line is.
            let written = || std::fs::read_to_string(&pid_file).ok().filter(|t| t.ends_with('\n'));
            while written().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let invocation = Invocation { mark: Some(mark), ..sh(&script, 60_000) };
        let (ended, ()) = tokio::join!(run(&invocation, &cancel), stop);
        assert!(matches!(ended, Err(ProcessError::Cancelled { .. })), "{ended:?}");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // Gone, or dead and only waiting for somebody to take note of it.
        assert!(state.as_deref().map_or(true, |stat| stat.contains(") Z ")), "{state:?}");
    }
}
