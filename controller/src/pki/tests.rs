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
fn a_lost_issuing_key_is_made_anew_only_where_the_root_key_is() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let pin = authority(dir.path(), &clock).pin().unwrap();
    let pki = dir.path().join("pki");
    std::fs::remove_file(pki.join("issuing.key")).unwrap();
    assert_eq!(authority(dir.path(), &clock).pin().unwrap(), pin);
    std::fs::remove_file(pki.join("root.key")).unwrap();
    assert_eq!(authority(dir.path(), &clock).pin().unwrap(), pin, "it signs by the issuing key");
    std::fs::remove_file(pki.join("issuing.key")).unwrap();
    assert!(matches!(
        Authority::open(&pki, clock.clone(), HOST_SECS),
        Err(PkiError::KeyLost { .. })
    ));
    std::fs::write(pki.join("root.key"), "rubbish").unwrap();
    assert!(matches!(Authority::open(&pki, clock, HOST_SECS), Err(PkiError::Damaged { .. })));
}

/// An authority of another controller, below the root of the one in `dir`.
fn issued(dir: &std::path::Path, clock: &Clock) -> std::path::PathBuf {
    let out = dir.join("second").join("pki");
    issue(&dir.join("pki"), &out, "ctl-2", clock).unwrap();
    out
}

#[test]
fn another_controller_has_the_same_root_and_keys_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let first = authority(dir.path(), &clock);
    let out = issued(dir.path(), &clock);
    assert!(!out.join("root.key").exists(), "the root's key stays where it is");
    assert!(matches!(
        issue(&dir.path().join("pki"), &out, "ctl-3", &clock),
        Err(PkiError::NotEmpty { .. })
    ));
    let second = Authority::open(&out, clock.clone(), HOST_SECS).unwrap();
    assert_eq!(second.pin().unwrap(), first.pin().unwrap());
    assert_eq!(second.root(), first.root());
    assert_ne!(second.reset_secret(), first.reset_secret());
    let again = Authority::open(&out, clock.clone(), HOST_SECS).unwrap();
    assert_eq!(again.reset_secret(), second.reset_secret(), "kept over a restart");
    let host = clock.new_host_id().unwrap();
    let by_first = first.sign_host(&request().0, &host).unwrap();
    let by_second = second.sign_host(&request().0, &host).unwrap();
    assert_eq!(by_first.root, by_second.root);
    assert_ne!(by_first.chain[1], by_second.chain[1]);
    assert!(matches!(
        issue(&out, &dir.path().join("third"), "ctl-3", &clock),
        Err(PkiError::NoRootKey { .. })
    ));
}

#[test]
fn an_issued_authority_says_in_time_that_it_ends_and_is_taken_up_from_new_files() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    authority(dir.path(), &clock);
    let out = issued(dir.path(), &clock);
    let second = Authority::open(&out, clock.clone(), HOST_SECS).unwrap();
    assert!(!second.left().unwrap().by_hand);
    let secs = |secs| std::time::Duration::from_secs(secs);
    clock.advance(secs(ISSUING_SECS - 3600));
    assert!(!second.renew_issuing().unwrap());
    let left = second.left().unwrap();
    assert!(left.by_hand && left.secs <= 3600, "{left:?}");
    let host = clock.new_host_id().unwrap();
    let signed = second.sign_host(&request().0, &host).unwrap();
    assert!(signed.expires_at <= clock.now().plus_secs(3600), "no longer than its signer");
    clock.advance(secs(3601));
    assert!(matches!(second.sign_host(&request().0, &host), Err(PkiError::IssuingEnded { .. })));
    let Err(error) = Authority::open(&out, clock.clone(), HOST_SECS) else {
        panic!("an authority that has ended was opened");
    };
    assert!(error.to_string().contains("pki issue --out"), "{error}");
    // A person puts new files there; the running controller takes them up.
    let fresh = dir.path().join("fresh");
    issue(&dir.path().join("pki"), &fresh, "ctl-2", &clock).unwrap();
    for name in ["issuing.key", "issuing.crt"] {
        std::fs::copy(fresh.join(name), out.join(name)).unwrap();
    }
    assert!(second.renew_issuing().unwrap());
    assert!(!second.left().unwrap().by_hand);
    second.sign_host(&request().0, &host).unwrap();
}

#[test]
fn files_of_two_installations_do_not_go_together() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    authority(dir.path(), &clock);
    let out = issued(dir.path(), &clock);
    let other = dir.path().join("other");
    Authority::open(&other, clock.clone(), HOST_SECS).unwrap();
    std::fs::copy(other.join("root.crt"), out.join("root.crt")).unwrap();
    assert!(matches!(Authority::open(&out, clock, HOST_SECS), Err(PkiError::OtherRoot { .. })));
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
