//! The store in a directory: `blobs/ab/cdef…`, `manifests/ab/cdef…`, what is being written in
//! `staged`, what was found damaged in `damaged`.
//!
//! A file appears under its name whole and on the disk, or not at all. Its time of change says when
//! it was stored last.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hostler_protocol::bundle::is_digest;
use sha2::{Digest as _, Sha256};

use super::content::{Bytes, Content};
use super::verified::{Stamp, Verified};
use super::{BundleError, Kind, Stored};
use crate::clock::Clock;
use crate::domain::Micros;

/// Characters of a name that are its directory.
const SHARD_CHARS: usize = 2;
/// Bytes hashed at once.
const HASH_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    /// Makes the names of files being written different within this process; the directory has one
    /// process.
    writes: AtomicU64,
    verified: Verified,
    /// The machine's own, as the times of files are.
    clock: Clock,
}

/// The store in a directory; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Place>);

impl Disk {
    pub(super) fn open(dir: &Path) -> Result<Self, BundleError> {
        let folders = ["staged", "damaged", Kind::Blob.folder(), Kind::Manifest.folder()];
        for folder in folders {
            make_dir(&dir.join(folder))?;
        }
        let disk = Self(Arc::new(Place {
            dir: dir.to_owned(),
            writes: AtomicU64::new(0),
            verified: Verified::default(),
            clock: Clock::system(),
        }));
        // What a process before was writing: nobody goes on with it.
        for path in disk.0.staged()? {
            fs::remove_file(&path).map_err(BundleError::file("remove", &path))?;
        }
        Ok(disk)
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, BundleError> + Send + 'static,
    ) -> Result<T, BundleError> {
        let place = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&place)).await;
        done.map_err(|_| BundleError::Broken)?
    }

    pub(super) async fn put(
        &self,
        kind: Kind,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<(), BundleError> {
        let name = name.to_owned();
        self.work(move |place| place.put(kind, &name, &bytes)).await
    }

    pub(super) async fn open_at(
        &self,
        kind: Kind,
        name: &str,
        offset: u64,
    ) -> Result<Content, BundleError> {
        let name = name.to_owned();
        self.work(move |place| place.open(kind, &name, offset)).await
    }

    pub(super) async fn has(&self, blobs: &[String]) -> Result<HashSet<String>, BundleError> {
        let blobs = blobs.to_owned();
        let is_there =
            |place: &Place, name: &str| is_digest(name) && place.path(Kind::Blob, name).is_file();
        self.work(move |place| Ok(blobs.into_iter().filter(|name| is_there(place, name)).collect()))
            .await
    }

    pub(super) async fn list(&self, kind: Kind) -> Result<Vec<Stored>, BundleError> {
        self.work(move |place| place.list(kind)).await
    }

    pub(super) async fn remove(
        &self,
        kind: Kind,
        name: &str,
        before: Micros,
    ) -> Result<bool, BundleError> {
        let name = name.to_owned();
        self.work(move |place| place.remove(kind, &name, before)).await
    }

    /// Removes what was being written so long ago that nobody goes on with it.
    pub(super) async fn clear_staged(&self, before: Micros) -> Result<(), BundleError> {
        self.work(move |place| {
            for path in place.staged()? {
                if stored_at(&path)?.is_some_and(|at| at < before) {
                    remove_if_there(&path)?;
                }
            }
            Ok(())
        })
        .await
    }
}

impl Place {
    fn path(&self, kind: Kind, name: &str) -> PathBuf {
        let (shard, rest) = name.split_at(SHARD_CHARS);
        self.dir.join(kind.folder()).join(shard).join(rest)
    }

    fn staged(&self) -> Result<Vec<PathBuf>, BundleError> {
        entries(&self.dir.join("staged"))
    }

    fn put(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path(kind, name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == bytes.len() as u64 => return touch(&path),
            // Of another length it is damaged, and replaced.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(BundleError::file("look at", &path)(error)),
        }
        let shard = path.parent().unwrap_or(&self.dir);
        make_dir(shard)?;
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let staged = self.dir.join("staged").join(format!("{name}.{number}"));
        let written = write(&staged, bytes).and_then(|()| {
            fs::rename(&staged, &path).map_err(BundleError::file("rename", &staged))?;
            sync_dir(shard)
        });
        if written.is_err() {
            // The first error is the one that matters; the next start clears what this leaves.
            fs::remove_file(&staged).ok();
        }
        written
    }

