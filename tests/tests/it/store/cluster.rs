//! Several controllers on one database: whose it is, who is gone, who hears of what.

use std::time::Duration;

use hostler_controller::domain::JobState;
use hostler_controller::domain::job::reason;
use hostler_controller::store::{Ended, Entry, EventFilter, Peer, SettleAnswer, Store, StoreError};
use hostler_protocol::id::ControllerId;
use hostler_tests::rows;
use hostler_tests::servers::wait_for;

use super::world::{NOW, World, controller, host, in_lanes, job_id, purge, succeeded};

/// Longer than any wait here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The store of another controller; an SQLite file has but one.
async fn other(world: &World) -> Store {
    match world.server() {
        Some(_) => world.another().await,
        None => world.store.clone(),
    }
}

async fn close(world: &World, other: Store) {
    if world.server().is_some() {
        other.close().await;
    }
}

fn entry(n: u8) -> Entry {
    Entry {
        id: controller(n),
        name: format!("ctl-{n}"),
        addresses: vec![format!("ctl-{n}.test:7461")],
        build: "test".to_owned(),
        rules: Some(format!("rules-{n}")),
        now: NOW,
    }
}

async fn peer(store: &Store, id: &ControllerId) -> Peer {
    let peers = store.controllers().await.unwrap();
    peers.into_iter().find(|peer| peer.id == *id).expect("a controller that has entered")
}

/// How many events there are of each kind about a host or a job.
async fn told(world: &World, filter: &EventFilter, kind: &str) -> usize {
    let events = world.store.events_after(0, 1000, filter).await.unwrap();
    events.iter().filter(|event| event.event.kind.as_str() == kind).count()
}

pub(crate) async fn an_installation_keeps_its_first_root(world: &World) {
    let other = other(world).await;
    assert_eq!(world.store.root_pin().await.unwrap(), None);
    let (first, second) = tokio::join!(
        world.store.claim_installation("aa", NOW),
        other.claim_installation("bb", NOW)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first, second, "two roots of one installation");
    assert_eq!(world.store.claim_installation("cc", NOW).await.unwrap(), first);
    assert_eq!(other.root_pin().await.unwrap(), Some(first));
    close(world, other).await;
}

pub(crate) async fn a_controller_that_is_gone_takes_its_sessions_with_it(world: &World) {
    let other = other(world).await;
    for n in [1, 2] {
        world.store.controller_enter(entry(n)).await.unwrap();
    }
    let hosts = world.hosts(2).await;
    world.enqueue(&[in_lanes(purge(1, &hosts[0]), &[]), in_lanes(purge(2, &hosts[1]), &[])]).await;
    assert_eq!(world.claim(&[&hosts[0], &hosts[1]], NOW).await.len(), 2);
    // The second host has moved on already: nothing of it is the first controller's.
    let moved = other.session_open(rows::opening(&host(2), &controller(2), NOW)).await.unwrap();
    assert!(world.store.controller_beat(&controller(1)).await.unwrap());
    let seen = peer(&other, &controller(1)).await;
    assert_eq!((seen.beats, seen.sessions, seen.serving), (2, 1, true));
    assert_eq!(other.controller_gone(&controller(1), 1, NOW).await.unwrap(), None, "it moved");

    let dead = controller(1);
    let (one, two) = tokio::join!(
        world.store.controller_gone(&dead, 2, NOW),
        other.controller_gone(&dead, 2, NOW)
    );
    let ended = [one.unwrap(), two.unwrap()];
    let once = Some(Ended { sessions: 1, unknown: 1 });
    assert!(ended == [once, None] || ended == [None, once], "{ended:?}");
    let job = world.job(&job_id(1)).await;
    assert_eq!((job.state, job.reason.as_deref()), (JobState::Running, Some(reason::UNKNOWN)));
    assert_eq!(job.attempt, 1, "nothing is queued again");
    let job = world.job(&job_id(2)).await;
    assert_eq!((job.state, job.reason), (JobState::Running, None));
    assert_eq!(world.store.session_of(&hosts[1].host).await.unwrap(), Some(moved));
    let about = EventFilter { host: Some(hosts[0].host.clone()), ..EventFilter::default() };
    assert_eq!(told(world, &about, "host.disconnected").await, 1);
    let about = EventFilter { job: Some(job_id(1)), ..EventFilter::default() };
    assert_eq!(told(world, &about, "job.unknown").await, 1);

    // It was only cut off: it has to enter again, and its hosts come back as new sessions.
    assert!(!world.store.controller_beat(&controller(1)).await.unwrap());
    world.store.controller_enter(entry(1)).await.unwrap();
    assert!(world.store.controller_beat(&controller(1)).await.unwrap());
    let back = world.connect(1).await;
    assert_eq!(back.epoch, hosts[0].epoch + 1);
    close(world, other).await;
}

