//! Who may have which bundle, and which may go.

use hostler_protocol::id::HostId;

use super::App;
use crate::bundles::{BundleError, Bundles, Collected};
use crate::store::StoreError;

/// Why bundles were not collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("the rows that name bundles cannot be read")]
    Store(#[from] StoreError),
    #[error("the store of bundles cannot be cleared")]
    Bundles(#[from] BundleError),
}

impl App {
    /// The store of bundles, for a host that may have that one: it runs it, or has a job about it that
    /// has not ended. `None` for any other, and where no bundles are kept.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn bundles_for(
        &self,
        host: &HostId,
        bundle: &str,
    ) -> Result<Option<&Bundles>, StoreError> {
        let Some(bundles) = self.desired.bundles() else { return Ok(None) };
        Ok(self.store.is_bundle_of(bundle, host).await?.then_some(bundles))
    }

    /// Removes bundles that nobody can need any more and that are older than the grace; `None` where
    /// none are kept. Whatever is about to be named by a row was stored anew just before, and is
    /// young: see [`Desired::bundle`](super::desired::Desired::bundle).
    ///
    /// # Errors
    /// [`CollectError`]; what was removed until then is removed.
    pub async fn collect_bundles(
        &self,
        grace_secs: u64,
    ) -> Result<Option<Collected>, CollectError> {
        let Some(bundles) = self.desired.bundles() else { return Ok(None) };
        let needed = self.store.needed_bundles().await?;
        Ok(Some(bundles.collect(&needed, grace_secs, self.clock.now()).await?))
    }
}
