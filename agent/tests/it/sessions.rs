//! Sessions and what survives them: delivery until acknowledged, one start per attempt, a crash.

use std::path::Path;
use std::sync::Arc;

use hostler_agent::clock::Clock;
use hostler_agent::config::Config;
use hostler_agent::identity::{self, Enrolment};
use hostler_agent::session::Status;
use hostler_agent::{Agent, start};
use hostler_protocol::id::JobId;
use hostler_protocol::job::{JobError, Outcome, OutcomeState};
use hostler_protocol::message::{AttemptRef, ToAgent, ToController, Verdict, close};
use tokio_util::sync::CancellationToken;

use crate::controller::{Controller, soon};
use crate::worker::Hand;

async fn enrolled(controller: &Controller) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let join = controller.join();
    let enrolment = Enrolment {
        join: &join,
        state_dir: dir.path(),
        hostname: "web-1".to_owned(),
        facts: b"{}".to_vec(),
        replace: false,
        clock: Clock::system(),
    };
    let (card, _) = tokio::join!(
        identity::enrol(enrolment),
        controller.enrol(|request| Some(controller.certify(request))),
    );
    card.unwrap();
    dir
}

/// Starts an agent; while the one before it still closes its journal, again.
fn agent(state_dir: &Path, hand: &Hand, shutdown: &CancellationToken) -> Agent {
    let config = Config { state_dir: state_dir.to_owned(), drain_secs: 5, ..Config::default() };
    let clock = Clock::system();
    let until_ms = clock.monotonic_ms() + 5000;
    loop {
        let executor = Arc::new(hand.clone());
        match start(&config, executor, Clock::system(), shutdown.clone()) {
            Ok(agent) => return agent,
            Err(error) if clock.monotonic_ms() > until_ms => panic!("no start: {error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

pub(crate) fn attempt(job: u8, number: u32) -> AttemptRef {
    AttemptRef { job: JobId::from_parts(u64::from(job), [job; 10]), attempt: number }
}

pub(crate) fn spec() -> Vec<u8> {
    br#"{"type":"env_check","environment":{
        "id":"env_00000000000000000000000001","site":"shop","name":"production",
        "domain":"shop.example","kind":"php","docroot":"/srv/shop","user":"www-data",
        "nginx":{"http_file":"/a","server_file":"/b","location_file":"/c",
                 "probe_origin":"http://127.0.0.1:80"},
        "health":{"path":"/","status":200,"timeout_ms":1000}}}"#
        .to_vec()
}

fn read_outcome(message: Option<ToController>, expected: &AttemptRef) -> Outcome {
    match message {
        Some(ToController::Finished { attempt, outcome }) => {
            assert_eq!(&attempt, expected);
            serde_json::from_slice(&outcome).unwrap()
        }
        other => panic!("Finished was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_job_is_accepted_run_reported_and_forgotten() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown, a) = (Hand::quick(), CancellationToken::new(), attempt(1, 1));
    let agent = agent(dir.path(), &hand, &shutdown);
    let mut peer = controller.welcomed(7).await;
    let facts: serde_json::Value = serde_json::from_slice(&peer.hello.facts).unwrap();
    assert_eq!(facts["arch"], std::env::consts::ARCH);

    let mut stream = peer.run(&a, spec(), 60).await;
    assert_eq!(stream.next().await, Some(ToController::Accepted { attempt: a.clone() }));
    assert!(matches!(stream.next().await, Some(ToController::Progress { sequence: 0, .. })));
    let outcome = read_outcome(stream.next().await, &a);
    assert_eq!(outcome.state, OutcomeState::Succeeded);
    stream.say(&ToAgent::Ack { attempt: a.clone() }).await;
    assert_eq!(stream.next().await, None, "the stream ends with the acknowledgement");
    assert_eq!(*agent.status.borrow(), Status::Connected { epoch: 7 });

    // The same order again, on this session and after it: never run twice.
    let mut again = peer.run(&a, spec(), 60).await;
    let Some(ToController::Rejected { error, .. }) = again.next().await else {
        panic!("a settled attempt was not refused");
    };
    let error: JobError = serde_json::from_slice(&error).unwrap();
    assert_eq!(error.code, "ATTEMPT_SETTLED");
    assert_eq!(hand.starts(&a), 1);

    shutdown.cancel();
    let goodbye = soon("goodbye", peer.control.next()).await;
    assert!(matches!(goodbye, Some(ToController::Goodbye { .. })), "{goodbye:?}");
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_on_the_next_session() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown, a) = (Hand::quick(), CancellationToken::new(), attempt(1, 1));
    let agent = agent(dir.path(), &hand, &shutdown);
    let peer = controller.welcomed(1).await;
    let mut stream = peer.run(&a, spec(), 60).await;
    stream.next().await;
    stream.next().await;
    let first = read_outcome(stream.next().await, &a);
    peer.connection.close(close::UNAVAILABLE.into(), b"test");

    let second = controller.welcomed(2).await;
    assert_eq!(second.hello.unacknowledged, std::slice::from_ref(&a));
    let mut stream = second.opened().await;
    assert_eq!(read_outcome(stream.next().await, &a), first);
    stream.say(&ToAgent::Ack { attempt: a.clone() }).await;
    assert_eq!(stream.next().await, None);
    second.connection.close(close::UNAVAILABLE.into(), b"test");
    let third = controller.welcomed(3).await;
    assert!(third.hello.unacknowledged.is_empty(), "an acknowledged outcome was kept");
    assert_eq!(hand.starts(&a), 1);
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_running_job_outlives_its_session_and_can_be_cancelled_on_the_next() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown) = (Hand::slow(), CancellationToken::new());
    let (a, b) = (attempt(1, 1), attempt(2, 1));
    let agent = agent(dir.path(), &hand, &shutdown);
    let peer = controller.welcomed(1).await;
    for job in [&a, &b] {
        let mut stream = peer.run(job, spec(), 60).await;
        assert!(matches!(stream.next().await, Some(ToController::Accepted { .. })));
        assert!(matches!(stream.next().await, Some(ToController::Progress { .. })));
    }
    peer.connection.close(close::UNAVAILABLE.into(), b"test");

    let mut second = controller.session().await;
    assert_eq!(second.hello.running, [a.clone(), b.clone()]);
    second.welcome(2, vec![(a.clone(), Verdict::Cancel), (b.clone(), Verdict::Continue)]).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut stream = second.opened().await;
        let Some(ToController::Accepted { attempt }) = stream.next().await else {
            panic!("a reopened job stream begins with Accepted");
        };
        if attempt == b {
            stream.say(&ToAgent::Cancel { attempt: b.clone() }).await;
        }
        let outcome = read_outcome(stream.next().await, &attempt);
        assert_eq!(outcome.state, OutcomeState::Cancelled);
        seen.push(attempt);
    }
    seen.sort();
    assert_eq!(seen, [a, b]);
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[test]
fn what_a_crash_cut_off_is_reported_as_interrupted_and_never_run_again() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outer = runtime();
    let controller = outer.block_on(async { Controller::start() });
    let dir = outer.block_on(enrolled(&controller));
    let (hand, a) = (Hand::slow(), attempt(1, 1));

    // The runtime, and with it all of the agent, is dropped in the middle of the job.
    let doomed = runtime();
    let (state, doomed_hand) = (dir.path().to_owned(), hand.clone());
    let _agent = doomed.block_on(async { agent(&state, &doomed_hand, &CancellationToken::new()) });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        doomed.block_on(async { stopped.await.ok() });
        doomed.shutdown_background();
    });
    outer.block_on(async {
        let peer = controller.welcomed(1).await;
        let mut stream = peer.run(&a, spec(), 60).await;
        assert_eq!(stream.next().await, Some(ToController::Accepted { attempt: a.clone() }));
        assert!(matches!(stream.next().await, Some(ToController::Progress { .. })));
        stop.send(()).expect("the doomed agent still runs");
        thread.join().expect("the doomed agent stops");
    });

    outer.block_on(async {
        drop(_agent);
        let shutdown = CancellationToken::new();
        let agent = agent(dir.path(), &hand, &shutdown);
        let peer = controller.welcomed(2).await;
        let mut stream = peer.opened().await;
        let outcome = loop {
            match stream.next().await {
                Some(ToController::Accepted { attempt }) => assert_eq!(attempt, a),
                message => break read_outcome(message, &a),
            }
        };
        let error = outcome.error.expect("an interrupted attempt has an error");
        assert_eq!(error.code, "INTERRUPTED");
        assert_eq!(outcome.steps[0].step, "put_back", "the recovery's steps are told");
        assert_eq!(hand.starts(&a), 1);
        hand.let_go();
        shutdown.cancel();
        soon("the end of the agent", agent.stopped()).await.unwrap();
    });
}

