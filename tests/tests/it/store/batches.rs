//! Batches on both databases, carried on by two controllers at once where there can be two.

use std::collections::BTreeSet;
use std::sync::Arc;

use hostler_controller::app::desired::Desired;
use hostler_controller::app::{App, Asked, BatchAnswer, JoinTarget};
use hostler_controller::clock::Clock;
use hostler_controller::domain::JobState;
use hostler_controller::events::Events;
use hostler_controller::store::{JobFilter, Page, Store};
use hostler_controller::templates::Templates;
use hostler_controller::views::{self, BatchState, TargetState};
use hostler_protocol::id::BatchId;
use hostler_protocol::job::Outcome;

use super::opening::by_hand;
use super::world::{Connected, World, settlement, succeeded};

pub(crate) fn app(store: Store) -> App {
    let clock = Clock::system();
    App {
        events: Events::new(store.clone()),
        desired: Desired::none(),
        templates: Templates::shipped().unwrap(),
        controller: clock.new_controller_id().unwrap(),
        join: Arc::new(JoinTarget { addresses: vec!["ctl.example:7443".to_owned()], pin: [7; 32] }),
        clock,
        store,
    }
}

fn asked(app: &App, key: Option<&str>) -> Asked {
    let idempotency = key.map(|key| hostler_controller::app::IdempotencyKey {
        key: key.to_owned(),
        request_sha256: "f".repeat(64),
    });
    let request_id = app.clock.new_request_id().unwrap();
    Asked { principal: "local".to_owned(), request_id, idempotency }
}

fn checks(concurrency: u32) -> views::CreateBatch {
    views::CreateBatch {
        action: views::BatchAction::EnvCheck,
        targets: views::BatchTargets { all: Some(true), ..Default::default() },
        concurrency: Some(concurrency),
        batch_size: None,
        canary: None,
        failures_max: None,
        answer_within_secs: None,
        dry_run: None,
    }
}

async fn make(app: &App, key: Option<&str>, request: views::CreateBatch) -> (BatchId, bool) {
    match app.create_batch(&asked(app, key), request).await.unwrap() {
        BatchAnswer::Made(made) => (made.id, made.replayed),
        BatchAnswer::Plan(plan) => panic!("a plan was not asked for: {plan:?}"),
    }
}

/// Runs everything that can run on these hosts to its end; how many.
async fn work(app: &App, hosts: &[Connected]) -> usize {
    let hosts: Vec<_> = hosts.iter().map(|host| host.with_slots(4)).collect();
    let claimed = app.store.claim(&hosts, app.clock.now(), 100).await.unwrap();
    let settled: Vec<_> = claimed.iter().map(|one| settlement(one, succeeded())).collect();
    app.store.settle(&settled, app.clock.now()).await.unwrap();
    settled.len()
}

pub(crate) async fn two_controllers_carry_a_batch_on_and_queue_nothing_twice(world: &World) {
    let hosts = world.hosts(9).await;
    let mut apps = vec![app(world.store.clone())];
    apps.push(match world.server() {
        Some(_) => app(world.another().await),
        None => app(world.store.clone()),
    });
    let (id, _) = make(&apps[0], None, checks(4)).await;
    let mut rounds = 0;
    loop {
        let (one, other) = tokio::join!(apps[0].advance_batches(), apps[1].advance_batches());
        one.unwrap();
        other.unwrap();
        let batch = apps[0].show_batch(&id).await.unwrap();
        let counts = &batch.counts;
        assert!(counts.queued + counts.running <= 4, "more are open than may be: {counts:?}");
        if batch.state != BatchState::Running {
            assert_eq!((batch.state, counts.succeeded), (BatchState::Succeeded, 9));
            break;
        }
        work(&apps[rounds % 2], &hosts).await;
        rounds += 1;
        assert!(rounds < 50, "the batch does not end: {counts:?}");
    }
    let filter = JobFilter { batch: Some(id.clone()), ..JobFilter::default() };
    let (jobs, _) = world.store.jobs(&filter, &Page::first(100)).await.unwrap();
    let environments: BTreeSet<_> = jobs.iter().map(|job| job.environment_id.clone()).collect();
    assert_eq!((jobs.len(), environments.len()), (9, 9), "each environment has one job");
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded));
    assert_eq!(world.store.batch_of(&jobs[0].id).await.unwrap(), Some(id));
    if world.server().is_some() {
        apps[1].store.close().await;
    }
}

pub(crate) async fn the_same_request_makes_one_batch(world: &World) {
    world.hosts(2).await;
    let app = app(world.store.clone());
    let makes = (0..4).map(|_| make(&app, Some("again"), checks(1)));
    let made = futures_util::future::join_all(makes).await;
    let ids: BTreeSet<_> = made.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), 1, "one key, one batch: {made:?}");
    assert_eq!(made.iter().filter(|(_, replayed)| !replayed).count(), 1);
}

