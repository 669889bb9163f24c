//! A fleet over PostgreSQL, and what a controller leaves behind and sweeps away.

use hostler_controller::RunError;
use hostler_controller::clock::Clock;
use hostler_controller::config::Config;
use hostler_controller::domain::decide::job::end;
use hostler_controller::domain::job::reason;
use hostler_controller::domain::{ApiScope, Decision, Job, JobState, Micros, Scope};
use hostler_controller::store::{ClaimHost, DatabaseUrl, Store};
use hostler_controller::tasks::sweep;
use hostler_protocol::job::JobType;
use hostler_tests::rows;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::agent::{Stream, hello, new_host, session, soon};
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
async fn a_session_whose_end_could_not_be_entered_is_entered_as_ended() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let host = identity.enrolled.host.clone();
    let environment = controller.environment(&host).await;
    let app = controller.app();
    let job = controller.enqueue(&host, &environment, JobType::CachePurge).await;
    // As it stands when a host was lost while the database could not be told. A sweep may come
    // between the two.
    loop {
        let now = app.clock.now();
        let row = app.store.host(&host).await.unwrap().unwrap();
        let opening = rows::opening(&row, &app.controller, now);
        let epoch = app.store.session_open(opening).await.unwrap();
        let here = ClaimHost { host: host.clone(), epoch, slots: 1 };
        if app.store.claim(&[here], now, 1).await.unwrap().len() == 1 {
            break;
        }
    }
    let unknown = |job: &Job| job.reason.as_deref() == Some(reason::UNKNOWN);
    let job = controller.until(&job, "unknown", unknown).await;
    assert_eq!(job.state, JobState::Running);
    assert!(!app.store.host(&host).await.unwrap().unwrap().connected);
    controller.stop().await;
}

#[tokio::test]
async fn a_purge_whose_request_cannot_be_read_is_set_aside_and_its_lane_goes_on() {
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
    let job = controller.until(&bad, "held", |job| job.state == JobState::Held).await;
    assert_eq!(job.reason.as_deref(), Some(reason::QUARANTINED));
    assert_eq!(job.outcome.unwrap()["error"]["code"], "UNDECODABLE");
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

#[tokio::test]
async fn a_second_controller_on_the_same_directory_does_not_start() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let listeners = hostler_controller::Listeners::bind(&config(&path)).unwrap();
    let second = hostler_controller::run(config(&path), listeners, CancellationToken::new()).await;
    assert!(matches!(second, Err(RunError::DataDirInUse { .. })), "{second:?}");
    controller.stop().await;
    // The lock went with the process that had it.
    Controller::start(&path).await.stop().await;
}

#[tokio::test]
async fn a_session_the_database_does_not_know_is_closed_so_that_its_host_comes_back() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let live = session(&controller, &identity, hello(&[], &[])).await;
    let app = controller.app();
    app.store.sessions_clear(None, app.clock.now()).await.unwrap();
    let closed = soon("the session to be closed", live.connection.closed()).await;
    assert!(closed.to_string().contains("no longer known"), "{closed}");
    let back = session(&controller, &identity, hello(&[], &[])).await;
    let host = app.store.host(&identity.enrolled.host).await.unwrap().unwrap();
    assert!(host.connected, "the host came back and does not count as connected");
    drop(back);
    controller.stop().await;
}
