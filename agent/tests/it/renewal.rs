//! Certificates renewed, refused, forgotten and ended, with lives of seconds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostler_agent::clock::Clock;
use hostler_agent::config::Config;
use hostler_agent::identity::{self, Enrolment};
use hostler_agent::session::Status;
use hostler_agent::{Agent, AgentError, start};
use hostler_protocol::message::{ToAgent, ToController, Verdict, close};
use hostler_protocol::{ALPN_ENROL, ALPN_SESSION, RETURN_SECS_MAX};
use tokio_util::sync::CancellationToken;

use crate::controller::{Controller, Peer, now_secs, soon};
use crate::sessions::{attempt, spec};
use crate::worker::Hand;

/// A life long enough for a busy machine to do what is done in half of it.
const LIFE_SECS: u64 = 6;

pub(crate) async fn enrolled(
    controller: &Controller,
    secs: u64,
    clock: Clock,
) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let enrolment = Enrolment {
        join: &join,
        state_dir: dir.path(),
        hostname: "web-1".to_owned(),
        facts: b"{}".to_vec(),
        replace: false,
        clock,
    };
    let (card, _) = tokio::join!(
        identity::enrol(enrolment),
        controller.enrol(|request| Some(controller.certify_for(request, secs))),
    );
    card.unwrap();
    dir
}

struct Running {
    agent: Agent,
    shutdown: CancellationToken,
}

