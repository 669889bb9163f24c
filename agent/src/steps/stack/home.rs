//! Where a stack's files are, and who may work on them.

use std::collections::{BTreeSet, HashMap};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as Plain, PoisonError};

use hostler_protocol::bundle::is_path;
use hostler_protocol::job::{Code, StackDoc, StackSyncSpec};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::host::fs::FsError;
use crate::steps::run::Failure;

/// Longest name of a project.
const PROJECT_CHARS_MAX: usize = 200;
const DIR_MODE: u32 = 0o700;

/// A lock per project, and who has let one go; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    locks: Arc<Plain<HashMap<String, Arc<Mutex<()>>>>>,
    ended: Arc<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    projects: Plain<BTreeSet<String>>,
    told: Notify,
}

/// A project that is worked on for as long as this lives.
#[derive(Debug)]
pub struct Held {
    guard: Option<OwnedMutexGuard<()>>,
    project: String,
    ended: Arc<Ended>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Whoever is told finds it free.
        drop(self.guard.take());
        let mut ended = self.ended.projects.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(self.project.clone());
        self.ended.told.notify_one();
    }
}

impl Locks {
    fn of(&self, project: &str) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever else holds one has a clone of it.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(project.to_owned()).or_default().clone()
    }

    /// Waits until nobody else works on that project. That work on it has ended is told.
    pub async fn hold(&self, project: &str) -> Held {
        let guard = self.of(project).lock_owned().await;
        Held { guard: Some(guard), project: project.to_owned(), ended: self.ended.clone() }
    }

    /// Keeps work away from a project while it is looked at; `None` while somebody works on it.
    #[must_use]
    pub fn try_hold(&self, project: &str) -> Option<OwnedMutexGuard<()>> {
        self.of(project).try_lock_owned().ok()
    }

    /// Waits until work has ended on some project; answers all of them since the last time. One
    /// listener at a time.
    pub async fn ended(&self) -> BTreeSet<String> {
        loop {
            let told = self.ended.told.notified();
            let ended = {
                let mut ended = self.ended.projects.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *ended)
            };
            if !ended.is_empty() {
                return ended;
            }
            told.await;
        }
    }
}

/// A stack's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    project: String,
}

impl Home {
    /// The directory of that stack, below the policy's `stacks_dir`.
    ///
    /// # Errors
    /// `SPEC_INVALID` for a project name compose would not take.
    pub fn of(stacks_dir: &Path, stack: &StackDoc) -> Result<Self, Failure> {
        Self::of_project(stacks_dir, &stack.project)
    }

    /// The same for the stack that is that project.
    ///
    /// # Errors
    /// As [`Home::of`].
    pub fn of_project(stacks_dir: &Path, project: &str) -> Result<Self, Failure> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = project.bytes().next().is_some_and(letter)
            && project.bytes().all(|byte| letter(byte) || matches!(byte, b'-' | b'_'))
            && project.len() <= PROJECT_CHARS_MAX;
        if !fits {
            let message = format!("{project:?} is no name of a compose project");
            return Err(Failure::new(Code::SpecInvalid, message));
        }
        Ok(Self { root: stacks_dir.join(project), project: project.to_owned() })
    }

    /// Makes the directory if it is missing. Nobody but the agent and the engine goes through it:
    /// bundles may hold what is not for everyone.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub(super) fn make(&self) -> Result<(), FsError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIR_MODE).create(&self.root).map_err(|source| FsError::Io {
            action: "create",
            path: self.root.clone(),
            source,
        })
    }

    /// The compose project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bundle, as compose and containers see it.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// What compose has to read of a bundle that is only looked at.
    #[must_use]
    pub fn check(&self) -> PathBuf {
        self.root.join("check")
    }

    /// The stack's variables and the host's in one file, for a compose that takes only one.
    #[must_use]
    pub(super) fn merged_env(&self) -> PathBuf {
        self.root.join("merged.env")
    }

    /// The host's own variables.
    #[must_use]
    pub fn host_env(&self) -> PathBuf {
        self.root.join("host.env")
    }
}

/// Whether a spec's paths stay inside its bundle.
///
/// # Errors
/// `SPEC_INVALID`.
pub(super) fn check_paths(spec: &StackSyncSpec) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::new(Code::SpecInvalid, what.to_owned()));
    if !spec.directory.is_empty() && !is_path(&spec.directory) {
        return wrong("the stack's directory is no path of its bundle");
    }
    if spec.compose_files.is_empty() || !spec.compose_files.iter().all(|file| is_path(file)) {
        return wrong("the stack names no compose files, or one that is no path of its bundle");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_looks_gives_way_to_who_works_and_is_told_of_the_end() {
        let locks = Locks::default();
        let held = locks.hold("shop").await;
        assert!(locks.try_hold("shop").is_none() && locks.try_hold("blog").is_some());
        drop(held);
        drop(locks.hold("blog").await);
        let ended: Vec<_> = locks.ended().await.into_iter().collect();
        assert_eq!(ended, ["blog", "shop"]);
        assert!(locks.try_hold("shop").is_some(), "and looking is no work");
        let again = tokio::time::timeout(std::time::Duration::ZERO, locks.ended()).await;
        assert!(again.is_err(), "nothing has ended since");
    }
}
