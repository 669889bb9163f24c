//! A child process together with everything it started.

use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, kill_process_group};

/// A child and everything it started: one process group.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Group {
    pub(super) fn of(child: Child) -> Self {
        Self { child, ended: None }
    }

    /// Kills all of it, unless its first process has ended and been waited for: from then on its
    /// number may be somebody else's.
    pub(super) fn kill(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Ended already is what killing is for.
            kill_process_group(pid, Signal::KILL).unwrap_or(());
        }
    }

    /// Kills all of it, and waits for its first process.
    pub(super) fn end(&mut self) {
        self.kill();
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }

    /// How its first process ended, once it has.
    pub(super) fn look(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }
}