impl Running {
    /// Starts an agent; while the one before it still closes its journal, again.
    async fn start(dir: &Path, hand: &Hand, clock: Clock) -> Self {
        let shutdown = CancellationToken::new();
        let config = Config { state_dir: dir.to_owned(), drain_secs: 1, ..Config::default() };
        let started = async {
            loop {
                match start(&config, Arc::new(hand.clone()), clock.clone(), shutdown.clone()) {
                    Ok(agent) => return agent,
                    Err(AgentError::Journal(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("no start: {error}"),
                }
            }
        };
        let agent = soon("a start", started).await;
        Self { agent, shutdown }
    }

    /// Waits until the agent has taken in the welcome of that session.
    async fn connected(&mut self, epoch: u64) {
        let connected = self.agent.status.wait_for(|s| *s == Status::Connected { epoch });
        soon("the session", connected).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        soon("the end of the agent", self.agent.stopped()).await.unwrap();
    }

    /// Waits until the agent waits for this.
    async fn waits_for(&mut self, what: &str) {
        let told = self.agent.status.wait_for(
            |status| matches!(status, Status::Waiting { reason, .. } if reason.contains(what)),
        );
        soon(what, told).await.unwrap();
    }
}

fn leaf(dir: &Path) -> Vec<u8> {
    identity::load(dir).unwrap().chain[0].to_vec()
}

/// Waits until a certificate that ends then has ended.
async fn until_after(ends_at_secs: u64) {
    while now_secs() <= ends_at_secs {
        tokio::task::yield_now().await;
    }
}

/// What a session's last frame has to be when the agent leaves to come back with another identity.
async fn leaves(peer: &mut Peer) {
    match peer.control.next().await {
        Some(ToController::Goodbye { reason }) => assert!(reason.contains("certificate")),
        other => panic!("a goodbye was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_new_certificate_is_proven_by_a_reconnect_and_then_committed() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let (before, mut agent) =
        (leaf(dir.path()), Running::start(dir.path(), &Hand::quick(), Clock::system()).await);
    let mut peer = controller.next_session().await;
    let first_key = peer.key();
    peer.welcome_all(2, 1).await;
    let (csr, key) = peer.renew().await;
    assert_ne!(key, first_key, "a new certificate is for a new key");
    let chain = controller.chain(&csr, 3600);
    peer.renewed(chain.clone()).await;
    leaves(&mut peer).await;

    let mut peer = controller.next_session().await;
    assert_eq!(peer.key(), key);
    assert_eq!(leaf(dir.path()), before, "not before it is proven");
    peer.welcome_all(2, 2).await;
    agent.connected(2).await;
    agent.stop().await;
    assert_eq!(leaf(dir.path()), chain[0], "the proven one is the host's from now on");
    assert!(!dir.path().join("identity.candidate").exists());
    assert!(!dir.path().join("identity.old").exists(), "the key before is still there");
}

#[tokio::test]
async fn an_older_controller_is_never_asked() {
    let controller = Controller::start();
    let dir = enrolled(&controller, 2, Clock::system()).await;
    let agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let mut peer = controller.next_session().await;
    peer.welcome_all(1, 1).await;
    let said = tokio::time::timeout(Duration::from_secs(3), peer.control.next()).await;
    assert!(said.is_err(), "a controller of version 1 was asked: {said:?}");
    agent.stop().await;
}

#[tokio::test]
async fn silence_costs_nothing_but_time_and_a_late_answer_is_taken() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let (hand, running) = (Hand::slow(), attempt(1, 1));
    let agent = Running::start(dir.path(), &hand, Clock::system()).await;
    let mut peer = controller.next_session().await;
    peer.welcome_all(2, 1).await;
    let mut job = peer.run(&running, spec(), 60).await;
    assert_eq!(job.next().await, Some(ToController::Accepted { attempt: running.clone() }));

    let (_, key) = peer.renew().await;
    let (csr, again) = peer.renew().await;
    assert_eq!(again, key, "the same key is asked for again");
    peer.renewed(controller.chain(&csr, 3600)).await;
    leaves(&mut peer).await;
    let mut peer = controller.next_session().await;
    assert_eq!(peer.key(), key);
    assert_eq!(
        peer.hello.running,
        std::slice::from_ref(&running),
        "the job has survived the reconnect"
    );
    peer.welcome_all(2, 2).await;
    let mut job = peer.opened().await;
    assert_eq!(job.next().await, Some(ToController::Accepted { attempt: running.clone() }));
    hand.let_go();
    assert!(matches!(job.next().await, Some(ToController::Finished { .. })));
    assert_eq!(hand.starts(&running), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_that_ends_during_a_job_ends_nothing_and_its_host_comes_back_by_its_key() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let ends_at = now_secs() + LIFE_SECS;
    let (hand, first, second) = (Hand::slow(), attempt(1, 1), attempt(2, 1));
    let agent = Running::start(dir.path(), &hand, Clock::system()).await;
    let mut peer = controller.next_session().await;
    let old_key = peer.key();
    peer.welcome_all(2, 1).await;
    let mut job = peer.run(&first, spec(), 60).await;
    let mut other = peer.run(&second, spec(), 60).await;
    for stream in [&mut job, &mut other] {
        assert!(matches!(stream.next().await, Some(ToController::Accepted { .. })));
        assert!(matches!(stream.next().await, Some(ToController::Progress { .. })));
    }
    // Whatever it asks is answered by silence, until its certificate has ended.
    while now_secs() <= ends_at {
        peer.renew().await;
    }
    hand.let_go();
    let ended = soon("the end of a job", async {
        tokio::select! { ended = job.next() => ended, ended = other.next() => ended }
    });
    assert!(matches!(ended.await, Some(ToController::Finished { .. })), "the session goes on");
    peer.connection.close(close::UNAVAILABLE.into(), b"test");

    let mut coming = controller.next_return().await;
    assert_eq!(coming.asked.host.as_str(), "host_00000000000000000000000001");
    let (proof, proven) = coming.proof().await;
    assert_eq!(proven, old_key, "the key of the last committed certificate");
    let chain = controller.chain(&proof.csr, 3600);
    coming.answer(&ToAgent::Renewed(hostler_protocol::message::Renewed { chain })).await;
    let mut peer = controller.next_session().await;
    assert_ne!(peer.key(), old_key);
    assert_eq!((peer.hello.running.len(), peer.hello.unacknowledged.len()), (1, 1));
    peer.welcome_all(2, 2).await;
    hand.let_go();
    assert_eq!((hand.starts(&first), hand.starts(&second)), (1, 1));
    agent.stop().await;
}

#[tokio::test]
async fn a_candidate_that_is_refused_gives_way_to_the_committed_one_and_to_another_later() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let mut peer = controller.next_session().await;
    let first_key = peer.key();
    peer.welcome_all(2, 1).await;
    let (csr, candidate) = peer.renew().await;
    peer.renewed(controller.chain(&csr, 3600)).await;
    let peer = controller.next_session().await;
    assert_eq!(peer.key(), candidate);
    peer.refuse();
    let mut peer = controller.next_session().await;
    assert_eq!(peer.key(), first_key, "the committed one is tried at once");
    peer.welcome_all(2, 2).await;
    let (_, another) = peer.renew().await;
    assert_ne!(another, candidate, "what was refused is not asked for again");
    assert!(!dir.path().join("identity.candidate").exists());
    agent.stop().await;
}

#[tokio::test]
async fn a_candidate_that_cannot_connect_is_tried_again_later() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let mut agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let mut peer = controller.next_session().await;
    let first_key = peer.key();
    peer.welcome_all(2, 1).await;
    let (csr, candidate) = peer.renew().await;
    peer.renewed(controller.chain(&csr, 3600)).await;
    let peer = controller.next_session().await;
    assert_eq!(peer.key(), candidate);
    peer.connection.close(close::UNAVAILABLE.into(), b"not now");
    let mut peer = controller.next_session().await;
    let fell_back = peer.key() == first_key;
    peer.welcome_all(2, 2).await;
    if fell_back {
        leaves(&mut peer).await;
        peer = controller.next_session().await;
        assert_eq!(peer.key(), candidate);
        peer.welcome_all(2, 3).await;
    }
    agent.connected(if fell_back { 3 } else { 2 }).await;
    agent.stop().await;
    assert!(!dir.path().join("identity.candidate").exists(), "it was committed");
}

#[tokio::test]
async fn a_welcome_that_was_lost_is_found_again_when_the_committed_identity_is_refused() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let mut agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let mut peer = controller.next_session().await;
    let first_key = peer.key();
    peer.welcome_all(2, 1).await;
    let (csr, candidate) = peer.renew().await;
    peer.renewed(controller.chain(&csr, 3600)).await;
    // The controller commits the candidate and dies before it says so.
    let peer = controller.next_session().await;
    peer.connection.close(close::UNAVAILABLE.into(), b"died");
    let mut peer = loop {
        let peer = controller.next_session().await;
        if peer.key() == candidate {
            break peer;
        }
        assert_eq!(peer.key(), first_key);
        peer.refuse();
    };
    peer.welcome_all(2, 2).await;
    agent.connected(2).await;
    agent.stop().await;
    assert!(!dir.path().join("identity.candidate").exists());
}

#[tokio::test]
async fn a_return_that_was_committed_unheard_is_proven_by_the_candidate_s_key() {
    let controller = Controller::start();
    let dir = enrolled(&controller, LIFE_SECS, Clock::system()).await;
    let agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let mut peer = controller.next_session().await;
    peer.welcome_all(2, 1).await;
    let (csr, candidate) = peer.renew().await;
    // Both end before the agent is back: the committed one, and the candidate the controller took.
    peer.renewed(controller.chain(&csr, 1)).await;
    let ends_at = now_secs() + LIFE_SECS;
    let unheard = controller.next().await;
    drop(unheard);
    agent.stop().await;
    until_after(ends_at).await;
    let mut agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let mut coming = controller.next_return().await;
    let (_, proven) = coming.proof().await;
    assert_ne!(proven, candidate);
    let refused = ToAgent::RenewRefused { code: "HOST_UNKNOWN".into(), message: "no".into() };
    coming.answer(&refused).await;
    let mut coming = controller.next_return().await;
    let (proof, proven) = coming.proof().await;
    assert_eq!(proven, candidate);
    let chain = controller.chain(&proof.csr, 3600);
    coming.answer(&ToAgent::Renewed(hostler_protocol::message::Renewed { chain })).await;
    let mut peer = controller.next_session().await;
    assert_ne!(peer.key(), candidate);
    peer.welcome_all(2, 2).await;
    agent.connected(2).await;
    agent.stop().await;
    assert!(!dir.path().join("identity.candidate").exists());
}

#[tokio::test]
async fn a_return_that_is_refused_says_what_to_do_and_an_old_controller_too() {
    let days = RETURN_SECS_MAX / 86_400;
    for (code, message) in [
        ("HOST_REVOKED", "enrol it again with a new token".to_owned()),
        ("RETURN_TOO_LATE", format!("its certificate ended more than {days} days ago")),
    ] {
        let controller = Controller::start();
        let dir = enrolled(&controller, 0, Clock::system()).await;
        until_after(now_secs()).await;
        let mut agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
        let mut coming = controller.next_return().await;
        coming.proof().await;
        let refused = ToAgent::RenewRefused { code: code.to_owned(), message: message.clone() };
        coming.answer(&refused).await;
        agent.waits_for(&message).await;
        agent.stop().await;
    }
    let controller = Controller::with_alpn(&[ALPN_SESSION, ALPN_ENROL]);
    let dir = enrolled(&controller, 0, Clock::system()).await;
    until_after(now_secs()).await;
    let mut agent = Running::start(dir.path(), &Hand::quick(), Clock::system()).await;
    let served = async {
        loop {
            drop(controller.next().await);
        }
    };
    tokio::select! {
        () = agent.waits_for("the controller is too old") => {}
        () = served => {}
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_host_with_a_wrong_clock_connects_and_one_of_another_age_does_not() {
    let hour_us = 3_600_000_000;
    let now = now_secs();
    let controller = Controller::with_validity((now - 300, now + 3600));
    for hours in [-23, -1, 1, 24] {
        let clock = Clock::wrong_by(hours * hour_us);
        let dir = enrolled(&controller, 3600, clock.clone()).await;
        let agent = Running::start(dir.path(), &Hand::quick(), clock).await;
        let mut peer = controller.next_session().await;
        let seen_hours = (peer.hello.clock_us - Clock::system().now_us()) / hour_us;
        assert!((hours - seen_hours).abs() <= 1, "the Hello tells the host's own clock");
        peer.welcome(1, Vec::<(_, Verdict)>::new()).await;
        agent.stop().await;
    }
    let dir = enrolled(&controller, 3600, Clock::system()).await;
    for days in [-2, 3] {
        let clock = Clock::wrong_by(days * 24 * hour_us);
        let mut agent = Running::start(dir.path(), &Hand::quick(), clock).await;
        let failed = async {
            while let Some(peer) = Some(controller.next().await) {
                assert!(peer.is_none(), "a clock off by {days} days got through");
            }
        };
        tokio::select! {
            () = agent.waits_for("certificate") => {}
            () = failed => {}
        }
        agent.stop().await;
    }
}