pub(crate) async fn a_controller_that_leaves_is_remembered_for_a_while(world: &World) {
    world.store.controller_enter(entry(1)).await.unwrap();
    let hosts = world.hosts(1).await;
    let left = world.store.controller_leave(&controller(1), NOW.plus_secs(5)).await.unwrap();
    assert_eq!(left, Some(Ended { sessions: 1, unknown: 0 }));
    assert_eq!(world.store.session_of(&hosts[0].host).await.unwrap(), None);
    let seen = peer(&world.store, &controller(1)).await;
    assert_eq!((seen.serving, seen.ended_at), (false, Some(NOW.plus_secs(5))));
    assert_eq!(world.store.prune_controllers(NOW.plus_secs(5)).await.unwrap(), 0);
    assert_eq!(world.store.prune_controllers(NOW.plus_secs(6)).await.unwrap(), 1);
    assert_eq!(world.store.controllers().await.unwrap(), []);
}

/// The store has no poll of its own: what it tells of another store's commits, it was told by the
/// doorbell.
pub(crate) async fn other_controllers_hear_of_work(world: &World) {
    let hosts = world.hosts(1).await;
    let other = other(world).await;
    let (mut work, mut committed) = (other.work(), other.committed());
    let heard = |newest: i64| async move {
        let both = async {
            work.wait_for(|seq| *seq >= newest).await.unwrap();
            committed.wait_for(|seq| *seq >= newest).await.unwrap();
        };
        tokio::time::timeout(PATIENCE, both).await.expect("nobody rang");
    };
    until_listening(world);
    world.enqueue(&[purge(1, &hosts[0])]).await;
    let (_, newest) = world.store.events_bounds().await.unwrap();
    heard(newest).await;
    close(world, other).await;
}

/// Waits until every store of the world listens.
fn until_listening(world: &World) {
    let Some((server, database)) = world.server() else { return };
    wait_for("both stores to listen", PATIENCE.as_secs(), || {
        (listeners(server, database) == 2).then_some(())
    })
    .unwrap();
}

fn listeners(server: &hostler_tests::servers::postgres::Postgres, database: &str) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE 'LISTEN%'";
    server.psql(database, sql).unwrap().trim().parse().unwrap()
}

pub(crate) async fn a_doorbell_that_was_cut_off_rings_again(world: &World) {
    let hosts = world.hosts(1).await;
    let other = other(world).await;
    let mut work = other.work();
    until_listening(world);
    if let Some((server, database)) = world.server() {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
            WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        assert_eq!(server.psql(database, cut).unwrap().trim(), "2");
        wait_for("the listeners to be gone", PATIENCE.as_secs(), || {
            (listeners(server, database) < 2).then_some(())
        })
        .unwrap();
        // Deaf or not, what is committed is there for who looks.
        world.enqueue(&[in_lanes(purge(1, &hosts[0]), &[])]).await;
        let claimed = other.claim(&[hosts[0].with_slots(1)], NOW, 1).await.unwrap();
        assert_eq!(claimed.len(), 1);
    }
    until_listening(world);
    world.enqueue(&[in_lanes(purge(2, &hosts[0]), &[])]).await;
    let (_, newest) = world.store.events_bounds().await.unwrap();
    let rung = work.wait_for(|seq| *seq >= newest);
    tokio::time::timeout(PATIENCE, rung).await.expect("nobody rang").unwrap();
    close(world, other).await;
}

