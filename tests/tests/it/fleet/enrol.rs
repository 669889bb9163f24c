//! Tokens become hosts, and nothing else does.

use hostler_controller::clock::Clock;
use hostler_protocol::message::{ToAgent, ToController, close};
use hostler_protocol::{ALPN_ENROL, codec};

use super::agent::{
    Stream, close_code, connect, enrol, enrol_or_why, hello, key_sha256, new_host, new_key,
    request, session,
};
use super::hostile::bad_frames;
use super::{Controller, directory, now_micros};

#[tokio::test]
async fn a_token_enrols_one_host_and_its_key_may_ask_again() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let (token, secret) = controller.token(None).await;
    let key = new_key();
    let first = enrol(&controller, request(&token, &secret, &key)).await.unwrap();
    assert_eq!(first.name, "web-1");
    let host = controller.app().store.host(&first.host).await.unwrap().unwrap();
    assert_eq!(host.key_sha256, key_sha256(&key));
    assert_eq!(host.facts["os"], "test");

    // The answer was lost: the same key asks again and gets the same host.
    let again = enrol(&controller, request(&token, &secret, &key)).await.unwrap();
    assert_eq!(again.host, first.host);
    // Another key does not.
    let refused = enrol(&controller, request(&token, &secret, &new_key())).await;
    assert_eq!(refused.unwrap_err(), "TOKEN_USED");
    // A name is given once.
    let (token, secret) = controller.token(Some("web-1")).await;
    let refused = enrol(&controller, request(&token, &secret, &new_key())).await;
    assert_eq!(refused.unwrap_err(), "HOST_NAME_TAKEN");
    controller.stop().await;
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused_alike() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let (token, mut secret) = controller.token(None).await;
    let key = new_key();
    let unknown = controller.app().clock.new_enrolment_token_id().unwrap();
    let foreign = enrol(&controller, request(&unknown, &secret, &key)).await;
    assert_eq!(foreign.unwrap_err(), "TOKEN_INVALID");
    secret[0] ^= 1;
    let forged = enrol(&controller, request(&token, &secret, &key)).await;
    assert_eq!(forged.unwrap_err(), "TOKEN_INVALID");
    // The failed tries cost the token nothing.
    secret[0] ^= 1;
    let mut unsigned = request(&token, &secret, &key);
    let last = unsigned.csr.len() - 1;
    unsigned.csr[last] ^= 1;
    assert_eq!(enrol(&controller, unsigned).await.unwrap_err(), "CSR_INVALID");
    for (versions, side) in [((0, 0), "upgrade the agent"), ((7, 9), "upgrade the controller")] {
        let mut other = request(&token, &secret, &key);
        (other.version_min, other.version_max) = versions;
        let (code, message) = enrol_or_why(&controller, other).await.unwrap_err();
        assert_eq!(code, "VERSION_MISMATCH");
        assert!(message.ends_with(side), "{message}");
    }
    assert!(enrol(&controller, request(&token, &secret, &key)).await.is_ok());
    controller.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let (_dir, path) = directory();
    let clock = Clock::manual(now_micros());
    let controller = Controller::start_with(&path, clock.clone()).await;
    let (token, secret) = controller.token(None).await;
    clock.advance(std::time::Duration::from_secs(901));
    let refused = enrol(&controller, request(&token, &secret, &new_key())).await;
    assert_eq!(refused.unwrap_err(), "TOKEN_EXPIRED");
    controller.stop().await;
}

#[tokio::test]
async fn a_controller_with_another_root_never_sees_the_secret() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let wrong_pin = [7; 32];
    let connected = connect(controller.ready.agents, wrong_pin, ALPN_ENROL, None).await;
    assert!(connected.is_err(), "a wrong pin must end the handshake");
    controller.stop().await;
}

#[tokio::test]
async fn anything_but_a_request_ends_an_enrolment() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let pin = controller.app().join.pin;
    let (token, secret) = controller.token(Some("web-1")).await;
    let key = new_key();
    let right = request(&token, &secret, &key);
    let mut cases = bad_frames(&ToController::Enrol(right.clone()));
    let hello = codec::encode(&ToController::Hello(hello(&[], &[]))).unwrap();
    cases.push(("another message", hello, false));
    for (name, bytes, finish) in cases {
        let connection = connect(controller.ready.agents, pin, ALPN_ENROL, None).await.unwrap();
        let mut stream = Stream::open(&connection).await;
        stream.send.write_all(&bytes).await.unwrap();
        if finish {
            stream.send.finish().unwrap();
        }
        assert_eq!(close_code(&connection).await, u64::from(close::PROTOCOL), "{name}");
    }
    // Nothing of it was taken for a use of the token.
    assert!(enrol(&controller, right).await.is_ok());
    controller.stop().await;
}

#[tokio::test]
async fn identity_and_root_outlive_the_controller() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let pin = controller.app().join.pin;
    let identity = new_host(&controller, "web-1").await;
    let first = session(&controller, &identity, hello(&[], &[])).await;
    controller.stop().await;
    assert_eq!(close_code(&first.connection).await, u64::from(close::DRAINING));

    let controller = Controller::start(&path).await;
    assert_eq!(controller.app().join.pin, pin);
    let mut second = session(&controller, &identity, hello(&[], &[])).await;
    assert!(second.welcome.epoch > first.welcome.epoch);
    let beat = ToController::Heartbeat { sequence: 1, running: Vec::new() };
    second.control.send(&beat).await;
    assert_eq!(second.control.next().await, Some(ToAgent::HeartbeatAck { sequence: 1 }));
    controller.stop().await;
}
