//! New keys over live sessions: candidate, proven by a reconnect, committed.

use hostler_controller::clock::Clock;
use hostler_controller::domain::JobState;
use hostler_controller::views::Revocation;
use hostler_protocol::job::JobType;
use hostler_protocol::message::{ToAgent, ToController, close};

use super::agent::{
    Identity, Session, Stream, close_code, csr, dial, hello, hello_in_2, key_sha256, new_host,
    new_key, renew, session, with,
};
use super::jobs::{accepted, finished, success, take};
use super::{Controller, directory, now_micros};

async fn session_in_2(controller: &Controller, identity: &Identity) -> Session {
    let live = session(controller, identity, hello_in_2(&[])).await;
    assert_eq!(live.welcome.version, 2);
    live
}

#[tokio::test]
async fn a_candidate_is_committed_by_its_first_session_and_the_old_key_is_worth_nothing_then() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let old = new_host(&controller, "web-1").await;
    let host = old.enrolled.host.clone();
    let mut live = session_in_2(&controller, &old).await;
    let key = new_key();
    let chain = renew(&mut live, csr(&key)).await.unwrap();
    let row = controller.host(&host).await;
    assert_eq!(row.key_sha256, key_sha256(&old.key), "not before it is proven");
    assert_eq!(row.candidate.unwrap().key_sha256, key_sha256(&key));

    // Both are accepted until the new one was.
    let back = session_in_2(&controller, &old).await;
    drop(back);
    let new = with(&old, key, chain);
    let live = session_in_2(&controller, &new).await;
    let row = controller.host(&host).await;
    assert_eq!((row.key_sha256, row.candidate), (key_sha256(&new.key), None));
    assert!(row.certificate_renewed_at.is_some());
    assert_eq!(row.recoveries, 0);
    let told = controller.told(&host).await;
    assert_eq!(told.iter().filter(|kind| **kind == "host.certificate_renewed").count(), 1);
    let connection = dial(&controller, &old).await;
    assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    assert!(live.connection.close_reason().is_none(), "the old key has ended the new session");
    controller.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_another_key_takes_the_candidate_s_place() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let mut live = session_in_2(&controller, &identity).await;
    let (first, second) = (new_key(), new_key());
    let lost = renew(&mut live, csr(&first)).await.unwrap();
    let again = renew(&mut live, csr(&first)).await.unwrap();
    assert_ne!(lost, again, "it is signed anew");
    let chain = renew(&mut live, csr(&second)).await.unwrap();
    // There is one candidate: the first is none any more.
    let connection = dial(&controller, &with(&identity, first, again)).await;
    assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    session_in_2(&controller, &with(&identity, second, chain)).await;
    controller.stop().await;
}

#[tokio::test]
async fn what_is_no_new_key_of_this_host_is_refused_and_the_session_goes_on() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let other = new_host(&controller, "web-2").await;
    let banned = new_host(&controller, "web-3").await;
    controller.revoke(&banned.enrolled.host, Revocation::Ban).await;
    let mut live = session_in_2(&controller, &identity).await;
    let mut unsigned = csr(&new_key());
    let last = unsigned.len() - 1;
    unsigned[last] ^= 1;
    for (csr, code) in [
        (b"rubbish".to_vec(), "CSR_INVALID"),
        (unsigned, "CSR_INVALID"),
        (csr(&identity.key), "KEY_REUSED"),
        (csr(&other.key), "KEY_TAKEN"),
        (csr(&banned.key), "KEY_BANNED"),
    ] {
        assert_eq!(renew(&mut live, csr).await.unwrap_err(), code);
    }
    live.control.send(&ToController::Heartbeat { sequence: 1, running: Vec::new() }).await;
    assert_eq!(live.control.next().await, Some(ToAgent::HeartbeatAck { sequence: 1 }));
    controller.stop().await;
}

#[tokio::test]
async fn an_agent_of_version_1_is_served_and_may_not_ask() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let mut live = session(&controller, &identity, hello(&[], &[])).await;
    assert_eq!(live.welcome.version, 1);
    live.control.send(&ToController::Renew { csr: csr(&new_key()) }).await;
    assert_eq!(close_code(&live.connection).await, u64::from(close::PROTOCOL));
    assert_eq!(controller.host(&identity.enrolled.host).await.candidate, None);
    controller.stop().await;
}

#[tokio::test]
async fn a_job_goes_on_over_the_reconnect_that_proves_a_certificate() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let old = new_host(&controller, "web-1").await;
    let environment = controller.environment(&old.enrolled.host).await;
    let mut live = session_in_2(&controller, &old).await;
    let job = controller.enqueue(&old.enrolled.host, &environment, JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    controller.until(&job, "accepted", |job| job.accepted_at.is_some()).await;
    let key = new_key();
    let chain = renew(&mut live, csr(&key)).await.unwrap();
    let new = with(&old, key, chain);
    let back = session(&controller, &new, hello_in_2(std::slice::from_ref(&attempt))).await;
    assert_eq!(back.welcome.verdicts.len(), 1);
    let mut stream = Stream::open(&back.connection).await;
    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    let done = controller.job(&job).await;
    assert_eq!((done.state, done.attempt, done.failures), (JobState::Succeeded, 1, 0));
    controller.stop().await;
}

#[tokio::test]
async fn a_restarted_controller_knows_the_candidate_and_an_evicted_host_s_is_nothing() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let old = new_host(&controller, "web-1").await;
    let mut live = session_in_2(&controller, &old).await;
    let key = new_key();
    let chain = renew(&mut live, csr(&key)).await.unwrap();
    controller.stop().await;
    let controller = Controller::start(&path).await;
    let new = with(&old, key, chain);
    let mut live = session_in_2(&controller, &new).await;
    let key = new_key();
    let chain = renew(&mut live, csr(&key)).await.unwrap();
    controller.revoke(&old.enrolled.host, Revocation::Evict).await;
    assert_eq!(close_code(&live.connection).await, u64::from(close::REVOKED));
    let connection = dial(&controller, &with(&old, key, chain)).await;
    assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    controller.stop().await;
}

#[tokio::test]
async fn a_host_s_clock_is_looked_at_and_never_relied_on() {
    let (_dir, path) = directory();
    // The clock stands still, so that what is seen is exact.
    let clock = Clock::manual(now_micros());
    let controller = Controller::start_with(&path, clock.clone()).await;
    let identity = new_host(&controller, "web-1").await;
    for (ahead_us, seen_ms) in [
        (0, 0),
        (45_000_000, 45_000),
        (-3_600_000_000, -3_600_000),
        (i64::MAX, (i64::MAX - clock.now().0) / 1000),
    ] {
        let clock_us = clock.now().0.saturating_add(ahead_us);
        let live = session(
            &controller,
            &identity,
            hostler_protocol::message::Hello { clock_us, ..hello_in_2(&[]) },
        );
        drop(live.await);
        let row = controller.host(&identity.enrolled.host).await;
        assert_eq!(row.clock_skew_ms, Some(seen_ms), "a clock {ahead_us} us ahead");
    }
    let stats = controller.app().store.stats().await.unwrap();
    assert!(stats.hosts_connected == 0 || stats.hosts_clock_skewed == 1, "{stats:?}");
    controller.stop().await;
}
