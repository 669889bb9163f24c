//! Files below the permitted roots: opened without following any symbolic link, replaced
//! atomically.
//!
//! A root itself is local policy and trusted; what lies below it may belong to the site's user,
//! who may swap a directory for a link at any moment. So every path is resolved by the kernel in
//! one call (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`) or, on kernels without it,
//! component by component with `O_NOFOLLOW`; what follows works on the opened directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// Missing directories [`Roots::make_dir`] makes at most for one path.
pub const NEW_LEVELS_MAX: usize = 2;
/// Names of files the agent is about to rename begin with this; what a crash left is cleared
/// away by it. The leading dot keeps them out of shell and nginx globs.
pub const STAGED_PREFIX: &str = ".hostler-staged-";

/// Why a file operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The path is not absolute and normal, or not below any root.
    #[error("{} is outside the roots this host permits", path.display())]
    Outside { path: PathBuf },
    /// The path, or a part of it, is a symbolic link.
    #[error("{} is, or leads through, a symbolic link", path.display())]
    Symlink { path: PathBuf },
    /// There is nothing at the path.
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    /// The path names something other than what was expected there.
    #[error("{} is not a {expected}", path.display())]
    Kind { path: PathBuf, expected: &'static str },
    /// The file is larger than what is ever read.
    #[error("{} has more than {bytes_max} bytes", path.display())]
    TooLarge { path: PathBuf, bytes_max: u64 },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The permitted roots; cheap to clone.
#[derive(Debug, Clone)]
pub struct Roots(Arc<[PathBuf]>);

impl Roots {
    /// Exactly these roots.
    #[must_use]
    pub fn new(roots: &[PathBuf]) -> Self {
        Self(roots.into())
    }

    /// Whether the path is absolute, normal and below a root; looks at no file.
    ///
    /// # Errors
    /// [`FsError::Outside`].
    pub fn check(&self, path: &Path) -> Result<(), FsError> {
        self.split(path).map(|_| ())
    }

    fn split<'a>(&'a self, path: &'a Path) -> Result<(&'a Path, &'a Path), FsError> {
        let outside = || FsError::Outside { path: path.to_owned() };
        let normal = path.is_absolute()
            && path
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
            && !path.as_os_str().as_encoded_bytes().contains(&0);
        if !normal {
            return Err(outside());
        }
        self.0
            .iter()
            .filter_map(|root| Some((root.as_path(), path.strip_prefix(root).ok()?)))
            .max_by_key(|(root, _)| root.as_os_str().len())
            .ok_or_else(outside)
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn dir(&self, path: &Path) -> Result<Dir, FsError> {
        let (root, rest) = self.split(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_fd = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|errno| explain(errno, path, "open"))?;
        if rest.as_os_str().is_empty() {
            return Ok(Dir { fd: root_fd, path: path.to_owned() });
        }
        let fd = open_below(&root_fd, rest, flags).map_err(|errno| {
            if errno == Errno::NOTDIR && leads_through_link(root, rest) {
                return FsError::Symlink { path: path.to_owned() };
            }
            explain(errno, path, "open")
        })?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// Opens a directory, making its last levels if they are missing, but no more than
    /// [`NEW_LEVELS_MAX`] of them: a whole tree that is not there is a mistyped path. What is made
    /// may be listed and entered by everybody, as nginx's workers have to.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn make_dir(&self, path: &Path) -> Result<Dir, FsError> {
        let levels = self.missing_levels(path)?;
        let (root, _) = self.split(path)?;
        // A root is permitted by name; not every distribution makes nginx's cache directory.
        match rustix::fs::mkdir(root, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(explain(errno, root, "create")),
        }
        let there = path.ancestors().nth(levels).unwrap_or(path);
        let mut dir = self.dir(there)?;
        let mut missing: Vec<&OsStr> =
            path.ancestors().take(levels).filter_map(Path::file_name).collect();
        while let Some(name) = missing.pop() {
            match rustix::fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => dir = dir.child(name)?,
                Err(errno) => return Err(explain(errno, &dir.path.join(name), "create")),
            }
        }
        Ok(dir)
    }

    /// How many of a directory's last levels [`Roots::make_dir`] would have to make.
    ///
    /// # Errors
    /// Any [`FsError`]; `Missing` if they are more than it makes.
    pub fn missing_levels(&self, path: &Path) -> Result<usize, FsError> {
        let levels = path.ancestors().take(NEW_LEVELS_MAX + 2).enumerate();
        for (level, there) in levels {
            match self.dir(there) {
                Err(FsError::Missing { .. }) if level <= NEW_LEVELS_MAX => {}
                // Above a root that is itself missing: it is made too, where it has a parent.
                Err(FsError::Outside { .. }) if level > 0 && there.is_dir() => {
                    return Ok(level - 1);
                }
                Err(FsError::Outside { .. }) if level > 0 => break,
                Err(error) => return Err(error),
                Ok(_) if level <= NEW_LEVELS_MAX => return Ok(level),
                Ok(_) => break,
            }
        }
        Err(FsError::Missing { path: path.to_owned() })
    }

    /// The place of a file, which need not exist; its directory must.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn place(&self, path: &Path) -> Result<Place, FsError> {
        self.split(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FsError::Outside { path: path.to_owned() });
        };
        Ok(Place { dir: self.dir(parent)?, name: name.to_owned() })
    }
}

