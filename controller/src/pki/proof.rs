//! Whether a signature is that of a public key.

use hostler_protocol::recovery::{PUBLIC_KEY_BYTES_MAX, SIGNATURE_BYTES_MAX};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::key_sha256;

/// The hash of a public key info (DER), if the signature over the message is that key's. Only
/// kinds of keys that hosts may have are looked at.
#[must_use]
pub fn prove(public_key: &[u8], message: &[u8], signature: &[u8]) -> Option<String> {
    if public_key.len() > PUBLIC_KEY_BYTES_MAX || signature.len() > SIGNATURE_BYTES_MAX {
        return None;
    }
    let (rest, key) = SubjectPublicKeyInfo::from_der(public_key).ok()?;
    let kind = &key.algorithm.algorithm;
    let algorithm: &dyn VerificationAlgorithm = if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        // Whether it is P-256 shows in the length of the point, which is all this one accepts.
        &ECDSA_P256_SHA256_ASN1
    } else if *kind == OID_SIG_ED25519 {
        &ED25519
    } else {
        return None;
    };
    let verified =
        UnparsedPublicKey::new(algorithm, &key.subject_public_key.data).verify(message, signature);
    (rest.is_empty() && verified.is_ok()).then(|| key_sha256(public_key))
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

    use super::*;

    #[test]
    fn only_the_key_s_own_signature_over_that_message_counts() {
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(kind).unwrap();
            let other = KeyPair::generate_for(kind).unwrap();
            let (public, signature) = (key.subject_public_key_info(), key.sign(b"this").unwrap());
            assert_eq!(prove(&public, b"this", &signature), Some(key_sha256(&public)));
            assert_eq!(prove(&public, b"that", &signature), None);
            assert_eq!(prove(&public, b"this", &other.sign(b"this").unwrap()), None);
            assert_eq!(prove(&other.subject_public_key_info(), b"this", &signature), None);
            let trailing = [public.clone(), vec![0]].concat();
            assert_eq!(prove(&trailing, b"this", &signature), None, "another text of the key");
        }
    }

    #[test]
    fn rubbish_and_keys_of_other_kinds_prove_nothing() {
        let large = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let signature = large.sign(b"this").unwrap();
        assert_eq!(prove(&large.subject_public_key_info(), b"this", &signature), None);
        for bytes in [&[][..], &[0x30], &[0xff; PUBLIC_KEY_BYTES_MAX], &[0x30; 4096]] {
            assert_eq!(prove(bytes, b"this", &signature), None);
        }
    }
}
