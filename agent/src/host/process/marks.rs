//! Ending everything a program has started, also what left its process group: each process carries
//! the mark of its run in its environment, and hands it on to whatever it starts. One that became
//! somebody else (`su`, `sudo`, `env -i`) has lost the mark and is known by its ancestors.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable the mark stands in.
pub(super) const VARIABLE: &str = "HOSTLER_MARK";
/// Passes over all processes: what is being started during one is seen by the next.
const PASSES_MAX: usize = 32;

/// Kills every process whose mark begins with `mark` and whatever descends from one, until there is
/// none; says how many. A process of somebody else's, whose environment this one may not read, is
/// never touched.
pub fn end_marked(mark: &str) -> usize {
    let mut ended = 0;
    for _ in 0..PASSES_MAX {
        let found = family(mark).iter().filter(|held| held.end()).count();
        if found == 0 {
            return ended;
        }
        ended += found;
    }
    tracing::warn!(mark, "processes of a run go on starting others");
    ended
}

/// Every living process that carries the mark, or descends from one that does.
pub(super) fn family(mark: &str) -> Vec<Held> {
    let wanted = format!("{VARIABLE}={mark}");
    let seen: HashMap<i32, Seen> = pids().filter_map(|pid| Some((pid, Seen::read(pid)?))).collect();
    let marked: Vec<i32> = seen.keys().copied().filter(|pid| is_marked(*pid, &wanted)).collect();
    if marked.is_empty() {
        return Vec::new();
    }
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, one) in &seen {
        children.entry(one.parent).or_default().push(*pid);
    }
    let (mut next, mut found) = (marked, HashMap::new());
    while let Some(pid) = next.pop() {
        let Some(one) = seen.get(&pid) else { continue };
        if found.insert(pid, one).is_none() {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found.into_iter().filter_map(|(pid, one)| Held::take(pid, one)).collect()
}

/// A process, which stays the one it was although its number may be given to another.
#[derive(Debug)]
pub(super) struct Held(OwnedFd);

impl Held {
    fn take(pid: i32, seen: &Seen) -> Option<Self> {
        let held = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Whoever has the number now is who was looked at.
        (Seen::read(pid)?.started == seen.started).then_some(Self(held))
    }

    pub(super) fn end(&self) -> bool {
        pidfd_send_signal(&self.0, Signal::KILL).is_ok()
    }
}

/// What a process is known by beside its number.
struct Seen {
    parent: i32,
    /// When it was started, in ticks since the machine was.
    started: u64,
}

impl Seen {
    /// `None` for one that is gone, or dead and not taken note of yet.
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it is the process's own to choose.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        (state != "Z").then_some(Self { parent, started })
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let listing = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    listing.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_marked(pid: i32, wanted: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(wanted.as_bytes()))
}
