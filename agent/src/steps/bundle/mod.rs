//! Bundles on the host: where they come from, and how a directory is made to hold one.
//!
//! Invariants:
//! * files and directories that stay keep their inodes, so that what containers have mounted stays
//!   what is there;
//! * nothing is written before everything that could be refused was looked at, and everything
//!   encrypted was decrypted;
//! * what was encrypted is its owner's alone, from its first byte on;
//! * only what Hostler wrote, and nobody changed since, is deleted;
//! * what a crash leaves half-written is known to be so, and the next placing finishes it.

mod error;
mod opened;
mod place;
mod plan;
mod record;
mod strayed;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hostler_protocol::bundle::Manifest;
use hostler_protocol::job::FileChange;
use zeroize::Zeroizing;

pub use self::error::BundleError;
pub use self::opened::Opened;
pub use self::strayed::Strayed;

/// Where bundles come from.
pub trait BundleSource: Send + Sync + std::fmt::Debug {
    /// Makes sure that a bundle's manifest and all its blobs are on this host, and answers the
    /// manifest.
    fn ensure<'a>(&'a self, bundle: &'a str) -> BoxFuture<'a, Result<Arc<Manifest>, BundleError>>;

    /// A blob's file on this host; read-only.
    fn blob(&self, sha256: &str) -> PathBuf;

    /// Names the bundles that are to stay on this host; others may go when room is needed. Until it
    /// is called, all stay.
    fn keep(&self, bundles: BTreeSet<String>) {
        drop(bundles);
    }
}

/// What placing came to. Paths are the manifest's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// What is not as it was, sorted by path.
    pub changes: Vec<FileChange>,
}

/// Opens what is encrypted in a bundle that is on this host, with the keys of a file; see
/// [`crate::host::age`].
///
/// # Errors
/// [`BundleError`]: `Key`, `Sealed`, `Damaged`.
pub async fn open(
    source: &dyn BundleSource,
    manifest: Arc<Manifest>,
    key_file: &Path,
) -> Result<Opened, BundleError> {
    let key_file = key_file.to_owned();
    let blobs: BTreeMap<String, PathBuf> = manifest
        .files
        .iter()
        .filter(|file| opened::is_sealed(file))
        .map(|file| (file.sha256.clone(), source.blob(&file.sha256)))
        .collect();
    if blobs.is_empty() {
        return Ok(Opened::from(manifest));
    }
    let work = move || Opened::open(&manifest, &blobs, &key_file);
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}

/// Makes `dir` hold the bundle's files, in place (same inodes for files and directories that
/// stay), deleting only what `before` or this function's own record listed, is absent now and is as
/// Hostler wrote it. The directory above `dir` is trusted; `dir` and those above it are made if
/// missing. What was written is recorded beside `dir`, so that a placing that was cut off is known
/// and finished by the next one.
///
/// # Errors
/// [`BundleError`]. `Foreign`, `Symlink`, `NoSpace` (as far as it can be told beforehand) and
/// `Damaged` leave everything as it was; after another error the next placing goes on.
pub async fn place(
    source: &dyn BundleSource,
    bundle: &Opened,
    before: Option<&Manifest>,
    dir: &Path,
) -> Result<Placed, BundleError> {
    let files = &bundle.manifest().files;
    let blobs: Vec<PathBuf> = files.iter().map(|file| source.blob(&file.sha256)).collect();
    let (bundle, before, dir) = (bundle.clone(), before.cloned(), dir.to_owned());
    let work = move || place::place(&bundle, &blobs, before.as_ref(), &dir);
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}

/// What [`place`] would do; changes nothing and needs no blob.
///
/// # Errors
/// As [`place`], as far as it can be told.
pub async fn preview(
    bundle: &Opened,
    before: Option<&Manifest>,
    dir: &Path,
) -> Result<Placed, BundleError> {
    let (bundle, before, dir) = (bundle.clone(), before.cloned(), dir.to_owned());
    let work = move || place::preview(&bundle, before.as_ref(), &dir);
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}

/// What was encrypted in the bundle that `dir` holds, as it is there now; not what cannot be read.
///
/// # Errors
/// [`BundleError`].
pub async fn private(dir: &Path) -> Result<Vec<Zeroizing<Vec<u8>>>, BundleError> {
    let dir = dir.to_owned();
    let work = move || place::private(&dir);
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}

/// Removes what Hostler wrote below `dir` and nobody changed since; the directory and the record
/// too, when nothing else is left in it.
///
/// # Errors
/// [`BundleError`]; the next call goes on.
pub async fn clear(before: Option<&Manifest>, dir: &Path) -> Result<Placed, BundleError> {
    let (before, dir) = (before.cloned(), dir.to_owned());
    let work = move || place::clear(before.as_ref(), &dir);
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}

/// The files of `dir` that are not as the last [`place`] left them. A file of the right size is
/// read only if something was done to it at or after `since_us` (microseconds since the Unix
/// epoch), if it was found `before`, or if there is no `since_us`.
///
/// # Errors
/// [`BundleError`].
pub async fn strayed(
    dir: &Path,
    since_us: Option<i64>,
    before: &Strayed,
) -> Result<Strayed, BundleError> {
    let (dir, before) = (dir.to_owned(), before.clone());
    let work = move || strayed::look(&dir, since_us, &before);
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}

#[cfg(test)]
mod tests;
