//! Peers that are not who they should be, or do not say what they should.

use std::time::Duration;

use hostler_controller::clock::Clock;
use hostler_controller::pki::{Authority, Request};
use hostler_controller::views::Revocation;
use hostler_protocol::codec;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, ToController, close};
use hostler_protocol::{ALPN_SESSION, FRAME_BYTES_MAX};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, SanType};

use super::agent::{
    Identity, Stream, close_code, connect, dial, hello, new_host, new_key, session,
};
use super::{Controller, config, directory, now_micros};

#[tokio::test]
async fn no_certificate_no_session() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let pin = controller.app().join.pin;
    let connection = connect(controller.ready.agents, pin, ALPN_SESSION, None).await.unwrap();
    assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    let unknown = connect(controller.ready.agents, pin, b"h3", None).await;
    assert!(unknown.is_err(), "an unknown ALPN must not get through the handshake");
    controller.stop().await;
}

#[tokio::test]
async fn another_authoritys_certificate_is_no_certificate() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let ca_key = new_key();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let mut leaf = CertificateParams::default();
    let uri = format!("hostler://host/{}", identity.enrolled.host);
    leaf.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = new_key();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let chain = vec![leaf.der().to_vec(), ca_certificate.der().to_vec()];
    let pin = controller.app().join.pin;
    // In TLS 1.3 the client may believe itself connected before its certificate was refused.
    if let Ok(connection) =
        connect(controller.ready.agents, pin, ALPN_SESSION, Some((chain, &key))).await
    {
        let error = super::agent::soon("a refusal", connection.closed()).await;
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error}");
    }
    assert!(
        !controller.app().store.host(&identity.enrolled.host).await.unwrap().unwrap().connected
    );
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_serves_only_with_the_key_that_is_enrolled() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let (token, secret) = controller.token(Some("web-1")).await;
    let key = new_key();
    let enrolled = super::agent::enrol(&controller, super::agent::request(&token, &secret, &key))
        .await
        .unwrap();
    let identity = Identity { key, enrolled };
    // The row names another key by now, as after a renewal: the old certificate is worthless.
    let scope = hostler_controller::domain::Scope {
        host: Some(identity.enrolled.host.clone()),
        ..Default::default()
    };
    let replaced = controller.app().store.transact("test", scope, |snapshot| {
        let mut host = snapshot.host.clone().expect("the host is there");
        host.key_sha256 = "00".repeat(32);
        let changes = vec![hostler_controller::domain::Change::UpdateHost(Box::new(host))];
        Ok(hostler_controller::domain::Decision { changes, events: Vec::new(), reply: () })
    });
    replaced.await.unwrap();
    let connection = dial(&controller, &identity).await;
    assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_hosts_id_is_worthless() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let victim = new_host(&controller, "victim").await;
    let thief = new_host(&controller, "thief").await;
    let mut live = session(&controller, &victim, hello(&[], &[])).await;
    // Signed by the real authority, for the victim's id and the thief's key: as bad as it gets.
    let authority = Authority::open(&config(&path).pki_dir(), Clock::system(), 86_400).unwrap();
    for key in [thief.key, new_key()] {
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let request = Request::check(csr.der()).unwrap();
        let chain = authority.sign_host(&request, &victim.enrolled.host).unwrap().chain;
        let pin = controller.app().join.pin;
        let certificate = Some((chain, &key));
        let connection =
            connect(controller.ready.agents, pin, ALPN_SESSION, certificate).await.unwrap();
        assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    }
    // The victim's own session was not even replaced.
    live.control.send(&ToController::Heartbeat { sequence: 1, running: Vec::new() }).await;
    assert_eq!(live.control.next().await, Some(ToAgent::HeartbeatAck { sequence: 1 }));
    controller.stop().await;
}

#[tokio::test]
async fn a_revocation_closes_the_live_session_within_a_second_and_lasts() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    // An evicted host's name is free at once.
    for kind in [Revocation::Evict, Revocation::Ban] {
        let identity = new_host(&controller, "web-1").await;
        let live = session(&controller, &identity, hello(&[], &[])).await;
        let clock = Clock::system();
        let revoked_at = clock.monotonic_ms();
        controller.revoke(&identity.enrolled.host, kind).await;
        assert_eq!(close_code(&live.connection).await, u64::from(close::REVOKED));
        let took_ms = clock.monotonic_ms() - revoked_at;
        assert!(took_ms < 1000, "the session outlived its revocation by {took_ms} ms");
        let connection = dial(&controller, &identity).await;
        assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    }
    controller.stop().await;
}

