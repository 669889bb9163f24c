//! Bundles, kept by what is in them: manifests and blobs, each named by the SHA-256 of its bytes.
//!
//! Invariants:
//! * what has a name has the bytes the name says, or is set aside and counts for missing;
//! * a manifest is stored only when all its blobs are;
//! * collecting removes nothing that a kept bundle needs, and nothing young;
//! * only [`s3`] names `object_store`, and a key file's content never leaves it.

mod content;
mod disk;
mod error;
mod recent;
pub mod s3;
mod verified;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hostler_protocol::bundle::{BLOB_BYTES_MAX, MANIFEST_BYTES_MAX, Manifest, is_digest};
use sha2::{Digest as _, Sha256};
use tokio::sync::RwLock;

pub use self::content::Content;
use self::disk::Disk;
pub use self::error::BundleError;
use self::recent::Recent;
use self::s3::{S3, S3Settings};
use crate::domain::Micros;

/// Names asked for at once.
const ASKED_AT_ONCE: usize = 16;
/// Shortest grace of [`Bundles::collect`], in seconds: what was stored so long ago may be in use by
/// whoever makes a bundle of it just now.
pub const GRACE_SECS_MIN: u64 = 3600;
/// What something in a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blob,
    Manifest,
}

impl Kind {
    /// Where things of that kind are.
    fn folder(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Manifest => "manifests",
        }
    }

    /// Its name, for people.
    fn named(self, name: &str) -> String {
        match self {
            Self::Blob => format!("blob {name}"),
            Self::Manifest => format!("bundle {name}"),
        }
    }
}

/// One thing in a store.
#[derive(Debug)]
struct Stored {
    name: String,
    bytes: u64,
    /// When it was stored last.
    at: Micros,
}

/// Where the bytes are.
#[derive(Debug)]
enum BlobStore {
    Disk(Disk),
    S3(S3),
}

#[derive(Debug)]
struct Inner {
    store: BlobStore,
    recent: Mutex<Recent>,
    /// Held by whoever stores, and taken alone for a collection: nothing is removed between being
    /// found and being relied on.
    removing: RwLock<()>,
}

/// The bundles of this controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bundles {
    inner: Arc<Inner>,
}

/// What a collection came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub bundles_removed: u64,
    pub blobs_removed: u64,
    pub bytes_removed: u64,
    pub blobs_kept: u64,
}

