//! Many at once: claimers, writers, two controllers on one database, transactions cut off.

use std::collections::BTreeMap;

use hostler_controller::domain::{
    Change, Decision, EventKind, JobState, NewEvent, Scope, Snapshot, Subject,
};
use hostler_controller::store::{ClaimHost, EventFilter, Page, SettleAnswer, Store};
use hostler_protocol::id::JobId;
use serde_json::json;

use super::world::{
    Connected, NOW, World, host, in_lanes, job_id, purge, settlement, site, succeeded,
};

/// The stores claimers use: two on PostgreSQL (as two controllers), one on SQLite.
async fn stores(world: &World) -> Vec<Store> {
    match world.server() {
        Some(_) => vec![world.store.clone(), world.another().await],
        None => vec![world.store.clone()],
    }
}

async fn close_others(world: &World, stores: Vec<Store>) {
    for store in stores.into_iter().skip(1) {
        store.close().await;
    }
    world.store.ping().await.unwrap();
}

pub(crate) async fn many_claimers_never_run_two_jobs_of_a_lane(world: &World) {
    let hosts = world.hosts(3).await;
    let stores = stores(world).await;
    // Three lanes, and jobs that need two of them at once.
    let jobs: Vec<_> = (1..=45)
        .map(|n: u64| {
            let on = &hosts[usize::try_from(n % 3).unwrap()];
            let lanes: &[&str] = match n % 5 {
                0 => &["a", "b"],
                1 => &["a"],
                2 => &["b"],
                3 => &["c"],
                _other => &["b", "c"],
            };
            in_lanes(purge(n, on), lanes)
        })
        .collect();
    let lanes: BTreeMap<JobId, Vec<String>> = jobs
        .iter()
        .map(|new| (new.job.id.clone(), new.lanes.iter().map(|lane| lane.0.clone()).collect()))
        .collect();
    world.enqueue(&jobs).await;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let store = stores[worker % stores.len()].clone();
        let hosts: Vec<ClaimHost> = hosts.iter().map(|host| host.with_slots(4)).collect();
        let lanes = lanes.clone();
        workers.spawn(work(store, hosts, lanes));
    }
    let mut order: Vec<JobId> = Vec::new();
    while let Some(ended) = workers.join_next().await {
        order.extend(ended.expect("a worker panicked"));
    }
    assert_eq!(order.len(), 45, "each job is settled by exactly one worker");
    for n in 1..=45 {
        let job = world.job(&job_id(n)).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1), "job {n}");
    }
    assert_starts_follow_lanes(world, &lanes).await;
    close_others(world, stores).await;
}

/// Claims and settles until all is done; checks at each claim that the lanes are its alone.
async fn work(
    store: Store,
    hosts: Vec<ClaimHost>,
    lanes: BTreeMap<JobId, Vec<String>>,
) -> Vec<JobId> {
    let mut mine = Vec::new();
    loop {
        let claimed = store.claim(&hosts, NOW, 3).await.unwrap();
        if claimed.is_empty() {
            let stats = store.stats().await.unwrap();
            if stats.queued == 0 && stats.running == 0 {
                return mine;
            }
            tokio::task::yield_now().await;
            continue;
        }
        let running = store.running_all().await.unwrap();
        for one in &claimed {
            for other in running.iter().filter(|other| other.id != one.job.id) {
                let shared = lanes[&other.id].iter().any(|lane| lanes[&one.job.id].contains(lane));
                assert!(!shared, "{} and {} run in one lane", one.job.id, other.id);
            }
        }
        for one in claimed {
            let answers = store.settle(&[settlement(&one, succeeded())], NOW).await.unwrap();
            assert_eq!(answers, [SettleAnswer::Settled(JobState::Succeeded)]);
            mine.push(one.job.id);
        }
    }
}

/// The log tells the same: between a job's start and its end nothing else of its lanes starts,
/// and each lane's jobs start in the order they came.
async fn assert_starts_follow_lanes(world: &World, lanes: &BTreeMap<JobId, Vec<String>>) {
    let events = world.store.events_after(0, 1000, &EventFilter::default()).await.unwrap();
    let mut holder: BTreeMap<&str, JobId> = BTreeMap::new();
    let mut last: BTreeMap<&str, JobId> = BTreeMap::new();
    for event in events {
        let Some(job) = event.event.subject.job else { continue };
        for lane in &lanes[&job] {
            if event.event.kind == EventKind::JobStarted {
                let before = holder.insert(lane, job.clone());
                assert_eq!(before, None, "{job} started in lane {lane} while it was held");
                let previous = last.insert(lane, job.clone());
                assert!(previous.is_none_or(|previous| previous < job), "lane {lane} out of order");
            } else if event.event.kind == EventKind::JobSucceeded {
                assert_eq!(holder.remove(lane.as_str()), Some(job.clone()));
            }
        }
    }
}

