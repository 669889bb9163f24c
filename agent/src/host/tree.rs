//! A directory whose files are written and removed by their paths below it, in place.
//!
//! The kernel is asked for one part of a path at a time, and a symbolic link is never gone through:
//! containers that have the directory mounted may put one anywhere in it. A regular file that gets
//! other content keeps its inode, since a container that has just that file mounted sees the inode
//! and not the name.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::fs::{Dir, FsError, Roots, STAGED_PREFIX, explain};

/// Bytes copied or read at once.
const COPY_BYTES: usize = 64 * 1024;
/// What a made directory may be used for: its files are for containers of any user.
const DIR_MODE: u32 = 0o755;
/// The bits that make a file one to be run, and one to be read by others than its owner.
const RUN_BITS: u32 = 0o111;
const OTHERS_READ: u32 = 0o044;
/// What others than a file's owner may do with it.
const OTHERS: u32 = 0o077;

/// Who may use a file, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// It may be run by whoever may read it.
    pub runs: bool,
    /// Nobody but its owner may use it.
    pub private: bool,
}

impl Access {
    fn mode(self) -> Mode {
        let mode = if self.runs { 0o755 } else { 0o644 };
        Mode::from_raw_mode(if self.private { mode & !OTHERS } else { mode })
    }
}

/// What a file is given.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// All that is in another file.
    Of(&'a Path),
    Bytes(&'a [u8]),
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, also where a directory on the way is something else.
    Nothing,
    File {
        bytes: u64,
        /// Whether its owner may run it.
        runs: bool,
        /// Whether others than its owner may use it.
        open: bool,
        /// Whether it has other names besides this one.
        shared: bool,
    },
    /// A symbolic link, and what it names.
    Link {
        target: Vec<u8>,
    },
    Directory,
    /// A socket, a pipe, a device.
    Other,
}

/// An opened directory.
#[derive(Debug)]
pub struct Tree {
    root: Dir,
}

impl Tree {
    /// Opens a directory whose parent is trusted; `None` when there is none.
    ///
    /// # Errors
    /// Any [`FsError`]; `Symlink` if it is one.
    pub fn open(dir: &Path) -> Result<Option<Self>, FsError> {
        let parent = dir.parent().ok_or_else(|| FsError::Outside { path: dir.to_owned() })?;
        match Roots::new(&[parent.to_owned()]).dir(dir) {
            Ok(root) => Ok(Some(Self { root })),
            Err(FsError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, made if missing, with the directories above it.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn make(dir: &Path) -> Result<Self, FsError> {
        if let Some(tree) = Self::open(dir)? {
            return Ok(tree);
        }
        let io = |source| FsError::Io { action: "create", path: dir.to_owned(), source };
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        match rustix::fs::mkdir(dir, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(explain(errno, dir, "create")),
        }
        let tree = Self::open(dir)?.ok_or_else(|| FsError::Missing { path: dir.to_owned() })?;
        open_up(&tree.root)?;
        Ok(tree)
    }

    /// Waits until nobody else holds the directory, and holds it for as long as this is open.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn lock(&self) -> Result<(), FsError> {
        rustix::fs::flock(self.root.fd(), FlockOperation::LockExclusive)
            .map_err(|errno| explain(errno, self.root.path(), "lock"))
    }

    /// Where a path of it is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Bytes of its file system that are free for the agent.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn free_bytes(&self) -> Result<u64, FsError> {
        let stat = rustix::fs::fstatvfs(self.root.fd())
            .map_err(|errno| explain(errno, self.root.path(), "look at"))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The directory a path's last part is in, and that part.
    fn parent<'a>(&self, path: &'a str) -> Result<(Dir, &'a OsStr), FsError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir = Dir::clone_of(&self.root)?;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            dir = dir.child(OsStr::new(part))?;
        }
        Ok((dir, OsStr::new(name)))
    }

    /// What is at a path.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn look(&self, path: &str) -> Result<Found, FsError> {
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            Err(FsError::Missing { .. } | FsError::Kind { .. } | FsError::Symlink { .. }) => {
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(error),
        };
        let stat = match rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(errno) => return Err(explain(errno, &self.path(path), "look at")),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(dir.fd(), name, Vec::new())
                .map_err(|errno| explain(errno, &self.path(path), "look at"))?;
            return Ok(Found::Link { target: target.into_bytes() });
        }
        Ok(if kind == FileType::RegularFile {
            Found::File {
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                runs: stat.st_mode & 0o100 != 0,
                open: stat.st_mode & OTHERS != 0,
                shared: stat.st_nlink > 1,
            }
        } else if kind == FileType::Directory {
            Found::Directory
        } else {
            Found::Other
        })
    }

    /// When anything was done to what is at a path, in microseconds since the Unix epoch, by the
    /// system's own account, which nobody sets; `i64::MAX` where there is nothing.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn touched_us(&self, path: &str) -> Result<i64, FsError> {
        let (dir, name) = self.parent(path)?;
        match rustix::fs::statat(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
                Ok(stat.st_ctime.saturating_mul(1_000_000).saturating_add(nanos / 1000))
            }
            Err(Errno::NOENT) => Ok(i64::MAX),
            Err(errno) => Err(explain(errno, &self.path(path), "look at")),
        }
    }

    /// Paths and kinds of all that is below a directory, in no order; the second is true for
    /// directories.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn below(&self, path: &str) -> Result<Vec<(String, bool)>, FsError> {
        let mut found = Vec::new();
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let (dir, name) = self.parent(&path)?;
            for (name, kind) in dir.child(name)?.entries()? {
                let below = format!("{path}/{}", name.to_string_lossy());
                let is_dir = kind == FileType::Directory;
                if is_dir {
                    waiting.push(below.clone());
                }
                found.push((below, is_dir));
            }
        }
        Ok(found)
    }

    /// The hex SHA-256 of a regular file; `None` if there is none.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn sha256(&self, path: &str) -> Result<Option<String>, FsError> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        sha256_of(file).map(Some).map_err(|source| self.io("read", path, source))
    }

    /// A regular file, to be read; `None` if there is none.
    fn file(&self, path: &str) -> Result<Option<File>, FsError> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(dir.fd(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(explain(errno, &self.path(path), "open")),
        };
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|source| self.io("read", path, source))?;
        Ok(metadata.is_file().then_some(file))
    }

    /// The first bytes of a regular file; `None` if there is none.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FsError> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(bytes_max)
            .read_to_end(&mut bytes)
            .map_err(|source| self.io("read", path, source))?;
        Ok(Some(bytes))
    }

    /// Makes a directory in one that is there.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn make_dir(&self, path: &str) -> Result<(), FsError> {
        let (dir, name) = self.parent(path)?;
        match rustix::fs::mkdirat(dir.fd(), name, Mode::from_raw_mode(DIR_MODE)) {
            Ok(()) => open_up(&dir.child(name)?),
            Err(Errno::EXIST) => dir.child(name).map(drop),
            Err(errno) => Err(explain(errno, &self.path(path), "create")),
        }
    }

    /// Puts a file where there is nothing or a link, in one step.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn create(&self, path: &str, content: Content<'_>, access: Access) -> Result<(), FsError> {
        let staged = self.stage(path)?;
        let (dir, name) = self.parent(path)?;
        // EXCL never opens what somebody else put there meanwhile, link or file.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(dir.fd(), staged.as_str(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| explain(errno, &self.path(path), "create"))
            .and_then(|fd| {
                let mut file = File::from(fd);
                self.copy(path, content, &mut file)?;
                rustix::fs::fchmod(&file, access.mode())
                    .map_err(|errno| explain(errno, &self.path(path), "change the mode of"))?;
                self.synced(path, &file)?;
                rustix::fs::renameat(dir.fd(), staged.as_str(), dir.fd(), name)
                    .map_err(|errno| explain(errno, &self.path(path), "rename"))
            });
        self.unstage(&dir, &staged, made)
    }

    /// Puts a link where there is nothing or another link, in one step.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn link(&self, path: &str, target: &str) -> Result<(), FsError> {
        let staged = self.stage(path)?;
        let (dir, name) = self.parent(path)?;
        let made = rustix::fs::symlinkat(target, dir.fd(), staged.as_str())
            .and_then(|()| rustix::fs::renameat(dir.fd(), staged.as_str(), dir.fd(), name))
            .map_err(|errno| explain(errno, &self.path(path), "create"));
        self.unstage(&dir, &staged, made)
    }

    /// Gives a regular file other content and leaves it the same inode.
    ///
    /// Not in one step: whoever reads it meanwhile sees some of both, and a crash leaves that.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn overwrite(&self, path: &str, content: Content<'_>) -> Result<(), FsError> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir.fd(), name, flags, Mode::empty())
            .map_err(|errno| explain(errno, &self.path(path), "open"))?;
        let mut file = File::from(fd);
        let bytes = self.copy(path, content, &mut file)?;
        file.set_len(bytes).map_err(|source| self.io("write", path, source))?;
        self.synced(path, &file)
    }

    /// Lets a file be run by whoever may read it, or by nobody, and takes it from others if it is
    /// private. One that was private until now is `opened` to them.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn set_access(&self, path: &str, access: Access, opened: bool) -> Result<(), FsError> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let failed = |errno| explain(errno, &self.path(path), "change the mode of");
        let fd = rustix::fs::openat(dir.fd(), name, flags, Mode::empty()).map_err(failed)?;
        let mode = rustix::fs::fstat(&fd).map_err(failed)?.st_mode & 0o777;
        let mode = if opened { mode | OTHERS_READ } else { mode };
        let mode = if access.runs { mode | ((mode & 0o444) >> 2) } else { mode & !RUN_BITS };
        let mode = if access.private { mode & !OTHERS } else { mode };
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed)
    }

    /// Removes a file or a link; false when there is none.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn remove(&self, path: &str) -> Result<bool, FsError> {
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            Err(FsError::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        match rustix::fs::unlinkat(dir.fd(), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(explain(errno, &self.path(path), "remove")),
        }
    }

    /// Removes a directory if it is empty; true when it is gone.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn remove_dir(&self, path: &str) -> Result<bool, FsError> {
        let (dir, name) = match self.parent(path) {
            Ok(found) => found,
            // Nothing is there, or something else is on the way.
            Err(FsError::Missing { .. } | FsError::Kind { .. } | FsError::Symlink { .. }) => {
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        match rustix::fs::unlinkat(dir.fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            Err(errno) => Err(explain(errno, &self.path(path), "remove")),
        }
    }

    /// Makes what was made, renamed or removed in the directory of that path last; its root's own if
    /// the path is empty.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn sync(&self, path: &str) -> Result<(), FsError> {
        if path.is_empty() {
            return self.root.sync();
        }
        match self.parent(path).and_then(|(dir, name)| dir.child(name)) {
            Ok(dir) => dir.sync(),
            // It went, too, and the one above it is asked for by itself.
            Err(FsError::Missing { .. } | FsError::Kind { .. } | FsError::Symlink { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A name beside that path nobody has; what a crash left there is cleared away.
    fn stage(&self, path: &str) -> Result<String, FsError> {
        let (dir, name) = self.parent(path)?;
        // Whole names do not fit behind the prefix if they are as long as names may be.
        let staged = format!("{STAGED_PREFIX}{}", short(name.as_encoded_bytes()));
        match rustix::fs::unlinkat(dir.fd(), staged.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(staged),
            Err(errno) => Err(explain(errno, &self.path(path), "clear away")),
        }
    }

    /// Removes what a crash left beside a path that was being written.
    ///
    /// # Errors
    /// [`FsError::Io`].
    pub fn clear_staged(&self, path: &str) -> Result<(), FsError> {
        match self.stage(path) {
            Ok(_)
            | Err(FsError::Missing { .. } | FsError::Kind { .. } | FsError::Symlink { .. }) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn unstage(&self, dir: &Dir, staged: &str, made: Result<(), FsError>) -> Result<(), FsError> {
        if made.is_err() {
            // The first error is the one that matters; the next placing clears what this leaves.
            rustix::fs::unlinkat(dir.fd(), staged, AtFlags::empty()).ok();
        }
        made
    }

    fn copy(&self, path: &str, content: Content<'_>, into: &mut File) -> Result<u64, FsError> {
        into.rewind().map_err(|source| self.io("write", path, source))?;
        let content = match content {
            Content::Of(content) => content,
            Content::Bytes(bytes) => {
                into.write_all(bytes).map_err(|source| self.io("write", path, source))?;
                return Ok(bytes.len() as u64);
            }
        };
        let mut from = File::open(content).map_err(|source| FsError::Io {
            action: "read",
            path: content.to_owned(),
            source,
        })?;
        let (mut total, mut buffer) = (0, vec![0; COPY_BYTES]);
        loop {
            let read = from.read(&mut buffer).map_err(|source| FsError::Io {
                action: "read",
                path: content.to_owned(),
                source,
            })?;
            if read == 0 {
                return Ok(total);
            }
            into.write_all(&buffer[..read]).map_err(|source| self.io("write", path, source))?;
            total += read as u64;
        }
    }

    fn synced(&self, path: &str, file: &File) -> Result<(), FsError> {
        file.sync_all().map_err(|source| self.io("sync", path, source))
    }

    fn io(&self, action: &'static str, path: &str, source: std::io::Error) -> FsError {
        FsError::Io { action, path: self.path(path), source }
    }
}

/// What was made may be listed and entered by everybody, whatever the agent's own mask says.
fn open_up(dir: &Dir) -> Result<(), FsError> {
    rustix::fs::fchmod(dir.fd(), Mode::from_raw_mode(DIR_MODE))
        .map_err(|errno| explain(errno, dir.path(), "change the mode of"))
}

fn short(name: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(name));
    text.truncate(16);
    text
}

/// The hex SHA-256 of all that is left to read.
///
/// # Errors
/// Those of reading.
pub fn sha256_of(mut file: impl std::io::Read) -> std::io::Result<String> {
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; COPY_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(sum.finalize())),
            read => sum.update(&buffer[..read]),
        }
    }
}
