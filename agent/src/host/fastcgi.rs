//! nginx's FastCGI cache on disk: where an entry lies, what its header says, how it goes.
//!
//! Layout of an entry (format 5, nginx since 1.11.10, 64-bit little endian): version at 0
//! (8 bytes), length of the `Vary` names at 187 (1 byte), `\nKEY: ` at 336, then the key and a
//! newline. The file name is the MD5 of the key; with `levels=1:2` it lies in the directories
//! named by its last character and the two before it. Variants of a page that varies lie at
//! other names but carry the same key line.
//!
//! A single entry is voided (its version overwritten with 0) before it is unlinked: a worker
//! that keeps the file open through `open_file_cache` then sees a miss too. Nothing outside the
//! opened cache directory is ever touched, and no link is followed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use md5::{Digest as _, Md5};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::fs::{Dir, FsError};

/// Version of the entry header this code knows.
const FORMAT: u64 = 5;
const VARY_LENGTH_AT: u64 = 187;
const KEY_AT: u64 = 336;
const KEY_MARK: &[u8] = b"\nKEY: ";
/// Longest key line that is read.
const KEY_BYTES_MAX: usize = 16 * 1024;
/// Deepest tree that is deleted; nginx makes two levels, the trash two more.
const TREE_LEVELS_MAX: usize = 32;
/// Name of the directory, beside the cache directory, where entries wait to be deleted.
pub const TRASH: &str = ".hostler-trash";

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

/// What the entry of a key says of itself.
#[derive(Debug)]
pub struct Entry {
    dir: Dir,
    name: String,
    fd: OwnedFd,
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether there may be variants under other names.
    pub varies: bool,
    known_format: bool,
}

/// Finds the entry of exactly this key; `None` when it is not stored.
///
/// # Errors
/// Any [`FsError`] but `Outside` and `Missing`.
pub fn find(cache: &Dir, key: &[u8]) -> Result<Option<Entry>, FsError> {
    let name = entry_name(key);
    let (first, second) = level_names(&name);
    let dir = match cache.child(OsStr::new(first)).and_then(|dir| dir.child(OsStr::new(second))) {
        Ok(dir) => dir,
        Err(FsError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((fd, bytes)) = open_entry(&dir, OsStr::new(&name))? else { return Ok(None) };
    let Ok(header) = read_header(&fd) else { return Ok(None) };
    if header.version == FORMAT && header.key != key {
        return Ok(None);
    }
    let varies = header.version != FORMAT || header.varies;
    let known_format = header.version == FORMAT;
    Ok(Some(Entry { dir, name, fd, bytes, varies, known_format }))
}

impl Entry {
    /// Removes it: a miss for the next request, whoever holds the file open.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn remove(self) -> Result<Tally, FsError> {
        let io = |action| {
            let path = self.dir.path().join(&self.name);
            move |errno: Errno| FsError::Io { action, path, source: errno.into() }
        };
        if self.known_format {
            rustix::io::pwrite(&self.fd, &0u64.to_le_bytes(), 0).map_err(io("void"))?;
        }
        let gone = rustix::fs::unlinkat(self.dir.fd(), self.name.as_str(), AtFlags::empty());
        match gone {
            Ok(()) => Ok(Tally { found: 1, removed: 1, bytes: self.bytes }),
            // nginx was faster.
            Err(Errno::NOENT) => Ok(Tally::default()),
            Err(errno) => Err(io("remove")(errno)),
        }
    }
}

struct Header {
    version: u64,
    varies: bool,
    key: Vec<u8>,
}

fn open_entry(dir: &Dir, name: &OsStr) -> Result<Option<(OwnedFd, u64)>, FsError> {
    let path = || dir.path().join(name);
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(dir.fd(), name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(FsError::Symlink { path: path() }),
        Err(errno) => {
            return Err(FsError::Io { action: "open", path: path(), source: errno.into() });
        }
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| FsError::Io {
        action: "look at",
        path: path(),
        source: errno.into(),
    })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FsError::Kind { path: path(), expected: "regular file" });
    }
    Ok(Some((fd, u64::try_from(stat.st_size).unwrap_or(0))))
}

fn read_header(fd: &OwnedFd) -> Result<Header, Errno> {
    let mut start = [0; KEY_AT as usize + 512];
    let length = rustix::io::pread(fd, &mut start, 0)?;
    let head = &start[..length];
    let version =
        head.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Errno::INVAL)?;
    let varies = head.get(VARY_LENGTH_AT as usize).is_some_and(|length| *length != 0);
    let line = head.get(KEY_AT as usize..).and_then(|rest| rest.strip_prefix(KEY_MARK));
    let mut key = line.ok_or(Errno::INVAL)?.to_vec();
    if !key.contains(&b'\n') && length == start.len() {
        let mut rest = vec![0; KEY_BYTES_MAX];
        let more = rustix::io::pread(fd, rest.as_mut_slice(), start.len() as u64)?;
        key.extend_from_slice(&rest[..more]);
    }
    let end = key.iter().position(|byte| *byte == b'\n').ok_or(Errno::INVAL)?;
    key.truncate(end);
    Ok(Header { version, varies, key })
}

