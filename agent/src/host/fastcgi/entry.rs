//! One entry: found by its key, removed, or made stale.
//!
//! An entry is voided (its version overwritten with 0) before it is unlinked: a worker that keeps
//! the file open through `open_file_cache` then sees a miss too. It is made stale by one write of
//! the two times that stand beside each other in its header; what else is in it stays as it is.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::header::{self, Head, Start};
use super::{Tally, entry_name, level_names};
use crate::host::fs::{Dir, FsError};

/// An entry, opened to be changed.
#[derive(Debug)]
pub struct Entry {
    dir: Dir,
    name: OsString,
    fd: OwnedFd,
    start: Vec<u8>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Tells this file from one that takes its place later.
    pub inode: u64,
    /// When it came to its place or was changed, in seconds since 1970.
    pub changed_sec: i64,
}

/// Finds the entry of exactly this key; `None` when it is not stored. A file of an unknown format
/// at the key's place counts as its entry: nothing else is ever stored there.
///
/// # Errors
/// Any [`FsError`] but `Outside` and `Missing`.
pub fn find(cache: &Dir, key: &[u8]) -> Result<Option<Entry>, FsError> {
    let found = find_named(cache, &entry_name(key))?;
    Ok(found.filter(|entry| entry.head().is_none_or(|head| head.key == key)))
}

/// Finds the entry of that file name.
///
/// # Errors
/// Any [`FsError`] but `Outside` and `Missing`.
pub fn find_named(cache: &Dir, name: &str) -> Result<Option<Entry>, FsError> {
    let (first, second) = level_names(name);
    match cache.child(OsStr::new(first)).and_then(|dir| dir.child(OsStr::new(second))) {
        Ok(dir) => open(dir, OsStr::new(name)),
        Err(FsError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the entry of that name; `None` when it has gone or is none.
///
/// # Errors
/// Any [`FsError`] but `Outside` and `Missing`.
pub(super) fn open(dir: Dir, name: &OsStr) -> Result<Option<Entry>, FsError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = || dir.path().join(name);
    let fd = match rustix::fs::openat(dir.fd(), name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(FsError::Symlink { path: path() }),
        Err(Errno::ISDIR) => return Err(FsError::Kind { path: path(), expected: "regular file" }),
        Err(errno) => {
            return Err(FsError::Io { action: "open", path: path(), source: errno.into() });
        }
    };
    let io = |action| {
        let path = path();
        move |errno: Errno| FsError::Io { action, path, source: errno.into() }
    };
    let stat = rustix::fs::fstat(&fd).map_err(io("look at"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FsError::Kind { path: path(), expected: "regular file" });
    }
    let mut start = Vec::new();
    let read = header::read(&fd, &mut start).map_err(io("read"))?;
    if matches!(read, Start::Void | Start::Nothing) {
        return Ok(None);
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    let name = name.to_owned();
    let (inode, changed_sec) = (stat.st_ino, stat.st_ctime);
    Ok(Some(Entry { dir, name, fd, start, bytes, inode, changed_sec }))
}

impl Entry {
    /// Its header; `None` when its format is unknown.
    #[must_use]
    pub fn head(&self) -> Option<Head<'_>> {
        match header::parse(&self.start) {
            Start::Entry(head) => Some(head),
            Start::Void | Start::Foreign | Start::Nothing => None,
        }
    }

    /// Whether there may be variants of its page under other names.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.head().is_some_and(|head| !head.vary.is_empty())
    }

    /// Its file name.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// The response headers stored in it.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn response_headers(&self) -> Result<Vec<u8>, FsError> {
        let Some(head) = self.head() else { return Ok(Vec::new()) };
        header::response_headers(&self.fd, &head).map_err(|errno| self.io("read", errno))
    }

    /// Removes it: a miss for the next request, whoever holds the file open.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn remove(self) -> Result<Tally, FsError> {
        if self.head().is_some() {
            rustix::io::pwrite(&self.fd, &header::VOID.to_le_bytes(), 0)
                .map_err(|errno| self.io("void", errno))?;
        }
        match rustix::fs::unlinkat(self.dir.fd(), &self.name, AtFlags::empty()) {
            Ok(()) => Ok(Tally { found: 1, removed: 1, bytes: self.bytes }),
            // nginx was faster.
            Err(Errno::NOENT) => Ok(Tally::default()),
            Err(errno) => Err(self.io("remove", errno)),
        }
    }

    /// Makes it stale as of now, to be served for at most `stale_secs` more while it is made anew;
    /// one that is no fresher than that already stays as it is. False when its format is unknown.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn soften(&self, now_secs: i64, stale_secs: i64) -> Result<bool, FsError> {
        let Some(head) = self.head() else { return Ok(false) };
        let served_until = head.valid_sec.saturating_add(head.updating_sec.max(0));
        if head.valid_sec >= now_secs || served_until > now_secs + stale_secs {
            self.set_times(now_secs - 1, stale_secs)?;
        }
        Ok(true)
    }

    /// Writes until when it is fresh and for how long after that it is served while it is made
    /// anew.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn set_times(&self, valid_sec: i64, updating_sec: i64) -> Result<(), FsError> {
        let mut times = [0; 16];
        times[..8].copy_from_slice(&valid_sec.to_le_bytes());
        times[8..].copy_from_slice(&updating_sec.to_le_bytes());
        let written = rustix::io::pwrite(&self.fd, &times, header::VALID_AT);
        written.map(|_| ()).map_err(|errno| self.io("change the times of", errno))
    }

    fn io(&self, action: &'static str, errno: Errno) -> FsError {
        FsError::Io { action, path: self.path(), source: errno.into() }
    }
}
