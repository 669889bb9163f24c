//! What the agent must not forget: attempts accepted, outcomes not yet acknowledged, and the ids
//! of what it settled. The only door to redb.
//!
//! Invariants:
//! * an attempt is on disk before `Accepted` leaves the host, an outcome before `Finished` does;
//! * a fault refuses new work, it never loses a result: space is held in reserve for outcomes;
//! * all disk work happens on one thread of its own, which commits what has piled up together.

pub mod disk;
mod reserve;
mod store;
mod writer;

use std::path::{Path, PathBuf};

use hostler_protocol::OUTCOME_BYTES_MAX;
use hostler_protocol::message::AttemptRef;

pub use self::writer::Journal;

/// File name of the journal in the state directory.
pub const JOURNAL_FILE: &str = "journal.redb";
/// Most settled attempts remembered.
pub const SETTLED_MAX: usize = 10_000;
/// How long a settled attempt is remembered, in seconds.
pub const SETTLED_SECS: i64 = 7 * 24 * 3600;
/// Free bytes below which no new work is accepted.
pub const FREE_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Bytes held back on disk for outcomes, at least.
pub const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes to hold back so that each of so many running jobs can end: its outcome is written beside
/// the pages it replaces.
#[must_use]
pub fn reserve_bytes(jobs_max: usize) -> u64 {
    RESERVE_BYTES.max(2 * (jobs_max * OUTCOME_BYTES_MAX) as u64)
}

/// Why something is not in the journal. The details are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    /// The disk is full, or nearly.
    #[error("the journal has no room left")]
    NoSpace,
    /// The disk failed, or the journal's thread is gone.
    #[error("the journal cannot be written")]
    Failed,
}

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds it.
    #[error("another agent already uses {}", path.display())]
    Held { path: PathBuf },
    /// The file cannot be opened or is damaged.
    #[error("cannot open the journal {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    /// A row is not what this program writes.
    #[error("the journal {} holds a row that is not valid: {row}", path.display())]
    Row { path: PathBuf, row: String },
    /// The thread could not be started.
    #[error("cannot start the journal's thread")]
    Thread(#[source] std::io::Error),
}

/// An attempt accepted and not finished when the agent last stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub attempt: AttemptRef,
    pub accepted_at_us: i64,
    /// The job document it was accepted with.
    pub spec: Vec<u8>,
    /// How often the agent stopped in the middle of this job, this time included.
    pub crashes: u32,
}

/// An outcome that waits to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    pub attempt: AttemptRef,
    /// Bytes of the outcome's document.
    pub bytes: u64,
}

/// What stood in the journal when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub unfinished: Vec<Unfinished>,
    /// Finished and not acknowledged.
    pub finished: Vec<Kept>,
    /// Settled attempts, oldest first.
    pub settled: Vec<AttemptRef>,
}

/// Free and total bytes where `path` lies.
///
/// # Errors
/// What the operating system says.
pub fn disk_bytes(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

/// What a journal looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glance {
    /// There is none yet.
    Missing,
    /// An agent is using it.
    InUse,
    /// It was not closed; the next start repairs it.
    Unclosed,
    Whole {
        unfinished: u64,
        unacknowledged: u64,
    },
}

/// Looks at the journal of a state directory without changing it.
///
/// # Errors
/// [`JournalError::Open`] if it cannot be read.
pub fn glance(state_dir: &Path) -> Result<Glance, JournalError> {
    let path = state_dir.join(JOURNAL_FILE);
    if !path.exists() {
        return Ok(Glance::Missing);
    }
    match store::count(&path) {
        Ok((unfinished, unacknowledged)) => Ok(Glance::Whole { unfinished, unacknowledged }),
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => Ok(Glance::InUse),
        Err(redb::DatabaseError::RepairAborted) => Ok(Glance::Unclosed),
        Err(error) => Err(JournalError::Open { path, source: Box::new(error.into()) }),
    }
}
