//! Whether the other side is the controller: a chain below the one root this host trusts, with the
//! name every controller has, good at this time by a clock that may be somewhat wrong.
//!
//! A host whose clock is off must still connect, since it is through the session that anybody
//! learns of it. So a certificate that has ended, or does not hold yet, is taken all the same if
//! that is less than [`CLOCK_TOLERANCE_SECS`] away: time zones mixed up, not years. What this gives
//! away is little: a stolen key of a controller is of use for as much longer.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::IdentityError;
use super::certificate::{SeenRoot, pin_of, provider, validity_secs};

/// How far this host's clock may be outside the time the controller's certificate holds, in
/// seconds.
pub const CLOCK_TOLERANCE_SECS: u64 = 86_400;

fn below(root: CertificateDer<'static>) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// What a handshake shows.
struct Shown<'a> {
    leaf: &'a CertificateDer<'a>,
    others: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    ocsp: &'a [u8],
}

impl Shown<'_> {
    fn verify(
        &self,
        verifier: &WebPkiServerVerifier,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verifier.verify_server_cert(self.leaf, self.others, self.name, self.ocsp, now)
    }

    /// As above, by a clock that may be wrong.
    fn verify_about(
        &self,
        verifier: &WebPkiServerVerifier,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verify(verifier, now) {
            Err(rustls::Error::InvalidCertificate(error)) if is_about_time(&error) => {
                let Some((near, away_secs)) = nearest(self.leaf, now) else {
                    return Err(rustls::Error::InvalidCertificate(error));
                };
                let verified = self.verify(verifier, near)?;
                tracing::warn!(
                    away_secs,
                    "by this host's clock the controller's certificate does not hold now: is the clock right?"
                );
                Ok(verified)
            }
            done => done,
        }
    }
}

fn is_about_time(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

/// The time nearest to now at which the certificate holds, and how far away that is, if it is near
/// enough.
fn nearest(leaf: &CertificateDer<'_>, now: UnixTime) -> Option<(UnixTime, u64)> {
    let (from, until) = validity_secs(leaf)?;
    let (from, until) = (u64::try_from(from).ok()?, u64::try_from(until).ok()?);
    let near = now.as_secs().max(from).min(until);
    let away_secs = near.abs_diff(now.as_secs());
    let near = UnixTime::since_unix_epoch(std::time::Duration::from_secs(near));
    (away_secs <= CLOCK_TOLERANCE_SECS).then_some((near, away_secs))
}

/// Which root the controller's chain has to end in.
#[derive(Debug)]
enum Trust {
    /// The one this host was enrolled under.
    Below(Arc<WebPkiServerVerifier>),
    /// One with the pinned key, which is remembered.
    Pinned { pin: [u8; 32], seen: SeenRoot },
}

/// TLS's question, answered as the module says.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
}

impl Verifier {
    pub(super) fn below(root: CertificateDer<'static>) -> Result<Self, IdentityError> {
        let verifier = below(root).map_err(|_| IdentityError::Root)?;
        Ok(Self { trust: Trust::Below(verifier) })
    }

    pub(super) fn pinned(pin: [u8; 32], seen: SeenRoot) -> Self {
        Self { trust: Trust::Pinned { pin, seen } }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Shown { leaf, others, name, ocsp };
        match &self.trust {
            Trust::Below(verifier) => shown.verify_about(verifier, now),
            Trust::Pinned { pin, seen } => {
                let root = others.iter().find(|other| pin_of(other) == Some(*pin));
                let root = root.ok_or_else(|| {
                    let reason = "the controller's root is not the one the join string names";
                    rustls::Error::General(reason.to_owned())
                })?;
                let verifier = below(root.clone().into_owned())?;
                let verified = shown.verify_about(&verifier, now)?;
                seen.set(root.to_vec());
                Ok(verified)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
