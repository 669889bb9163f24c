//! Desired state on both databases: looks at the repository one at a time, stacks carried on by two
//! controllers, and every row as it was written.

use std::collections::{BTreeMap, BTreeSet};

use hostler_controller::domain::decide::refresh::{self, Ask, RemovalLimits, Taken};
use hostler_controller::domain::decide::stack::{self, Bounds, Carry, look};
use hostler_controller::domain::desired::{
    Commit, Refresh, RefreshError, RefreshReport, RefreshState, Removal, Stack, StackFacts,
    StackHost, StackProblem, StackSettings, Trigger,
};
use hostler_controller::domain::stack::StackStatus;
use hostler_controller::domain::{Change, Micros, Scope, Snapshot};
use hostler_controller::store::{JobFilter, Page, Store, TransactError};
use hostler_controller::templates::Templates;
use hostler_protocol::id::{HostId, JobId, RefreshId, StackId};
use hostler_protocol::job::{JobType, Outcome, StackSyncResult};

use super::world::{NOW, World, controller, succeeded};

fn refresh_id(n: u64) -> RefreshId {
    RefreshId::from_parts(n, [0; 10])
}

fn stack_id(n: u8) -> StackId {
    StackId::from_parts(u64::from(n), [n; 10])
}

async fn ask(store: &Store, n: u64, delivery: Option<&str>) -> Refresh {
    let delivery = delivery.map(str::to_owned);
    let scope = Scope { refreshes: true, refresh_delivered: delivery.clone(), ..Scope::default() };
    let ask = Ask { id: refresh_id(n), trigger: Trigger::Webhook, delivery, now: NOW };
    let decide = move |snapshot: &Snapshot| Ok(refresh::request(snapshot, &ask));
    store.transact("ask", scope, decide).await.expect("a look is asked for").reply
}

async fn begin(store: &Store) -> Option<Refresh> {
    let scope = Scope { refreshes: true, ..Scope::default() };
    // Another controller that lives: whoever begins one keeps all others from it.
    let decide = |snapshot: &Snapshot| Ok(refresh::begin(snapshot, &controller(1), &|_| true, NOW));
    store.transact("begin", scope, decide).await.expect("a look is begun").reply
}

fn facts(project: &str) -> StackFacts {
    StackFacts {
        project: project.to_owned(),
        compose_file: "docker-compose.yml".to_owned(),
        override_file: Some("docker-compose.override.yml".to_owned()),
        directory: project.to_owned(),
        compose_hash: Some("c".repeat(64)),
        tree_oid: "d".repeat(40),
        bundle_digest: Some("e".repeat(64)),
        settings: StackSettings {
            hosts: vec!["host-1.test".to_owned(), "host-2.test".to_owned()],
            health_secs: 60,
            ..StackSettings::default()
        },
        warnings: vec!["a 'quoted' \"warning\"".to_owned()],
        problem: None,
    }
}

async fn take(store: &Store, run: &Refresh, found: &[&str]) {
    let taken = Taken {
        refresh: run.id.clone(),
        source: "file:///srv/config#main:".to_owned(),
        revision: format!("{:040x}", found.len()),
        commit: Commit { author: "A".to_owned(), summary: "S".to_owned(), committed_at_us: 3 },
        found: found.iter().map(|path| ((*path).to_owned(), facts(path))).collect(),
        new_ids: (1..=u8::try_from(found.len()).expect("few")).map(stack_id).collect(),
        limits: RemovalLimits::default(),
        report: RefreshReport { fetch_ms: 1, read_ms: 2, bytes_received: 3, ..Default::default() },
        now: NOW.plus_secs(1),
    };
    let scope = Scope { refreshes: true, stacks: true, ..Scope::default() };
    let decide = move |snapshot: &Snapshot| refresh::take(snapshot, &taken);
    store.transact("take", scope, decide).await.expect("what was found is the snapshot");
}

/// A look that found these stacks.
async fn found(store: &Store, n: u64, paths: &[&str]) {
    ask(store, n, None).await;
    let run = begin(store).await.expect("nothing else runs");
    take(store, &run, paths).await;
}