#[tokio::test]
async fn a_newer_session_replaces_the_older() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let older = session(&controller, &identity, hello(&[], &[])).await;
    let newer = session(&controller, &identity, hello(&[], &[])).await;
    assert_eq!(close_code(&older.connection).await, u64::from(close::REPLACED));
    assert!(newer.welcome.epoch > older.welcome.epoch);
    let host = controller.app().store.host(&identity.enrolled.host).await.unwrap().unwrap();
    assert!(host.connected, "the end of the older session must not end the newer");
    controller.stop().await;
}

#[tokio::test]
async fn versions_that_do_not_meet_say_which_side_to_upgrade() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    for (versions, side) in [((0, 0), "upgrade the agent"), ((7, 9), "upgrade the controller")] {
        let connection = dial(&controller, &identity).await;
        let mut control = Stream::open(&connection).await;
        let offered = Hello { version_min: versions.0, version_max: versions.1, ..hello(&[], &[]) };
        control.send(&ToController::Hello(offered)).await;
        match control.next().await {
            Some(ToAgent::Refused { code, message }) => {
                assert_eq!(code, "VERSION_MISMATCH");
                assert!(message.ends_with(side), "{message}");
            }
            other => panic!("versions {versions:?} must be refused, got {other:?}"),
        }
        assert_eq!(close_code(&connection).await, u64::from(close::VERSION));
    }
    controller.stop().await;
}

/// A name, bytes, and whether the stream ends after them.
pub(super) type Case = (&'static str, Vec<u8>, bool);

/// What is no frame, made from one that is.
pub(super) fn bad_frames(good: &ToController) -> Vec<Case> {
    let good = codec::encode(good).unwrap();
    let mut trailing = good.clone();
    trailing.push(0);
    trailing[3] += 1;
    let oversized = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes().to_vec();
    vec![
        ("oversized", oversized, false),
        ("truncated", good[..good.len() - 1].to_vec(), true),
        ("cut off in its length", good[..3].to_vec(), true),
        ("trailing", trailing, false),
        ("unknown", vec![0, 0, 0, 1, 200], false),
        ("empty", vec![0, 0, 0, 0], false),
    ]
}

fn out_of_place(message: &ToController) -> Case {
    ("out of place", codec::encode(message).unwrap(), false)
}

#[tokio::test]
async fn bad_frames_end_their_session_and_no_other() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let good = new_host(&controller, "good").await;
    let bad = new_host(&controller, "bad").await;
    let mut bystander = session(&controller, &good, hello(&[], &[])).await;

    let beat = ToController::Heartbeat { sequence: 1, running: Vec::new() };
    let attempt = AttemptRef { job: controller.app().clock.new_job_id().unwrap(), attempt: 1 };
    let on_control = [bad_frames(&beat), vec![out_of_place(&ToController::Hello(hello(&[], &[])))]];
    let on_job = [bad_frames(&ToController::Accepted { attempt }), vec![out_of_place(&beat)]];
    for (name, bytes, finish) in on_control.concat() {
        let mut live = session(&controller, &bad, hello(&[], &[])).await;
        live.control.send.write_all(&bytes).await.unwrap();
        if finish {
            live.control.send.finish().unwrap();
        }
        assert_eq!(close_code(&live.connection).await, u64::from(close::PROTOCOL), "{name}");
    }
    for (name, bytes, finish) in on_job.concat() {
        let live = session(&controller, &bad, hello(&[], &[])).await;
        let mut stream = Stream::open(&live.connection).await;
        stream.send.write_all(&bytes).await.unwrap();
        if finish {
            stream.send.finish().unwrap();
        }
        let code = close_code(&live.connection).await;
        assert_eq!(code, u64::from(close::PROTOCOL), "{name}, on a job's stream");
    }
    bystander.control.send(&ToController::Heartbeat { sequence: 9, running: Vec::new() }).await;
    assert_eq!(bystander.control.next().await, Some(ToAgent::HeartbeatAck { sequence: 9 }));
    controller.stop().await;
}

#[tokio::test]
async fn a_source_that_keeps_trying_is_slowed_down() {
    let (_dir, path) = directory();
    // The clock stands still: no try is given back.
    let clock = Clock::manual(now_micros());
    let controller = Controller::start_with(&path, clock.clone()).await;
    let unknown = clock.new_enrolment_token_id().unwrap();
    let key = new_key();
    let mut codes = Vec::new();
    for _ in 0..21 {
        let request = super::agent::request(&unknown, &[0; 32], &key);
        codes.push(super::agent::enrol(&controller, request).await.unwrap_err());
    }
    assert!(codes[..20].iter().all(|code| code == "TOKEN_INVALID"), "{codes:?}");
    assert_eq!(codes[20], "RATE_LIMITED");
    clock.advance(Duration::from_secs(1));
    let request = super::agent::request(&unknown, &[0; 32], &key);
    assert_eq!(super::agent::enrol(&controller, request).await.unwrap_err(), "TOKEN_INVALID");
    controller.stop().await;
}