/// The lower-case hex SHA-256 of bytes.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Bundles {
    /// Opens the store in a directory, made if missing.
    ///
    /// # Errors
    /// [`BundleError::File`].
    pub fn on_disk(dir: &Path) -> Result<Self, BundleError> {
        Ok(Self::over(BlobStore::Disk(Disk::open(dir)?)))
    }

    /// Opens the store in a bucket; asks it for nothing yet.
    ///
    /// # Errors
    /// [`BundleError::Settings`] or [`BundleError::File`] if the settings cannot be used.
    pub fn in_bucket(settings: &S3Settings) -> Result<Self, BundleError> {
        Ok(Self::over(BlobStore::S3(S3::open(settings)?)))
    }

    fn over(store: BlobStore) -> Self {
        let (recent, removing) = (Mutex::default(), RwLock::default());
        Self { inner: Arc::new(Inner { store, recent, removing }) }
    }

    /// Stores a blob; answers its name. Storing it again makes it young.
    ///
    /// # Errors
    /// [`BundleError`]; `TooLarge` over [`BLOB_BYTES_MAX`].
    pub async fn put(&self, bytes: Vec<u8>) -> Result<String, BundleError> {
        if bytes.len() as u64 > BLOB_BYTES_MAX {
            let (what, bytes) = ("a blob", bytes.len() as u64);
            return Err(BundleError::TooLarge { what, bytes, bytes_max: BLOB_BYTES_MAX });
        }
        let _storing = self.inner.removing.read().await;
        self.put_as(Kind::Blob, bytes).await
    }

    /// Stores a manifest whose blobs are all stored; answers the bundle's name.
    ///
    /// # Errors
    /// `Invalid` if it is none that may be sent, `Incomplete` if a blob is missing.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<String, BundleError> {
        manifest.check()?;
        let bytes = manifest.bytes();
        if bytes.len() > MANIFEST_BYTES_MAX {
            let (what, bytes) = ("a manifest", bytes.len() as u64);
            return Err(BundleError::TooLarge {
                what,
                bytes,
                bytes_max: MANIFEST_BYTES_MAX as u64,
            });
        }
        let blobs: BTreeSet<&str> =
            manifest.files.iter().map(|file| file.sha256.as_str()).collect();
        let blobs: Vec<String> = blobs.into_iter().map(str::to_owned).collect();
        let _storing = self.inner.removing.read().await;
        self.check_blobs(manifest, &blobs).await?;
        let name = self.put_as(Kind::Manifest, bytes).await?;
        match &self.inner.store {
            BlobStore::Disk(_) => {}
            // Another controller may have collected just before it could know of this bundle.
            BlobStore::S3(_) => self.check_blobs(manifest, &blobs).await?,
        }
        Ok(name)
    }

    async fn check_blobs(&self, manifest: &Manifest, blobs: &[String]) -> Result<(), BundleError> {
        let there = self.has(blobs).await?;
        match manifest.files.iter().find(|file| !there.contains(&file.sha256)) {
            Some(file) => Err(BundleError::Incomplete { path: file.path.clone() }),
            None => Ok(()),
        }
    }

    /// Makes a bundle young again, so that it stays for at least [`GRACE_SECS_MIN`] until a row names
    /// it; false where it is not stored with all its blobs.
    ///
    /// # Errors
    /// [`BundleError`] if the store cannot be asked.
    pub async fn renew(&self, bundle: &str) -> Result<bool, BundleError> {
        let renewed = match self.manifest(bundle).await {
            Ok(manifest) => self.put_manifest(&manifest).await.map(drop),
            Err(error) => Err(error),
        };
        match renewed {
            Ok(()) => Ok(true),
            Err(
                BundleError::Missing { .. }
                | BundleError::Damaged { .. }
                | BundleError::Incomplete { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put_as(&self, kind: Kind, bytes: Vec<u8>) -> Result<String, BundleError> {
        let name = sha256_hex(&bytes);
        match &self.inner.store {
            BlobStore::Disk(disk) => disk.put(kind, &name, bytes).await?,
            BlobStore::S3(s3) => s3.put(kind, &name, bytes).await?,
        }
        Ok(name)
    }

    /// The manifest of a bundle, held against its name.
    ///
    /// # Errors
    /// `Missing`, or `Damaged` (it is set aside).
    pub async fn manifest(&self, bundle: &str) -> Result<Arc<Manifest>, BundleError> {
        if let Some(known) = self.recent().get(bundle) {
            return Ok(known);
        }
        let mut content = self.content(Kind::Manifest, bundle, 0).await?;
        let bytes = content.whole().await?;
        let manifest = Manifest::parse(&bytes).map_err(|error| BundleError::Damaged {
            what: Kind::Manifest.named(bundle),
            reason: error.to_string(),
        })?;
        let manifest = Arc::new(manifest);
        self.recent().put(bundle, Arc::clone(&manifest), bytes.len());
        Ok(manifest)
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A bundle's manifest as it is stored, from that byte on.
    ///
    /// # Errors
    /// As [`Bundles::open`].
    pub async fn open_manifest(&self, bundle: &str, offset: u64) -> Result<Content, BundleError> {
        self.content(Kind::Manifest, bundle, offset).await
    }

    /// A blob from that byte on. All of it was held against its name, or was before and is the same since.
    ///
    /// # Errors
    /// `Missing`, `Damaged` (it is set aside, and counts for missing from now on), `Offset` past
    /// its end.
    pub async fn open(&self, sha256: &str, offset: u64) -> Result<Content, BundleError> {
        self.content(Kind::Blob, sha256, offset).await
    }

    async fn content(&self, kind: Kind, name: &str, offset: u64) -> Result<Content, BundleError> {
        if !is_digest(name) {
            return Err(BundleError::Missing { what: kind.named(name) });
        }
        let content = match &self.inner.store {
            BlobStore::Disk(disk) => disk.open_at(kind, name, offset).await,
            BlobStore::S3(s3) => s3.open_at(kind, name, offset).await,
        };
        if let Err(error @ BundleError::Damaged { .. }) = &content {
            metrics::counter!("hostler_bundles_damaged_total").increment(1);
            tracing::error!(%error, "something in the bundle store was damaged and is set aside");
        }
        content
    }

    /// Which of these blobs are stored. One that no bundle needs may be collected until a manifest
    /// names it, which [`Bundles::put_manifest`] says.
    ///
    /// # Errors
    /// [`BundleError`] if the store cannot be asked.
    pub async fn has(&self, blobs: &[String]) -> Result<HashSet<String>, BundleError> {
        match &self.inner.store {
            BlobStore::Disk(disk) => disk.has(blobs).await,
            BlobStore::S3(s3) => {
                let asked: Vec<String> =
                    blobs.iter().filter(|name| is_digest(name)).cloned().collect();
                stream::iter(asked)
                    .map(|name| async move {
                        let there = s3.stored(Kind::Blob, &name).await?.is_some();
                        Ok::<_, BundleError>(there.then_some(name))
                    })
                    .buffer_unordered(ASKED_AT_ONCE)
                    .try_filter_map(|name| async { Ok(name) })
                    .try_collect()
                    .await
            }
        }
    }

    /// Removes bundles that are not to be kept and blobs that no bundle left needs. What was stored
    /// within the grace (at least [`GRACE_SECS_MIN`]) stays, and so do the blobs of such bundles.
    /// Whoever stores something here waits meanwhile. Where several controllers share a bucket, one may
    /// lose an old blob that nothing needed to another that begins to need it at that moment: then
    /// [`Bundles::put_manifest`] or the next [`Bundles::renew`] says so, and the bundle is made anew.
    ///
    /// # Errors
    /// [`BundleError`]; a manifest to be kept that is damaged ends it before anything is removed,
    /// since what it needs cannot be told.
    pub async fn collect(
        &self,
        keep: &BTreeSet<String>,
        grace_secs: u64,
        now: Micros,
    ) -> Result<Collected, BundleError> {
        let grace_us =
            i64::try_from(grace_secs.max(GRACE_SECS_MIN)).unwrap_or(i64::MAX / 2_000_000);
        let before = Micros(now.0.saturating_sub(grace_us.saturating_mul(1_000_000)));
        let _alone = self.inner.removing.write().await;
        let blobs = self.list(Kind::Blob).await?;
        let (mut needed, mut looked) = (HashSet::new(), HashSet::new());
        let mut going = Vec::new();
        for stored in self.list(Kind::Manifest).await? {
            if keep.contains(&stored.name) {
                self.needs(&stored.name, &mut needed).await?;
                looked.insert(stored.name);
            } else if stored.at >= before {
                self.may_need(&stored.name, &mut needed).await?;
                looked.insert(stored.name);
            } else {
                going.push(stored);
            }
        }
        let mut collected = Collected::default();
        // Bundles before their blobs: a manifest is never left without one.
        let (count, bytes) = self.remove(Kind::Manifest, going, before).await?;
        (collected.bundles_removed, collected.bytes_removed) = (count, bytes);
        // What another controller has stored, or made young again, since the first look.
        for stored in self.list(Kind::Manifest).await? {
            if !looked.contains(&stored.name) {
                self.may_need(&stored.name, &mut needed).await?;
            }
        }
        let (stay, go): (Vec<_>, Vec<_>) = blobs
            .into_iter()
            .partition(|stored| needed.contains(&stored.name) || stored.at >= before);
        collected.blobs_kept = stay.len() as u64;
        let (count, bytes) = self.remove(Kind::Blob, go, before).await?;
        collected.blobs_removed = count;
        collected.bytes_removed += bytes;
        match &self.inner.store {
            BlobStore::Disk(disk) => disk.clear_staged(before).await?,
            // An upload appears whole or not at all.
            BlobStore::S3(_) => {}
        }
        Ok(collected)
    }

    /// Adds the blobs a bundle needs. The manifest is not remembered: a collection reads them all.
    async fn needs(&self, bundle: &str, needed: &mut HashSet<String>) -> Result<(), BundleError> {
        let bytes = self.content(Kind::Manifest, bundle, 0).await?.whole().await?;
        let manifest = Manifest::parse(&bytes)?;
        needed.extend(manifest.files.into_iter().map(|file| file.sha256));
        Ok(())
    }

    /// The same for one that is not to be kept: where it is damaged nobody can use it, and nothing has
    /// to stay for it.
    async fn may_need(
        &self,
        bundle: &str,
        needed: &mut HashSet<String>,
    ) -> Result<(), BundleError> {
        match self.needs(bundle, needed).await {
            Ok(()) | Err(BundleError::Damaged { .. } | BundleError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, kind: Kind) -> Result<Vec<Stored>, BundleError> {
        match &self.inner.store {
            BlobStore::Disk(disk) => disk.list(kind).await,
            BlobStore::S3(s3) => s3.list(kind).await,
        }
    }

    /// Removes what is still as old as it was when it was listed; how many, and their bytes.
    async fn remove(
        &self,
        kind: Kind,
        going: Vec<Stored>,
        before: Micros,
    ) -> Result<(u64, u64), BundleError> {
        let (mut count, mut bytes) = (0, 0);
        for stored in going {
            let removed = match &self.inner.store {
                BlobStore::Disk(disk) => disk.remove(kind, &stored.name, before).await?,
                BlobStore::S3(s3) => s3.remove(kind, &stored.name, before).await?,
            };
            if removed {
                self.recent().forget(&stored.name);
                count += 1;
                bytes += stored.bytes;
            }
        }
        Ok((count, bytes))
    }
}