/// Goes through every entry of a cache, in no order; `visit` returns false to stop.
fn walk(
    cache: &Dir,
    cancel: &CancellationToken,
    visit: &mut impl FnMut(&Dir, &OsStr) -> Result<bool, FsError>,
) -> Result<(), FsError> {
    for (first, _) in levels(cache, 1)? {
        let Some(first) = opened(cache.child(&first))? else { continue };
        for (second, _) in levels(&first, 2)? {
            let Some(second) = opened(first.child(&second))? else { continue };
            for (name, _) in second.entries()? {
                if cancel.is_cancelled() || !visit(&second, &name)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// What has gone meanwhile, or is none of nginx's directories, is no part of the cache.
fn opened(dir: Result<Dir, FsError>) -> Result<Option<Dir>, FsError> {
    match dir {
        Ok(dir) => Ok(Some(dir)),
        Err(FsError::Missing { .. } | FsError::Kind { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directories of a level: names of that many hexadecimal digits.
fn levels(dir: &Dir, digits: usize) -> Result<Vec<(OsString, FileType)>, FsError> {
    let mut entries = dir.entries()?;
    entries.retain(|(name, kind)| {
        let name = name.as_encoded_bytes();
        let named = name.len() == digits && name.iter().all(u8::is_ascii_hexdigit);
        named && matches!(*kind, FileType::Directory | FileType::Unknown)
    });
    Ok(entries)
}

/// Finds every entry that carries one of these keys, wherever it lies, and removes it (or only
/// counts); says per key. The entry at a key's own place goes last: it tells that there are
/// others, so a sweep that is cut short can be repeated. False when it stopped, at `entries_max`
/// entries or because it was cancelled.
///
/// # Errors
/// Any [`FsError`] but `Outside`.
pub fn sweep_variants(
    cache: &Dir,
    keys: &BTreeSet<Vec<u8>>,
    dry_run: bool,
    entries_max: u64,
    cancel: &CancellationToken,
    mut found: impl FnMut(&[u8], Tally),
) -> Result<bool, FsError> {
    let mut seen = 0;
    let mut whole = true;
    walk(cache, cancel, &mut |dir, name| {
        seen += 1;
        if seen > entries_max {
            whole = false;
            return Ok(false);
        }
        let entry = match open_entry(dir, name) {
            Ok(Some(entry)) => entry,
            Ok(None) | Err(FsError::Symlink { .. } | FsError::Kind { .. }) => return Ok(true),
            Err(error) => return Err(error),
        };
        let (fd, bytes) = entry;
        if let Ok(header) = read_header(&fd)
            && keys.contains(&header.key)
            && name != OsStr::new(&entry_name(&header.key))
        {
            let known_format = header.version == FORMAT;
            let name = name.to_string_lossy().into_owned();
            let here = Dir::clone_of(dir)?;
            let entry = Entry { dir: here, name, fd, bytes, varies: true, known_format };
            let tally =
                if dry_run { Tally { found: 1, removed: 0, bytes } } else { entry.remove()? };
            found(&header.key, tally);
        }
        Ok(true)
    })?;
    if !whole || cancel.is_cancelled() {
        return Ok(false);
    }
    for key in keys {
        if let Some(entry) = find(cache, key)? {
            let bytes = entry.bytes;
            let tally =
                if dry_run { Tally { found: 1, removed: 0, bytes } } else { entry.remove()? };
            found(key, tally);
        }
    }
    Ok(true)
}

/// Counts entries and bytes without removing anything; the flag is false when the count was
/// stopped at `entries_max`.
///
/// # Errors
/// Any [`FsError`] but `Outside`.
pub fn count(
    cache: &Dir,
    entries_max: u64,
    cancel: &CancellationToken,
) -> Result<(Tally, bool), FsError> {
    let mut tally = Tally::default();
    walk(cache, cancel, &mut |dir, name| {
        if tally.found == entries_max {
            tally.removed = 1;
            return Ok(false);
        }
        if let Ok(stat) = rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        {
            tally.found += 1;
            tally.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(true)
    })?;
    let whole = std::mem::take(&mut tally.removed) == 0;
    Ok((tally, whole))
}

/// Renames every level directory of a cache into `trash`, which must be on the same file
/// system; says how many. nginx makes new ones as it needs them.
///
/// # Errors
/// [`FsError::Io`], with a source of `CrossesDevices` when `trash` is elsewhere.
pub fn set_aside(cache: &Dir, trash: &Dir) -> Result<usize, FsError> {
    let names = levels(cache, 1)?;
    for (name, _) in &names {
        match rustix::fs::renameat(cache.fd(), name, trash.fd(), name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                let path = cache.path().join(name);
                return Err(FsError::Io { action: "set aside", path, source: errno.into() });
            }
        }
    }
    Ok(names.len())
}

/// Removes the level directories that hold nothing.
///
/// # Errors
/// Any [`FsError`] but `Outside`.
pub fn remove_empty_levels(cache: &Dir) -> Result<(), FsError> {
    let remove =
        |dir: &Dir, name: &OsStr| match rustix::fs::unlinkat(dir.fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => {
                let path = dir.path().join(name);
                Err(FsError::Io { action: "remove", path, source: errno.into() })
            }
        };
    for (first, _) in levels(cache, 1)? {
        let Some(dir) = opened(cache.child(&first))? else { continue };
        for (second, _) in levels(&dir, 2)? {
            remove(&dir, &second)?;
        }
        remove(cache, &first)?;
    }
    Ok(())
}

/// Deletes entries where they are, voiding each: the way when they cannot be set aside.
///
/// # Errors
/// Any [`FsError`] but `Outside`.
pub fn remove_in_place(cache: &Dir, cancel: &CancellationToken) -> Result<Tally, FsError> {
    let mut tally = Tally::default();
    walk(cache, cancel, &mut |dir, name| {
        if let Ok(Some((fd, bytes))) = open_entry(dir, name) {
            let known_format = read_header(&fd).is_ok_and(|header| header.version == FORMAT);
            let name = name.to_string_lossy().into_owned();
            let here = Dir::clone_of(dir)?;
            let entry = Entry { dir: here, name, fd, bytes, varies: false, known_format };
            tally.add(entry.remove()?);
        }
        Ok(true)
    })?;
    Ok(tally)
}

/// Deletes a tree of the agent's own making, without following links; says how many files.
///
/// # Errors
/// Any [`FsError`] but `Outside`; what is left is cleared away at the next start.
pub fn delete_tree(parent: &Dir, name: &OsStr) -> Result<u64, FsError> {
    delete_levels(parent, name, TREE_LEVELS_MAX)
}

/// Deletes everything in the trash beside a cache and then the trash itself. One bin that cannot
/// be deleted keeps no other from it.
///
/// # Errors
/// The first [`FsError`], after trying every bin.
pub fn empty_trash(parent: &Dir) -> Result<u64, FsError> {
    let trash = match parent.child(OsStr::new(TRASH)) {
        Ok(trash) => trash,
        Err(FsError::Missing { .. }) => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut files = 0;
    let mut first = None;
    for (bin, kind) in trash.entries()? {
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            continue;
        }
        match delete_tree(&trash, &bin) {
            Ok(count) => files += count,
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    match first {
        None => delete_tree(parent, OsStr::new(TRASH)).map(|more| files + more),
        Some(error) => Err(error),
    }
}

/// The site's user may have nested directories without end below a cache: each level takes a
/// file descriptor and a piece of stack.
fn delete_levels(parent: &Dir, name: &OsStr, levels: usize) -> Result<u64, FsError> {
    if levels == 0 {
        let path = parent.path().join(name);
        let source = std::io::Error::other(format!("nested deeper than {TREE_LEVELS_MAX} levels"));
        return Err(FsError::Io { action: "remove", path, source });
    }
    let dir = match parent.child(name) {
        Ok(dir) => dir,
        Err(FsError::Missing { .. }) => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut files = 0;
    for (entry, _) in dir.entries()? {
        match rustix::fs::unlinkat(dir.fd(), &entry, AtFlags::empty()) {
            Ok(()) => files += 1,
            Err(Errno::ISDIR | Errno::PERM) => files += delete_levels(&dir, &entry, levels - 1)?,
            Err(Errno::NOENT) => {}
            Err(errno) => {
                let path = dir.path().join(&entry);
                return Err(FsError::Io { action: "remove", path, source: errno.into() });
            }
        }
    }
    match rustix::fs::unlinkat(parent.fd(), name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(files),
        Err(errno) => {
            let path = parent.path().join(name);
            Err(FsError::Io { action: "remove", path, source: errno.into() })
        }
    }
}

#[cfg(test)]
#[path = "fastcgi_tests.rs"]
mod tests;
