//! Child processes of a fetch: without a shell, with an environment of our own, killed when the
//! fetch is given up.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::GitError;
use super::group::Group;
use super::watch::{Watch, lock};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a child's standard error that are kept.
const STDERR_BYTES_MAX: u64 = 16 * 1024;
/// A child whose output has ended gets half a second to end as well.
const GRACE_LOOK: Duration = Duration::from_millis(5);
const GRACE_LOOKS: u32 = 100;

/// A program and its arguments; neither holds a secret.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<OsString>,
    /// Variables beside `PATH` and `LC_ALL`: nothing else is inherited.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// A child that talks git on its standard streams.
#[derive(Debug)]
pub(super) struct Talker {
    group: Arc<Mutex<Group>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// A child's output, counted.
#[derive(Debug)]
pub(super) struct Counted {
    stdout: ChildStdout,
    watch: Arc<Watch>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.stdout.read(buffer)?;
        if bytes > 0 {
            self.watch.received(bytes)?;
        }
        Ok(bytes)
    }
}

impl Call {
    #[expect(
        clippy::disallowed_methods,
        reason = "the controller's one place that starts programs"
    )]
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir("/")
            .process_group(0);
        command
    }

    /// Starts it for a conversation.
    pub(super) fn talk(
        &self,
        watch: &Arc<Watch>,
    ) -> Result<(Talker, Counted, ChildStdin), GitError> {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.failed(&error))?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Arc::new(Mutex::new(Group::of(child)));
        watch.adopt(&group);
        let mut talker = Talker { group, stderr: None };
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(GitError::internal(self.program, "it has no standard streams"));
        };
        talker.stderr = Some(std::thread::spawn(move || beginning(stderr)));
        Ok((talker, Counted { stdout, watch: Arc::clone(watch) }, stdin))
    }

    /// Runs it to its end with `input`; whether it succeeded, and what it said about it.
    pub(super) fn run(&self, watch: &Arc<Watch>, input: &[u8]) -> Result<(bool, String), GitError> {
        let (mut talker, mut stdout, mut stdin) = self.talk(watch)?;
        // It may have made up its mind without reading all.
        io::Write::write_all(&mut stdin, input).unwrap_or(());
        drop(stdin);
        let mut said = Vec::new();
        stdout
            .by_ref()
            .take(STDERR_BYTES_MAX)
            .read_to_end(&mut said)
            .map_err(|error| GitError::internal(self.program, error))?;
        while lock(&talker.group).look().is_none() && !watch.is_stopped() {
            std::thread::park_timeout(GRACE_LOOK);
        }
        let complaint = talker.complaint();
        let success = lock(&talker.group).look().is_some_and(|status| status.success());
        Ok((success, format!("{complaint} {}", String::from_utf8_lossy(&said))))
    }

    fn failed(&self, error: &io::Error) -> GitError {
        if error.kind() == io::ErrorKind::NotFound {
            return GitError::internal(
                "a program is missing",
                format!("install `{}` on the controller's machine", self.program),
            );
        }
        GitError::internal(&format!("starting {}", self.program), error)
    }
}

impl Talker {
    /// What it wrote to its standard error. It gets a moment to end by itself.
    pub(super) fn complaint(&mut self) -> String {
        for _ in 0..GRACE_LOOKS {
            if lock(&self.group).look().is_some() {
                break;
            }
            std::thread::park_timeout(GRACE_LOOK);
        }
        lock(&self.group).end();
        let bytes = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        lock(&self.group).end();
    }
}

/// The beginning of a stream; the rest is read and dropped, so that its writer does not block.
fn beginning(mut stream: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    drop(stream.by_ref().take(STDERR_BYTES_MAX).read_to_end(&mut kept));
    drop(io::copy(&mut stream, &mut io::sink()));
    kept
}

/// A program's path as an argument.
pub(super) fn argument(text: impl AsRef<Path>) -> OsString {
    text.as_ref().as_os_str().to_owned()
}
