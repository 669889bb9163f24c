//! The host's key and the request to certify it. The only door to rcgen.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::IdentityError;

/// A new P-256 key, as PKCS#8 PEM.
pub(super) fn generate() -> Result<String, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
    Ok(key.serialize_pem())
}

/// A certificate signing request (DER) for a key; the controller ignores its subject.
pub(super) fn request(key_pem: &str) -> Result<Vec<u8>, IdentityError> {
    let key = KeyPair::from_pem(key_pem).map_err(IdentityError::Key)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(IdentityError::Key)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "hostler agent");
    let request = params.serialize_request(&key).map_err(IdentityError::Key)?;
    Ok(request.der().to_vec())
}