fn open_below(root: &OwnedFd, rest: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, rest, flags, Mode::empty(), resolve) {
        // Before Linux 5.6, or hidden by a container's system call filter.
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(root, rest, flags),
        other => other,
    }
}

fn open_stepwise(root: &OwnedFd, rest: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut current = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in rest {
        let step = OFlags::DIRECTORY | OFlags::NOFOLLOW | flags;
        current = rustix::fs::openat(&current, part, step, Mode::empty())?;
    }
    Ok(current)
}

fn leads_through_link(root: &Path, rest: &Path) -> bool {
    let mut path = root.to_owned();
    rest.components().any(|part| {
        path.push(part);
        path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_symlink())
    })
}

pub(super) fn explain(errno: Errno, path: &Path, action: &'static str) -> FsError {
    let path = path.to_owned();
    match errno {
        Errno::LOOP => FsError::Symlink { path },
        Errno::NOENT => FsError::Missing { path },
        Errno::NOTDIR => FsError::Kind { path, expected: "directory" },
        other => FsError::Io { action, path, source: other.into() },
    }
}

/// An opened directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Its path, as it was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The opened directory itself.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The same directory, opened once more.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn clone_of(dir: &Self) -> Result<Self, FsError> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&dir.fd, 0)
            .map_err(|errno| explain(errno, &dir.path, "open"))?;
        Ok(Self { fd, path: dir.path.clone() })
    }

    /// Opens a directory in it.
    ///
    /// # Errors
    /// Any [`FsError`] but `Outside`.
    pub fn child(&self, name: &OsStr) -> Result<Self, FsError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| explain(errno, &path, "open"))?;
        Ok(Self { fd, path })
    }

    /// Makes a directory in it, for the agent alone, unless it is there; opens it.
    ///
    /// # Errors
    /// Any [`FsError`] but `Outside`.
    pub fn make_child(&self, name: &OsStr) -> Result<Self, FsError> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.child(name),
            Err(errno) => Err(explain(errno, &self.path.join(name), "create")),
        }
    }

    /// Names and types of what is in it, without `.` and `..`, in no order.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn entries(&self) -> Result<Vec<(OsString, FileType)>, FsError> {
        let fail = |errno| explain(errno, &self.path, "list");
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                use std::os::unix::ffi::OsStrExt as _;
                found.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
            }
        }
        Ok(found)
    }

    /// The user it belongs to.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn owner(&self) -> Result<u32, FsError> {
        let stat = rustix::fs::fstat(&self.fd);
        stat.map(|stat| stat.st_uid).map_err(|errno| explain(errno, &self.path, "look at"))
    }

    /// Whether there is nothing in it.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn is_empty(&self) -> Result<bool, FsError> {
        Ok(self.entries()?.is_empty())
    }

    /// Makes what was renamed into or out of it last.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn sync(&self) -> Result<(), FsError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| explain(errno, &self.path, "sync"))
    }
}

/// A name in an opened directory.
#[derive(Debug)]
pub struct Place {
    dir: Dir,
    name: OsString,
}

/// Who may read a file, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; `None` leaves them to the agent's own.
    pub owner: Option<(u32, u32)>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub look: Look,
}