pub(crate) async fn one_look_runs_and_one_waits_whoever_asks(world: &World) {
    ask(&world.store, 1, None).await;
    let run = begin(&world.store).await.expect("the first begins at once");
    let asks = (2..12).map(|n| ask(&world.store, n, None));
    futures_util::future::join_all(asks).await;
    let open = world.store.open_refreshes().await.unwrap();
    let states: Vec<RefreshState> = open.iter().map(|one| one.state).collect();
    assert_eq!(states, [RefreshState::Refreshing, RefreshState::Queued], "{open:?}");
    assert!(begin_as(&world.store, 2).await.is_none(), "one runs already");
    for n in 2..12 {
        let answers = world.store.refresh(&refresh_id(n)).await.unwrap().expect("it is known");
        assert_eq!(answers.id, open[1].id, "the newest answers for request {n}");
    }
    take(&world.store, &run, &["a"]).await;
    let next = begin(&world.store).await.expect("the one that waited");
    assert_eq!(next.id, open[1].id);
    let (all, _) = world.store.refreshes(&Page::first(50)).await.unwrap();
    assert_eq!(all.len(), 11, "those that were replaced are in the history, too");
    assert_eq!(all[0].id, refresh_id(11), "newest first");
    let last = world.store.last_refresh().await.unwrap().expect("one ended");
    assert_eq!((last.id, last.state), (run.id, RefreshState::Completed));
}

pub(crate) async fn two_controllers_begin_a_look_once(world: &World) {
    let other = match world.server() {
        Some(_) => world.another().await,
        None => world.store.clone(),
    };
    for n in 1..9 {
        ask(&world.store, n, None).await;
        let (one, two) = tokio::join!(begin_as(&world.store, 1), begin_as(&other, 2));
        let begun: Vec<Refresh> = one.into_iter().chain(two).collect();
        assert_eq!(begun.len(), 1, "each look is carried out once: {begun:?}");
        take(&world.store, &begun[0], &["a"]).await;
    }
    if world.server().is_some() {
        other.close().await;
    }
}

async fn begin_as(store: &Store, n: u8) -> Option<Refresh> {
    let scope = Scope { refreshes: true, ..Scope::default() };
    let decide =
        move |snapshot: &Snapshot| Ok(refresh::begin(snapshot, &controller(n), &|_| true, NOW));
    store.transact("begin", scope, decide).await.expect("a look is begun or not").reply
}

pub(crate) async fn a_delivery_is_served_once(world: &World) {
    let first = ask(&world.store, 1, Some("github:7")).await;
    // Replaced while it waits: the one that took its place answers for the delivery.
    let second = ask(&world.store, 2, Some("github:8")).await;
    assert_eq!(ask(&world.store, 3, Some("github:7")).await.id, second.id);
    assert_ne!(first.id, second.id);
    let run = begin(&world.store).await.expect("it begins");
    let report = RefreshReport {
        error: Some(RefreshError {
            class: "network".to_owned(),
            code: "GIT_UNREACHABLE".to_owned(),
            message: "no".to_owned(),
        }),
        ..RefreshReport::default()
    };
    let (id, why) = (run.id, report.clone());
    let scope = Scope { refreshes: true, ..Scope::default() };
    let decide = move |snapshot: &Snapshot| refresh::fail(snapshot, &id, &why, NOW);
    let failed = world.store.transact("fail", scope, decide).await.unwrap().reply;
    assert_eq!(failed.report.as_ref(), Some(&report));
    assert_eq!(world.store.last_refresh().await.unwrap(), Some(failed), "read as it was written");
    assert!(world.store.desired_state().await.unwrap().is_none(), "a failure is no snapshot");
    let again = ask(&world.store, 4, Some("github:7")).await;
    assert_eq!(again.id, refresh_id(4), "what failed runs again");
    let run = begin(&world.store).await.expect("it begins");
    take(&world.store, &run, &["a"]).await;
    assert_eq!(ask(&world.store, 5, Some("github:7")).await.id, again.id, "it was served");
}

