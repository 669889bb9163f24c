//! The journal's thread: takes what has piled up, commits it once, answers each.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use hostler_protocol::message::AttemptRef;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::reserve::Reserve;
use super::store::{Change, Place, Store};
use super::{Contents, JOURNAL_FILE, JournalError, JournalFault, reserve_bytes};

/// Most changes committed together.
const BATCH_MAX: usize = 64;

type Answer<T> = oneshot::Sender<Result<T, JournalFault>>;

enum Request {
    Change(Change, Answer<()>),
    Outcome(AttemptRef, Answer<Option<Vec<u8>>>),
    Probe(Answer<()>),
    Close(oneshot::Sender<()>),
}

/// A handle to the journal. The thread ends, and the file is closed, with the last handle.
#[derive(Debug, Clone)]
pub struct Journal {
    requests: Sender<Request>,
}

impl Journal {
    /// Opens (or creates) the journal of a state directory, with room held back for the outcomes of
    /// so many jobs at once.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(state_dir: &Path, jobs_max: usize) -> Result<(Self, Contents), JournalError> {
        Self::open_at(Place::File(state_dir.join(JOURNAL_FILE)), jobs_max)
    }

    /// Opens (or creates) a journal on a disk in memory, for tests. It holds nothing in reserve.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open_on(disk: &Disk) -> Result<(Self, Contents), JournalError> {
        Self::open_at(Place::Memory(disk.clone()), 1)
    }

    pub(super) fn open_at(place: Place, jobs_max: usize) -> Result<(Self, Contents), JournalError> {
        let bytes = reserve_bytes(jobs_max);
        let reserve = place.directory().map(|directory| Reserve::new(directory, bytes));
        let (store, contents) = Store::open(place)?;
        let (requests, inbox) = channel();
        std::thread::Builder::new()
            .name("journal".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || Thread { store, reserve }.serve(&inbox))
            .map_err(JournalError::Thread)?;
        Ok((Self { requests }, contents))
    }

    /// Records that an attempt will run; on disk when this returns.
    ///
    /// # Errors
    /// [`JournalFault`]: the attempt must be refused.
    pub async fn accept(
        &self,
        attempt: AttemptRef,
        timeout_secs: u32,
        at_us: i64,
        spec: Vec<u8>,
    ) -> Result<(), JournalFault> {
        self.change(Change::Accept { attempt, timeout_secs, at_us, spec }).await
    }

    /// Records an attempt's outcome; on disk when this returns.
    ///
    /// # Errors
    /// [`JournalFault`]: the outcome must be kept and recorded again later.
    pub async fn finish(&self, attempt: AttemptRef, outcome: Vec<u8>) -> Result<(), JournalFault> {
        self.change(Change::Finish { attempt, outcome }).await
    }

    /// Replaces an acknowledged outcome by its id. Reaches the disk with the next change that must.
    ///
    /// # Errors
    /// [`JournalFault`]: the outcome will be delivered, and acknowledged, again.
    pub async fn forget(&self, attempt: AttemptRef, at_us: i64) -> Result<(), JournalFault> {
        self.change(Change::Forget { attempt, at_us }).await
    }

    /// The outcome of an attempt that was finished and not acknowledged.
    ///
    /// # Errors
    /// [`JournalFault`] if it cannot be read now.
    pub async fn outcome(&self, attempt: AttemptRef) -> Result<Option<Vec<u8>>, JournalFault> {
        self.ask(|answer| Request::Outcome(attempt, answer)).await
    }

    /// Says whether the journal's thread still works and there is room for new work.
    ///
    /// # Errors
    /// [`JournalFault`] if not.
    pub async fn probe(&self) -> Result<(), JournalFault> {
        self.ask(Request::Probe).await
    }

    /// Does what was asked before and closes the file. Whatever is asked later fails.
    pub async fn close(&self) {
        let (closed, told) = oneshot::channel();
        if self.requests.send(Request::Close(closed)).is_ok() {
            // A thread that is gone has closed it.
            drop(told.await);
        }
    }

    async fn change(&self, change: Change) -> Result<(), JournalFault> {
        self.ask(|answer| Request::Change(change, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, JournalFault> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).map_err(|_| JournalFault::Failed)?;
        answered.await.unwrap_or(Err(JournalFault::Failed))
    }
}

struct Thread {
    store: Store,
    reserve: Option<Reserve>,
}

impl Thread {
    fn serve(mut self, inbox: &Receiver<Request>) {
        while let Ok(first) = inbox.recv() {
            let mut changes = Vec::new();
            for request in std::iter::once(first).chain(inbox.try_iter().take(BATCH_MAX - 1)) {
                match request {
                    Request::Change(change, answer) => changes.push((change, answer)),
                    // What was asked before a question must be true in its answer.
                    Request::Outcome(attempt, answer) => {
                        self.commit(std::mem::take(&mut changes));
                        reply(answer, self.store.outcome(&attempt));
                    }
                    Request::Probe(answer) => reply(answer, self.room()),
                    Request::Close(closed) => {
                        self.commit(std::mem::take(&mut changes));
                        drop(self);
                        return reply_closed(closed);
                    }
                }
            }
            self.commit(changes);
        }
    }

    fn commit(&mut self, mut changes: Vec<(Change, Answer<()>)>) {
        if let Err(fault) = self.room() {
            let (refused, kept) = changes
                .into_iter()
                .partition(|(change, _)| matches!(change, Change::Accept { .. }));
            changes = kept;
            answer_all(refused, Err(fault));
        }
        if changes.is_empty() {
            return;
        }
        let done = self.apply(&changes);
        if done == Err(JournalFault::NoSpace) {
            // Outcomes may use the reserve; new work may not.
            let (refused, kept): (Vec<_>, Vec<_>) = changes
                .into_iter()
                .partition(|(change, _)| matches!(change, Change::Accept { .. }));
            answer_all(refused, done);
            let given = self.reserve.as_mut().is_some_and(Reserve::give_up);
            let again = if given { self.apply(&kept) } else { done };
            answer_all(kept, again);
        } else {
            answer_all(changes, done);
        }
    }

    fn apply(&mut self, changes: &[(Change, Answer<()>)]) -> Result<(), JournalFault> {
        let changes: Vec<&Change> = changes.iter().map(|(change, _)| change).collect();
        self.store.apply(&changes)
    }

    fn room(&mut self) -> Result<(), JournalFault> {
        match self.reserve.as_mut().is_none_or(Reserve::has_room) {
            true => Ok(()),
            false => Err(JournalFault::NoSpace),
        }
    }
}

fn answer_all(changes: Vec<(Change, Answer<()>)>, done: Result<(), JournalFault>) {
    for (_, answer) in changes {
        reply(answer, done);
    }
}

fn reply_closed(closed: oneshot::Sender<()>) {
    if closed.send(()).is_err() {
        tracing::debug!("nobody waits for the journal to be closed any more");
    }
}

fn reply<T>(answer: Answer<T>, done: Result<T, JournalFault>) {
    // Whoever asked may have been stopped meanwhile; then nobody wants to know.
    drop(answer.send(done));
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
