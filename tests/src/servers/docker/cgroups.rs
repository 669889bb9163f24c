//! The control groups of engines: the only thing the kernel does not take away with an engine's
//! namespaces.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::servers::wait_for;

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "hostler-test-";
/// The kernel may still be burying the processes of a group.
const EMPTY_SECS_MAX: u64 = 5;

/// A name for the parent of an engine's groups, removed with its guard.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
}

impl Group {
    /// A new name; removes what killed test processes have left.
    pub(super) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("{PREFIX}{}-{number}", std::process::id()) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let all_gone = || {
            let mut groups = groups().into_iter().filter(|group| group.ends_with(&self.name));
            groups.all(|group| remove(&group)).then_some(())
        };
        // What stays is empty, and removed by the next start.
        wait_for("control groups to empty", EMPTY_SECS_MAX, all_gone).unwrap_or(());
    }
}

/// The groups of engines: below the root with version 2, below each controller with version 1.
fn groups() -> Vec<PathBuf> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let mut found = below(Path::new(ROOT));
    let controllers: Vec<PathBuf> = found.iter().flat_map(|dir| below(dir)).collect();
    found.extend(controllers);
    let ours = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    };
    found.retain(ours);
    found
}

fn remove_leftovers() {
    for group in groups() {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.trim_start_matches(PREFIX).split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            // In use by somebody whose processes are not seen here, it stays.
            remove(&group);
        }
    }
}

/// Removes a group with those below; whether it is gone.
fn remove(group: &Path) -> bool {
    if let Ok(entries) = std::fs::read_dir(group) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove(&entry.path());
        }
    }
    std::fs::remove_dir(group).is_ok() || !group.exists()
}
