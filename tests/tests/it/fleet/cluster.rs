//! Two controllers on one PostgreSQL, in this process, against scripted agents.

use std::path::{Path, PathBuf};

use hostler_controller::clock::Clock;
use hostler_controller::config::Config;
use hostler_controller::domain::JobState;
use hostler_controller::pki::{self, Authority, HOST_SECS};
use hostler_controller::store::{DatabaseUrl, EventFilter};
use hostler_controller::views::Revocation;
use hostler_controller::{Listeners, RunError};
use hostler_protocol::job::JobType;
use hostler_protocol::message::{AttemptRef, ToAgent, close};
use tokio_util::sync::CancellationToken;

use super::agent::{Identity, Stream, close_code, hello, new_host, session, soon};
use super::jobs::{accepted, finished, success, take};
use super::{Controller, PATIENCE, config, directory};

/// A database of its own on the shared server, and a directory for each controller.
pub(super) struct Cluster {
    server: std::sync::Arc<hostler_tests::servers::postgres::Postgres>,
    database: String,
    url: DatabaseUrl,
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Cluster {
    pub(super) fn new(test: &str) -> Self {
        let server = crate::store::world::server();
        let database: String = test.chars().take(60).collect();
        let url = server.create_database(&database).unwrap().parse().unwrap();
        let (dir, path) = directory();
        Self { server, database, url, _dir: dir, path }
    }

    fn settings(&self, name: &str) -> Config {
        Config { database: self.url.clone(), ..config(&self.path.join(name)) }
    }

    /// The first controller, where the root is.
    async fn first(&self) -> Controller {
        Controller::start_as(self.settings("one"), Clock::system()).await
    }

    /// Another one below the same root.
    async fn second(&self, clock: Clock) -> Controller {
        let (root, own) = (self.path.join("one/pki"), self.path.join("two/pki"));
        pki::issue(&root, &own, "two", &Clock::system()).unwrap();
        Controller::start_as(self.settings("two"), clock).await
    }

    pub(super) async fn both(&self) -> [Controller; 2] {
        let first = self.first().await;
        [first, self.second(Clock::system()).await]
    }

    pub(super) async fn end(self, controllers: [Controller; 2]) {
        for controller in controllers {
            controller.stop().await;
        }
        self.server.drop_database(&self.database).unwrap();
    }
}

/// A start that must fail.
async fn refused(config: Config) -> RunError {
    let listeners = Listeners::bind(&config).unwrap();
    let run = hostler_controller::run(config, listeners, CancellationToken::new());
    let ended = tokio::time::timeout(PATIENCE, run).await.expect("it serves, and should not");
    ended.expect_err("it ended without an error")
}

fn pin(dir: &Path) -> String {
    hex::encode(Authority::open(dir, Clock::system(), HOST_SECS).unwrap().pin().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_another_root_is_refused() {
    let cluster = Cluster::new("a_controller_with_another_root");
    let first = cluster.first().await;
    let theirs = hex::encode(first.app().join.pin);
    // Nothing was copied: no root is made, or the right files would not fit beside it later.
    let error = refused(cluster.settings("two")).await;
    assert!(matches!(&error, RunError::NoRoot { .. }), "{error:?}");
    assert!(error.to_string().contains(&theirs), "{error}");
    assert!(error.to_string().contains("hostler-controller pki issue"), "{error}");
    assert!(!cluster.path.join("two/pki/root.crt").exists());
    // The files of another installation.
    let own = pin(&cluster.path.join("three/pki"));
    let error = refused(cluster.settings("three")).await;
    assert!(matches!(&error, RunError::OtherRoot { .. }), "{error:?}");
    for part in [theirs.as_str(), own.as_str(), "hostler-controller pki issue"] {
        assert!(error.to_string().contains(part), "{part} is not said: {error}");
    }
    let second = cluster.second(Clock::system()).await;
    cluster.end([first, second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_database_under_another_root_is_refused() {
    let (_dir, path) = directory();
    let one = path.join("one");
    Controller::start(&one).await.stop().await;
    std::fs::create_dir(path.join("two")).unwrap();
    std::fs::copy(one.join("hostler.db"), path.join("two/hostler.db")).unwrap();
    let own = pin(&path.join("two/pki"));
    let error = refused(config(&path.join("two"))).await;
    assert!(matches!(&error, RunError::OtherRoot { .. }), "{error:?}");
    assert!(error.to_string().contains(&own), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_enrolled_anywhere_is_served_everywhere() {
    let cluster = Cluster::new("a_host_enrolled_anywhere");
    let controllers = cluster.both().await;
    for (from, to) in [(0, 1), (1, 0)] {
        let identity = new_host(&controllers[from], &format!("web-{from}")).await;
        let live = session(&controllers[to], &identity, hello(&[], &[])).await;
        assert_eq!(live.welcome.epoch, 1);
        let host = controllers[from].host(&identity.enrolled.host).await;
        assert!(host.connected);
    }
    cluster.end(controllers).await;
}

/// A host of the second controller with one environment.
async fn host_at(
    controller: &Controller,
    name: &str,
) -> (Identity, hostler_protocol::id::EnvironmentId) {
    let identity = new_host(controller, name).await;
    let environment = controller.environment(&identity.enrolled.host).await;
    (identity, environment)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_asked_of_one_is_done_through_the_other_and_followed_at_both() {
    let cluster = Cluster::new("work_asked_of_one");
    let controllers = cluster.both().await;
    let [one, two] = &controllers;
    let (identity, environment) = host_at(two, "web-1").await;
    let host = &identity.enrolled.host;
    let live = session(two, &identity, hello(&[], &[])).await;
    let job = one.enqueue(host, &environment, JobType::CachePurge).await;
    let waiting = {
        let (events, job) = (one.app().events.clone(), job.clone());
        tokio::spawn(async move { events.wait_for_end(&job, PATIENCE).await })
    };
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    let ended = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!(ended.state, JobState::Succeeded);

    // A running job's cancellation, asked of the one, reaches the host at the other.
    let job = one.enqueue(host, &environment, JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    two.until(&job, "accepted", |job| job.accepted_at.is_some()).await;
    one.app().cancel_job(job.clone()).await.unwrap();
    assert_eq!(stream.next().await, Some(ToAgent::Cancel { attempt: attempt.clone() }));
    let outcome = hostler_protocol::job::Outcome {
        state: hostler_protocol::job::OutcomeState::Cancelled,
        ..success()
    };
    stream.send(&finished(&attempt, &outcome)).await;
    stream.acknowledged(&attempt).await;
    assert_eq!(one.job(&job).await.state, JobState::Cancelled);

    // So does its revocation; and both tell the same story.
    one.revoke(host, Revocation::Evict).await;
    assert_eq!(close_code(&live.connection).await, u64::from(close::REVOKED));
    let (_, newest) = one.app().store.events_bounds().await.unwrap();
    let all = EventFilter::default();
    let told = one.app().store.events_after(0, 1000, &all).await.unwrap();
    assert!((1..=newest).eq(told.iter().take(usize::try_from(newest).unwrap()).map(|e| e.seq)));
    cluster.end(controllers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_found_without_the_doorbell() {
    let cluster = Cluster::new("work_is_found_without_the_doorbell");
    let controllers = cluster.both().await;
    let (identity, environment) = host_at(&controllers[1], "web-1").await;
    let live = session(&controllers[1], &identity, hello(&[], &[])).await;
    let quiet = CancellationToken::new();
    let cutter = std::thread::spawn({
        let (server, database) = (cluster.server.clone(), cluster.database.clone());
        let quiet = quiet.clone();
        move || {
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE 'LISTEN%'";
            let mut cuts = 0;
            while !quiet.is_cancelled() {
                let told = server.psql(&database, cut).unwrap();
                cuts += told.trim().parse::<usize>().unwrap();
            }
            cuts
        }
    });
    for _ in 0..3 {
        let host = &identity.enrolled.host;
        controllers[0].enqueue(host, &environment, JobType::CachePurge).await;
        let (mut stream, attempt, _) = take(&live).await;
        stream.send(&accepted(&attempt)).await;
        stream.send(&finished(&attempt, &success())).await;
        stream.acknowledged(&attempt).await;
    }
    quiet.cancel();
    assert!(cutter.join().unwrap() >= 2, "nothing was cut");
    cluster.end(controllers).await;
}

/// A host moves while its session still stands at a controller that knows nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_elsewhere_ends_the_one_here_and_its_work_goes_on() {
    let cluster = Cluster::new("a_session_elsewhere");
    let controllers = cluster.both().await;
    let [one, two] = &controllers;
    let (identity, environment) = host_at(one, "web-1").await;
    let host = &identity.enrolled.host;
    let old = session(one, &identity, hello(&[], &[])).await;
    let job = one.enqueue(host, &environment, JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&old).await;
    stream.send(&accepted(&attempt)).await;
    one.until(&job, "accepted", |job| job.accepted_at.is_some()).await;
    let running: &[AttemptRef] = std::slice::from_ref(&attempt);
    let new = session(two, &identity, hello(running, &[])).await;
    assert_eq!(new.welcome.epoch, old.welcome.epoch + 1);
    assert_eq!(close_code(&old.connection).await, u64::from(close::REPLACED));
    let mut stream = Stream::open(&new.connection).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    let ended = one.job(&job).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Succeeded, 1));
    assert!(one.host(host).await.connected, "the older session's end is not the host's");
    let story = one.told(host).await;
    assert!(!story.contains(&"job.unknown"), "{story:?}");
    assert!(!story.contains(&"host.disconnected"), "{story:?}");
    cluster.end(controllers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_decides_nothing() {
    let cluster = Cluster::new("a_clock_that_is_wrong");
    let first = cluster.first().await;
    let second = cluster.second(Clock::wrong_by(600)).await;
    let (identity, environment) = host_at(&first, "web-1").await;
    let job = first.enqueue(&identity.enrolled.host, &environment, JobType::CacheFacts).await;
    let (ours, theirs) = (first.app().clock.now(), second.app().clock.now());
    assert!(ours.0.abs_diff(theirs.0) < 10_000_000, "{ours:?} and {theirs:?}");
    assert!(second.app().clock.own().0 - theirs.0 > 590_000_000);
    // What would have expired by the wrong clock has not by the sweep of its controller.
    let ttl = first.job(&job).await.expires_at.0 - ours.0;
    assert!(ttl > 0);
    hostler_controller::tasks::sweep::sweep(second.app()).await.unwrap();
    assert_eq!(first.job(&job).await.state, JobState::Queued);
    let later = second.enqueue(&identity.enrolled.host, &environment, JobType::CacheFacts).await;
    let live = session(&first, &identity, hello(&[], &[])).await;
    for _ in [&job, &later] {
        let (mut stream, attempt, _) = soon("a job that is due", take(&live)).await;
        stream.send(&accepted(&attempt)).await;
        stream.send(&finished(&attempt, &success())).await;
        stream.acknowledged(&attempt).await;
    }
    cluster.end([first, second]).await;
}
