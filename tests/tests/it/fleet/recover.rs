//! The return of hosts whose certificate has ended, by the key of their last one.

use std::time::Duration;

use hostler_controller::clock::Clock;
use hostler_controller::pki::HOST_SECS;
use hostler_controller::views::Revocation;
use hostler_protocol::message::{RecoverProof, RecoverRequest, ToAgent, ToController, close};
use hostler_protocol::recovery::{EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES, statement};
use hostler_protocol::{ALPN_RENEW, ALPN_SESSION, RETURN_SECS_MAX};
use quinn::{Connection, ConnectionError};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use super::agent::{
    Identity, Stream, close_code, connect, csr, enrol, hello, hello_in_2, key_sha256, new_host,
    new_key, request, session, soon, with,
};
use super::{Controller, directory, now_micros};

/// A host that comes back, as far as its challenge.
struct Coming {
    connection: Connection,
    stream: Stream,
    nonce: [u8; NONCE_BYTES],
}

async fn connected(controller: &Controller) -> Connection {
    let pin = controller.app().join.pin;
    connect(controller.ready.agents, pin, ALPN_RENEW, None).await.unwrap()
}

/// The controller's answer to the first frame.
async fn introduced(
    controller: &Controller,
    asked: RecoverRequest,
) -> (Connection, Stream, Option<ToAgent>) {
    let connection = connected(controller).await;
    let mut stream = Stream::open(&connection).await;
    stream.send(&ToController::Recover(asked)).await;
    let answer = stream.next().await;
    (connection, stream, answer)
}

fn asked(identity: &Identity) -> RecoverRequest {
    RecoverRequest { version_min: 1, version_max: 2, host: identity.enrolled.host.clone() }
}

async fn coming(controller: &Controller, identity: &Identity) -> Coming {
    let (connection, stream, answer) = introduced(controller, asked(identity)).await;
    let Some(ToAgent::Challenge(challenge)) = answer else {
        panic!("whoever asks is challenged, got {answer:?}");
    };
    Coming { connection, stream, nonce: challenge.nonce.try_into().unwrap() }
}

impl Coming {
    fn proof(&self, identity: &Identity, key: &KeyPair, csr: Vec<u8>) -> RecoverProof {
        let mut keying = [0; EXPORTER_BYTES];
        self.connection.export_keying_material(&mut keying, EXPORTER_LABEL, b"").unwrap();
        let statement = statement(&keying, &self.nonce, &identity.enrolled.host, &csr);
        let signature = key.sign(&statement).unwrap();
        RecoverProof { public_key: key.subject_public_key_info(), signature, csr }
    }

    /// The chain, or the refusal's code.
    async fn prove(mut self, proof: RecoverProof) -> Result<Vec<Vec<u8>>, String> {
        self.stream.send(&ToController::Prove(proof)).await;
        match self.stream.next().await {
            Some(ToAgent::Renewed(renewed)) => Ok(renewed.chain),
            Some(ToAgent::RenewRefused { code, .. }) => Err(code),
            other => panic!("a proof must be answered, got {other:?}"),
        }
    }
}

/// Comes back with the identity's key, for a new one.
async fn recover(
    controller: &Controller,
    identity: &Identity,
    new: &KeyPair,
) -> Result<Vec<Vec<u8>>, String> {
    let coming = coming(controller, identity).await;
    let proof = coming.proof(identity, &identity.key, csr(new));
    coming.prove(proof).await
}

