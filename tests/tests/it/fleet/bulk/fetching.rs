//! What is fetched, and what is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use hostler_agent::Outside;
use hostler_agent::actions::{ActionSettings, Actions};
use hostler_agent::config::Config as AgentConfig;
use hostler_agent::identity::{self as agent_identity, Enrolment};
use hostler_agent::observe::Reports;
use hostler_agent::policy::Policy;
use hostler_agent::session::Status;
use hostler_agent::steps::bundle::BundleSource as _;
use hostler_controller::bundles::sha256_hex;
use hostler_protocol::join::Join;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::relay::Relay;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_arrives_as_it_was_stored() {
    let depot = Depot::new().await;
    let files: [(&str, &[u8]); 4] = [
        ("docker-compose.yml", b"services: {}\n"),
        ("conf/a", b"a"),
        ("conf/b", b"a"),
        ("empty", b""),
    ];
    let name = depot.bundle(&files).await;
    let fetcher = depot.fetcher();
    let manifest = soon("the bundle", fetcher.bulk.ensure(&name)).await.unwrap();
    assert_eq!(sha256_hex(&manifest.bytes()), name);
    assert_eq!(manifest.files.len(), 4);
    for (path, content) in files {
        assert!(fetcher.has(content), "{path} has not come");
    }
    assert_eq!(std::fs::read_dir(fetcher.dir.path().join("staged")).unwrap().count(), 0);
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_missing_is_fetched() {
    let depot = Depot::new().await;
    let large = noise(1, 1024 * 1024);
    let first = depot.bundle(&[("large", &large), ("small", b"one")]).await;
    let second =
        depot.bundle(&[("large", &large), ("moved/large", &large), ("small", b"two")]).await;
    let relay = Relay::start(depot.controller.ready.agents).await;
    let way = way(&depot.identity, Some(relay.address));
    let fetcher = Fetcher::new(&way);
    soon("the first bundle", fetcher.bulk.ensure(&first)).await.unwrap();
    let all = relay.bytes();
    assert!((1024 * 1024..1_300_000).contains(&all), "{all} bytes for one blob of a mebibyte");
    soon("the second bundle", fetcher.bulk.ensure(&second)).await.unwrap();
    let rest = relay.bytes() - all;
    assert!(rest < 32 * 1024, "{rest} bytes for a changed file of three");
    assert!(fetcher.has(b"one") && fetcher.has(b"two") && fetcher.has(&large));
    // All of both is here: nobody is asked, not even by an agent that has just started.
    let before = relay.bytes();
    for name in [&first, &second] {
        soon("a bundle that is here", fetcher.bulk.ensure(name)).await.unwrap();
    }
    let fetcher = fetcher.again(&way);
    soon("a bundle that is here", fetcher.bulk.ensure(&second)).await.unwrap();
    assert_eq!(relay.bytes(), before, "the controller was asked for what is here");
    // What was damaged here meanwhile, and only that, is fetched again.
    std::fs::write(fetcher.bulk.blob(&sha256_hex(b"two")), "owt").unwrap();
    soon("the damaged file", fetcher.bulk.ensure(&second)).await.unwrap();
    assert!(fetcher.has(b"two"));
    assert!(relay.bytes() - before < 32 * 1024, "{} bytes for three", relay.bytes() - before);
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_want_the_same_at_once_fetch_it_once() {
    let depot = Depot::new().await;
    let shared = noise(2, 512 * 1024);
    let one = depot.bundle(&[("shared", &shared), ("a", b"1")]).await;
    let other = depot.bundle(&[("shared", &shared), ("a", b"2")]).await;
    let relay = Relay::start(depot.controller.ready.agents).await;
    let fetcher = Fetcher::new(&way(&depot.identity, Some(relay.address)));
    let wanted = [&one, &other, &one, &other].map(|name| fetcher.bulk.ensure(name));
    for fetched in soon("all four", futures_util::future::join_all(wanted)).await {
        fetched.unwrap();
    }
    assert!(relay.bytes() < 700_000, "{} bytes for half a mebibyte", relay.bytes());
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_stays_and_what_was_asked_for_just_now_too() {
    let depot = Depot::new().await;
    let (old, new) = (noise(3, 4096), noise(4, 4096));
    let first = depot.bundle(&[("file", &old)]).await;
    let second = depot.bundle(&[("file", &new)]).await;
    let way = way(&depot.identity, Some(depot.controller.ready.agents));
    let dir = tempfile::tempdir().unwrap();
    let ways = watch::Sender::new(Some(way));
    let clock = AgentClock::manual(0);
    // Room for one of the two.
    let bulk = Bulk::new(dir.path().to_owned(), 5000, ways.subscribe(), clock.clone());
    soon("the first", bulk.ensure(&first)).await.unwrap();
    soon("the second", bulk.ensure(&second)).await.unwrap();
    bulk.keep(BTreeSet::new());
    let here = |content: &[u8]| bulk.blob(&sha256_hex(content)).exists();
    // Both may be on their way into a directory; nobody says when that is over.
    bulk.keep(BTreeSet::from([first.clone()]));
    soon("a look that removes nothing", bulk.ensure(&first)).await.unwrap();
    assert!(here(&old) && here(&new));
    clock.advance_ms(3_600_001);
    soon("the first to go on", async {
        while here(&new) {
            bulk.keep(BTreeSet::from([first.clone()]));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(here(&old), "what is kept must stay");
    depot.controller.stop().await;
}

/// The session's own word on how bundles are fetched: no address but that of a real agent's session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_agent_knows_the_way_from_its_session() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let (token, secret) = controller.token(Some("web-1")).await;
    let state = tempfile::tempdir().unwrap();
    let join = Join {
        addresses: vec![controller.ready.agents.to_string()],
        pin: controller.app().join.pin,
        token,
        secret: secret.try_into().unwrap(),
    };
    let enrolment = Enrolment {
        join: &join,
        state_dir: state.path(),
        hostname: "web-1".to_owned(),
        facts: b"{}".to_vec(),
        replace: false,
        clock: AgentClock::system(),
    };
    let card = soon("an enrolment", agent_identity::enrol(enrolment)).await.unwrap();
    let name = store(bundles(&controller), &[("file", b"content")]).await;
    applied(&controller, &card.host, &name).await;

    let ways = watch::Sender::new(None);
    let bulk_dir = state.path().join(hostler_agent::bulk::BUNDLES_DIR);
    let bulk = Bulk::new(bulk_dir, CACHE_BYTES_MAX, ways.subscribe(), AgentClock::system());
    // Asked for before there is a session: it waits for one.
    let (asking, asked) = (bulk.clone(), name.clone());
    let early = tokio::spawn(async move { asking.ensure(&asked).await.map(drop) });
    let config =
        AgentConfig { state_dir: state.path().to_owned(), drain_secs: 1, ..AgentConfig::default() };
    let shutdown = CancellationToken::new();
    let settings = ActionSettings {
        state_dir: state.path().join("actions"),
        bundles: Some(Arc::new(bulk.clone())),
        ..ActionSettings::default()
    };
    let executor = Arc::new(Actions::new(Policy::default(), settings, AgentClock::system()));
    let outside = Outside { ways, reports: Reports::none() };
    let clock = AgentClock::system();
    let agent =
        hostler_agent::start_with(&config, executor, clock, outside, shutdown.clone()).unwrap();
    let mut status = agent.status.clone();
    soon("a session", status.wait_for(|status| matches!(status, Status::Connected { .. })))
        .await
        .unwrap();
    soon("the bundle", early).await.unwrap().unwrap();
    let file = std::fs::read(bulk.blob(&sha256_hex(b"content"))).unwrap();
    assert_eq!(file, b"content");
    shutdown.cancel();
    soon("the agent's end", agent.stopped()).await.unwrap();
    controller.stop().await;
}