pub(crate) async fn a_batch_that_ended_is_forgotten_with_its_targets(world: &World) {
    let hosts = world.hosts(2).await;
    let app = app(world.store.clone());
    let (id, _) = make(&app, None, checks(9)).await;
    let now = app.clock.now();
    assert_eq!(world.store.prune_batches(now.plus_secs(1), 10).await.unwrap(), 0, "it is open");
    app.advance_batches().await.unwrap();
    assert_eq!(work(&app, &hosts).await, 2);
    app.advance_batches().await.unwrap();
    // Its jobs may go before it does: their ends are noted.
    let later = app.clock.now().plus_secs(1);
    world.store.archive_finished(later, 100).await.unwrap();
    world.store.prune_history(later, 100).await.unwrap();
    let targets = app.list_targets(&id, 0, 10).await.unwrap();
    let states: Vec<_> = targets.items.iter().map(|target| target.state).collect();
    assert_eq!(states, [TargetState::Succeeded; 2]);
    assert_eq!(world.store.prune_batches(later, 10).await.unwrap(), 1);
    assert!(app.show_batch(&id).await.is_err());
    assert!(world.store.batch_seen(&id).await.unwrap().is_empty());
}

pub(crate) async fn a_check_that_finds_errors_fails_its_target_and_stops_the_batch(world: &World) {
    let hosts = world.hosts(3).await;
    let app = app(world.store.clone());
    let (id, _) = make(&app, None, views::CreateBatch { canary: Some(1), ..checks(9) }).await;
    app.advance_batches().await.unwrap();
    let hosts: Vec<_> = hosts.iter().map(|host| host.with_slots(4)).collect();
    let claimed = app.store.claim(&hosts, app.clock.now(), 100).await.unwrap();
    let found = |severity: &str, message: &str| serde_json::json!({ "check": "nginx", "severity": severity, "message": message });
    let findings = [found("ok", "it is there"), found("error", "nginx does not run")];
    let checked = Outcome {
        result: Some(serde_json::json!({ "ok": false, "findings": findings })),
        ..succeeded()
    };
    app.store.settle(&[settlement(&claimed[0], checked)], app.clock.now()).await.unwrap();
    for _ in 0..2 {
        // Seen before its end is noted, and after.
        let target = &app.list_targets(&id, 0, 1).await.unwrap().items[0];
        assert_eq!(target.state, TargetState::Failed);
        assert_eq!(target.message.as_deref(), Some("nginx does not run"));
        app.advance_batches().await.unwrap();
    }
    let batch = app.show_batch(&id).await.unwrap();
    assert_eq!(batch.state, BatchState::Failed);
    assert_eq!(batch.reason.as_deref(), Some("CANARY_FAILED"));
    assert_eq!(batch.failures[0].reason.as_deref(), Some("CHECK_FAILED"));
    assert_eq!((batch.counts.failed, batch.counts.skipped), (1, 2));
}

pub(crate) async fn what_cannot_be_read_keeps_no_other_batch_waiting(world: &World) {
    let hosts = world.hosts(3).await;
    let app = app(world.store.clone());
    let about = |hosts: &[Connected]| {
        let named = hosts.iter().map(|host| host.environment.as_str().to_owned()).collect();
        let targets =
            views::BatchTargets { environments: Some(named), ..views::BatchTargets::default() };
        views::CreateBatch { targets, ..checks(9) }
    };
    // One of a newer build, one of whose environments a row was damaged, and one of neither.
    let (newer, _) = make(&app, None, about(&hosts[2..])).await;
    let (damaged, _) = make(&app, None, about(&hosts[..2])).await;
    let (sound, _) = make(&app, None, about(&hosts[2..])).await;
    let later = r#"{"type":"later"}"#;
    by_hand(world, &format!("UPDATE batches SET action = '{later}' WHERE id = '{newer}'"));
    let broken = &hosts[0].environment;
    by_hand(world, &format!("UPDATE environments SET doc = '{{}}' WHERE id = '{broken}'"));
    assert!(app.advance_batches().await.unwrap());
    let sound = app.show_batch(&sound).await.unwrap();
    assert_eq!(sound.counts.queued, 1, "held up by another batch: {:?}", sound.counts);
    let batch = app.show_batch(&damaged).await.unwrap();
    assert_eq!((batch.counts.refused, batch.counts.queued), (1, 1), "{:?}", batch.counts);
    assert_eq!(batch.failures[0].reason.as_deref(), Some("UNDECODABLE"));
    assert_eq!(work(&app, &hosts[1..2]).await, 1);
    app.advance_batches().await.unwrap();
    assert_eq!(app.show_batch(&damaged).await.unwrap().state, BatchState::Failed);
}