pub(crate) async fn what_a_look_found_is_kept_whole(world: &World) {
    found(&world.store, 1, &["a", "b", "c"]).await;
    let stacks = world.store.all_stacks().await.unwrap();
    let paths: Vec<&str> = stacks.iter().map(|stack| stack.path.as_str()).collect();
    assert_eq!(paths, ["a", "b", "c"]);
    assert_eq!(stacks[1].facts, facts("b"), "read as it was written");
    let desired = world.store.desired_state().await.unwrap().expect("a snapshot");
    assert_eq!((desired.commit.summary.as_str(), desired.taken_at), ("S", NOW.plus_secs(1)));
    found(&world.store, 2, &["a", "c"]).await;
    let gone = world.store.stack(&stacks[1].id).await.unwrap().expect("it is not forgotten");
    assert!(!gone.present && gone.version == 2);
    assert_eq!(world.store.stack_at("b").await.unwrap(), Some(gone));
    let same = world.store.stack(&stacks[0].id).await.unwrap().expect("it is there");
    assert_eq!(same, stacks[0], "what did not change is not written");
}

pub(crate) async fn a_look_that_was_given_up_changes_nothing(world: &World) {
    found(&world.store, 1, &["a", "b"]).await;
    ask(&world.store, 2, None).await;
    let run = begin(&world.store).await.expect("it begins");
    // Its controller is taken for gone: another ends it and looks itself.
    ask(&world.store, 3, None).await;
    let scope = Scope { refreshes: true, ..Scope::default() };
    let decide =
        |snapshot: &Snapshot| Ok(refresh::begin(snapshot, &controller(2), &|_| false, NOW));
    let next = world.store.transact("begin", scope, decide).await.unwrap().reply;
    assert_eq!(next.map(|one| one.id), Some(refresh_id(3)));
    let taken = Taken {
        refresh: run.id,
        source: "elsewhere".to_owned(),
        revision: "f".repeat(40),
        commit: Commit::default(),
        found: BTreeMap::new(),
        new_ids: Vec::new(),
        limits: RemovalLimits::default(),
        report: RefreshReport::default(),
        now: NOW,
    };
    let scope = Scope { refreshes: true, stacks: true, ..Scope::default() };
    let decide = move |snapshot: &Snapshot| refresh::take(snapshot, &taken);
    let late = world.store.transact("take", scope, decide).await;
    assert!(
        matches!(late, Err(TransactError::Refused(ref why)) if why.code == "REFRESH_OVERTAKEN")
    );
    assert!(world.store.all_stacks().await.unwrap().iter().all(|stack| stack.present));
}

/// One round of a controller: everything there is to do, decided stack by stack.
async fn carry_all(store: &Store, made: u64) -> bool {
    let templates = Templates::shipped().unwrap();
    let overview = store.stack_overview().await.unwrap();
    let bounds = Bounds { syncs_max: 100, removal: RemovalLimits::default() };
    let mut done = false;
    for (n, todo) in (0_u64..).zip(look(&overview, &bounds, NOW)) {
        let carry = Carry {
            version: todo.version,
            around: todo.around,
            bundle: Some(("e".repeat(64), "b".repeat(64))),
            job_ids: (0..9).map(|i| JobId::from_parts(made + n * 100 + i, [0; 10])).collect(),
            sync: templates.for_type(JobType::StackSync).as_ref().clone(),
            down: templates.for_type(JobType::StackDown).as_ref().clone(),
            now: NOW,
        };
        let scope = Scope { stack: Some(todo.stack), ..Scope::default() };
        let decide = move |snapshot: &Snapshot| Ok(stack::carry(snapshot, &carry));
        done |= store.transact("carry", scope, decide).await.unwrap().reply;
    }
    done
}

