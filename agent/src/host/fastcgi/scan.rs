//! Going through all headers of a cache, in parallel and within bounds: a fixed number of threads,
//! one small read per file at a time in each, a limit on entries.
//!
//! Files of a directory are opened in the order of their inodes, which is roughly their order on
//! disk. What vanishes meanwhile is passed over; links are never followed.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::clear::{levels, opened};
use super::entry::{self, Entry};
use super::entry_name;
use super::header::{self, Head, Start};
use crate::host::fs::{Dir, FsError};

/// Threads of a scan, and so the most files that are read at once.
pub const SCAN_THREADS: usize = 2;
/// Most entries one scan looks at.
pub const SCANNED_ENTRIES_MAX: u64 = 5_000_000;
/// Hexadecimal digits in an entry's name.
const NAME_DIGITS: usize = 32;

/// How a cache is gone through.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    pub cache: &'a Dir,
    pub entries_max: u64,
    /// Only what came to its place at this time or later, in seconds since 1970.
    pub since_sec: Option<i64>,
    pub cancel: &'a CancellationToken,
}

/// What a scan came across.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Entries that were visited.
    pub entries: u64,
    /// Files that are no entries.
    pub unreadable: u64,
    /// Entries of a format this code does not know.
    pub foreign: u64,
    /// False when the scan stopped early: at its limit, or because it was cancelled.
    pub whole: bool,
}

/// One entry, open for reading while it is visited.
#[derive(Debug)]
pub struct Sighted<'a> {
    dir: &'a Dir,
    name: &'a OsStr,
    fd: &'a OwnedFd,
    pub head: Head<'a>,
    pub bytes: u64,
    pub inode: u64,
}

