//! Namespaces for one engine: processes, mounts and a network of its own, so that several run side
//! by side and the kernel takes all of one away, containers included, however its test ends.
//!
//! Invariants:
//! * the room's first process ends when its standard input does, so with the test's process at the
//!   latest, `kill -9` included; the kernel then kills every other process of the room;
//! * mounts made inside are not seen outside; the network has no way out.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::servers::{Process, ServerError, children, command, is_root};

/// Engines keep sockets below `/run` that would be the same for all of them. `docker-init` takes in
/// the orphans, which the shims of containers are.
const FIRST: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && \
    exec docker-init -- cat";

#[derive(Debug)]
pub(super) struct Room {
    holder: Child,
    first: u32,
    network: File,
    processes: File,
}

impl Room {
    /// Makes the namespaces; what its first process complains of goes to `log`.
    ///
    /// # Errors
    /// When this machine does not permit them, or has no `docker-init`.
    pub(super) fn make(log: &Path) -> Result<Self, ServerError> {
        if !is_root() {
            return Err(ServerError("a Docker Engine of the tests' own needs root".to_owned()));
        }
        let failed = |error| ServerError::new("making namespaces for an engine", error);
        let mut unshare = command("unshare");
        unshare.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", FIRST]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped());
        unshare.stderr(File::create(log).map_err(failed)?);
        let mut holder = unshare.spawn().map_err(failed)?;
        let mut said = String::new();
        if let Some(out) = holder.stdout.take() {
            BufReader::new(out).read_line(&mut said).map_err(failed)?;
        }
        let first = children(holder.id()).first().copied();
        let Some(first) = first.filter(|_| said.trim() == "ready") else {
            drop(holder.stdin.take());
            holder.wait().map_err(failed)?;
            let told = std::fs::read_to_string(log).unwrap_or_default();
            return Err(ServerError::new("making namespaces for an engine", told.trim()));
        };
        let network = File::open(namespace(first, "net")).map_err(failed)?;
        let processes = File::open(namespace(first, "pid")).map_err(failed)?;
        Ok(Self { holder, first, network, processes })
    }

    /// Starts a program inside; what it prints goes to `log`.
    ///
    /// # Errors
    /// When the program is not there or the log cannot be made.
    pub(super) fn start(
        &self,
        name: &str,
        program: &[&str],
        log: &Path,
    ) -> Result<Process, ServerError> {
        let mut enter = command("nsenter");
        for kind in ["net", "mnt"] {
            let long = if kind == "mnt" { "mount" } else { kind };
            enter.arg(format!("--{long}={}", namespace(self.first, kind).display()));
        }
        enter.arg("--").args(program);
        // Not by `nsenter --pid`: that would stay in between, and the signals with it.
        self.in_thread(&self.processes, LinkNameSpaceType::ProcessID, || {
            Process::start(name, &mut enter, log)
        })?
    }

    /// Does something in the room's network, in a thread of its own: sockets are the room's.
    ///
    /// # Errors
    /// When the network cannot be entered.
    pub(super) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, ServerError> {
        self.in_thread(&self.network, LinkNameSpaceType::Network, act)
    }

    fn in_thread<T: Send>(
        &self,
        namespace: &File,
        kind: LinkNameSpaceType,
        act: impl FnOnce() -> T + Send,
    ) -> Result<T, ServerError> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(kind))
                    .map_err(|error| ServerError::new("entering an engine's namespace", error))?;
                Ok(act())
            });
            match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It answers when the kernel has killed all that was inside.
        drop(self.holder.wait());
    }
}

fn namespace(pid: u32, kind: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/{kind}"))
}