impl Place {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path.join(&self.name)
    }

    /// The directory it is in.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// What it names and the user who made it, if it is a symbolic link.
    ///
    /// # Errors
    /// Any [`FsError`] but `Outside` and `Symlink`.
    pub fn link(&self) -> Result<Option<(PathBuf, u32)>, FsError> {
        let failed = |errno| explain(errno, &self.path(), "look at");
        let target = match rustix::fs::readlinkat(&self.dir.fd, &self.name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = rustix::fs::statat(&self.dir.fd, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        Ok(Some((target, stat.map_err(failed)?.st_uid)))
    }

    /// Reads the whole file; `None` when there is none.
    ///
    /// # Errors
    /// Any [`FsError`] but `Missing`.
    pub fn read(&self, bytes_max: u64) -> Result<Option<Content>, FsError> {
        let path = self.path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.dir.fd, &self.name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(explain(errno, &path, "open")),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| explain(errno, &path, "look at"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FsError::Kind { path, expected: "regular file" });
        }
        let mut bytes = Vec::new();
        File::from(fd)
            .take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| FsError::Io { action: "read", path: path.clone(), source })?;
        if bytes.len() as u64 > bytes_max {
            return Err(FsError::TooLarge { path, bytes_max });
        }
        let look = Look { mode: stat.st_mode & 0o7777, owner: Some((stat.st_uid, stat.st_gid)) };
        Ok(Some(Content { bytes, look }))
    }

    /// Replaces the file in one step: whoever opens it sees the old bytes or the new ones, and
    /// after a power cut it is one of the two.
    ///
    /// # Errors
    /// Any [`FsError`] but `Outside`.
    pub fn write(&self, bytes: &[u8], look: Look) -> Result<(), FsError> {
        let mut staged = OsString::from(STAGED_PREFIX);
        staged.push(&self.name);
        let path = self.dir.path.join(&staged);
        let io = |action| {
            let path = path.clone();
            move |source| FsError::Io { action, path, source }
        };
        match rustix::fs::unlinkat(&self.dir.fd, &staged, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(explain(errno, &path, "clear away")),
        }
        // EXCL never opens what somebody else put there meanwhile, link or file.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir.fd, &staged, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| explain(errno, &path, "create"))?;
        let mut file = File::from(fd);
        let filled = file.write_all(bytes).map_err(io("write")).and_then(|()| {
            if let Some((uid, gid)) = look.owner {
                rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(|errno| explain(errno, &path, "change the owner of"))?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(look.mode))
                .map_err(|errno| explain(errno, &path, "change the mode of"))?;
            file.sync_all().map_err(io("sync"))?;
            rustix::fs::renameat(&self.dir.fd, &staged, &self.dir.fd, &self.name)
                .map_err(|errno| explain(errno, &path, "rename"))
        });
        if let Err(error) = filled {
            // The first error is the one that matters; recovery clears what this leaves.
            rustix::fs::unlinkat(&self.dir.fd, &staged, AtFlags::empty()).ok();
            return Err(error);
        }
        self.dir.sync()
    }

    /// Removes the directory of that name; false when it holds something, or is not there.
    ///
    /// # Errors
    /// Any [`FsError`] but `Outside` and `Missing`.
    pub fn remove_dir(&self) -> Result<bool, FsError> {
        match rustix::fs::unlinkat(self.dir.fd.as_fd(), &self.name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(explain(errno, &self.path(), "remove")),
        }
    }

    /// Removes the file; false when there was none.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn remove(&self) -> Result<bool, FsError> {
        match rustix::fs::unlinkat(self.dir.fd.as_fd(), &self.name, AtFlags::empty()) {
            Ok(()) => self.dir.sync().map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(explain(errno, &self.path(), "remove")),
        }
    }
}

/// Removes staged files a crash left in a directory; says how many.
///
/// # Errors
/// Any [`FsError`].
pub fn clear_staged(dir: &Dir) -> Result<usize, FsError> {
    let mut cleared = 0;
    for (name, _) in dir.entries()? {
        if name.as_encoded_bytes().starts_with(STAGED_PREFIX.as_bytes()) {
            match rustix::fs::unlinkat(&dir.fd, &name, AtFlags::empty()) {
                Ok(()) => cleared += 1,
                // A directory of that name is none of ours.
                Err(Errno::ISDIR | Errno::PERM | Errno::NOENT) => {}
                Err(errno) => return Err(explain(errno, &dir.path.join(&name), "remove")),
            }
        }
    }
    Ok(cleared)
}

#[cfg(test)]
#[path = "fs_tests.rs"]
mod tests;
