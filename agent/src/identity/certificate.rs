//! What is read from the certificates of a handshake.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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
