//! Bundles from the controller, kept on this host: only what is missing is fetched, and nothing has a
//! name here that was not held against it.
//!
//! Fetching has a connection of its own, apart from the session: neither waits for the other. Which
//! controller is asked, and with which identity, the session says ([`Way`]); what one controller does
//! not have, the others are asked for.
//!
//! Invariants:
//! * one bundle is fetched at a time, a few of its blobs at once;
//! * a blob that was cut off goes on where it was, as long as this process lives; after that, only it
//!   is fetched again;
//! * what is to be kept, and what was asked for lately, is never collected.

mod cache;
mod collect;
mod fetch;
mod line;
mod partial;
mod verified;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hostler_protocol::bundle::{Manifest, is_digest};
use tokio::sync::{OnceCell, RwLock, watch};

use self::cache::Cache;
use self::fetch::Fetch;
use crate::clock::Clock;
use crate::net::Way;
use crate::steps::bundle::{BundleError, BundleSource};

/// Where in the state directory bundles are.
pub const BUNDLES_DIR: &str = "bundles";
/// Bytes of blobs kept before those of bundles nobody names may go.
pub const CACHE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Milliseconds for which a bundle that was asked for stays whatever happens: it is being placed.
const PINNED_MS: u64 = 3_600_000;

/// The bundles of this host; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bulk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cache: Cache,
    cache_bytes_max: u64,
    ways: watch::Receiver<Option<Way>>,
    clock: Clock,
    opened: OnceCell<()>,
    /// Held by whoever looks for a bundle; taken alone for a collection.
    removing: RwLock<()>,
    /// Held by whoever fetches: what two bundles share is fetched once.
    fetching: tokio::sync::Mutex<()>,
    /// `None` until somebody has said what is to be kept.
    kept: Mutex<Option<BTreeSet<String>>>,
    /// Bundles asked for, and until when they stay for that.
    pinned: Mutex<BTreeMap<String, u64>>,
}

impl Bulk {
    /// Bundles in that directory, which is made when the first one comes; `ways` says how controllers
    /// are reached. Of bundles nobody names, blobs past `cache_bytes_max` go.
    #[must_use]
    pub fn new(
        dir: PathBuf,
        cache_bytes_max: u64,
        ways: watch::Receiver<Option<Way>>,
        clock: Clock,
    ) -> Self {
        let inner = Inner {
            cache: Cache::new(dir),
            cache_bytes_max,
            ways,
            clock,
            opened: OnceCell::new(),
            removing: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
            kept: Mutex::default(),
            pinned: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    async fn look_for(&self, bundle: &str) -> Result<Arc<Manifest>, BundleError> {
        if !is_digest(bundle) {
            return Err(BundleError::Missing { what: format!("bundle {bundle}") });
        }
        self.inner.open().await?;
        let mut found = self.inner.look_for(bundle).await;
        // What nobody names makes room for what somebody wants now.
        if let Err(BundleError::NoSpace { .. }) = &found
            && self.inner.collect(0).await
        {
            found = self.inner.look_for(bundle).await;
        }
        if let Ok((_, true)) = &found {
            self.collect_later();
        }
        found.map(|(manifest, _)| manifest)
    }

    /// Makes room in the background.
    fn collect_later(&self) {
        let inner = Arc::clone(&self.inner);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move { inner.collect(inner.cache_bytes_max).await });
    }
}

impl BundleSource for Bulk {
    fn ensure<'a>(&'a self, bundle: &'a str) -> BoxFuture<'a, Result<Arc<Manifest>, BundleError>> {
        self.look_for(bundle).boxed()
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.inner.cache.blob(sha256)
    }

    fn keep(&self, bundles: BTreeSet<String>) {
        *lock(&self.inner.kept) = Some(bundles);
        self.collect_later();
    }
}

impl Inner {
    async fn open(self: &Arc<Self>) -> Result<(), BundleError> {
        let inner = Arc::clone(self);
        self.opened.get_or_try_init(|| blocking(move || inner.cache.open())).await?;
        Ok(())
    }

    /// The bundle's manifest, and whether anything had to be fetched; nothing of it is removed meanwhile,
    /// nor for a while after.
    async fn look_for(
        self: &Arc<Self>,
        bundle: &str,
    ) -> Result<(Arc<Manifest>, bool), BundleError> {
        let _staying = self.removing.read().await;
        self.pin(bundle);
        self.find(bundle).await
    }

    async fn find(self: &Arc<Self>, bundle: &str) -> Result<(Arc<Manifest>, bool), BundleError> {
        if let Some(manifest) = self.at_hand(bundle).await? {
            return Ok((manifest, false));
        }
        let _alone = self.fetching.lock().await;
        // Whoever was before us may have brought it.
        if let Some(manifest) = self.at_hand(bundle).await? {
            return Ok((manifest, false));
        }
        Ok((Fetch::new(self, bundle).run().await?, true))
    }

    /// The manifest of a bundle that is here, with all its blobs.
    async fn at_hand(self: &Arc<Self>, bundle: &str) -> Result<Option<Arc<Manifest>>, BundleError> {
        let (inner, bundle) = (Arc::clone(self), bundle.to_owned());
        blocking(move || {
            let Some(manifest) = inner.cache.manifest(&bundle)? else { return Ok(None) };
            inner.cache.touch(&bundle)?;
            let whole = inner.cache.missing(&manifest)?.is_empty();
            Ok(whole.then(|| Arc::new(manifest)))
        })
        .await
    }

    fn pin(&self, bundle: &str) {
        let now_ms = self.clock.monotonic_ms();
        let mut pinned = lock(&self.pinned);
        pinned.retain(|_, until_ms| *until_ms > now_ms);
        pinned.insert(bundle.to_owned(), now_ms.saturating_add(PINNED_MS));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, BundleError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BundleError::Broken)?
}