pub(crate) async fn events_are_dense_under_eight_writers(world: &World) {
    let stores = stores(world).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let store = stores[writer % stores.len()].clone();
        writers.spawn(async move {
            let mut last = 0;
            for n in 0..25 {
                let events = if n % 5 == 4 { 0 } else { 1 + n % 3 };
                let decide = move |_: &Snapshot| {
                    let event = NewEvent {
                        at: NOW,
                        kind: EventKind::SiteCreated,
                        subject: Subject::default(),
                        document: json!({ "writer": writer }),
                    };
                    Ok(Decision { changes: Vec::new(), events: vec![event; events], reply: () })
                };
                let done = store.transact("write", Scope::default(), decide).await.unwrap();
                assert!(done.seq >= last, "a writer's own numbers went back");
                last = done.seq;
            }
        });
    }
    // Whoever follows must never see a number before all smaller ones.
    let mut seen = 0;
    loop {
        let events = world.store.events_after(seen, 1000, &EventFilter::default()).await.unwrap();
        for event in events {
            assert_eq!(event.seq, seen + 1, "a follower was shown a gap");
            seen = event.seq;
        }
        if writers.is_empty() {
            break;
        }
        while let Some(ended) = writers.try_join_next() {
            ended.expect("a writer panicked");
        }
    }
    let per_writer: i64 = (0..25).filter(|n| n % 5 != 4).map(|n| 1 + n % 3).sum();
    assert_eq!(world.store.events_bounds().await.unwrap(), (1, 8 * per_writer));
    close_others(world, stores).await;
}

pub(crate) async fn one_name_is_given_once(world: &World) {
    let stores = stores(world).await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 1..=8_u8 {
        let store = stores[usize::from(n) % stores.len()].clone();
        let mut wanted = site(n);
        wanted.name = "shop".to_owned();
        callers.spawn(async move {
            let scope = Scope { site_named: Some("shop".to_owned()), ..Scope::default() };
            let decide = move |snapshot: &Snapshot| {
                let taken = snapshot.site_named.is_some();
                let changes =
                    if taken { Vec::new() } else { vec![Change::InsertSite(wanted.clone())] };
                Ok(Decision { changes, events: Vec::new(), reply: !taken })
            };
            store.transact("create", scope, decide).await.unwrap().reply
        });
    }
    let mut made = 0;
    while let Some(ended) = callers.join_next().await {
        made += u32::from(ended.expect("a caller panicked"));
    }
    assert_eq!(made, 1, "exactly one caller gets the name, the others are told");
    let (sites, _) = world.store.sites(&Page::first(10)).await.unwrap();
    assert_eq!(sites.len(), 1);
    close_others(world, stores).await;
}

