//! Connections and agents that end in the middle.

use hostler_controller::clock::Clock;
use hostler_controller::config::Config;

use super::super::config;
use super::relay::Relay;
use super::*;

const MIB: u64 = 1024 * 1024;

/// Waits until so many bytes are on their way into the cache.
async fn staged(fetcher: &Fetcher, bytes: u64) {
    soon("some of the blob", async {
        while fetcher.staged_bytes() < bytes {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_goes_on_where_its_connection_was_cut() {
    let depot = Depot::new().await;
    let large = noise(7, 16 * 1024 * 1024);
    let bundle = depot.bundle(&[("large", &large), ("small", b"small")]).await;
    let Depot { _dir, path, controller, identity } = depot;
    let relay = Relay::start(controller.ready.agents).await;
    let fetcher = Fetcher::new(&way(&identity, Some(relay.address)));
    relay.hold_from(8 * MIB);
    let (bulk, wanted) = (fetcher.bulk.clone(), bundle.clone());
    let fetching = tokio::spawn(async move { bulk.ensure(&wanted).await.map(drop) });
    staged(&fetcher, 6 * MIB).await;
    // The controller goes, and comes back where it was.
    let agent_listen = controller.ready.agents;
    relay.let_go();
    controller.stop().await;
    let again = Config { agent_listen, ..config(&path) };
    let controller = Controller::start_as(again, Clock::system()).await;
    soon("the bundle", fetching).await.unwrap().unwrap();
    assert!(fetcher.has(&large) && fetcher.has(b"small"));
    let bytes = relay.bytes();
    assert!(bytes < 22 * MIB, "{bytes} bytes: the first half was sent twice");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ends_in_the_middle_loses_only_the_blob_that_was_coming() {
    let depot = Depot::new().await;
    let large = noise(8, 16 * 1024 * 1024);
    let files: Vec<Vec<u8>> = (0..40).map(|n| noise(100 + n, 10_000)).collect();
    let names: Vec<String> = (0..40).map(|n| format!("a{n:02}")).collect();
    let mut all: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(files.iter().map(Vec::as_slice)).collect();
    all.push(("large", &large));
    let bundle = depot.bundle(&all).await;
    let relay = Relay::start(depot.controller.ready.agents).await;
    let way = way(&depot.identity, Some(relay.address));
    let fetcher = Fetcher::new(&way);
    relay.hold_from(8 * MIB);
    let (bulk, wanted) = (fetcher.bulk.clone(), bundle.clone());
    let fetching = tokio::spawn(async move { bulk.ensure(&wanted).await.map(drop) });
    let small = |fetcher: &Fetcher| files.iter().filter(|file| fetcher.has(file)).count();
    soon("the small files and some of the large one", async {
        while small(&fetcher) < 20 || fetcher.staged_bytes() < MIB {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    fetching.abort();
    assert!(soon("the end", fetching).await.unwrap_err().is_cancelled());
    // What a killed agent leaves, which this one could still clear away.
    std::fs::write(fetcher.dir.path().join("staged/left"), "half").unwrap();
    relay.let_go();
    let (before, had) = (relay.bytes(), small(&fetcher));
    let fetcher = fetcher.again(&way);
    soon("the bundle", fetcher.bulk.ensure(&bundle)).await.unwrap();
    assert!(fetcher.has(&large));
    assert_eq!(small(&fetcher), 40);
    let rest = (40 - had as u64) * 10_000 + 16 * MIB;
    let bytes = relay.bytes() - before;
    assert!(bytes < rest + rest / 8, "{bytes} bytes for {rest} that were missing");
    assert_eq!(std::fs::read_dir(fetcher.dir.path().join("staged")).unwrap().count(), 0);
    depot.controller.stop().await;
}

/// Where the session's controller is silent, another address is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_asked_where_one_is_silent() {
    let depot = Depot::new().await;
    let bundle = depot.bundle(&[("file", b"content")]).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut way = way(&depot.identity, Some(silent.local_addr().unwrap()));
    way.controllers =
        vec!["nowhere.invalid:1".to_owned(), depot.controller.ready.agents.to_string()];
    let fetcher = Fetcher::new(&way);
    soon("the bundle", fetcher.bulk.ensure(&bundle)).await.unwrap();
    assert!(fetcher.has(b"content"));
    // The agent's session goes elsewhere: so does the next bundle.
    let next = depot.bundle(&[("file", b"next")]).await;
    fetcher
        .ways
        .send_replace(Some(super::way(&depot.identity, Some(depot.controller.ready.agents))));
    soon("the next bundle", fetcher.bulk.ensure(&next)).await.unwrap();
    assert!(fetcher.has(b"next"));
    depot.controller.stop().await;
}
