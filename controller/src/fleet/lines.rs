//! The connections that bundles go out on: few per host, closed when the host is revoked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostler_protocol::id::HostId;
use hostler_protocol::message::close;
use quinn::{Connection, VarInt};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Answers given at once, to all hosts together; more wait in their order.
const ANSWERS_MAX: usize = 128;
/// Connections one host may have: one more is opened while an older one is not yet known to be gone.
const LINES_PER_HOST_MAX: usize = 2;

/// Every connection that bundles go out on; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    live: Mutex<HashMap<HostId, VecDeque<(u64, Connection)>>>,
    entered: AtomicU64,
    answers: Semaphore,
}

/// A connection's place among them; leaving it is its drop.
pub(super) struct Entry {
    lines: Lines,
    host: HostId,
    number: u64,
}

impl Default for Lines {
    fn default() -> Self {
        let (live, entered) = (Mutex::default(), AtomicU64::new(0));
        let answers = Semaphore::new(ANSWERS_MAX);
        Self { inner: Arc::new(Inner { live, entered, answers }) }
    }
}

impl Lines {
    fn live(&self) -> MutexGuard<'_, HashMap<HostId, VecDeque<(u64, Connection)>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; the host's oldest connection gives way where it has too many.
    pub(super) fn enter(&self, host: &HostId, connection: &Connection) -> Entry {
        let number = self.inner.entered.fetch_add(1, Ordering::Relaxed);
        let mut live = self.live();
        let of_host = live.entry(host.clone()).or_default();
        of_host.push_back((number, connection.clone()));
        while of_host.len() > LINES_PER_HOST_MAX
            && let Some((_, oldest)) = of_host.pop_front()
        {
            let reason = b"newer connections of this host replaced this one";
            oldest.close(VarInt::from_u32(close::REPLACED), reason);
        }
        Entry { lines: self.clone(), host: host.clone(), number }
    }

    /// Closes the host's connections at once.
    pub(super) fn close(&self, host: &HostId, code: u32, reason: &str) {
        for (_, connection) in self.live().get(host).into_iter().flatten() {
            connection.close(VarInt::from_u32(code), reason.as_bytes());
        }
    }

    /// Closes all: what was not sent is asked for again.
    pub(super) fn close_all(&self, code: u32, reason: &str) {
        for (_, connection) in self.live().values().flatten() {
            connection.close(VarInt::from_u32(code), reason.as_bytes());
        }
    }

    /// Waits for the turn to answer; it lasts for as long as this is held.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.answers.acquire().await.ok()
    }

    pub(super) fn hosts(&self) -> Vec<HostId> {
        self.live().keys().cloned().collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut live = self.lines.live();
        if let Some(of_host) = live.get_mut(&self.host) {
            of_host.retain(|(number, _)| *number != self.number);
            if of_host.is_empty() {
                live.remove(&self.host);
            }
        }
    }
}
