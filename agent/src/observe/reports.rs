//! Between the watcher and the session.

use tokio::sync::{mpsc, watch};

/// The session's end: says when reports are wanted, and takes them.
#[derive(Debug)]
pub struct Reports {
    documents: mpsc::Receiver<Vec<u8>>,
    wanted: watch::Sender<bool>,
}

/// The watcher's end.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) documents: mpsc::Sender<Vec<u8>>,
    pub(super) wanted: watch::Receiver<bool>,
}

/// Both ends. One document waits at most: what is not taken is not made.
pub(super) fn pair() -> (Desk, Reports) {
    let (send, documents) = mpsc::channel(1);
    let (wanted, asked) = watch::channel(false);
    (Desk { documents: send, wanted: asked }, Reports { documents, wanted })
}

impl Reports {
    /// Of a host that is not watched.
    #[must_use]
    pub fn none() -> Self {
        pair().1
    }

    /// A session begins that takes reports: a whole one comes first.
    pub fn begin(&mut self) {
        // What was made for the one before is of the past.
        while self.documents.try_recv().is_ok() {}
        self.wanted.send_replace(true);
    }

    /// The session has ended.
    pub fn end(&mut self) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, false));
    }

    /// The next `Observed` document; waits for ever where nobody watches. Dropped while it waits,
    /// nothing is lost.
    pub async fn next(&mut self) -> Vec<u8> {
        match self.documents.recv().await {
            Some(document) => document,
            None => std::future::pending().await,
        }
    }
}

impl Desk {
    /// Waits until the session wants something else than before; `None` when there is no session any
    /// more, nor will be.
    pub(super) async fn turned(&mut self) -> Option<bool> {
        self.wanted.changed().await.ok()?;
        Some(*self.wanted.borrow_and_update())
    }

    /// Hands documents over, one after another, for as long as the session that wanted them does.
    pub(super) async fn hand(&mut self, documents: Vec<Vec<u8>>) {
        for document in documents {
            let turned = tokio::select! {
                // What is no longer wanted is not handed over though there is room.
                biased;
                _ = self.wanted.changed() => {
                    // Whoever asks next is told of it.
                    self.wanted.mark_changed();
                    true
                }
                sent = self.documents.send(document) => sent.is_err(),
            };
            if turned {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_gets_nothing_that_was_made_for_another() {
        let (mut desk, mut reports) = pair();
        reports.begin();
        assert_eq!(desk.turned().await, Some(true));
        desk.hand(vec![b"old".to_vec()]).await;
        reports.end();
        reports.begin();
        // Two turns are one, and the next is told of it.
        desk.hand(vec![b"older".to_vec(), b"older".to_vec()]).await;
        assert_eq!(desk.turned().await, Some(true));
        desk.hand(vec![b"new".to_vec()]).await;
        assert_eq!(reports.next().await, b"new");
        drop(reports);
        assert_eq!(desk.turned().await, None);
    }
}
