//! Other programs run to their end, and what the system says of those that run.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Res;

/// What Linux counts times in, on every architecture this runs on.
const TICKS_PER_SEC: f64 = 100.0;

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, or ends with another status than 0: then with the end of what it said.
pub fn run(command: &mut Command) -> Res<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned();
    Err(format!("{name} ended with {}: {said}", output.status).into())
}

/// Processor seconds this process has used, and those of the programs it ran to their end.
///
/// # Errors
/// If the system does not tell.
pub fn cpu_secs() -> Res<(f64, f64)> {
    cpu_secs_of(std::process::id())
}

/// Processor seconds a process has used, and those of the programs it ran to their end.
///
/// # Errors
/// If the process is gone.
pub fn cpu_secs_of(pid: u32) -> Res<(f64, f64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |at: usize| -> Option<f64> { after_name.split(' ').nth(at)?.parse().ok() };
    let sum = |first| Some((ticks(first)? + ticks(first + 1)?) / TICKS_PER_SEC);
    // User and system time are the 14th and 15th field, those of children the next two.
    sum(11).zip(sum(13)).ok_or_else(|| format!("no times in /proc/{pid}/stat").into())
}

/// A figure of `/proc/<pid>/status` in kilobytes (`VmRSS`, `RssAnon`).
///
/// # Errors
/// If the process is gone.
pub fn status_kb(pid: u32, field: &str) -> Res<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let figure = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| format!("no {field} in /proc/{pid}/status").into())
}

/// How often the memory of others is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Watches what programs started from now on by this process, and by those, take together.
#[derive(Debug)]
pub struct Descendants {
    stop: Arc<AtomicBool>,
    watch: JoinHandle<(u64, usize)>,
}

impl Descendants {
    /// Begins; whoever runs already is not counted.
    #[must_use]
    pub fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let own = std::process::id();
        let before = below(own);
        let over = stop.clone();
        let watch = std::thread::spawn(move || {
            let (mut most_kb, mut seen) = (0, BTreeSet::new());
            while !over.load(Ordering::Relaxed) {
                let others: BTreeSet<u32> = below(own).difference(&before).copied().collect();
                most_kb = most_kb.max(others.iter().filter_map(|pid| shared_kb(*pid)).sum());
                seen.extend(others);
                std::thread::sleep(LOOK);
            }
            (most_kb, seen.len())
        });
        Self { stop, watch }
    }

    /// Ends: the most kilobytes they had at one time, what they share counted once, and how many
    /// there were.
    ///
    /// # Errors
    /// If the watch broke.
    pub fn finish(self) -> Res<(u64, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        self.watch.join().map_err(|_| "the watch over other programs panicked".into())
    }
}

/// Every process below one.
fn below(pid: u32) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    let mut waiting = vec![pid];
    while let Some(pid) = waiting.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            waiting.extend(children.filter(|pid| all.insert(*pid)));
        }
    }
    all
}

/// A process's share of the memory it has, what it shares with others divided among them.
fn shared_kb(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}
