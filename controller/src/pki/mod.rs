//! The certificate authority: a root that agents pin, an issuing authority below it, and what
//! they sign.
//!
//! Invariants:
//! * keys are P-256, made here and never sent anywhere; key files are readable by their owner
//!   only and appear whole or not at all;
//! * a host's certificate names the host in a URI this code writes itself
//!   (`hostler://host/<id>`), is good for client authentication only and ignores whatever subject
//!   the request asked for;
//! * the controller's certificate always carries the one name agents check, and is good for
//!   server authentication only.

mod authority;
mod files;
mod making;
mod peer;
mod proof;

use hostler_protocol::id::HostId;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::clock::RandomError;

pub use authority::{Authority, HostCertificate, Left, Request, ServerCertificate};
pub use making::issue;
pub use peer::{ClaimedIdentity, claimed_identity};
pub use proof::prove;

/// Seconds a root is good for: ten years.
pub const ROOT_SECS: u64 = 10 * 365 * 86_400;
/// Seconds an issuing authority is good for: one year.
pub const ISSUING_SECS: u64 = 365 * 86_400;
/// An issuing authority with less than this left is replaced, in seconds.
pub const ISSUING_LEFT_SECS_MIN: u64 = 60 * 86_400;
/// Seconds a controller's own certificate is good for.
pub const SERVER_SECS: u64 = 7 * 86_400;
/// Seconds a host's certificate is good for, unless the settings say otherwise.
pub const HOST_SECS: u64 = 7 * 86_400;
/// The least and the most the settings may say: a certificate must not outlive the authority that
/// signed it.
pub const HOST_SECS_MIN: u64 = 2;
pub const HOST_SECS_MAX: u64 = ISSUING_LEFT_SECS_MIN;

/// What can go wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the authority could not be read or written.
    #[error("{action} {path} failed")]
    File {
        action: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: restore it from a backup")]
    Damaged { path: String },
    /// The certificate is there, its key is not; a new key would lock every host out.
    #[error("{path} is missing but its certificate is there: restore it from a backup")]
    KeyLost { path: String },
    /// An issuing authority below another root.
    #[error(
        "issuing.crt in {dir} is not signed by root.crt beside it: put there all three files of one \
         `hostler-controller pki issue`"
    )]
    OtherRoot { dir: String },
    /// It cannot be replaced here, since the root's key is elsewhere.
    #[error(
        "the issuing authority {path} has ended: run `hostler-controller pki issue --out DIR` where the \
         installation's root.key is, and put issuing.crt and issuing.key from DIR here"
    )]
    IssuingEnded { path: String },
    /// Only the root's key makes issuing authorities.
    #[error(
        "{dir} has no root.crt with its root.key: run this on the controller where the installation \
         began, or wherever root.key is kept"
    )]
    NoRootKey { dir: String },
    /// Keys are never written over.
    #[error("{dir} is not empty: name a new directory")]
    NotEmpty { dir: String },
    /// The library refused to make or sign something.
    #[error("{action} failed")]
    Sign {
        action: &'static str,
        #[source]
        source: rcgen::Error,
    },
    /// A signing request that is unreadable, too large or not signed by its own key.
    #[error("not a certificate signing request signed by its own P-256 or Ed25519 key")]
    Request,
    /// A certificate that names no host.
    #[error("a certificate without a host's name")]
    NoHost,
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// SHA-256 of a public key info (DER), in lower-case hex: how keys are told apart everywhere.
#[must_use]
pub fn key_sha256(spki_der: &[u8]) -> String {
    hex::encode(Sha256::digest(spki_der))
}

/// SHA-256 of a certificate's public key info.
///
/// # Errors
/// [`PkiError::NoHost`] if the bytes are no certificate.
fn certificate_key_sha256(certificate: &CertificateDer<'_>) -> Result<[u8; 32], PkiError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| PkiError::NoHost)?;
    Ok(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into())
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| PkiError::Sign { action: "making a key", source })
}

/// The URI that names a host in its certificate.
#[must_use]
pub fn host_uri(host: &HostId) -> String {
    format!("{HOST_URI_PREFIX}{host}")
}

const HOST_URI_PREFIX: &str = "hostler://host/";

#[cfg(test)]
mod tests;
