//! TLS and QUIC settings of the agent: TLS 1.3 only, the controller known by its root alone; see
//! [`super::verify`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_protocol::{
    ALPN_ENROL, ALPN_RENEW, ALPN_SESSION, IDLE_SECS, JOB_STREAMS_MAX, KEEP_ALIVE_SECS,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{TransportConfig, VarInt};
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;

use super::verify::Verifier;
use super::{Identity, IdentityError};
use crate::clock::Clock;

/// Bytes the controller may send ahead on one stream; a longer frame takes several turns.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams' worth of bytes the controller may send ahead in all.
const WINDOW_STREAMS: u32 = 8;
/// Bytes the agent keeps in flight.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings of a session of an enrolled host.
///
/// # Errors
/// [`IdentityError`] if the identity is not fit for TLS.
pub fn session_config(
    identity: &Identity,
    clock: &Clock,
) -> Result<quinn::ClientConfig, IdentityError> {
    let tls = builder(Verifier::below(identity.root.clone())?, clock)?
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(IdentityError::Tls)?;
    quic(tls, ALPN_SESSION)
}

/// Settings of the return of a host whose certificate has ended: it shows none.
///
/// # Errors
/// [`IdentityError`] if the root cannot be used.
pub fn return_config(
    root: &CertificateDer<'static>,
    clock: &Clock,
) -> Result<quinn::ClientConfig, IdentityError> {
    let tls = builder(Verifier::below(root.clone())?, clock)?.with_no_client_auth();
    quic(tls, ALPN_RENEW)
}

/// Settings of a first enrolment: whoever proves to be certified by the pinned root is the
/// controller. The root it showed can be read from the second value afterwards.
///
/// # Errors
/// [`IdentityError`] if the settings do not fit the TLS library.
pub fn enrolment_config(
    pin: [u8; 32],
    clock: &Clock,
) -> Result<(quinn::ClientConfig, SeenRoot), IdentityError> {
    let seen = SeenRoot::default();
    let tls = builder(Verifier::pinned(pin, seen.clone()), clock)?.with_no_client_auth();
    Ok((quic(tls, ALPN_ENROL)?, seen))
}

fn builder(
    verifier: Verifier,
    clock: &Clock,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, IdentityError> {
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(Time(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// The time the controller's certificate is held against.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now_us() / 1_000_000).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

fn quic(mut tls: ClientConfig, alpn: &[u8]) -> Result<quinn::ClientConfig, IdentityError> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| IdentityError::Tls(rustls::Error::General(error.to_string())))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(JOB_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES * WINDOW_STREAMS))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(None)
        .keep_alive_interval(Some(Duration::from_secs(KEEP_ALIVE_SECS)));
    let idle_ms = u32::try_from(IDLE_SECS * 1000).unwrap_or(u32::MAX);
    transport.max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()));
    transport
}

/// The root certificate that matched the pin, once a handshake has succeeded.
#[derive(Debug, Clone, Default)]
pub struct SeenRoot(Arc<Mutex<Option<Vec<u8>>>>);

impl SeenRoot {
    pub(super) fn set(&self, root: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
    }

    /// The root (DER), or `None` before a handshake.
    #[must_use]
    pub fn get(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// SHA-256 of a certificate's public key info.
#[must_use]
pub fn pin_of(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into())
}

/// When a certificate begins and ends to be valid, in seconds since the Unix epoch.
#[must_use]
pub fn validity_secs(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}
