//! Enrolment: the pin before the secret, one key through all retries, nothing half done.

use hostler_agent::clock::Clock;
use hostler_agent::identity::{self, EnrolError, Enrolment, ExchangeError};
use hostler_protocol::join::Join;
use hostler_protocol::message::{ToAgent, ToController};

use crate::controller::{Controller, soon};

fn enrolment<'a>(join: &'a Join, state_dir: &'a std::path::Path) -> Enrolment<'a> {
    Enrolment {
        join,
        state_dir,
        hostname: "web-1.example".to_owned(),
        facts: b"{}".to_vec(),
        replace: false,
        clock: Clock::system(),
    }
}

#[tokio::test]
async fn a_host_enrols_once_and_keeps_its_identity() {
    let controller = Controller::start();
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let (card, request) = tokio::join!(
        identity::enrol(enrolment(&join, dir.path())),
        controller.enrol(|request| Some(controller.certify(request))),
    );
    let card = card.unwrap();
    assert_eq!((card.name.as_str(), request.hostname.as_str()), ("web-1", "web-1.example"));
    assert_eq!((request.secret, request.token), (join.secret.to_vec(), join.token.clone()));
    assert_eq!(identity::load(dir.path()).unwrap().card, card);
    let again = identity::enrol(enrolment(&join, dir.path())).await;
    assert!(matches!(again, Err(EnrolError::AlreadyEnrolled)), "{again:?}");
}

#[tokio::test]
async fn a_retry_after_a_lost_answer_asks_for_the_same_key() {
    let controller = Controller::start();
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let (lost, first) =
        tokio::join!(identity::enrol(enrolment(&join, dir.path())), controller.enrol(|_| None),);
    assert!(matches!(lost, Err(EnrolError::Exchange(ExchangeError::Lost(_)))), "{lost:?}");
    let (card, second) = tokio::join!(
        identity::enrol(enrolment(&join, dir.path())),
        controller.enrol(|request| Some(controller.certify(request))),
    );
    card.unwrap();
    let key = |csr: Vec<u8>| {
        let csr = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        rcgen::PublicKeyData::der_bytes(&csr.public_key).to_vec()
    };
    assert_eq!(key(first.csr), key(second.csr));
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_stores_nothing() {
    let controller = Controller::start();
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let refused =
        ToAgent::EnrolRefused { code: "TOKEN_EXPIRED".into(), message: "too late".into() };
    let (result, _) = tokio::join!(
        identity::enrol(enrolment(&join, dir.path())),
        controller.enrol(|_| Some(refused)),
    );
    assert!(matches!(result, Err(EnrolError::Refused { code, .. }) if code == "TOKEN_EXPIRED"));
    assert!(!identity::is_enrolled(dir.path()));
}

#[tokio::test]
async fn another_controller_never_sees_the_secret() {
    let (ours, other) = (Controller::start(), Controller::start());
    let dir = tempfile::tempdir().unwrap();
    let join = Join { addresses: vec![other.address.to_string()], ..ours.join() };
    let watched = async {
        let incoming = soon("a connection", other.endpoint.accept()).await.unwrap();
        match incoming.await {
            Err(_) => None,
            Ok(connection) => connection.accept_bi().await.ok(),
        }
    };
    let (result, stream) =
        tokio::join!(identity::enrol(enrolment(&join, dir.path())), soon("a refusal", watched));
    assert!(matches!(result, Err(EnrolError::Dial(_))), "{result:?}");
    assert!(stream.is_none(), "a stream was opened to a controller of another root");
}

#[tokio::test]
async fn an_identity_under_another_root_is_not_stored() {
    let (controller, other) = (Controller::start(), Controller::start());
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let (result, request) = tokio::join!(
        identity::enrol(enrolment(&join, dir.path())),
        controller.enrol(|request| Some(other.certify(request))),
    );
    assert!(matches!(result, Err(EnrolError::OtherRoot)), "{result:?}");
    assert!(!identity::is_enrolled(dir.path()));
    assert!(!matches!(ToController::Enrol(request), ToController::Goodbye { .. }));
}

#[tokio::test]
async fn an_identity_for_another_key_does_not_replace_the_one_there_is() {
    let controller = Controller::start();
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let (first, other) = tokio::join!(
        identity::enrol(enrolment(&join, dir.path())),
        controller.enrol(|request| Some(controller.certify(request))),
    );
    first.unwrap();
    let before = identity::load(dir.path()).unwrap();
    let replace = Enrolment { replace: true, ..enrolment(&join, dir.path()) };
    let (second, _) = tokio::join!(
        identity::enrol(replace),
        controller.enrol(|_| Some(controller.certify(&other))),
    );
    assert!(matches!(second, Err(EnrolError::Unfit(_))), "{second:?}");
    assert_eq!(identity::load(dir.path()).unwrap().chain, before.chain, "the old identity is gone");
}
