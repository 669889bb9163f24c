//! The one tailer of the event log per process, and those who follow it.
//!
//! Invariants: followers see events in order and each at most once, or learn that they lag
//! ([`broadcast::error::RecvError::Lagged`]) and read on from the store; an event is told only
//! after it is committed.

use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::id::JobId;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::{Event, Job};
use crate::store::{EventFilter, Store, StoreError};

/// Events a follower may lag behind before it has to read from the store.
pub const FOLLOWER_EVENTS_MAX: usize = 4096;
/// Events read from the store at once.
pub const READ_EVENTS_MAX: u32 = 1000;
/// Milliseconds after which the log is read even if no commit here was told: other controllers
/// write to it too.
pub const POLL_MS: u64 = 1000;

/// A handle on what happens; cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    store: Store,
    sender: broadcast::Sender<Arc<Event>>,
    applied: Arc<watch::Sender<i64>>,
}

impl Events {
    /// A handle that tells nothing until [`Events::tail`] runs.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            sender: broadcast::Sender::new(FOLLOWER_EVENTS_MAX),
            applied: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Every event from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }

    /// The newest event already told to followers.
    #[must_use]
    pub fn newest(&self) -> i64 {
        *self.applied.borrow()
    }

    /// Waits until an event of at least this number was told.
    pub async fn applied(&self, seq: i64) {
        let mut applied = self.applied.subscribe();
        // An error means that the tailer is gone, and with it the process's reason to wait.
        drop(applied.wait_for(|newest| *newest >= seq).await);
    }

    /// The job, as soon as it has ended, or as it is when the time is over; `None` if there is no
    /// such job.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn wait_for_end(
        &self,
        job: &JobId,
        at_most: Duration,
    ) -> Result<Option<Job>, StoreError> {
        let mut follower = self.subscribe();
        let ended = async {
            loop {
                let Some(found) = self.store.job(job).await? else { return Ok(None) };
                if found.state.is_ended() {
                    return Ok(Some(found));
                }
                until_told(&mut follower, job).await;
            }
        };
        match tokio::time::timeout(at_most, ended).await {
            Ok(answer) => answer,
            Err(_) => self.store.job(job).await,
        }
    }

    /// Follows the log and tells it, until the shutdown. To be run once per process.
    pub async fn tail(&self, shutdown: CancellationToken) {
        let mut committed = self.store.committed();
        let mut at = self.start(&shutdown).await;
        while !shutdown.is_cancelled() {
            committed.mark_unchanged();
            at = self.tell_after(at).await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = committed.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
            }
        }
    }

    async fn start(&self, shutdown: &CancellationToken) -> i64 {
        loop {
            match self.store.events_bounds().await {
                Ok((_, newest)) => {
                    self.applied.send_replace(newest);
                    return newest;
                }
                Err(error) => tracing::warn!(%error, "the event log cannot be read yet"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return 0,
                () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
            }
        }
    }

    async fn tell_after(&self, mut at: i64) -> i64 {
        loop {
            let events =
                match self.store.events_after(at, READ_EVENTS_MAX, &EventFilter::default()).await {
                    Ok(events) => events,
                    Err(error) => {
                        tracing::warn!(%error, "the event log cannot be read; trying again");
                        return at;
                    }
                };
            let Some(last) = events.last() else { return at };
            at = last.seq;
            let whole = events.len() >= READ_EVENTS_MAX as usize;
            for event in events {
                // Nobody listening is no error.
                drop(self.sender.send(Arc::new(event)));
            }
            self.applied.send_replace(at);
            if !whole {
                return at;
            }
        }
    }
}

/// Waits for the next event that may end the job; a follower that lags is told at once.
async fn until_told(follower: &mut broadcast::Receiver<Arc<Event>>, job: &JobId) {
    loop {
        match follower.recv().await {
            Ok(told)
                if told.event.kind.is_on_the_way()
                    || told.event.subject.job.as_ref() != Some(job) => {}
            Ok(_) => return,
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // Without a tailer nothing is told any more: the caller's time limit decides.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
