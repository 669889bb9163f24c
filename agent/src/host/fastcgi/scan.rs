//! Going through all headers of a cache, in parallel and within bounds: a fixed number of threads,
//! one small read per file at a time in each, a limit on entries.
//!
//! Files of a directory are opened in the order of their inodes, which is roughly their order on
//! disk. What vanishes meanwhile is passed over; links are never followed.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::clear::{levels_and_links, opened};
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
/// Bytes a directory is listed into at a time.
const LISTING_BYTES: usize = 32 * 1024;

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
    /// Links where nginx looks for entries: it may serve what they lead to.
    pub links: u64,
    /// Files the system did not let be read.
    pub failed: u64,
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

    /// Bytes on disk; 0 if they cannot be found out any more.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = rustix::fs::fstat(self.fd).map_or(0, |stat| stat.st_size);
        u64::try_from(size).unwrap_or(0)
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
    let (firsts, leaves, links) = leaves(scan.cache)?;
    let walk = Walk {
        scan,
        firsts,
        leaves,
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
    let (mut seen, mut states) = (Seen { links, ..Seen::default() }, Vec::new());
    for one in ended {
        let (part, state) = one?;
        seen.entries += part.entries;
        seen.unreadable += part.unreadable;
        seen.foreign += part.foreign;
        seen.links += part.links;
        seen.failed += part.failed;
        states.push(state);
    }
    seen.whole = !walk.stopped.load(Ordering::Relaxed) && !scan.cancel.is_cancelled();
    Ok((seen, states))
}

/// A directory of entries: its place among those of the first level, and its name there.
type Leaf = (usize, OsString);

/// The directories of the first level, every directory of entries, and how many links stand in
/// their places.
fn leaves(cache: &Dir) -> Result<(Vec<Dir>, Vec<Leaf>, u64), FsError> {
    let (mut firsts, mut leaves, mut links) = (Vec::new(), Vec::new(), 0);
    for (first, kind) in levels_and_links(cache, 1)? {
        if kind == FileType::Symlink {
            links += 1;
            continue;
        }
        let Some(dir) = opened(cache.child(&first))? else { continue };
        for (second, kind) in levels_and_links(&dir, 2)? {
            if kind == FileType::Symlink {
                links += 1;
            } else {
                leaves.push((firsts.len(), second));
            }
        }
        firsts.push(dir);
    }
    Ok((firsts, leaves, links))
}

struct Walk<'a> {
    scan: &'a Scan<'a>,
    firsts: Vec<Dir>,
    leaves: Vec<Leaf>,
    next: AtomicUsize,
    left: AtomicU64,
    stopped: AtomicBool,
}

/// What a thread uses again for every directory and file.
struct Scratch {
    listing: Vec<MaybeUninit<u8>>,
    names: Vec<(u64, bool, [u8; NAME_DIGITS])>,
    start: Vec<u8>,
    seen: Seen,
}