pub(crate) async fn two_sweepers_expire_each_job_once(world: &World) {
    let hosts = world.hosts(1).await;
    let jobs: Vec<_> = (1..=40).map(|n| in_lanes(purge(n, &hosts[0]), &[])).collect();
    world.enqueue(&jobs).await;
    let stores = [world.store.clone(), other(world).await];
    let late = NOW.plus_secs(7200);
    let mut sweepers = tokio::task::JoinSet::new();
    for store in stores.clone() {
        sweepers.spawn(async move {
            let mut expired = 0;
            for _ in 0..20 {
                expired += store.expire_queued(late, 5).await.unwrap();
            }
            expired
        });
    }
    let expired: u64 = sweepers.join_all().await.into_iter().sum();
    // Who found the other at it left the rest to the next sweep.
    let rest = world.store.expire_queued(late, 100).await.unwrap();
    assert_eq!(expired + rest, 40);
    assert_eq!(told(world, &EventFilter::default(), "job.failed").await, 40);
    if let Some((server, database)) = world.server() {
        let held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
            WHERE l.locktype = 'advisory' AND d.datname = current_database()";
        assert_eq!(server.psql(database, held).unwrap().trim(), "0", "a lock outlived its unit");
    }
    let [_, other] = stores;
    close(world, other).await;
}

/// A claim of one controller is of no use to another: what a host that moved says of it is believed
/// once, whoever passes it on.
pub(crate) async fn a_host_that_moved_is_claimed_for_where_it_is(world: &World) {
    let hosts = world.hosts(1).await;
    let other = other(world).await;
    world.enqueue(&[in_lanes(purge(1, &hosts[0]), &[]), in_lanes(purge(2, &hosts[0]), &[])]).await;
    let first = world.store.claim(&[hosts[0].with_slots(1)], NOW, 1).await.unwrap();
    let epoch = other.session_open(rows::opening(&host(1), &controller(2), NOW)).await.unwrap();
    let cut_off = world.store.claim(&[hosts[0].with_slots(4)], NOW, 4).await.unwrap();
    assert!(cut_off.is_empty(), "claimed for a session that is elsewhere by now");
    let here = super::world::Connected { epoch, ..hosts[0].clone() };
    let second = other.claim(&[here.with_slots(4)], NOW, 4).await.unwrap();
    assert_eq!(super::world::ids(&second), [job_id(2)]);
    let closed = world.store.session_close(&hosts[0].host, hosts[0].epoch, NOW).await.unwrap();
    assert!(!closed, "the older session's end is not the host's");
    let settlement = super::world::settlement(&first[0], succeeded());
    let (one, two) = tokio::join!(
        world.store.settle(std::slice::from_ref(&settlement), NOW),
        other.settle(std::slice::from_ref(&settlement), NOW)
    );
    let answers = [one.unwrap()[0], two.unwrap()[0]];
    let settled = answers.iter().filter(|answer| matches!(answer, SettleAnswer::Settled(_)));
    assert_eq!(settled.count(), 1, "{answers:?}");
    assert_eq!(world.job(&job_id(1)).await.state, JobState::Succeeded);
    close(world, other).await;
}

/// The schema is not changed under a controller that does not know the new one.
pub(crate) async fn a_migration_waits_for_older_controllers_to_be_stopped(world: &World) {
    let Some((server, database)) = world.server() else {
        // The one controller of a file is the one that migrates it.
        let (found, now) = Store::migrate(&world.url).await.unwrap();
        assert_eq!(found, now);
        return;
    };
    world.store.controller_enter(entry(1)).await.unwrap();
    let newest = server.psql(database, "SELECT max(version) FROM schema_migrations").unwrap();
    let newest: i64 = newest.trim().parse().unwrap();
    let older = format!(
        "UPDATE controllers SET schema_version = {0}; \
         DELETE FROM schema_migrations WHERE version > {0}",
        newest - 1
    );
    server.psql(database, &older).unwrap();
    let alive = tokio::spawn({
        let store = world.store.clone();
        async move {
            loop {
                store.controller_beat(&controller(1)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    });
    match Store::migrate(&world.url).await {
        Err(error @ StoreError::OldersServe { .. }) => {
            assert!(error.to_string().contains("ctl-1"), "{error}");
        }
        other => panic!("migrated under a controller that serves: {other:?}"),
    }
    alive.abort();
    // Killed, it says nothing any more; the step is taken (and fails here, being there already).
    match Store::migrate(&world.url).await {
        Err(StoreError::Migrate { version, .. }) => {
            assert_eq!(version, newest);
        }
        other => panic!("a dead controller was waited for: {other:?}"),
    }
}
