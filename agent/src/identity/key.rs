//! The host's key, the request to certify it, and what it signs. The only door to rcgen.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _, SigningKey as _,
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::IdentityError;

/// A new P-256 key, as PKCS#8 PEM.
pub(super) fn generate() -> Result<Zeroizing<String>, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
    Ok(Zeroizing::new(key.serialize_pem()))
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

/// A message signed with a key, and the key's public half.
pub(super) struct Signed {
    /// Public key info, DER.
    pub(super) public_key: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

pub(super) fn sign(key: &PrivateKeyDer<'_>, message: &[u8]) -> Result<Signed, IdentityError> {
    let key = KeyPair::try_from(key).map_err(IdentityError::Key)?;
    let signature = key.sign(message).map_err(IdentityError::Key)?;
    Ok(Signed { public_key: key.subject_public_key_info(), signature })
}