impl Walk<'_> {
    fn work<S>(
        &self,
        mut state: S,
        visit: &impl Fn(&mut S, &Sighted<'_>) -> Result<(), FsError>,
    ) -> Result<(Seen, S), FsError> {
        let mut scratch = Scratch {
            listing: vec![MaybeUninit::uninit(); LISTING_BYTES],
            names: Vec::new(),
            start: Vec::new(),
            seen: Seen::default(),
        };
        while let Some((first, second)) = self.leaves.get(self.next.fetch_add(1, Ordering::Relaxed))
            && !self.over()
        {
            let first = &self.firsts[*first];
            if self.is_unchanged(first, second) {
                continue;
            }
            let Some(leaf) = opened(first.child(second))? else { continue };
            if let Err(error) = self.leaf(&leaf, &mut state, visit, &mut scratch) {
                self.stopped.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok((scratch.seen, state))
    }

    /// Whether nothing came to a directory since the time that is asked for.
    fn is_unchanged(&self, first: &Dir, second: &OsStr) -> bool {
        let Some(since) = self.scan.since_sec else { return false };
        let look = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statat(first.fd(), second, look).is_ok_and(|stat| stat.st_mtime < since)
    }

    fn over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.scan.cancel.is_cancelled()
    }

    fn leaf<S>(
        &self,
        leaf: &Dir,
        state: &mut S,
        visit: &impl Fn(&mut S, &Sighted<'_>) -> Result<(), FsError>,
        scratch: &mut Scratch,
    ) -> Result<(), FsError> {
        let Scratch { listing, names, start, seen } = scratch;
        list(leaf, listing, names, seen)?;
        let one_less = |left: u64| left.checked_sub(1);
        for (inode, certain, name) in names.iter() {
            if self.over() {
                return Ok(());
            }
            if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
                self.stopped.store(true, Ordering::Relaxed);
                return Ok(());
            }
            let name = OsStr::from_bytes(name);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = match rustix::fs::openat(leaf.fd(), name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    seen.unreadable += 1;
                    match errno {
                        Errno::LOOP => seen.links += 1,
                        _ => seen.failed += 1,
                    }
                    continue;
                }
            };
            match self.wanted(&fd, *certain) {
                None => continue,
                Some(false) => {
                    seen.unreadable += 1;
                    continue;
                }
                Some(true) => {}
            }
            match header::read(&fd, start) {
                Ok(Start::Entry(head)) => {
                    seen.entries += 1;
                    visit(state, &Sighted { dir: leaf, name, fd: &fd, head, inode: *inode })?;
                }
                Ok(Start::Foreign) => seen.foreign += 1,
                Ok(Start::Void) => {}
                Ok(Start::Nothing) => seen.unreadable += 1,
                Err(_) => {
                    seen.unreadable += 1;
                    seen.failed += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether a file is one to be read; `None` when it came to its place too early. The file is
    /// only looked at where its directory does not say all that is asked.
    fn wanted(&self, fd: &OwnedFd, certainly_a_file: bool) -> Option<bool> {
        if certainly_a_file && self.scan.since_sec.is_none() {
            return Some(true);
        }
        let stat = rustix::fs::fstat(fd).ok()?;
        if self.scan.since_sec.is_some_and(|since| stat.st_ctime < since) {
            return None;
        }
        Some(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }
}

/// Lists what may be entries in a directory, in the order of their inodes, and whether each is
/// certainly a file; counts what cannot be an entry.
fn list(
    leaf: &Dir,
    listing: &mut [MaybeUninit<u8>],
    names: &mut Vec<(u64, bool, [u8; NAME_DIGITS])>,
    seen: &mut Seen,
) -> Result<(), FsError> {
    names.clear();
    let mut entries = RawDir::new(leaf.fd(), listing);
    while let Some(entry) = entries.next() {
        let fail = |errno: Errno| {
            let path = leaf.path().to_owned();
            FsError::Io { action: "list", path, source: errno.into() }
        };
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_bytes();
        let kind = entry.file_type();
        if matches!(name, b"." | b"..") || is_fill(name) {
            continue;
        }
        match <[u8; NAME_DIGITS]>::try_from(name) {
            Ok(name)
                if name.iter().all(u8::is_ascii_hexdigit)
                    && matches!(kind, FileType::RegularFile | FileType::Unknown) =>
            {
                names.push((entry.ino(), kind == FileType::RegularFile, name));
            }
            named => {
                seen.unreadable += 1;
                let place = named.is_ok_and(|name| name.iter().all(u8::is_ascii_hexdigit));
                seen.links += u64::from(place && kind == FileType::Symlink);
            }
        }
    }
    names.sort_unstable_by_key(|(inode, _, _)| *inode);
    Ok(())
}

/// Whether a file is an entry that is being written: it has its name and some digits.
fn is_fill(name: &[u8]) -> bool {
    name.split_at_checked(NAME_DIGITS).is_some_and(|(head, rest)| {
        head.iter().all(u8::is_ascii_hexdigit)
            && rest.split_first().is_some_and(|(dot, digits)| {
                *dot == b'.' && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
            })
    })
}
