//! Who is at the other end of a connection.

use hostler_protocol::id::HostId;
use quinn::Connection;
use rustls_pki_types::CertificateDer;

use crate::app::App;
use crate::pki::{ClaimedIdentity, claimed_identity};
use crate::store::StoreError;

/// An enrolled, unrevoked host at the other end. There is no other way to make one than to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    shown: ClaimedIdentity,
}

impl PeerIdentity {
    /// Checks who is at the other end; `None`: nobody we know.
    ///
    /// TLS has verified the certificate's chain, time and usage; the host's own row has the last
    /// word.
    ///
    /// # Errors
    /// [`StoreError`] if the row cannot be read.
    pub async fn check(app: &App, connection: &Connection) -> Result<Option<Self>, StoreError> {
        let Some(identity) = connection.peer_identity() else { return Ok(None) };
        let Ok(chain) = identity.downcast::<Vec<CertificateDer<'static>>>() else {
            return Ok(None);
        };
        let Some(claimed) = chain.first().and_then(|leaf| claimed_identity(leaf).ok()) else {
            return Ok(None);
        };
        let peer = Self { shown: claimed };
        Ok(peer.holds(app).await?.then_some(peer))
    }

    /// Whether the host still is enrolled with this key, be it committed or its candidate.
    ///
    /// # Errors
    /// [`StoreError`] if the row cannot be read.
    pub async fn holds(&self, app: &App) -> Result<bool, StoreError> {
        Ok(app.peer(&self.shown.host, &self.shown.key_sha256).await?.is_some())
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &HostId {
        &self.shown.host
    }

    /// What its certificate says.
    #[must_use]
    pub(super) fn shown(&self) -> &ClaimedIdentity {
        &self.shown
    }
}
