//! Who a verified client certificate says its bearer is.

use std::str::FromStr as _;

use hostler_protocol::id::HostId;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use super::{HOST_URI_PREFIX, PkiError, certificate_key_sha256};
use crate::domain::Micros;

/// What a certificate claims. Only worth something together with TLS's verification of the chain
/// and the host's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedIdentity {
    pub host: HostId,
    /// SHA-256 of its public key info, lower-case hex.
    pub key_sha256: String,
    pub expires_at: Micros,
}

/// Reads the host's id and the key's hash from a leaf certificate.
///
/// # Errors
/// [`PkiError::NoHost`] unless it names exactly one host.
pub fn claimed_identity(leaf: &CertificateDer<'_>) -> Result<ClaimedIdentity, PkiError> {
    let key_sha256 = hex::encode(certificate_key_sha256(leaf)?);
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| PkiError::NoHost)?;
    let names = parsed.subject_alternative_name().map_err(|_| PkiError::NoHost)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut hosts = names.iter().filter_map(|name| {
        if let GeneralName::URI(uri) = name { uri.strip_prefix(HOST_URI_PREFIX) } else { None }
    });
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(PkiError::NoHost) };
    let host = HostId::from_str(host).map_err(|_| PkiError::NoHost)?;
    let expires_at = Micros(parsed.validity().not_after.timestamp().saturating_mul(1_000_000));
    Ok(ClaimedIdentity { host, key_sha256, expires_at })
}