pub(crate) async fn concurrent_changes_of_a_row_are_all_kept(world: &World) {
    world.hosts(1).await;
    let stores = stores(world).await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..8_usize {
        let store = stores[n % stores.len()].clone();
        callers.spawn(async move {
            for _ in 0..5 {
                let scope = Scope {
                    environment: Some(super::world::environment_id(1)),
                    ..Scope::default()
                };
                let decide = |snapshot: &Snapshot| {
                    let mut environment = snapshot.environment.clone().expect("it is there");
                    environment.version += 1;
                    let changes = vec![Change::UpdateEnvironment(Box::new(environment))];
                    Ok(Decision { changes, events: Vec::new(), reply: () })
                };
                store.transact("change", scope, decide).await.unwrap();
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller panicked");
    }
    let after = world.store.environment(&super::world::environment_id(1)).await.unwrap().unwrap();
    assert_eq!(after.version, 41, "a change was lost");
    close_others(world, stores).await;
}

pub(crate) async fn a_caller_that_goes_away_leaves_all_or_nothing(world: &World) {
    let hosts = world.hosts(1).await;
    for n in 1..=20_u64 {
        let store = world.store.clone();
        let new = in_lanes(purge(n, &hosts[0]), &["a"]);
        let caller = tokio::spawn(async move { store.enqueue(&[new], NOW).await });
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        caller.abort();
        drop(caller.await);
    }
    // One more of the writer's commits: whatever was on its way has ended now.
    world.enqueue(&[in_lanes(purge(99, &hosts[0]), &["b"])]).await;
    let events = world.store.events_after(0, 1000, &EventFilter::default()).await.unwrap();
    let told: Vec<JobId> = events
        .into_iter()
        .filter(|event| event.event.kind == EventKind::JobQueued)
        .filter_map(|event| event.event.subject.job)
        .collect();
    for n in 1..=20 {
        let there = world.store.job(&job_id(n)).await.unwrap().is_some();
        assert_eq!(there, told.contains(&job_id(n)), "job {n}: row and event disagree");
    }
}

/// PostgreSQL only: a transaction that its server ends leaves nothing, and the next one works.
pub(crate) async fn a_killed_transaction_leaves_nothing(world: &World) {
    let Some((server, database)) = world.server() else {
        // SQLite has no server; a killed process is the restart case.
        return a_process_that_dies_loses_nothing_committed(world).await;
    };
    let hosts = world.hosts(1).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'hostler-controller'";
    let mut queued: Vec<u64> = Vec::new();
    for round in 0..10_u64 {
        let store = world.store.clone();
        let on: Connected = hosts[0].clone();
        let writer = tokio::spawn(async move {
            let mut done = Vec::new();
            for n in 0..20 {
                let n = 1 + round * 20 + n;
                if store.enqueue(&[in_lanes(purge(n, &on), &[])], NOW).await.is_ok() {
                    done.push(n);
                }
            }
            done
        });
        server.psql(database, kill).unwrap_or_else(|error| panic!("{error}"));
        queued.extend(writer.await.expect("the writer panicked"));
    }
    for n in &queued {
        let there = world.store.job(&job_id(*n)).await.unwrap().is_some();
        assert!(there, "job {n} was said to be queued and is not there");
    }
    let events = world.store.events_after(0, 1000, &EventFilter::default()).await.unwrap();
    for (place, event) in (1..).zip(&events) {
        assert_eq!(event.seq, place, "a cut-off transaction left a gap");
        if let (EventKind::JobQueued, Some(job)) = (event.event.kind, &event.event.subject.job) {
            assert!(world.store.job(job).await.unwrap().is_some(), "an event without its job");
        }
    }
    assert!(!queued.is_empty(), "nothing was queued at all");
}

async fn a_process_that_dies_loses_nothing_committed(world: &World) {
    let hosts = world.hosts(1).await;
    world.enqueue(&[purge(1, &hosts[0])]).await;
    // A second opening of the file while the first still has it: the log is read, not only the
    // file, just as after a process that never closed it.
    let store = world.another().await;
    assert!(store.job(&job_id(1)).await.unwrap().is_some());
    let (site, other) = (site(1), host(2));
    let decide = move |_: &Snapshot| {
        let changes = vec![Change::InsertHost(Box::new(other.clone()))];
        Ok(Decision { changes, events: Vec::new(), reply: () })
    };
    store.transact("insert", Scope::default(), decide).await.unwrap();
    assert!(world.store.host(&host(2).id).await.unwrap().is_some());
    assert!(world.store.site(&site.id).await.unwrap().is_some());
    store.close().await;
}

pub(crate) async fn a_defect_in_one_operation_harms_no_other(world: &World) {
    let panicking = {
        let store = world.store.clone();
        tokio::spawn(async move {
            let decide = |_: &Snapshot| -> Result<Decision<()>, _> { panic!("a defect") };
            store.transact("defect", Scope::default(), decide).await
        })
    };
    let mut others = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = world.store.clone();
        others.spawn(async move {
            let changes = vec![Change::InsertSite(site(n))];
            let decide = move |_: &Snapshot| {
                Ok(Decision { changes: changes.clone(), events: Vec::new(), reply: () })
            };
            store.transact("create_site", Scope::default(), decide).await.map(drop)
        });
    }
    while let Some(done) = others.join_next().await {
        done.unwrap().unwrap();
    }
    let ended = panicking.await;
    assert!(!matches!(ended, Ok(Ok(_))), "a panic counts as done");
    let (sites, _) = world.store.sites(&Page::first(100)).await.unwrap();
    assert_eq!(sites.len(), 8, "somebody else's rows are missing");
}