pub(crate) async fn two_controllers_queue_each_sync_once(world: &World) {
    let hosts = world.hosts(2).await;
    found(&world.store, 1, &["a", "b", "c"]).await;
    let other = match world.server() {
        Some(_) => world.another().await,
        None => world.store.clone(),
    };
    for round in 0..20_u64 {
        let (one, two) = tokio::join!(
            carry_all(&world.store, 1_000_000 + round * 10_000),
            carry_all(&other, 2_000_000 + round * 10_000)
        );
        if !one && !two {
            break;
        }
        assert!(round < 19, "there is always something to do");
    }
    let (jobs, _) = world.store.jobs(&JobFilter::default(), &Page::first(100)).await.unwrap();
    let of: BTreeSet<(Option<StackId>, HostId)> =
        jobs.iter().map(|job| (job.stack_id.clone(), job.host_id.clone())).collect();
    assert_eq!((jobs.len(), of.len()), (6, 6), "three stacks on two hosts: {jobs:?}");
    let rows = world.store.stack_hosts(None).await.unwrap();
    assert!(rows.iter().all(|row| row.job.is_some() && row.status == StackStatus::Syncing));

    // Jobs of stacks are found by their stack, and settled ones are taken in.
    let filter = JobFilter { stack: Some(stack_id(1)), ..JobFilter::default() };
    assert_eq!(world.store.jobs(&filter, &Page::first(9)).await.unwrap().0.len(), 2);
    let claimed = world.claim(&[&hosts[0], &hosts[1]], NOW).await;
    assert_eq!(claimed.len(), 6, "no two of a stack on one host");
    for one in &claimed {
        world.settle(one, synced(one)).await;
    }
    while carry_all(&world.store, 3_000_000).await {}
    let rows = world.store.stack_hosts(None).await.unwrap();
    for row in &rows {
        assert_eq!(row.status, StackStatus::Synced, "{row:?}");
        assert!(!row.is_out_of_sync() && row.job.is_none(), "{row:?}");
    }
    if world.server().is_some() {
        other.close().await;
    }
}

/// As a host would say that it did what the job asked.
fn synced(claimed: &hostler_controller::store::Claimed) -> Outcome {
    let spec = &claimed.job.request["spec"];
    let text = |key: &str| spec[key].as_str().expect("a sync names it").to_owned();
    let result = StackSyncResult {
        desired: text("desired"),
        bundle: text("bundle"),
        changed: true,
        services: Vec::new(),
        files: Vec::new(),
        files_more: 0,
        containers: Vec::new(),
        compose: "docker compose 2".to_owned(),
    };
    Outcome { result: Some(serde_json::to_value(result).expect("JSON")), ..succeeded() }
}

pub(crate) async fn rows_of_stacks_come_back_and_are_not_overwritten(world: &World) {
    world.hosts(1).await;
    found(&world.store, 1, &["a"]).await;
    let host = super::world::host_id(1);
    let row = StackHost {
        wanted: Some("w".repeat(64)),
        retry_at: Some(Micros(7)),
        version: 1,
        ..StackHost::new(stack_id(1), host.clone())
    };
    world.write(vec![Change::PutStackHosts(vec![row.clone()])]).await;
    let read = world.store.stack_hosts(Some(&stack_id(1))).await.unwrap();
    assert_eq!(read, std::slice::from_ref(&row));
    // Written by somebody who had not seen the newest: refused, and nothing is lost.
    let late = vec![Change::PutStackHosts(vec![StackHost { version: 1, ..row.clone() }])];
    let decide = move |_: &Snapshot| {
        let changes = late.clone();
        Ok(hostler_controller::domain::Decision { changes, events: Vec::new(), reply: () })
    };
    assert!(world.store.transact("late", Scope::default(), decide).await.is_err());
    let mut stack = world.store.stack(&stack_id(1)).await.unwrap().expect("it is there");
    stack.facts.problem = Some(StackProblem { code: "X".to_owned(), message: "ü\n".to_owned() });
    stack.version += 1;
    world.write(vec![Change::PutStacks(vec![stack.clone()])]).await;
    assert_eq!(world.store.stack(&stack.id).await.unwrap(), Some(stack.clone()));
    world
        .write(vec![
            Change::DeleteStackHost(stack.id.clone(), host),
            Change::DeleteStack(stack.id.clone()),
        ])
        .await;
    assert_eq!(world.store.stack(&stack.id).await.unwrap(), None);
    assert_eq!(world.store.stack_hosts(None).await.unwrap(), []);
}

fn settings(hosts: &[&str], after: &[&str]) -> StackSettings {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    StackSettings { hosts: texts(hosts), after: texts(after), ..StackSettings::default() }
}

