use std::os::unix::fs::PermissionsExt as _;

use rcgen::CertificateParams;

use super::*;
use crate::clock::Clock;
use crate::domain::Micros;
use hostler_protocol::{CERTIFICATE_BACKDATE_SECS, CSR_BYTES_MAX};

const NOW: Micros = Micros(1_800_000_000_000_000);

fn authority(dir: &std::path::Path, clock: &Clock) -> Authority {
    Authority::open(&dir.join("pki"), clock.clone(), HOST_SECS).unwrap()
}

fn request() -> (Request, KeyPair) {
    let key = new_key().unwrap();
    let csr = CertificateParams::new(vec!["evil.example".to_owned()])
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    (Request::check(csr.der()).unwrap(), key)
}

#[test]
fn the_authority_survives_a_restart_and_keeps_its_keys_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let pin = authority(dir.path(), &clock).pin().unwrap();
    assert_eq!(authority(dir.path(), &clock).pin().unwrap(), pin);
    for name in ["root.key", "issuing.key"] {
        let mode = std::fs::metadata(dir.path().join("pki").join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name} must be readable by its owner only");
    }
}

#[test]
fn a_lost_root_key_stops_the_start_and_a_lost_issuing_key_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let pin = authority(dir.path(), &clock).pin().unwrap();
    let pki = dir.path().join("pki");
    std::fs::remove_file(pki.join("issuing.key")).unwrap();
    assert_eq!(authority(dir.path(), &clock).pin().unwrap(), pin);
    std::fs::remove_file(pki.join("root.key")).unwrap();
    assert!(matches!(
        Authority::open(&pki, clock.clone(), HOST_SECS),
        Err(PkiError::KeyLost { .. })
    ));
    std::fs::write(pki.join("root.key"), "rubbish").unwrap();
    assert!(matches!(Authority::open(&pki, clock, HOST_SECS), Err(PkiError::Damaged { .. })));
}

#[test]
fn a_host_certificate_names_the_host_and_nothing_the_request_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let host = clock.new_host_id().unwrap();
    let (request, key) = request();
    let signed = authority(dir.path(), &clock).sign_host(&request, &host).unwrap();
    let leaf = CertificateDer::from(signed.chain[0].clone());
    let claimed = claimed_identity(&leaf).unwrap();
    assert_eq!(claimed.host, host);
    assert_eq!(claimed.expires_at, signed.expires_at);
    assert_eq!(
        claimed.key_sha256,
        key_sha256(&rcgen::PublicKeyData::subject_public_key_info(&key))
    );
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert!(!format!("{:?}", parsed.subject_alternative_name()).contains("evil"));
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert_eq!(
        parsed.validity().not_before.timestamp(),
        NOW.0 / 1_000_000 - i64::try_from(CERTIFICATE_BACKDATE_SECS).unwrap()
    );
    assert_eq!(Micros(parsed.validity().not_after.timestamp() * 1_000_000), signed.expires_at);
}

#[test]
fn the_controller_certificate_serves_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = authority(dir.path(), &Clock::manual(NOW)).sign_server().unwrap();
    assert_eq!(server.chain.len(), 3);
    let (_, parsed) = x509_parser::parse_x509_certificate(&server.chain[0]).unwrap();
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    assert!(matches!(claimed_identity(&server.chain[0]), Err(PkiError::NoHost)));
}

#[test]
fn requests_that_prove_no_key_are_refused() {
    assert!(matches!(Request::check(b"rubbish"), Err(PkiError::Request)));
    assert!(matches!(Request::check(&[0; CSR_BYTES_MAX + 1]), Err(PkiError::Request)));
    let key = new_key().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let mut forged = csr.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(Request::check(&forged), Err(PkiError::Request)));
}

#[test]
fn an_issuing_authority_near_its_end_is_replaced_below_the_same_root() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let authority = authority(dir.path(), &clock);
    let before = (authority.pin().unwrap(), authority.sign_server().unwrap().chain[1].clone());
    assert!(!authority.renew_issuing().unwrap());
    clock.advance(std::time::Duration::from_secs(ISSUING_SECS - ISSUING_LEFT_SECS_MIN + 1));
    assert!(authority.renew_issuing().unwrap());
    assert_eq!(authority.pin().unwrap(), before.0);
    assert_ne!(authority.sign_server().unwrap().chain[1], before.1);
}

#[test]
fn an_authority_of_a_time_that_has_not_come_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let holds_at = |clock: &Clock| {
        let chain = authority(dir.path(), clock).sign_server().unwrap().chain;
        let (_, issuing) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
        let validity = issuing.validity();
        let at = clock.now().0 / 1_000_000;
        (validity.not_before.timestamp()..validity.not_after.timestamp()).contains(&at)
    };
    let clock = Clock::manual(NOW);
    assert!(holds_at(&clock));
    // Years ahead for a while, and right again.
    clock.advance(std::time::Duration::from_secs(2 * ISSUING_SECS));
    assert!(holds_at(&clock));
    assert!(holds_at(&Clock::manual(NOW)));
}
