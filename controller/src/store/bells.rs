//! What is told of each commit: of this process's own at once, of other controllers' by the doorbell.

use tokio::sync::watch;

use crate::domain::NewEvent;

/// The newest event's `seq`, for those who read the log and for those who look for work.
#[derive(Debug)]
pub(super) struct Bells {
    committed: watch::Sender<i64>,
    work: watch::Sender<i64>,
}

impl Bells {
    pub(super) fn new() -> Self {
        Self { committed: watch::Sender::new(0), work: watch::Sender::new(0) }
    }

    /// Moves forward; nobody is woken when it stands, nor for work when there can be no more of it
    /// than before.
    pub(super) fn tell(&self, seq: i64, work: bool) {
        forward(&self.committed, seq);
        if work {
            forward(&self.work, seq);
        }
    }

    pub(super) fn committed(&self) -> watch::Receiver<i64> {
        self.committed.subscribe()
    }

    pub(super) fn work(&self) -> watch::Receiver<i64> {
        self.work.subscribe()
    }
}

fn forward(newest: &watch::Sender<i64>, seq: i64) {
    newest.send_if_modified(|newest| {
        let newer = seq > *newest;
        if newer {
            *newest = seq;
        }
        newer
    });
}

/// Whether a dispatcher has to look after a commit of these events.
pub(super) fn ring_for_work(events: &[NewEvent]) -> bool {
    !events.iter().all(|event| event.kind.is_on_the_way())
}
