//! Which files were held against their names: they need not be hashed again while they are the same.
//!
//! A file is taken for the same by its inode, its length and its times of change, of which the last
//! cannot be set by anybody. A write within one tick of that time would not move it; so what was changed
//! only just now is not remembered.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Microseconds for which a file must have been left alone: more than any file system's tick.
const ALONE_US: i64 = 3_000_000;
/// Most files that are remembered.
const FILES_MAX: usize = 100_000;

/// What a file is taken for the same by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it was left alone for long enough that a change from now on would show.
    fn is_settled(&self, now_us: i64) -> bool {
        let (secs, nanos) = self.changed;
        let changed_us = secs.saturating_mul(1_000_000).saturating_add(nanos / 1000);
        changed_us.saturating_add(ALONE_US) <= now_us
    }
}

/// The files, by their names.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashMap<String, Stamp>>);

impl Verified {
    /// Whether the file was held against that name as it is now.
    pub(super) fn holds(&self, name: &str, stamp: &Stamp) -> bool {
        self.known().get(name) == Some(stamp)
    }

    /// Remembers a file that was held against its name, having been the one before that and the other
    /// after.
    pub(super) fn note(&self, name: &str, before: Stamp, after: Stamp, now_us: i64) {
        if before != after || !before.is_settled(now_us) {
            return;
        }
        let mut known = self.known();
        if known.len() >= FILES_MAX {
            known.clear();
        }
        known.insert(name.to_owned(), before);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Stamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_and_was_left_alone_is_remembered() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "content").unwrap();
        let stamp = || Stamp::of(&std::fs::metadata(file.path()).unwrap());
        let (verified, first) = (Verified::default(), stamp());
        let changed_us = first.changed.0 * 1_000_000 + first.changed.1 / 1000;
        let later_us = changed_us + ALONE_US;
        verified.note("a", first, first, later_us - 1);
        assert!(!verified.holds("a", &first), "a change within a tick would not show");
        verified.note("a", first, Stamp { bytes: 8, ..first }, later_us);
        assert!(!verified.holds("a", &first), "it changed while it was read");
        verified.note("a", first, first, later_us);
        assert!(verified.holds("a", &first) && !verified.holds("b", &first));
        // The same length and, by hand, the same time: what cannot be set tells.
        let modified = std::fs::metadata(file.path()).unwrap().modified().unwrap();
        let mut second = first;
        while second.changed == first.changed {
            std::fs::write(file.path(), "CONTENT").unwrap();
            let opened = std::fs::File::options().write(true).open(file.path()).unwrap();
            opened.set_modified(modified).unwrap();
            second = stamp();
        }
        assert_eq!((second.bytes, second.modified), (first.bytes, first.modified));
        assert!(!verified.holds("a", &second));
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stamp = Stamp::of(&file.as_file().metadata().unwrap());
        let verified = Verified::default();
        for n in 0..=FILES_MAX {
            verified.note(&n.to_string(), stamp, stamp, i64::MAX);
        }
        assert_eq!(verified.known().len(), 1);
    }
}
