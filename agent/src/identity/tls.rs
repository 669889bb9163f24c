//! TLS and QUIC settings of the agent: TLS 1.3 only, the controller known by its root alone; see
//! [`super::verify`].

use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::{
    ALPN_BULK, ALPN_ENROL, ALPN_RENEW, ALPN_SESSION, IDLE_SECS, JOB_STREAMS_MAX, KEEP_ALIVE_SECS,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{TransportConfig, VarInt};
use rustls::client::WantsClientCert;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate::provider;
pub use super::certificate::{SeenRoot, pin_of, validity_secs};
use super::verify::Verifier;
use super::{Identity, IdentityError};
use crate::clock::Clock;

/// Bytes the controller may send ahead on one stream; a longer frame takes several turns.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams' worth of bytes the controller may send ahead in all.
const WINDOW_STREAMS: u32 = 8;
/// Seconds between two signs of life on a connection, and without one until it counts as broken, where
/// there is another controller to go to.
const SOON_KEEP_ALIVE_SECS: u64 = 5;
const SOON_IDLE_SECS: u64 = 16;
/// Bytes the controller may send ahead on one stream with a bundle's bytes, and on all of a connection.
const BULK_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const BULK_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The same as above for a connection with bundles: who hears nothing dials anew.
const BULK_KEEP_ALIVE_SECS: u64 = 5;
const BULK_IDLE_SECS: u64 = 20;
/// Bytes the agent keeps in flight.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;

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

/// Settings of a connection that bundles come over; see [`hostler_protocol::bulk`].
///
/// # Errors
/// [`IdentityError`] if the identity is not fit for TLS.
pub fn bulk_config(
    identity: &Identity,
    clock: &Clock,
) -> Result<quinn::ClientConfig, IdentityError> {
    let tls = builder(Verifier::below(identity.root.clone())?, clock)?
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(IdentityError::Tls)?;
    let mut config = quic(tls, ALPN_BULK)?;
    let mut transport = transport(BULK_KEEP_ALIVE_SECS, BULK_IDLE_SECS);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(BULK_STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(BULK_WINDOW_BYTES));
    config.transport_config(Arc::new(transport));
    Ok(config)
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
    config.transport_config(Arc::new(transport(KEEP_ALIVE_SECS, IDLE_SECS)));
    Ok(config)
}

/// Makes connections notice a silent controller sooner: worth its packets where there is another one
/// to go to.
pub fn notice_soon(config: &mut quinn::ClientConfig) {
    config.transport_config(Arc::new(transport(SOON_KEEP_ALIVE_SECS, SOON_IDLE_SECS)));
}

fn transport(keep_alive_secs: u64, idle_secs: u64) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(JOB_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES * WINDOW_STREAMS))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(None)
        .keep_alive_interval(Some(Duration::from_secs(keep_alive_secs)));
    let idle_ms = u32::try_from(idle_secs * 1000).unwrap_or(u32::MAX);
    transport.max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()));
    transport
}
