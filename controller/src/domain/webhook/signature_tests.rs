use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"It's a Secret to Everybody";
const BODY: &[u8] = b"Hello, World!";
/// GitHub's own example.
const HEX: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const NOW: Micros = Micros(1_700_000_000_000_000);

fn check(headers: &Headers<'_>, secrets: &[&[u8]]) -> Result<Scheme, Unverified> {
    verify(headers, BODY, secrets, NOW)
}

fn hub() -> String {
    format!("sha256={HEX}")
}

#[test]
fn githubs_own_example_holds() {
    let headers = [("X-Hub-Signature-256", hub())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(check(&headers, &[SECRET]), Ok(Scheme::HubSha256));
    assert_eq!(verify(&headers, b"Hello, World", &[SECRET], NOW), Err(Unverified::Wrong));
    assert_eq!(check(&headers, &[b"another"]), Err(Unverified::Wrong));
    let upper = format!("sha256={}", HEX.to_uppercase());
    assert_eq!(check(&[("x-hub-signature-256", &upper)], &[SECRET]), Ok(Scheme::HubSha256));
}

#[test]
fn either_of_two_secrets_is_enough_and_none_closes() {
    let headers = [("x-hub-signature-256", hub())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert!(check(&headers, &[b"new", SECRET]).is_ok());
    assert!(check(&headers, &[SECRET, b"old"]).is_ok());
    assert_eq!(check(&headers, &[]), Err(Unverified::NoSecret));
    assert_eq!(check(&headers, &[b""]), Err(Unverified::NoSecret));
    // Whoever signs with the empty secret is not let in by an unset one.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"");
    let forged = format!("sha256={}", hex::encode(hmac::sign(&key, BODY)));
    assert!(check(&[("x-hub-signature-256", &forged)], &[b"", SECRET]).is_err());
}

#[test]
fn each_forge_has_its_header() {
    for (name, value, scheme) in [
        ("X-Gitea-Signature", HEX.to_owned(), Scheme::Gitea),
        ("X-Forgejo-Signature", HEX.to_owned(), Scheme::Forgejo),
        ("X-Gogs-Signature", HEX.to_owned(), Scheme::Gogs),
        ("X-Hub-Signature", hub(), Scheme::Hub),
        ("X-Signature-256", hub(), Scheme::Signature256),
        ("X-Signature-256", HEX.to_owned(), Scheme::Signature256),
        ("X-Signature", HEX.to_owned(), Scheme::Signature),
    ] {
        assert_eq!(check(&[(name, &value)], &[SECRET]), Ok(scheme), "{name}");
        let wrong = value.replace('7', "8");
        assert_eq!(check(&[(name, &wrong)], &[SECRET]), Err(Unverified::Wrong), "{name}");
    }
    let token = std::str::from_utf8(SECRET).unwrap();
    assert_eq!(check(&[("X-Gitlab-Token", token)], &[SECRET]), Ok(Scheme::GitlabToken));
    for wrong in ["", "It's a Secret", "it's a Secret to Everybody"] {
        assert_eq!(check(&[("X-Gitlab-Token", wrong)], &[SECRET]), Err(Unverified::Wrong));
    }
}

#[test]
fn a_wrong_header_is_not_made_good_by_another() {
    let token = std::str::from_utf8(SECRET).unwrap();
    let (zeros, good) = (format!("sha256={}", "0".repeat(64)), hub());
    for other in ["x-gitea-signature", "x-forgejo-signature", "x-signature"] {
        let headers = [("x-hub-signature-256", zeros.as_str()), (other, HEX)];
        assert_eq!(check(&headers, &[SECRET]), Err(Unverified::Wrong), "{other}");
    }
    let headers = [("x-gitea-signature", "0".repeat(64)), ("x-gitlab-token", token.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(check(&headers, &[SECRET]), Err(Unverified::Wrong));
    let twice = [("x-hub-signature-256", zeros.as_str()), ("X-Hub-Signature-256", &good)];
    assert_eq!(check(&twice, &[SECRET]), Err(Unverified::Twice));
    // Older signatures that forges send along do not count.
    let along = [("x-hub-signature", "sha1=00"), ("x-hub-signature-256", &good)];
    assert_eq!(check(&along, &[SECRET]), Ok(Scheme::HubSha256));
}

#[test]
fn what_is_no_signature_is_refused() {
    assert_eq!(check(&[], &[SECRET]), Err(Unverified::Missing));
    assert_eq!(check(&[("x-github-event", "push")], &[SECRET]), Err(Unverified::Missing));
    for bad in ["", "sha256=", HEX, "sha1=00", &format!("sha256={HEX}0"), "sha256=zz", "SHA256=x"] {
        let found = check(&[("x-hub-signature-256", bad)], &[SECRET]);
        assert_eq!(found, Err(Unverified::Malformed), "{bad}");
    }
}

fn standard_signature(key: &[u8], id: &str, time: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let message = [format!("{id}.{time}.").as_bytes(), BODY].concat();
    format!("v1,{}", data_encoding::BASE64.encode(hmac::sign(&key, &message).as_ref()))
}

#[test]
fn gitlabs_signing_token_signs_id_and_time_too() {
    let key = [7_u8; 32];
    let secret = format!("whsec_{}", data_encoding::BASE64.encode(&key));
    let check = |id: &str, time: &str, signature: &str| {
        let headers =
            [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
        check(&headers, &[secret.as_bytes()])
    };
    let time = "1700000100";
    let good = standard_signature(&key, "id", time);
    assert_eq!(check("id", time, &good), Ok(Scheme::Standard));
    assert_eq!(check("id", time, &format!("v1,AAAA v2,x {good}")), Ok(Scheme::Standard));
    assert_eq!(check("other", time, &good), Err(Unverified::Wrong));
    assert_eq!(check("id", "1700000101", &good), Err(Unverified::Wrong));
    assert_eq!(check("id", "now", &good), Err(Unverified::Malformed));
    assert_eq!(check("id", time, "v2,AAAA"), Err(Unverified::Malformed));
    for old in ["1699999699", "1700000301"] {
        let signed = standard_signature(&key, "id", old);
        assert_eq!(check("id", old, &signed), Err(Unverified::Stale));
    }
    let edge = "1699999700";
    assert!(check("id", edge, &standard_signature(&key, "id", edge)).is_ok());
    assert_eq!(
        super::verify(&[("webhook-signature", &good)], BODY, &[secret.as_bytes()], NOW),
        Err(Unverified::Malformed)
    );
    let bad = [("webhook-id", "id"), ("webhook-timestamp", time), ("webhook-signature", &good)];
    assert_eq!(super::verify(&bad, BODY, &[b"whsec_!"], NOW), Err(Unverified::Wrong));
}

proptest! {
    #[test]
    fn only_the_secrets_own_signature_holds(
        body in prop::collection::vec(any::<u8>(), 0..200),
        secret in prop::collection::vec(any::<u8>(), 1..80),
        at in any::<prop::sample::Index>(),
    ) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let mut tag = hmac::sign(&key, &body).as_ref().to_vec();
        let value = format!("sha256={}", hex::encode(&tag));
        prop_assert!(verify(&[("x-hub-signature-256", &value)], &body, &[&secret], NOW).is_ok());
        let place = at.index(tag.len() * 8);
        tag[place / 8] ^= 1 << (place % 8);
        let value = format!("sha256={}", hex::encode(&tag));
        let found = verify(&[("x-hub-signature-256", &value)], &body, &[&secret], NOW);
        prop_assert_eq!(found, Err(Unverified::Wrong));
    }

    #[test]
    fn any_header_is_refused_or_fits(scheme in 0_usize..9, value in ".{0,100}") {
        let name = Scheme::ALL[scheme].header();
        prop_assert!(verify(&[(name, &value)], BODY, &[SECRET], NOW).is_err());
    }
}
