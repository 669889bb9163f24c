//! Bundles on this host's disk: `manifests/DIGEST` and `blobs/DIGEST`, and in `staged` what is still
//! coming. A file appears under its name whole and on the disk, or not at all. A manifest's time of
//! change says when its bundle was asked for last.
//!
//! Everything here blocks.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hostler_protocol::bundle::{MANIFEST_BYTES_MAX, Manifest};
use sha2::{Digest as _, Sha256};

use super::verified::{Stamp, Verified};
use crate::clock::Clock;
use crate::host::fs::FsError;
use crate::steps::bundle::BundleError;

const MANIFESTS: &str = "manifests";
const BLOBS: &str = "blobs";
const STAGED: &str = "staged";
/// Bytes hashed at once.
const HASH_BYTES: usize = 64 * 1024;
/// Bytes a download leaves free on the disk: journal and records need room too.
const FREE_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Files that are staged get numbers of this process: a state directory has one agent.
static STAGED_COUNT: AtomicU64 = AtomicU64::new(0);

/// The directory.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    verified: Verified,
    /// The machine's own, as the times of files are.
    clock: Clock,
}

pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| FsError::Io { action, path, source }.into()
}

impl Cache {
    /// The cache in that directory; [`Cache::open`] makes it.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, verified: Verified::default(), clock: Clock::system() }
    }

    /// Makes what is missing, and clears away what an agent before was still fetching.
    pub(super) fn open(&self) -> Result<(), BundleError> {
        for name in [MANIFESTS, BLOBS, STAGED] {
            let dir = self.dir.join(name);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(failed("create", &dir))?;
        }
        for (path, _) in self.files(STAGED)? {
            remove(&path)?;
        }
        Ok(())
    }

    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.dir.join(BLOBS).join(sha256)
    }

    pub(super) fn manifest_path(&self, bundle: &str) -> PathBuf {
        self.dir.join(MANIFESTS).join(bundle)
    }

    /// A bundle's manifest, if it is here and is what its name says. One that is not is removed.
    pub(super) fn manifest(&self, bundle: &str) -> Result<Option<Manifest>, BundleError> {
        let path = self.manifest_path(bundle);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut bytes = Vec::new();
        let limit = MANIFEST_BYTES_MAX as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        let sound = (hex::encode(Sha256::digest(&bytes)) == bundle)
            .then(|| Manifest::parse(&bytes).ok())
            .flatten();
        if sound.is_none() {
            tracing::warn!(path = %path.display(), "a manifest on this host was damaged; it is fetched again");
            remove(&path)?;
        }
        Ok(sound)
    }

    /// Remembers that a bundle was asked for now.
    pub(super) fn touch(&self, bundle: &str) -> Result<(), BundleError> {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
        let path = self.manifest_path(bundle);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        utimensat(CWD, &path, &times, AtFlags::empty())
            .map_err(|errno| failed("touch", &path)(errno.into()))
    }

    pub(super) fn store_manifest(&self, bundle: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let staged = self.staged(bundle);
        let written = create(&staged).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        let path = self.manifest_path(bundle);
        let placed = written
            .map_err(failed("write", &staged))
            .and_then(|()| fs::rename(&staged, &path).map_err(failed("write", &path)));
        if placed.is_err() {
            // The first error is the one that matters; the next start clears what this leaves.
            fs::remove_file(&staged).ok();
        }
        placed?;
        sync_dir(&self.dir.join(MANIFESTS))
    }

    /// A name for a file that is coming.
    pub(super) fn staged(&self, name: &str) -> PathBuf {
        let number = STAGED_COUNT.fetch_add(1, Ordering::Relaxed);
        self.dir.join(STAGED).join(format!("{name}.{number}"))
    }

    /// The blobs of a manifest that are not here, and their sizes. Each that is here is held against
    /// its name, or was before and is the same since; a damaged one is removed and counts for missing.
    pub(super) fn missing(
        &self,
        manifest: &Manifest,
    ) -> Result<BTreeMap<String, u64>, BundleError> {
        let blobs: BTreeMap<&str, u64> =
            manifest.files.iter().map(|file| (file.sha256.as_str(), file.bytes)).collect();
        let mut missing = BTreeMap::new();
        for (sha256, bytes) in blobs {
            if !self.has(sha256)? {
                missing.insert(sha256.to_owned(), bytes);
            }
        }
        Ok(missing)
    }

    fn has(&self, sha256: &str) -> Result<bool, BundleError> {
        let path = self.blob(sha256);
        let sound = match File::open(&path) {
            Ok(file) => self.is_sound(sha256, &file).map_err(failed("read", &path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        if sound {
            return Ok(true);
        }
        tracing::warn!(path = %path.display(), "a blob on this host was damaged; it is fetched again");
        remove(&path)?;
        Ok(false)
    }

    fn is_sound(&self, sha256: &str, file: &File) -> std::io::Result<bool> {
        let before = Stamp::of(&file.metadata()?);
        if self.verified.holds(sha256, &before) {
            return Ok(true);
        }
        if hash(file)? != sha256 {
            return Ok(false);
        }
        let after = Stamp::of(&file.metadata()?);
        self.verified.note(sha256, before, after, self.clock.now_us());
        Ok(true)
    }

    /// Whether there is room for so many bytes more.
    pub(super) fn has_room(&self, bytes: u64) -> Result<bool, BundleError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|errno| failed("look at", &self.dir)(errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(free >= bytes.saturating_add(FREE_BYTES_MIN))
    }

    pub(super) fn no_room(&self) -> BundleError {
        BundleError::NoSpace { path: self.dir.clone() }
    }

    /// Makes the names of blobs that arrived outlast a power cut.
    pub(super) fn sync_blobs(&self) -> Result<(), BundleError> {
        sync_dir(&self.dir.join(BLOBS))
    }

    /// Names and metadata of all manifests.
    pub(super) fn manifests(&self) -> Result<Vec<(PathBuf, fs::Metadata)>, BundleError> {
        self.files(MANIFESTS)
    }

    /// Names and metadata of all blobs.
    pub(super) fn blobs(&self) -> Result<Vec<(PathBuf, fs::Metadata)>, BundleError> {
        self.files(BLOBS)
    }

    fn files(&self, folder: &str) -> Result<Vec<(PathBuf, fs::Metadata)>, BundleError> {
        let dir = self.dir.join(folder);
        let mut found = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(failed("list", &dir)(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed("list", &dir))?.path();
            // What goes away meanwhile is not there.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_file() {
                found.push((path, metadata));
            }
        }
        Ok(found)
    }
}

/// A new file that only the agent may read.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn remove(path: &Path) -> Result<bool, BundleError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), BundleError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

fn hash(mut file: &File) -> std::io::Result<String> {
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; HASH_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(sum.finalize())),
            read => sum.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_is_read_again_only_when_it_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        // For this clock every file was left alone for long.
        let cache =
            Cache { clock: Clock::wrong_by(3_600_000_000), ..Cache::new(dir.path().into()) };
        cache.open().unwrap();
        let sha256 = hex::encode(Sha256::digest("content"));
        let path = cache.blob(&sha256);
        fs::write(&path, "content").unwrap();
        let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
        for _ in 0..2 {
            assert!(cache.has(&sha256).unwrap());
            assert!(cache.verified.holds(&sha256, &stamp()));
        }
        let before = stamp();
        while stamp() == before {
            fs::write(&path, "CONTENT").unwrap();
        }
        assert!(!cache.has(&sha256).unwrap());
        assert!(!path.exists(), "it is fetched again");
    }
}
