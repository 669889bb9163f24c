//! Ending everything a program has started, also what left its process group: each process carries
//! the mark of its run in its environment, and hands it on to whatever it starts.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable the mark stands in.
pub(super) const VARIABLE: &str = "HOSTLER_MARK";
/// Passes over all processes: what is being started during one is seen by the next.
const PASSES_MAX: usize = 32;

/// Kills every process whose mark begins with `mark`, until there is none; says how many. A process
/// of somebody else's, whose environment this one may not read, is never touched.
pub fn end_marked(mark: &str) -> usize {
    let wanted = format!("{VARIABLE}={mark}");
    let mut ended = 0;
    for _ in 0..PASSES_MAX {
        let found = pids().filter(|pid| end(*pid, &wanted)).count();
        if found == 0 {
            return ended;
        }
        ended += found;
    }
    tracing::warn!(mark, "processes of a run go on starting others");
    ended
}

fn pids() -> impl Iterator<Item = i32> {
    let listing = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Kills one process if it carries the mark. The process is held before its environment is read, so
/// that a number that is given to another meanwhile does no harm.
fn end(pid: i32, wanted: &str) -> bool {
    let Some(Ok(held)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let marked =
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(wanted.as_bytes()));
    marked && pidfd_send_signal(&held, Signal::KILL).is_ok()
}
