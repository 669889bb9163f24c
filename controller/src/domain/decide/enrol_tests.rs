use hostler_protocol::id::EnrolmentTokenId;

use super::*;
use crate::domain::EnrolmentToken;

const NOW: Micros = Micros(1_000_000_000);

fn request(key: &str) -> Enrol {
    Enrol {
        secret_sha256: "aa".to_owned(),
        key_sha256: key.to_owned(),
        name: "web-1.example".to_owned(),
        new_host: HostId::from_parts(1, [1; 10]),
        certificate_expires_at: NOW.plus_secs(100),
        facts: json!({}),
    }
}

fn snapshot() -> Snapshot {
    let token = EnrolmentToken {
        id: EnrolmentTokenId::from_parts(1, [2; 10]),
        secret_sha256: "aa".to_owned(),
        host_name: None,
        created_at: NOW,
        expires_at: NOW.plus_secs(900),
        used_at: None,
        used_by_key_sha256: None,
        host_id: None,
    };
    Snapshot { enrolment_token: Some(token), ..Snapshot::default() }
}

fn code(snapshot: &Snapshot, request: &Enrol, now: Micros) -> &'static str {
    enrol(snapshot, request, now).unwrap_err().code
}

#[test]
fn a_good_token_makes_a_host_and_is_burnt_in_the_same_unit() {
    let decision = enrol(&snapshot(), &request("k1"), NOW).unwrap();
    assert!(matches!(decision.changes[0], Change::InsertHost(_)));
    let Change::UpdateEnrolmentToken(burnt) = &decision.changes[1] else {
        panic!("the token must be burnt with the host: {decision:?}");
    };
    assert_eq!(burnt.used_by_key_sha256.as_deref(), Some("k1"));
    assert_eq!(decision.events[0].kind, EventKind::HostEnrolled);
}

#[test]
fn the_same_key_gets_the_same_host_for_a_while_and_another_key_never() {
    let mut used = snapshot();
    let first = HostId::from_parts(9, [9; 10]);
    if let Some(token) = &mut used.enrolment_token {
        token.used_at = Some(NOW);
        token.used_by_key_sha256 = Some("k1".to_owned());
        token.host_id = Some(first.clone());
    }
    let again = enrol(&used, &request("k1"), NOW.plus_secs(SAME_KEY_SECS)).unwrap();
    assert_eq!((again.reply, again.changes.len()), (first, 0));
    assert_eq!(code(&used, &request("k2"), NOW), "TOKEN_USED");
    assert_eq!(code(&used, &request("k1"), NOW.plus_secs(SAME_KEY_SECS + 1)), "TOKEN_USED");
}

#[test]
fn forged_expired_and_colliding_enrolments_are_refused() {
    let wrong = Enrol { secret_sha256: "ab".to_owned(), ..request("k1") };
    assert_eq!(code(&snapshot(), &wrong, NOW), "TOKEN_INVALID");
    assert_eq!(code(&Snapshot::default(), &request("k1"), NOW), "TOKEN_INVALID");
    assert_eq!(code(&snapshot(), &request("k1"), NOW.plus_secs(900)), "TOKEN_EXPIRED");
    let taken = Snapshot { host_named: Some(new_host(&request("k0"), NOW)), ..snapshot() };
    assert_eq!(code(&taken, &request("k1"), NOW), "HOST_NAME_TAKEN");
    for name in ["", "-a", "a_b", "A", "a b", "a.", "é"] {
        let odd = Enrol { name: name.to_owned(), ..request("k1") };
        assert_eq!(code(&snapshot(), &odd, NOW), "HOST_NAME_INVALID", "{name:?}");
    }
}
