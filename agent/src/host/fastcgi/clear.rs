//! A whole cache: counted, set aside by renaming its level directories, deleted.

use std::ffi::{OsStr, OsString};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::Tally;
use super::entry;
use crate::host::fs::{Dir, FsError};

/// Deepest tree that is deleted; nginx makes two levels, the trash two more.
const TREE_LEVELS_MAX: usize = 32;
/// Name of the directory, beside the cache directory, where entries wait to be deleted.
pub const TRASH: &str = ".hostler-trash";

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
pub(super) fn opened(dir: Result<Dir, FsError>) -> Result<Option<Dir>, FsError> {
    match dir {
        Ok(dir) => Ok(Some(dir)),
        Err(FsError::Missing { .. } | FsError::Kind { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directories of a level: names of that many hexadecimal digits.
pub(super) fn levels(dir: &Dir, digits: usize) -> Result<Vec<(OsString, FileType)>, FsError> {
    let mut entries = levels_and_links(dir, digits)?;
    entries.retain(|(_, kind)| *kind != FileType::Symlink);
    Ok(entries)
}

/// The same with links of such names: nobody but nginx follows them.
pub(super) fn levels_and_links(
    dir: &Dir,
    digits: usize,
) -> Result<Vec<(OsString, FileType)>, FsError> {
    let mut entries = dir.entries()?;
    entries.retain(|(name, kind)| {
        let name = name.as_encoded_bytes();
        let named = name.len() == digits && name.iter().all(u8::is_ascii_hexdigit);
        named && matches!(*kind, FileType::Directory | FileType::Symlink | FileType::Unknown)
    });
    Ok(entries)
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

/// Renames every level directory of a cache, and whatever link stands in the place of one, into
/// `trash`, which must be on the same file system; says how many. nginx makes new ones as it needs
/// them.
///
/// # Errors
/// [`FsError::Io`], with a source of `CrossesDevices` when `trash` is elsewhere.
pub fn set_aside(cache: &Dir, trash: &Dir) -> Result<usize, FsError> {
    let names = levels_and_links(cache, 1)?;
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

/// Deletes entries where they are, voiding each: the way when they cannot be set aside. Links are
/// unlinked, whatever they lead to stays.
///
/// # Errors
/// Any [`FsError`] but `Outside`.
pub fn remove_in_place(cache: &Dir, cancel: &CancellationToken) -> Result<Tally, FsError> {
    let mut tally = Tally::default();
    unlink_links(cache, 1)?;
    for (first, _) in levels(cache, 1)? {
        if let Some(first) = opened(cache.child(&first))? {
            unlink_links(&first, 2)?;
        }
    }
    walk(cache, cancel, &mut |dir, name| {
        match entry::open(Dir::clone_of(dir)?, name) {
            Ok(Some(entry)) => tally.add(entry.remove()?),
            Ok(None) => tally.add(unlink(dir, name)?),
            Err(FsError::Symlink { .. }) => tally.add(unlink(dir, name)?),
            // Directories are none of nginx's.
            Err(FsError::Kind { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    })?;
    Ok(tally)
}

/// Removes the links in the places of level directories.
fn unlink_links(dir: &Dir, digits: usize) -> Result<(), FsError> {
    for (name, kind) in levels_and_links(dir, digits)? {
        if kind == FileType::Symlink {
            unlink(dir, &name)?;
        }
    }
    Ok(())
}

/// Removes what is no entry, or has gone meanwhile.
fn unlink(dir: &Dir, name: &OsStr) -> Result<Tally, FsError> {
    match rustix::fs::unlinkat(dir.fd(), name, AtFlags::empty()) {
        Ok(()) => Ok(Tally { found: 1, removed: 1, bytes: 0 }),
        Err(Errno::NOENT) => Ok(Tally::default()),
        Err(errno) => {
            let path = dir.path().join(name);
            Err(FsError::Io { action: "remove", path, source: errno.into() })
        }
    }
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
