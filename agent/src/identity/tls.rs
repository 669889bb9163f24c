//! TLS and QUIC settings of the agent: TLS 1.3 only, the controller known by its root alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_protocol::{ALPN_ENROL, ALPN_SESSION, IDLE_SECS, JOB_STREAMS_MAX, KEEP_ALIVE_SECS};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{TransportConfig, VarInt};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;

use super::{Identity, IdentityError};

/// Bytes the controller may send ahead on one stream; a longer frame takes several turns.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams' worth of bytes the controller may send ahead in all.
const WINDOW_STREAMS: u32 = 8;
/// Bytes the agent keeps in flight.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings of a session of an enrolled host.
///
/// # Errors
/// [`IdentityError`] if the identity is not fit for TLS.
pub fn session_config(identity: &Identity) -> Result<quinn::ClientConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.root.clone()).map_err(|_| IdentityError::Root)?;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(IdentityError::Tls)?;
    quic(tls, ALPN_SESSION)
}

/// Settings of a first enrolment: whoever proves to be certified by the pinned root is the
/// controller. The root it showed can be read from the second value afterwards.
///
/// # Errors
/// [`IdentityError`] if the settings do not fit the TLS library.
pub fn enrolment_config(pin: [u8; 32]) -> Result<(quinn::ClientConfig, SeenRoot), IdentityError> {
    let seen = SeenRoot::default();
    let verifier = PinVerifier { pin, provider: provider(), seen: seen.clone() };
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((quic(tls, ALPN_ENROL)?, seen))
}

fn quic(mut tls: rustls::ClientConfig, alpn: &[u8]) -> Result<quinn::ClientConfig, IdentityError> {
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
    /// The root (DER), or `None` before a handshake.
    #[must_use]
    pub fn get(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct PinVerifier {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
    seen: SeenRoot,
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

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = intermediates
            .iter()
            .find(|certificate| pin_of(certificate) == Some(self.pin))
            .ok_or_else(|| {
            rustls::Error::General(
                "the controller's root is not the one the join string names".to_owned(),
            )
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(root.to_vec());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