#[tokio::test]
async fn a_job_that_runs_too_long_is_stopped() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown, a) = (Hand::slow(), CancellationToken::new(), attempt(1, 1));
    let agent = agent(dir.path(), &hand, &shutdown);
    let peer = controller.welcomed(1).await;
    let mut stream = peer.run(&a, spec(), 1).await;
    stream.next().await;
    stream.next().await;
    let outcome = read_outcome(stream.next().await, &a);
    assert_eq!(outcome.error.map(|error| error.code).as_deref(), Some("TIMED_OUT"));
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_job_that_does_not_stop_is_cut_off_and_what_it_left_put_right() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown, a) = (Hand::deaf(), CancellationToken::new(), attempt(1, 1));
    let config = Config {
        stop_secs: 1,
        drain_secs: 0,
        state_dir: dir.path().to_owned(),
        ..Config::default()
    };
    let agent = start(&config, Arc::new(hand), Clock::system(), shutdown.clone()).unwrap();
    let peer = controller.welcomed(1).await;
    let mut stream = peer.run(&a, spec(), 1).await;
    stream.next().await;
    stream.next().await;
    let outcome = read_outcome(stream.next().await, &a);
    assert_eq!(outcome.error.map(|error| error.code).as_deref(), Some("TIMED_OUT"));
    assert_eq!(outcome.steps[0].step, "rollback", "nothing was put right: {:?}", outcome.steps);
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[tokio::test]
async fn what_is_no_frame_ends_the_session_and_the_agent_comes_back() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown, a) = (Hand::quick(), CancellationToken::new(), attempt(1, 1));
    let agent = agent(dir.path(), &hand, &shutdown);
    let too_large = [0xff; 4].as_slice();
    let unknown = [0, 0, 0, 1, 250].as_slice();
    // A heartbeat's answer, and a byte after it.
    let trailing = [0, 0, 0, 3, 2, 0, 0].as_slice();
    for (epoch, bytes) in (1..).zip([too_large, unknown, trailing]) {
        let mut peer = controller.welcomed(epoch).await;
        peer.control.send.write_all(bytes).await.unwrap();
        let error = soon("the end of the session", peer.connection.closed()).await;
        let quinn::ConnectionError::ApplicationClosed(closed) = &error else {
            panic!("{bytes:?} ended the session otherwise: {error}");
        };
        assert_eq!(closed.error_code, close::PROTOCOL.into(), "{bytes:?}");
    }
    let peer = controller.welcomed(9).await;
    let mut stream = peer.run(&a, spec(), 60).await;
    assert!(matches!(stream.next().await, Some(ToController::Accepted { .. })));
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_host_keeps_trying_at_the_slowest_pace() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown) = (Hand::quick(), CancellationToken::new());
    let mut agent = agent(dir.path(), &hand, &shutdown);
    let peer = controller.session().await;
    peer.connection.close(close::REVOKED.into(), b"revoked");
    let waiting = agent.status.wait_for(|status| matches!(status, Status::Waiting { .. }));
    let status = soon("a wait", waiting).await.unwrap().clone();
    assert!(matches!(&status, Status::Waiting { reason, .. } if reason.contains("revoked")));
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_controller_of_another_version_is_told_with_the_side_to_upgrade() {
    for side in ["the agent", "the controller"] {
        let controller = Controller::start();
        let dir = enrolled(&controller).await;
        let (hand, shutdown) = (Hand::quick(), CancellationToken::new());
        let mut agent = agent(dir.path(), &hand, &shutdown);
        let mut peer = controller.session().await;
        let message = format!("no common protocol version: upgrade {side}");
        let refused = ToAgent::Refused { code: "VERSION_MISMATCH".to_owned(), message };
        peer.control.say(&refused).await;
        let waiting = agent.status.wait_for(|status| matches!(status, Status::Waiting { .. }));
        let status = soon("a wait", waiting).await.unwrap().clone();
        let Status::Waiting { reason, .. } = status else { panic!("{status:?}") };
        let upgrade = format!("upgrade {side} (VERSION_MISMATCH)");
        assert!(reason.contains(&upgrade), "{reason}");
        shutdown.cancel();
        soon("the end of the agent", agent.stopped()).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_put_right_keeps_no_job_waiting_for_ever() {
    let controller = Controller::start();
    let dir = enrolled(&controller).await;
    let (hand, shutdown, a) = (Hand::clumsy(), CancellationToken::new(), attempt(1, 1));
    let agent = agent(dir.path(), &hand, &shutdown);
    let peer = controller.welcomed(1).await;
    let mut stream = peer.run(&a, spec(), 60).await;
    assert_eq!(stream.next().await, Some(ToController::Accepted { attempt: a.clone() }));
    let line = soon("the job's start", stream.next()).await;
    assert!(matches!(line, Some(ToController::Progress { .. })), "{line:?}");
    assert_eq!(read_outcome(stream.next().await, &a).state, OutcomeState::Succeeded);
    shutdown.cancel();
    soon("the end of the agent", agent.stopped()).await.unwrap();
}