/// What stands in a stack's way is found also when it alone is read.
pub(crate) async fn one_stack_is_read_with_what_is_in_its_way(world: &World) {
    world.hosts(1).await;
    let here: &[&str] = &["host-1.test"];
    let mut put = Vec::new();
    let mut add = |path: String, project: &str, settings: StackSettings| {
        let n = u8::try_from(put.len() + 1).expect("few");
        let facts = StackFacts { settings, ..facts(project) };
        put.push(Stack {
            id: stack_id(n),
            path,
            present: true,
            suspended: false,
            removal: Removal::Free,
            revision: "r".to_owned(),
            facts,
            created_at: NOW,
            updated_at: NOW,
            version: 1,
        });
    };
    add("one".to_owned(), "shared", settings(here, &[]));
    add("two".to_owned(), "shared", settings(here, &[]));
    add("elsewhere".to_owned(), "shared", settings(&[], &[]));
    add("late".to_owned(), "late", settings(here, &["one", "gone"]));
    // A circle wider than is walked step by step, and one that leads into it.
    for n in 0..20 {
        let before = format!("ring-{}", (n + 1) % 20);
        add(format!("ring-{n}"), &format!("ring{n}"), settings(here, &[&before]));
    }
    add("to-the-ring".to_owned(), "to", settings(here, &["ring-3"]));
    add("pair-a".to_owned(), "pa", settings(here, &["pair-b"]));
    add("pair-b".to_owned(), "pb", settings(here, &["pair-a"]));
    world.write(vec![Change::PutStacks(put.clone())]).await;
    let store = &world.store;
    let all = stack::trouble(&store.stack_overview().await.unwrap());
    assert_eq!(all.len(), 2 + 20 + 2, "{all:?}");
    for one in &put {
        let places = store.places().await.unwrap();
        let overview = store.overview_of(std::slice::from_ref(one), places).await.unwrap();
        let found = stack::trouble(&overview);
        assert_eq!(found.get(&one.id), all.get(&one.id), "{}", one.path);
        if !one.path.contains("ring") {
            assert!(overview.stacks.len() < 4, "{} is read with all others", one.path);
        }
    }
    let mut paths: Vec<&str> = put.iter().map(|one| one.path.as_str()).collect();
    paths.sort_unstable();
    let (mut read, mut behind) = (Vec::new(), None);
    loop {
        let page = store.stacks_behind(behind.as_deref(), 7).await.unwrap();
        let Some(last) = page.last() else { break };
        behind = Some(last.path.clone());
        read.extend(page.into_iter().map(|one| one.path));
    }
    assert_eq!(read, paths, "in the order of bytes, each once");
}

/// Whatever a look at stacks is made on, a change of it changes the mark.
pub(crate) async fn the_mark_of_stacks_is_another_after_each_change(world: &World) {
    let hosts = world.hosts(1).await;
    let store = &world.store;
    let mark = async || store.stacks_mark().await.unwrap();
    let mut seen = vec![mark().await];
    found(store, 1, &["a", "b"]).await;
    assert_ne!(mark().await, seen[0]);
    seen.push(mark().await);
    assert_eq!(mark().await, seen[1], "nothing has changed");
    for round in 0..9 {
        let done = carry_all(store, 1_000_000 + round * 10_000).await;
        assert_eq!(mark().await != seen[seen.len() - 1], done);
        seen.push(mark().await);
        if !done {
            break;
        }
    }
    let mut next = async |what: &str| {
        let mark = mark().await;
        assert!(!seen.contains(&mark), "{what} is not seen");
        seen.push(mark);
    };
    let claimed = world.claim(&[&hosts[0]], NOW).await;
    assert_eq!(claimed.len(), 2);
    next("a job that was claimed").await;
    world.settle(&claimed[0], synced(&claimed[0])).await;
    next("a job that has ended").await;
    let mut labelled = store.host(&hosts[0].host).await.unwrap().expect("a host");
    labelled.labels = [("role".to_owned(), "web".to_owned())].into();
    world.write(vec![Change::UpdateHost(Box::new(labelled))]).await;
    next("a host's label").await;
    world.write(vec![Change::InsertHost(Box::new(super::world::host(2)))]).await;
    next("a host").await;
    world.connect(2).await;
    next("a host that came").await;
    while carry_all(store, 3_000_000).await {}
    next("what was applied").await;
    let gone = store.stack(&stack_id(2)).await.unwrap().expect("it is there");
    world.write(vec![Change::DeleteStack(gone.id)]).await;
    next("a stack that is gone").await;
}