/// A controller with a clock to move, and a host of it.
async fn world(path: &std::path::Path) -> (Clock, Controller, Identity) {
    let clock = Clock::manual(now_micros());
    let controller = Controller::start_with(path, clock.clone()).await;
    let identity = new_host(&controller, "web-1").await;
    (clock, controller, identity)
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

#[tokio::test]
async fn a_host_whose_certificate_has_ended_is_told_so_and_comes_back_by_its_key() {
    let (_dir, path) = directory();
    let (clock, controller, old) = world(&path).await;
    let host = old.enrolled.host.clone();
    clock.advance(days(8));
    // In TLS 1.3 the client may believe itself connected before its certificate was refused.
    let pin = controller.app().join.pin;
    let shown = Some((old.enrolled.chain.clone(), &old.key));
    let error = match connect(controller.ready.agents, pin, ALPN_SESSION, shown).await {
        Ok(connection) => soon("a refusal", connection.closed()).await,
        Err(error) => error,
    };
    let ConnectionError::ConnectionClosed(closed) = &error else {
        panic!("TLS must refuse it: {error}");
    };
    assert_eq!(u64::from(closed.error_code), 0x100 + 45, "the alert certificate_expired");

    let key = new_key();
    let chain = recover(&controller, &old, &key).await.unwrap();
    let row = controller.host(&host).await;
    assert_eq!((row.recoveries, row.recovered_at), (1, Some(clock.now())));
    assert_eq!(row.key_sha256, key_sha256(&old.key), "it is to be proven by a session first");
    // The answer was lost: it may ask again with the same key, and is not counted again.
    assert!(recover(&controller, &old, &key).await.is_ok());
    assert_eq!(controller.host(&host).await.recoveries, 1);

    let new = with(&old, key, chain);
    session(&controller, &new, hello_in_2(&[])).await;
    let row = controller.host(&host).await;
    assert_eq!((row.key_sha256, row.candidate), (key_sha256(&new.key), None));
    let told = controller.told(&host).await;
    assert_eq!(told.iter().filter(|kind| **kind == "host.recovered").count(), 1, "{told:?}");
    // The key before is worth nothing any more, on either way.
    assert_eq!(recover(&controller, &old, &new_key()).await.unwrap_err(), "HOST_UNKNOWN");
    controller.stop().await;
}

#[tokio::test]
async fn ninety_days_after_its_end_it_is_too_late() {
    let (_dir, path) = directory();
    let (clock, controller, identity) = world(&path).await;
    clock.advance(Duration::from_secs(HOST_SECS + RETURN_SECS_MAX - 60));
    assert!(recover(&controller, &identity, &new_key()).await.is_ok());
    clock.advance(Duration::from_secs(120));
    let late = recover(&controller, &identity, &new_key()).await;
    assert_eq!(late.unwrap_err(), "RETURN_TOO_LATE");
    controller.stop().await;
}

/// The controller's clock was a month ahead for a while, and hosts got certificates of that time. When it
/// is right again TLS refuses them until the month is over.
#[tokio::test]
async fn a_certificate_of_a_time_that_has_not_come_locks_no_host_out() {
    let (_dir, path) = directory();
    let start = now_micros();
    let (clock, controller, old) = world(&path).await;
    clock.advance(days(30));
    let key = new_key();
    let chain = recover(&controller, &old, &key).await.unwrap();
    let identity = with(&old, key, chain);
    session(&controller, &identity, hello_in_2(&[])).await;
    controller.stop().await;

    let controller = Controller::start_with(&path, Clock::manual(start.plus_secs(60))).await;
    let pin = controller.app().join.pin;
    let shown = Some((identity.enrolled.chain.clone(), &identity.key));
    let error = match connect(controller.ready.agents, pin, ALPN_SESSION, shown).await {
        Ok(connection) => soon("a refusal", connection.closed()).await,
        Err(error) => error,
    };
    assert!(
        matches!(&error, ConnectionError::ConnectionClosed(closed)
        if u64::from(closed.error_code) == 0x100 + 45),
        "the alert certificate_expired: {error}"
    );
    let key = new_key();
    let chain = recover(&controller, &identity, &key).await.unwrap();
    let new = with(&identity, key, chain);
    session(&controller, &new, hello_in_2(&[])).await;
    let row = controller.host(&identity.enrolled.host).await;
    assert_eq!((row.key_sha256, row.recoveries), (key_sha256(&new.key), 2));
    let early = recover(&controller, &new, &new_key()).await;
    assert_eq!(early.unwrap_err(), "CERTIFICATE_VALID");
    controller.stop().await;
}

#[tokio::test]
async fn nobody_comes_back_who_need_not_or_must_not() {
    let (_dir, path) = directory();
    let (clock, controller, identity) = world(&path).await;
    let early = recover(&controller, &identity, &new_key()).await;
    assert_eq!(early.unwrap_err(), "CERTIFICATE_VALID");
    let evicted = new_host(&controller, "web-2").await;
    let banned = new_host(&controller, "web-3").await;
    controller.revoke(&evicted.enrolled.host, Revocation::Evict).await;
    controller.revoke(&banned.enrolled.host, Revocation::Ban).await;
    clock.advance(days(8));
    for (who, code) in [(&evicted, "HOST_REVOKED"), (&banned, "HOST_BANNED")] {
        assert_eq!(recover(&controller, who, &new_key()).await.unwrap_err(), code);
        assert_eq!(controller.host(&who.enrolled.host).await.recoveries, 0);
    }
    for key in [&identity.key, &banned.key] {
        let code = recover(&controller, &identity, key).await.unwrap_err();
        assert!(["KEY_REUSED", "KEY_BANNED"].contains(&code.as_str()), "{code}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn proofs_that_are_not_this_host_s_on_this_connection_prove_nothing() {
    let (_dir, path) = directory();
    let (clock, controller, identity) = world(&path).await;
    let other = new_host(&controller, "web-2").await;
    clock.advance(days(8));
    let new = csr(&new_key());

    // Another host's key, a made-up one, and a host that does not exist: all the same.
    let nobody = with(&identity, new_key(), Vec::new());
    let mut stranger = with(&identity, new_key(), Vec::new());
    stranger.enrolled.host = clock.new_host_id().unwrap();
    for (who, key) in [(&identity, &other.key), (&nobody, &nobody.key), (&stranger, &stranger.key)]
    {
        let coming = coming(&controller, who).await;
        let proof = coming.proof(who, key, new.clone());
        assert_eq!(coming.prove(proof).await.unwrap_err(), "HOST_UNKNOWN");
    }
    // The right key over something else: another connection's challenge, another request.
    let elsewhere = coming(&controller, &identity).await;
    let stolen = elsewhere.proof(&identity, &identity.key, new.clone());
    let here = coming(&controller, &identity).await;
    assert_eq!(here.prove(stolen).await.unwrap_err(), "PROOF_INVALID");
    let here = coming(&controller, &identity).await;
    let swapped =
        RecoverProof { csr: csr(&new_key()), ..here.proof(&identity, &identity.key, new.clone()) };
    assert_eq!(here.prove(swapped).await.unwrap_err(), "PROOF_INVALID");
    let here = coming(&controller, &identity).await;
    let unsigned =
        RecoverProof { csr: b"rubbish".to_vec(), ..here.proof(&identity, &identity.key, new) };
    assert_eq!(here.prove(unsigned).await.unwrap_err(), "CSR_INVALID");
    let row = controller.host(&identity.enrolled.host).await;
    assert_eq!((row.recoveries, row.candidate), (0, None));
    controller.stop().await;
}

#[tokio::test]
async fn frames_out_of_order_end_a_return_and_too_many_are_slowed_down() {
    let (_dir, path) = directory();
    let (clock, controller, identity) = world(&path).await;
    let connection = connected(&controller).await;
    let mut stream = Stream::open(&connection).await;
    stream.send(&ToController::Hello(hello(&[], &[]))).await;
    assert_eq!(close_code(&connection).await, u64::from(close::PROTOCOL));
    let mut early = coming(&controller, &identity).await;
    early.stream.send(&ToController::Recover(asked(&identity))).await;
    assert_eq!(close_code(&early.connection).await, u64::from(close::PROTOCOL));
    let ancient = RecoverRequest { version_min: 0, version_max: 0, ..asked(&identity) };
    let (_connection, _stream, answer) = introduced(&controller, ancient).await;
    let refused = |answer: Option<ToAgent>| match answer {
        Some(ToAgent::RenewRefused { code, .. }) => code,
        other => panic!("a refusal was expected, got {other:?}"),
    };
    assert_eq!(refused(answer), "VERSION_MISMATCH");

    // The clock stands still: no try is given back. Three were taken above.
    for _ in 3..20 {
        coming(&controller, &identity).await;
    }
    let (_connection, _stream, answer) = introduced(&controller, asked(&identity)).await;
    assert_eq!(refused(answer), "RATE_LIMITED");
    // Enrolment has a limit of its own, and this one recovers.
    new_host(&controller, "web-2").await;
    clock.advance(Duration::from_secs(1));
    coming(&controller, &identity).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_banned_key_is_nobody_s_again_and_an_evicted_host_s_is_anybody_s() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let evicted = new_host(&controller, "web-1").await;
    let banned = new_host(&controller, "web-2").await;
    controller.revoke(&evicted.enrolled.host, Revocation::Evict).await;
    controller.revoke(&banned.enrolled.host, Revocation::Ban).await;
    let (token, secret) = controller.token(Some("web-1")).await;
    let again = enrol(&controller, request(&token, &secret, &evicted.key)).await.unwrap();
    assert_ne!(again.host, evicted.enrolled.host, "it is another host");

    // A banned host's name stays its own, and its key is refused under any.
    let (token, secret) = controller.token(Some("web-2")).await;
    let refused = enrol(&controller, request(&token, &secret, &new_key())).await;
    assert_eq!(refused.unwrap_err(), "HOST_NAME_TAKEN");
    let (other_token, other_secret) = controller.token(Some("web-4")).await;
    let refused = enrol(&controller, request(&other_token, &other_secret, &banned.key)).await;
    assert_eq!(refused.unwrap_err(), "KEY_BANNED");
    // When it is forgotten its name is free, its key is not; the tokens are as good as before.
    controller.app().delete_host(banned.enrolled.host.clone()).await.unwrap();
    let refused = enrol(&controller, request(&token, &secret, &banned.key)).await;
    assert_eq!(refused.unwrap_err(), "KEY_BANNED");
    assert!(enrol(&controller, request(&token, &secret, &new_key())).await.is_ok());
    let refused = {
        let (token, secret) = controller.token(Some("web-3")).await;
        enrol(&controller, request(&token, &secret, &evicted.key)).await
    };
    assert_eq!(refused.unwrap_err(), "KEY_TAKEN", "one key is one host's");
    controller.stop().await;
}
