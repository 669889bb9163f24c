//! Where the chaos lives: namespaces of its own for processes, mounts and networks, so that the
//! kernel takes everything away with the last process, however the run ends.
//!
//! Invariants:
//! * whatever the run starts is in its process namespace: when its first process ends (at the end, by
//!   a panic, killed), every other one is killed by the kernel;
//! * the first process is killed when the one that prepared the namespaces ends, and that one when the
//!   launcher ends: there is no exit path on which something is left, `kill -9` included;
//! * mounts, loop devices, namespaces of networks, bridges and links go with the namespaces;
//! * what remains is one directory, locked while it is in use; a start removes those of killed runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::net::run;
use crate::servers::{ServerError, command, is_root};

/// The argument with which the program starts itself inside.
pub const INSIDE: &str = "--inside";
const PREFIX: &str = "hostler-chaos-run-";
const KEPT_PREFIX: &str = "hostler-chaos-failed-";
/// Made by the program inside as the first thing.
const ENTERED: &str = "entered";
const LOCK: &str = "lock";
/// What of the directory is kept when a run fails.
pub const LOGS: &str = "logs";

const DENIED: &str = "the chaos needs root with namespaces of its own (processes, mounts, networks), \
    nftables and loop mounts; this machine does not permit them";

/// Runs this program inside, with the arguments given, and takes away what is left.
///
/// # Errors
/// When this machine does not permit what it takes, or the run was told to stop.
pub fn launch(args: &[String]) -> Result<ExitCode, ServerError> {
    if !is_root() {
        return Err(ServerError(format!("{DENIED}: it was not started by root")));
    }
    remove_leftovers();
    let dir = Dir::make()?;
    let own = std::env::current_exe().map_err(|error| ServerError::new("finding myself", error))?;
    let mut inside = command("setpriv");
    inside.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork"]);
    inside.args(["--kill-child", "--mount-proc"]).arg(own).arg(INSIDE).arg(&dir.path).args(args);
    inside.env("TMPDIR", &dir.path).env_remove(crate::servers::postgres::URL_VARIABLE);
    let child = inside.stdin(Stdio::null()).spawn();
    let mut child = child.map_err(|error| ServerError::new("starting setpriv", error))?;
    let ended = wait(&mut child)?;
    if ended {
        return Ok(ExitCode::SUCCESS);
    }
    if !dir.path.join(ENTERED).exists() {
        return Err(ServerError(DENIED.to_owned()));
    }
    match dir.keep_logs() {
        Some(kept) => Err(ServerError(format!("all logs are in {}", kept.display()))),
        None => Err(ServerError("there are no logs to keep".to_owned())),
    }
}

/// Waits for the run, or for a signal; whether it ended well.
fn wait(child: &mut Child) -> Result<bool, ServerError> {
    let failed = |error| ServerError::new("waiting for the run", error);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(status.success());
            }
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        child.kill().and_then(|()| child.wait()).map_err(failed)?;
        Ok(false)
    })
}

/// Makes the namespaces the run's own: nothing mounted here is seen outside, and `ip netns` finds a
/// place of its own. To be called first thing inside.
///
/// # Errors
/// With what this machine does not permit.
pub fn settle_in(dir: &Path) -> Result<(), ServerError> {
    std::fs::write(dir.join(ENTERED), "")
        .and_then(|()| std::fs::create_dir_all(dir.join(LOGS)))
        .map_err(|error| ServerError::new("preparing the run's directory", error))?;
    let denied = |error: ServerError| ServerError(format!("{DENIED}: {error}"));
    run("mount", &["--make-rprivate", "/"]).map_err(denied)?;
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]).map_err(denied)?;
    std::fs::create_dir("/run/netns").map_err(|error| ServerError::new("making /run/netns", error))
}

/// The directory of a run.
struct Dir {
    path: PathBuf,
    _lock: File,
}

impl Dir {
    fn make() -> Result<Self, ServerError> {
        let failed = |error| ServerError::new("making the run's directory", error);
        let made = tempfile::Builder::new().prefix(PREFIX).tempdir().map_err(failed)?;
        let path = made.keep();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, open).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// Moves the logs to a directory that stays.
    fn keep_logs(&self) -> Option<PathBuf> {
        let name = self.path.file_name()?.to_str()?.replace(PREFIX, KEPT_PREFIX);
        let kept = self.path.with_file_name(name);
        std::fs::rename(self.path.join(LOGS), &kept).ok()?;
        Some(kept)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the directories of runs that were killed: nobody holds their locks.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Without a lock file it was killed in the moment it was made.
        let in_use = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
        if !in_use {
            remove(&entry.path());
        }
    }
}

fn remove(dir: &Path) {
    // The kernel may still be unmounting below it.
    for _ in 0..50 {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(()) | Err(_) => return,
        }
    }
}
