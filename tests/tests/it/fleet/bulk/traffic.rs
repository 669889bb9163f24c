//! Bundles beside jobs: neither keeps the other waiting.

use std::time::Duration;

use hostler_protocol::job::JobType;
use hostler_protocol::message::{ToAgent, ToController};
use hostler_tests::servers::instant;

use super::super::agent::{hello, session};
use super::super::jobs::take;
use super::*;

/// Longest a heartbeat may take on a busy machine while bundles go out at full speed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_and_jobs_are_not_delayed_by_bundles() {
    let depot = Depot::new().await;
    let large = noise(9, 48 * 1024 * 1024);
    let bundle = depot.bundle(&[("large", &large)]).await;
    let environment = depot.controller.environment(depot.host()).await;
    let mut live = session(&depot.controller, &depot.identity, hello(&[], &[])).await;
    // One that goes as fast as it can, and one that nobody reads.
    let fetcher = depot.fetcher();
    let (bulk, wanted) = (fetcher.bulk.clone(), bundle.clone());
    let fetching = tokio::spawn(async move { bulk.ensure(&wanted).await.map(drop) });
    let connection = depot.dial().await;
    let wanted = Ask::Blob { bundle, sha256: sha256_hex(&large), offset: 0 };
    let (answer, _unread) = ask(&connection, &wanted).await;
    assert_eq!(answer, Answer::Found { bytes: large.len() as u64 });
    let (mut slowest, mut sequence) = (Duration::ZERO, 0);
    while !fetching.is_finished() || sequence < 20 {
        sequence += 1;
        let since = instant();
        live.control.send(&ToController::Heartbeat { sequence, running: Vec::new() }).await;
        assert_eq!(live.control.next().await, Some(ToAgent::HeartbeatAck { sequence }));
        slowest = slowest.max(since.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(slowest < ANSWERED_WITHIN, "a heartbeat took {slowest:?}");
    let since = instant();
    depot.controller.enqueue(depot.host(), &environment, JobType::CachePurge).await;
    take(&live).await;
    assert!(since.elapsed() < ANSWERED_WITHIN, "a job took {:?}", since.elapsed());
    soon("the bundle", fetching).await.unwrap().unwrap();
    depot.controller.stop().await;
}
