//! TLS as the endpoint speaks it: 1.3 only, ring, no early data, no resumption.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hostler_protocol::{ALPN_BULK, ALPN_ENROL, ALPN_RENEW, ALPN_SESSION};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use super::EndpointError;
use crate::clock::Clock;
use crate::domain::Micros;
use crate::pki::{Authority, SERVER_SECS};

/// The controller's certificate, replaced while connections come in.
#[derive(Debug)]
pub(super) struct Served {
    authority: Arc<Authority>,
    current: RwLock<(Arc<CertifiedKey>, Micros)>,
}

impl Served {
    pub(super) fn new(authority: Arc<Authority>) -> Result<Arc<Self>, EndpointError> {
        let current = RwLock::new(certify(&authority)?);
        Ok(Arc::new(Self { authority, current }))
    }

    /// Whether the certificate in use is to be replaced.
    pub(super) fn is_due(&self, now: Micros) -> bool {
        is_due(self.current.read().unwrap_or_else(PoisonError::into_inner).1, now)
    }

    /// Looks after an authority that cannot be renewed here; says what a person has to do, and takes
    /// up what one has done.
    pub(super) fn look_at_authority(&self) -> Result<(), EndpointError> {
        let left = self.authority.left();
        let by_hand = !matches!(&left, Ok(left) if !left.by_hand);
        if by_hand && self.authority.renew_issuing()? {
            tracing::info!("the new issuing authority is used from now on");
            return self.renew();
        }
        let secs = left.as_ref().map_or(0, |left| left.secs);
        #[expect(clippy::cast_precision_loss, reason = "a year has far fewer than 2^52 seconds")]
        metrics::gauge!("hostler_issuing_authority_left_seconds").set(secs as f64);
        if by_hand {
            tracing::warn!(
                left_days = secs / 86_400,
                "this controller's issuing authority ends soon and cannot be renewed here: run \
                 `hostler-controller pki issue --out DIR` where the installation's root.key is, and \
                 put issuing.key, then issuing.crt, from DIR into this controller's pki directory"
            );
        }
        Ok(())
    }

    /// Replaces the certificate, and the authority above it if that is near its end.
    pub(super) fn renew(&self) -> Result<(), EndpointError> {
        self.authority.renew_issuing()?;
        let fresh = certify(&self.authority)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0))
    }
}

/// At half its life, and when it is of a time that has not come: the clock was ahead, and agents,
/// whose clocks are right, take it for none.
fn is_due(expires_at: Micros, now: Micros) -> bool {
    let before_end = |secs| Micros(expires_at.0 - Micros(0).plus_secs(secs).0);
    now >= before_end(SERVER_SECS / 2) || now < before_end(SERVER_SECS)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certify(authority: &Authority) -> Result<(Arc<CertifiedKey>, Micros), EndpointError> {
    let server = authority.sign_server()?;
    let key = ring::sign::any_supported_type(&server.key)?;
    Ok((Arc::new(CertifiedKey::new(server.chain, key)), server.expires_at))
}

/// The time client certificates are held against.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().0 / 1_000_000).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// The TLS side of the endpoint. Client certificates are optional here: enrolment and the return of
/// a host have none.
pub(super) fn server_config(
    served: Arc<Served>,
    clock: Clock,
) -> Result<QuicServerConfig, EndpointError> {
    let mut roots = RootCertStore::empty();
    roots.add(served.authority.root().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = rustls::ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(served);
    config.alpn_protocols =
        [ALPN_SESSION, ALPN_ENROL, ALPN_RENEW, ALPN_BULK].map(<[u8]>::to_vec).to_vec();
    // A resumed session would skip the look at the client's certificate and its end.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_serves_for_half_its_life_and_not_before_its_time() {
        let start = Micros(1_800_000_000_000_000);
        let end = start.plus_secs(SERVER_SECS);
        let due = |secs: i64| is_due(end, Micros(start.0 + secs * 1_000_000));
        let half = i64::try_from(SERVER_SECS / 2).unwrap();
        let seen = [-86_400, -1, 0, half - 1, half, 2 * half + 1].map(due);
        assert_eq!(seen, [true, true, false, false, true, true]);
    }
}