impl Sighted<'_> {
    /// Its file name.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.name
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(self.name)
    }

    /// Whether it is stored where its key says; all but one of a page's variants are not.
    #[must_use]
    pub fn at_own_place(&self) -> bool {
        self.name == OsStr::new(&entry_name(self.head.key))
    }

    /// Its stored response headers; empty if they cannot be read any more.
    #[must_use]
    pub fn response_headers(&self) -> Vec<u8> {
        header::response_headers(self.fd, &self.head).unwrap_or_default()
    }

    /// Opens it to be changed; `None` when it has gone, or another key's entry took its place.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn open(&self) -> Result<Option<Entry>, FsError> {
        match entry::open(Dir::clone_of(self.dir)?, self.name) {
            Ok(entry) => {
                let same = |entry: &Entry| entry.head().is_some_and(|h| h.key == self.head.key);
                Ok(entry.filter(same))
            }
            Err(FsError::Symlink { .. } | FsError::Kind { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Visits every entry, in no order, with one thread per state; gives the states back.
///
/// # Errors
/// The first [`FsError`] of a directory or a visit; the other threads then stop too.
pub fn scan<S: Send>(
    scan: &Scan<'_>,
    states: Vec<S>,
    visit: impl Fn(&mut S, &Sighted<'_>) -> Result<(), FsError> + Sync,
) -> Result<(Seen, Vec<S>), FsError> {
    let walk = Walk {
        scan,
        leaves: leaves(scan.cache)?,
        next: AtomicUsize::new(0),
        left: AtomicU64::new(scan.entries_max),
        stopped: AtomicBool::new(false),
    };
    let mut states = states.into_iter();
    let Some(own) = states.next() else { return Ok((Seen::default(), Vec::new())) };
    let (walk, visit) = (&walk, &visit);
    let ended: Vec<_> = std::thread::scope(|scope| {
        let helpers: Vec<_> =
            states.map(|state| scope.spawn(move || walk.work(state, visit))).collect();
        let own = walk.work(own, visit);
        let join = |helper: std::thread::ScopedJoinHandle<'_, _>| {
            helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(own).chain(helpers.into_iter().map(join)).collect()
    });
    let (mut seen, mut states) = (Seen::default(), Vec::new());
    for one in ended {
        let (part, state) = one?;
        seen.entries += part.entries;
        seen.unreadable += part.unreadable;
        seen.foreign += part.foreign;
        states.push(state);
    }
    seen.whole = !walk.stopped.load(Ordering::Relaxed) && !scan.cancel.is_cancelled();
    Ok((seen, states))
}

/// Every directory of entries.
fn leaves(cache: &Dir) -> Result<Vec<(OsString, OsString)>, FsError> {
    let mut leaves = Vec::new();
    for (first, _) in levels(cache, 1)? {
        let Some(dir) = opened(cache.child(&first))? else { continue };
        leaves.extend(levels(&dir, 2)?.into_iter().map(|(second, _)| (first.clone(), second)));
    }
    Ok(leaves)
}

struct Walk<'a> {
    scan: &'a Scan<'a>,
    leaves: Vec<(OsString, OsString)>,
    next: AtomicUsize,
    left: AtomicU64,
    stopped: AtomicBool,
}

impl Walk<'_> {
    fn work<S>(
        &self,
        mut state: S,
        visit: &impl Fn(&mut S, &Sighted<'_>) -> Result<(), FsError>,
    ) -> Result<(Seen, S), FsError> {
        let (mut seen, mut buffer) = (Seen::default(), Vec::new());
        while let Some((first, second)) = self.leaves.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            if self.over() {
                break;
            }
            let leaf = self.scan.cache.child(first).and_then(|dir| dir.child(second));
            let Some(leaf) = opened(leaf)? else { continue };
            let worked = self.leaf(&leaf, &mut state, visit, &mut seen, &mut buffer);
            if let Err(error) = worked {
                self.stopped.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok((seen, state))
    }

    fn over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.scan.cancel.is_cancelled()
    }

    fn leaf<S>(
        &self,
        leaf: &Dir,
        state: &mut S,
        visit: &impl Fn(&mut S, &Sighted<'_>) -> Result<(), FsError>,
        seen: &mut Seen,
        buffer: &mut Vec<u8>,
    ) -> Result<(), FsError> {
        if let Some(since) = self.scan.since_sec
            && rustix::fs::fstat(leaf.fd()).is_ok_and(|stat| stat.st_mtime < since)
        {
            return Ok(());
        }
        for (_, name, kind) in leaf.listed_by_inode()? {
            if self.over() {
                return Ok(());
            }
            if is_fill(&name) {
                continue;
            }
            if !is_entry_name(&name) || !matches!(kind, FileType::RegularFile | FileType::Unknown) {
                seen.unreadable += 1;
                continue;
            }
            if self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err()
            {
                self.stopped.store(true, Ordering::Relaxed);
                return Ok(());
            }
            self.file(leaf, &name, state, visit, seen, buffer)?;
        }
        Ok(())
    }

    fn file<S>(
        &self,
        leaf: &Dir,
        name: &OsStr,
        state: &mut S,
        visit: &impl Fn(&mut S, &Sighted<'_>) -> Result<(), FsError>,
        seen: &mut Seen,
        buffer: &mut Vec<u8>,
    ) -> Result<(), FsError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(leaf.fd(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(_) => {
                seen.unreadable += 1;
                return Ok(());
            }
        };
        let Ok(stat) = rustix::fs::fstat(&fd) else { return Ok(()) };
        if self.scan.since_sec.is_some_and(|since| stat.st_ctime < since) {
            return Ok(());
        }
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        match header::read(&fd, buffer) {
            Ok(Start::Entry(head)) if regular => {
                seen.entries += 1;
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                let inode = stat.st_ino;
                visit(state, &Sighted { dir: leaf, name, fd: &fd, head, bytes, inode })?;
            }
            Ok(Start::Foreign) if regular => seen.foreign += 1,
            Ok(Start::Void) => {}
            Ok(Start::Entry(_) | Start::Foreign | Start::Nothing) | Err(_) => seen.unreadable += 1,
        }
        Ok(())
    }
}

/// Whether a name can be an entry's.
fn is_entry_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() == NAME_DIGITS && name.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a file is an entry that is being written: it has its name and some digits.
fn is_fill(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.split_at_checked(NAME_DIGITS).is_some_and(|(head, rest)| {
        head.iter().all(u8::is_ascii_hexdigit)
            && rest.split_first().is_some_and(|(dot, digits)| {
                *dot == b'.' && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
            })
    })
}
