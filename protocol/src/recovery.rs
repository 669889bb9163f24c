//! The return of a host whose certificate has ended.
//!
//! The host shows no certificate, since TLS would refuse it. It asks by its id, gets a nonce, and
//! signs a statement that holds for this connection alone: the connection's own keying material is
//! part of it, so that whoever stands between cannot pass a proof on.

use crate::id::HostId;

/// Label of the keying material both ends of the connection derive (RFC 5705, RFC 8446 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-hostler-return-1";
/// Bytes of keying material in the statement.
pub const EXPORTER_BYTES: usize = 32;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Largest public key info, in bytes.
pub const PUBLIC_KEY_BYTES_MAX: usize = 512;
/// Largest signature, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 256;

/// Sets the statement apart from anything else a host's key may ever sign.
const DOMAIN: &[u8] = b"hostler: this host returns 1\0";

/// What a returning host signs: everything before the request has one length, or ends in a byte
/// that cannot stand in it, so that no two statements are written alike.
#[must_use]
pub fn statement(
    keying: &[u8; EXPORTER_BYTES],
    nonce: &[u8; NONCE_BYTES],
    host: &HostId,
    csr: &[u8],
) -> Vec<u8> {
    let mut statement = DOMAIN.to_vec();
    statement.extend_from_slice(keying);
    statement.extend_from_slice(nonce);
    statement.extend_from_slice(host.as_str().as_bytes());
    statement.push(0);
    statement.extend_from_slice(csr);
    statement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_statement_counts() {
        let (one, other) = (HostId::from_parts(1, [1; 10]), HostId::from_parts(1, [2; 10]));
        let whole = statement(&[1; 32], &[2; 32], &one, b"csr");
        for changed in [
            statement(&[0; 32], &[2; 32], &one, b"csr"),
            statement(&[1; 32], &[0; 32], &one, b"csr"),
            statement(&[1; 32], &[2; 32], &other, b"csr"),
            statement(&[1; 32], &[2; 32], &one, b"CSR"),
        ] {
            assert_ne!(changed, whole);
        }
    }

    #[test]
    fn the_statement_is_written_the_same_for_ever() {
        let host = HostId::from_parts(0, [0; 10]);
        let text = format!(
            "hostler: this host returns 1\0{}{}{host}\0csr",
            "k".repeat(32),
            "n".repeat(32)
        );
        assert_eq!(statement(&[b'k'; 32], &[b'n'; 32], &host, b"csr"), text.into_bytes());
    }
}
