//! What ends a fetch from outside: its deadlines, the caller, and the cap on what is received.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::error::{Class, GitError};
use super::group::Group;
use super::settings::GitLimits;
use crate::clock::Clock;

/// How often the caller's wish and the clock are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// One fetch as seen from outside. Shared by what transfers and by the thread that watches it.
#[derive(Debug)]
pub(super) struct Watch {
    clock: Clock,
    started_ms: u64,
    limits: GitLimits,
    /// Once set, everything that transfers gives up.
    stop: AtomicBool,
    answered: AtomicBool,
    bytes: AtomicU64,
    /// What first went wrong; what follows from it is noise.
    cause: Mutex<Option<GitError>>,
    children: Mutex<Vec<Arc<Mutex<Group>>>>,
}

impl Watch {
    pub(super) fn new(clock: &Clock, limits: GitLimits) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            started_ms: clock.monotonic_ms(),
            limits,
            stop: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            cause: Mutex::new(None),
            children: Mutex::new(Vec::new()),
        })
    }

    /// Does the work while a second thread looks at the clock and at `cancel`; both have ended
    /// when this returns.
    pub(super) fn guard<T>(
        self: &Arc<Self>,
        cancel: &AtomicBool,
        work: impl FnOnce() -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let done = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    self.look(cancel);
                    std::thread::park_timeout(LOOK);
                }
            });
            // Also when the work panics: the scope waits for the watcher either way.
            let _ends = Ends { done: &done, watcher: watcher.thread() };
            work()
        });
        match (result, self.cause()) {
            // What the library made of it comes after why it happened.
            (Err(_), Some(cause)) => Err(cause),
            (result, _) => result,
        }
    }

    fn look(&self, cancel: &AtomicBool) {
        if self.stop.load(Ordering::Acquire) {
            self.kill();
            return;
        }
        let passed_ms = self.clock.monotonic_ms().saturating_sub(self.started_ms);
        let GitLimits { connect_secs, fetch_secs, .. } = self.limits;
        if cancel.load(Ordering::Acquire) {
            self.give_up(GitError::new(Class::Cancelled, "the fetch was cancelled"));
        } else if passed_ms >= fetch_secs.saturating_mul(1000) {
            let message = format!(
                "the fetch took longer than {fetch_secs} s: look at the server and the line, or \
                 permit more"
            );
            self.give_up(GitError::new(Class::Timeout, message));
        } else if !self.answered.load(Ordering::Acquire)
            && passed_ms >= connect_secs.saturating_mul(1000)
        {
            let message = format!(
                "the git server did not answer within {connect_secs} s: look whether it runs, and \
                 whether a firewall is in the way"
            );
            self.give_up(GitError::new(Class::Timeout, message));
        }
    }

    /// Ends everything, for this reason unless there was one before.
    pub(super) fn give_up(&self, why: GitError) {
        self.blame(why);
        self.stop.store(true, Ordering::Release);
        self.kill();
    }

    /// Remembers why something failed, if it is the first.
    pub(super) fn blame(&self, why: GitError) {
        lock(&self.cause).get_or_insert(why);
    }

    pub(super) fn cause(&self) -> Option<GitError> {
        lock(&self.cause).clone()
    }

    /// The flag that the library looks at.
    pub(super) fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Counts what came from the server.
    ///
    /// # Errors
    /// When it was more than permitted, or the fetch has been given up.
    pub(super) fn received(&self, bytes: usize) -> std::io::Result<()> {
        self.answered.store(true, Ordering::Release);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let total = self.bytes.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let limit = self.limits.pack_bytes_max;
        if total > limit {
            let message = format!(
                "the repository sends more than {limit} bytes: take large files out of it, or permit \
                 more"
            );
            self.give_up(GitError::new(Class::Limit, message));
        }
        if self.is_stopped() { Err(std::io::Error::other("given up")) } else { Ok(()) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Has a child process killed when the fetch is given up.
    pub(super) fn adopt(&self, child: &Arc<Mutex<Group>>) {
        lock(&self.children).push(Arc::clone(child));
        if self.is_stopped() {
            self.kill();
        }
    }

    fn kill(&self) {
        for child in lock(&self.children).drain(..) {
            lock(&child).kill();
        }
    }
}

/// Tells the watching thread that there is nothing to watch any more.
struct Ends<'a> {
    done: &'a AtomicBool,
    watcher: &'a Thread,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        self.watcher.unpark();
    }
}

/// A lock whose holder cannot leave its value half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_work_is_passed_on() {
        let watch = Watch::new(&Clock::system(), GitLimits::default());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let cancel = AtomicBool::new(false);
            watch.guard(&cancel, || -> Result<(), GitError> { panic!("a library's mistake") })
        }));
        assert!(caught.is_err());
    }

    #[test]
    fn the_first_cause_counts() {
        let watch = Watch::new(&Clock::system(), GitLimits::default());
        let cancel = AtomicBool::new(true);
        let ended: Result<(), _> = watch.guard(&cancel, || {
            while !watch.is_stopped() {
                std::thread::park_timeout(LOOK);
            }
            watch.blame(GitError::new(Class::Network, "what follows"));
            Err(GitError::new(Class::Corrupt, "what the library makes of it"))
        });
        assert_eq!(ended.unwrap_err().class(), Class::Cancelled);
    }
}
