//! What is remembered of a purge on disk, so that a restart of the agent forgets nothing: one small
//! file per purge, gone when its time is over.

use std::collections::BTreeSet;

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{PurgeMode, PurgeScope};
use serde::{Deserialize, Serialize};

use crate::host::fs::{FsError, Look};
use crate::steps::refresh::RENDER_SECS_MAX;
use crate::steps::run::{Failure, blocking};
use crate::steps::tools::Tools;

const KIND: &str = "watches";
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const PRIVATE: Look = Look { mode: 0o600, owner: None };

/// A purge whose pages may still be coming.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its file.
    pub name: String,
    pub environment: EnvironmentId,
    pub mode: PurgeMode,
    pub scope: PurgeScope,
    /// When it began, in seconds since 1970; what came to its place before is no affair of it.
    pub since_sec: i64,
    /// When the longest render that was under way then is over.
    pub until_us: i64,
    /// Inodes of the connections to the application that were open then; `None`: nobody could
    /// tell.
    #[serde(default)]
    pub open: Option<BTreeSet<u64>>,
}

impl Record {
    /// Whether whoever asks has nothing to do any more once `newer` is remembered: it is about
    /// everything this one is about, and leaves nothing that this one would remove.
    #[must_use]
    pub(super) fn is_covered_by(&self, newer: &Self) -> bool {
        let mode = newer.mode == PurgeMode::Hard || newer.mode == self.mode;
        mode && (newer.scope == PurgeScope::All || newer.scope == self.scope)
    }

    /// Several purges as one of everything: only what comes to its place from now on is affected.
    #[must_use]
    pub(super) fn merged(mut self, others: &[Self]) -> Self {
        self.scope = PurgeScope::All;
        for other in others {
            self.since_sec = self.since_sec.min(other.since_sec);
            self.until_us = self.until_us.max(other.until_us);
            if other.mode != self.mode {
                self.mode = PurgeMode::Hard;
            }
            self.open = match (self.open.take(), &other.open) {
                (Some(own), Some(others)) => Some(own.union(others).copied().collect()),
                (None, _) | (_, None) => None,
            };
        }
        self
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub(super) async fn save(&self, tools: &Tools) -> Result<(), Failure> {
        let (tools, record) = (tools.clone(), self.clone());
        blocking(move || -> Result<(), FsError> {
            let bytes = serde_json::to_vec(&record).unwrap_or_default();
            tools.state_file(KIND, &record.name)?.write(&bytes, PRIVATE)
        })
        .await
    }

    /// Forgets it.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub(super) async fn forget(&self, tools: &Tools) -> Result<(), Failure> {
        let (tools, name) = (tools.clone(), self.name.clone());
        blocking(move || tools.state_file(KIND, &name)?.remove().map(|_| ())).await
    }
}

/// Every purge remembered by the agent before it was stopped; what is over, or cannot be read, is
/// removed.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub(super) async fn load(tools: &Tools) -> Result<Vec<Record>, Failure> {
    let tools = tools.clone();
    let now_us = tools.clock.now_us();
    // A clock that was set back must not make it last longer than ever.
    let latest_us = now_us + i64::from(RENDER_SECS_MAX) * 1_000_000;
    blocking(move || -> Result<_, FsError> {
        let directory = tools.state_dir.join(KIND);
        let listing = match std::fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(FsError::Io { action: "list", path: directory, source }),
        };
        let mut records = Vec::new();
        for name in listing.filter_map(Result::ok).filter_map(|e| e.file_name().into_string().ok())
        {
            let place = tools.state_file(KIND, &name)?;
            let read = place.read(FILE_BYTES_MAX).ok().flatten();
            let record = read.and_then(|content| serde_json::from_slice(&content.bytes).ok());
            match record {
                Some(Record { until_us, .. }) if until_us <= now_us || until_us > latest_us => {
                    place.remove()?;
                }
                Some(record) if record.name == name => records.push(record),
                Some(_) | None => {
                    place.remove()?;
                }
            }
        }
        Ok(records)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(mode: PurgeMode, scope: PurgeScope, open: Option<&[u64]>) -> Record {
        Record {
            name: "one".to_owned(),
            environment: EnvironmentId::from_parts(0, [0; 10]),
            mode,
            scope,
            since_sec: 10,
            until_us: 20,
            open: open.map(|open| open.iter().copied().collect()),
        }
    }

    #[test]
    fn a_newer_purge_covers_what_it_is_about() {
        let url = || PurgeScope::Urls { urls: vec!["http://a.test/".to_owned()] };
        let soft = record(PurgeMode::Soft, url(), None);
        assert!(soft.is_covered_by(&record(PurgeMode::Soft, url(), None)));
        assert!(soft.is_covered_by(&record(PurgeMode::Hard, PurgeScope::All, None)));
        assert!(!soft.is_covered_by(&record(PurgeMode::Refresh, url(), None)));
        let hard = record(PurgeMode::Hard, url(), None);
        assert!(!hard.is_covered_by(&record(PurgeMode::Soft, PurgeScope::All, None)));
        let other = PurgeScope::Urls { urls: vec!["http://a.test/b".to_owned()] };
        assert!(!hard.is_covered_by(&record(PurgeMode::Hard, other, None)));
    }

    #[test]
    fn many_become_one_of_everything() {
        let mut older = record(PurgeMode::Soft, PurgeScope::All, Some(&[1, 2]));
        (older.since_sec, older.until_us) = (5, 30);
        let newer = record(PurgeMode::Hard, PurgeScope::All, Some(&[2, 3]));
        let merged = newer.clone().merged(&[older]);
        assert_eq!((merged.since_sec, merged.until_us, merged.mode), (5, 30, PurgeMode::Hard));
        assert_eq!(merged.open, Some([1, 2, 3].into()));
        let untold = newer.merged(&[record(PurgeMode::Hard, PurgeScope::All, None)]);
        assert_eq!(untold.open, None);
    }
}