    fn open(&self, kind: Kind, name: &str, offset: u64) -> Result<Content, BundleError> {
        let path = self.path(kind, name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(BundleError::Missing { what: kind.named(name) });
            }
            Err(error) => return Err(BundleError::file("open", &path)(error)),
        };
        let (found, bytes_total) =
            self.verify(name, &mut file).map_err(BundleError::file("read", &path))?;
        if let Some(found) = found {
            let aside = self.dir.join("damaged").join(name);
            fs::rename(&path, &aside).map_err(BundleError::file("set aside", &path))?;
            let reason = format!("its bytes are those of {found}");
            return Err(BundleError::Damaged { what: kind.named(name), reason });
        }
        let what = kind.named(name);
        if offset > bytes_total {
            return Err(BundleError::Offset { what, bytes: bytes_total, offset });
        }
        file.seek(SeekFrom::Start(offset)).map_err(BundleError::file("read", &path))?;
        let bytes = Bytes::File(tokio::fs::File::from_std(file));
        Ok(Content { bytes_total, bytes_left: bytes_total - offset, what, bytes })
    }

    /// Holds a file against its name, unless that was done and it is still the same: what it should
    /// have been called if not so, and its length.
    fn verify(&self, name: &str, file: &mut File) -> std::io::Result<(Option<String>, u64)> {
        let metadata = file.metadata()?;
        let before = Stamp::of(&metadata);
        if self.verified.holds(name, &before) {
            return Ok((None, metadata.len()));
        }
        let (found, bytes) = hash(file)?;
        if found != name {
            return Ok((Some(found), bytes));
        }
        let after = Stamp::of(&file.metadata()?);
        self.verified.note(name, before, after, self.clock.own().0);
        Ok((None, bytes))
    }

    fn list(&self, kind: Kind) -> Result<Vec<Stored>, BundleError> {
        let mut found = Vec::new();
        for shard in entries(&self.dir.join(kind.folder()))? {
            for path in entries(&shard)? {
                let name: String = [shard.file_name(), path.file_name()]
                    .into_iter()
                    .flatten()
                    .map(|part| part.to_string_lossy())
                    .collect();
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                // Whatever else lies there is none of ours.
                if is_digest(&name) && metadata.is_file() {
                    found.push(Stored { name, bytes: metadata.len(), at: changed_at(&metadata) });
                }
            }
        }
        Ok(found)
    }

    fn remove(&self, kind: Kind, name: &str, before: Micros) -> Result<bool, BundleError> {
        let path = self.path(kind, name);
        match stored_at(&path)? {
            Some(at) if at < before => remove_if_there(&path),
            Some(_) | None => Ok(false),
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), BundleError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(BundleError::file("create", dir))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(BundleError::file("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(BundleError::file("write", path))
}

fn sync_dir(dir: &Path) -> Result<(), BundleError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(BundleError::file("sync", dir))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, BundleError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    match read() {
        // A file among the shards.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(Vec::new()),
        found => found.map_err(BundleError::file("list", dir)),
    }
}

fn remove_if_there(path: &Path) -> Result<bool, BundleError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(BundleError::file("remove", path)(error)),
    }
}

fn touch(path: &Path) -> Result<(), BundleError> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(CWD, path, &times, AtFlags::empty())
        .map_err(|errno| BundleError::file("touch", path)(errno.into()))
}

fn changed_at(metadata: &fs::Metadata) -> Micros {
    Micros(metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1000))
}

fn stored_at(path: &Path) -> Result<Option<Micros>, BundleError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(changed_at(&metadata))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BundleError::file("look at", path)(error)),
    }
}

/// The hex SHA-256 of a file, and its length.
fn hash(file: &mut File) -> std::io::Result<(String, u64)> {
    let (mut sum, mut buffer, mut total) = (Sha256::new(), vec![0; HASH_BYTES], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex::encode(sum.finalize()), total)),
            read => {
                sum.update(&buffer[..read]);
                total += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::sha256_hex;

    #[tokio::test]
    async fn what_was_verified_is_read_again_only_when_it_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        // For this clock every file was left alone for long.
        let disk = Disk(Arc::new(Place {
            dir: dir.path().to_owned(),
            writes: AtomicU64::new(0),
            verified: Verified::default(),
            clock: Clock::wrong_by(3600),
        }));
        for folder in ["staged", "damaged"] {
            make_dir(&dir.path().join(folder)).unwrap();
        }
        let (name, place) = (sha256_hex(b"content"), &disk.0);
        place.put(Kind::Blob, &name, b"content").unwrap();
        let path = place.path(Kind::Blob, &name);
        let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
        assert!(!place.verified.holds(&name, &stamp()), "nobody has asked for it yet");
        for offset in [0, 4] {
            let mut content = disk.open_at(Kind::Blob, &name, offset).await.unwrap();
            assert_eq!(content.bytes_total(), 7);
            let offset = usize::try_from(offset).unwrap();
            assert_eq!(content.whole().await.unwrap(), b"content"[offset..]);
            assert!(place.verified.holds(&name, &stamp()));
        }
        let before = stamp();
        while stamp() == before {
            fs::write(&path, b"CONTENT").unwrap();
        }
        let damaged = disk.open_at(Kind::Blob, &name, 4).await;
        assert!(matches!(damaged, Err(BundleError::Damaged { .. })), "{damaged:?}");
    }
}
