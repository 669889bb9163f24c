//! nginx's FastCGI cache on disk: where an entry lies, what its header says, how it goes.
//!
//! The file name of an entry is the MD5 of its key; with `levels=1:2` it lies in the directories
//! named by its last character and the two before it. Variants of a page that varies lie at other
//! names but carry the same key.
//!
//! Nothing outside the opened cache directory is ever touched, and no link is followed.

mod clear;
mod entry;
mod header;
mod scan;
mod vary;

use md5::{Digest as _, Md5};

pub use self::clear::{
    TRASH, count, delete_tree, empty_trash, remove_empty_levels, remove_in_place, set_aside,
};
pub use self::entry::{Entry, find, find_named};
pub use self::header::{FORMAT, Head, tags, values};
pub use self::scan::{SCAN_THREADS, SCANNED_ENTRIES_MAX, Scan, Seen, Sighted, scan};
pub use self::vary::{names as vary_names, variant};

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub found: u64,
    pub removed: u64,
    /// Bytes the entries held on disk.
    pub bytes: u64,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.found += other.found;
        self.removed += other.removed;
        self.bytes += other.bytes;
    }
}

/// File name of the entry of a key.
#[must_use]
pub fn entry_name(key: &[u8]) -> String {
    hex::encode(Md5::digest(key))
}

/// The two directories an entry lies in, with `levels=1:2`.
#[must_use]
pub fn level_names(name: &str) -> (&str, &str) {
    let end = name.len();
    (&name[end - 1..], &name[end - 3..end - 1])
}

#[cfg(test)]
pub(crate) mod tests;
