//! A fleet over PostgreSQL, and what a controller leaves behind and sweeps away.

use hostler_controller::RunError;
use hostler_controller::clock::Clock;
use hostler_controller::config::Config;
use hostler_controller::domain::decide::job::end;
use hostler_controller::domain::job::reason;
use hostler_controller::domain::{ApiScope, Decision, JobState, Micros, Scope};
use hostler_controller::store::{DatabaseUrl, Store};
use hostler_controller::tasks::sweep;
use hostler_protocol::job::JobType;
use hostler_tests::rows;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::agent::{Stream, hello, new_host, session};
use super::jobs::{accepted, finished, success, take};
use super::{Controller, config, directory};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_runs_over_postgresql() {
    let server = crate::store::world::server();
    let name = "a_fleet_runs_over_postgresql";
    let url: DatabaseUrl = server.create_database(name).unwrap().parse().unwrap();
    let (_dir, path) = directory();
    let settings = || Config { database: url.clone(), ..config(&path) };
    let controller = Controller::start_as(settings(), Clock::system()).await;
    let identity = new_host(&controller, "web-1").await;
    let host = identity.enrolled.host.clone();
    let environment = controller.environment(&host).await;
    let live = session(&controller, &identity, hello(&[], &[])).await;
    let first = controller.enqueue(&host, &environment, JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    assert_eq!(controller.job(&first).await.state, JobState::Succeeded);

    let second = controller.enqueue(&host, &environment, JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    controller.until(&second, "accepted", |job| job.accepted_at.is_some()).await;
    let id = controller.app().controller.clone();
    controller.stop().await;

    // As if it had been killed: its session is still in the database.
    let beside = Store::open(&url).await.unwrap();
    let row = beside.host(&host).await.unwrap().unwrap();
    beside.session_open(rows::opening(&row, &id, Clock::system().now())).await.unwrap();
    beside.close().await;
    let controller = Controller::start_as(settings(), Clock::system()).await;
    assert_eq!(controller.app().controller, id, "a controller forgot who it is");
    let seen = controller.app().store.host(&host).await.unwrap().unwrap();
    assert!(!seen.connected, "a session of the process before it counts as open");
    let back = session(&controller, &identity, hello(&[], std::slice::from_ref(&attempt))).await;
    let mut stream = Stream::open(&back.connection).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    assert_eq!(controller.job(&second).await.state, JobState::Succeeded);
    controller.stop().await;
    server.drop_database(name).unwrap();
}

#[tokio::test]
async fn a_purge_whose_request_cannot_be_read_fails_and_its_lane_goes_on() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let host = identity.enrolled.host.clone();
    let environment = controller.environment(&host).await;
    let request = serde_json::json!({ "caches": "all", "urls": [7] });
    let bad = controller.enqueue_as(&host, &environment, JobType::CachePurge, request).await;
    let good = controller.enqueue(&host, &environment, JobType::CachePurge).await;
    let live = session(&controller, &identity, hello(&[], &[])).await;
    let (_stream, attempt, _) = take(&live).await;
    assert_eq!(attempt.job, good, "a job that can never run reached its host");
    let job = controller.until(&bad, "failed", |job| job.state == JobState::Failed).await;
    assert_eq!(job.outcome.unwrap()["error"]["code"], "SPEC_INVALID");
    controller.stop().await;
}

#[tokio::test]
async fn jobs_that_ended_long_ago_are_forgotten() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let host = identity.enrolled.host.clone();
    let environment = controller.environment(&host).await;
    let now = controller.app().clock.now();
    let mut jobs = Vec::new();
    for days in [91, 89] {
        let id = controller.enqueue(&host, &environment, JobType::EnvCheck).await;
        let scope = Scope { job: Some(id.clone()), ..Scope::default() };
        let then = Micros(now.0 - days * 86_400 * 1_000_000);
        let ended = controller.app().store.transact("end", scope, move |snapshot| {
            let job = snapshot.job.as_ref().expect("the job is there");
            let (change, told) = end(job, reason::CANCELLED, then).expect("it has not ended");
            Ok(Decision { changes: vec![change], events: vec![told], reply: () })
        });
        ended.await.unwrap();
        jobs.push(id);
    }
    sweep::sweep(controller.app()).await.unwrap();
    let store = &controller.app().store;
    assert_eq!(store.job(&jobs[0]).await.unwrap(), None, "kept for ever");
    assert!(store.job(&jobs[1]).await.unwrap().is_some(), "forgotten too early");
    controller.stop().await;
}

#[tokio::test]
async fn tokens_can_be_asked_for_on_loopback() {
    let (_dir, path) = directory();
    let strict = || Config { require_tokens: true, ..config(&path) };
    let settings = strict();
    let listeners = hostler_controller::Listeners::bind(&settings).unwrap();
    let refused = hostler_controller::run(settings, listeners, CancellationToken::new()).await;
    assert!(matches!(refused, Err(RunError::NoTokens { .. })), "{refused:?}");

    let plain = Controller::start(&path).await;
    let made = plain.app().create_api_token("me".to_owned(), ApiScope::Read, None);
    let (_, token) = made.await.unwrap();
    plain.stop().await;
    let controller = Controller::start_as(strict(), Clock::system()).await;
    // As a proxy on this machine asks: from loopback, by the listener's own name.
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for (header, status) in [("", "HTTP/1.1 401 "), (bearer.as_str(), "HTTP/1.1 200 ")] {
        let address = controller.ready.api;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let asked = format!(
            "GET /api/hosts HTTP/1.1\r\nHost: {address}\r\n{header}Connection: close\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(status), "{answer}");
    }
    controller.stop().await;
}
