//! Nothing is collected that a row names, and nothing stays that none does.

use hostler_controller::bundles::GRACE_SECS_MIN;
use hostler_controller::clock::Clock;
use hostler_controller::domain::desired::{Stack, StackFacts, StackSettings};
use hostler_controller::domain::{JobState, Micros};

use super::*;

/// A controller whose clock is ahead by more than the grace: what is stored is old to it.
async fn ahead() -> (tempfile::TempDir, Controller) {
    let (dir, path) = directory();
    let secs = i64::try_from(2 * GRACE_SECS_MIN).unwrap();
    let controller = Controller::start_with(&path, Clock::wrong_by(secs)).await;
    (dir, controller)
}

async fn stored(controller: &Controller, content: &str) -> String {
    store(bundles(controller), &[("file", content.as_bytes())]).await
}

async fn is_there(controller: &Controller, bundle: &str) -> bool {
    let there = bundles(controller).manifest(bundle).await;
    there.is_ok()
}

async fn collect(controller: &Controller) -> u64 {
    let collected = controller.app().collect_bundles(GRACE_SECS_MIN).await.unwrap();
    collected.expect("bundles are kept here").bundles_removed
}

fn host() -> HostId {
    HostId::from_parts(1, [1; 10])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_runs_stays_until_it_does_not() {
    let (_dir, controller) = ahead().await;
    let (runs, nobody) = (stored(&controller, "runs").await, stored(&controller, "nobody").await);
    let stack = applied(&controller, &host(), &runs).await;
    assert_eq!(collect(&controller).await, 1);
    assert!(is_there(&controller, &runs).await && !is_there(&controller, &nobody).await);
    let gone = vec![Change::DeleteStackHost(stack, host())];
    change(controller.app(), EventKind::StackStatusChanged, gone).await;
    assert_eq!(collect(&controller).await, 1);
    assert!(!is_there(&controller, &runs).await);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_is_about_stays_while_it_waits_and_while_it_can_be_gone_back_to() {
    let (_dir, controller) = ahead().await;
    let app = controller.app();
    let (wanted, vanished) =
        (stored(&controller, "wanted").await, stored(&controller, "vanished").await);
    let job = sync_job(&controller, &host(), &wanted).await;
    let other = sync_job(&controller, &host(), &vanished).await;
    assert_eq!(collect(&controller).await, 0, "both jobs wait for their host");
    for id in [&job, &other] {
        app.cancel_job(id.clone()).await.unwrap();
        controller.until(id, "cancelled", |job| job.state == JobState::Cancelled).await;
    }
    assert_eq!(collect(&controller).await, 0, "both ended lately");
    // In history: one stack is still there, the other is not.
    let stack = controller.job(&job).await.stack_id.expect("it is about a stack");
    let row = Stack {
        id: stack.clone(),
        path: "web".to_owned(),
        present: true,
        suspended: false,
        removal: hostler_controller::domain::desired::Removal::Free,
        revision: "r".to_owned(),
        facts: StackFacts {
            project: "web".to_owned(),
            settings: StackSettings::default(),
            ..StackFacts::default()
        },
        created_at: Micros(1),
        updated_at: Micros(1),
        version: 1,
    };
    change(app, EventKind::StackChanged, vec![Change::PutStacks(vec![row])]).await;
    assert_eq!(app.store.archive_finished(Micros(i64::MAX), 100).await.unwrap(), 2);
    assert_eq!(collect(&controller).await, 1);
    assert!(is_there(&controller, &wanted).await, "it can be gone back to");
    assert!(!is_there(&controller, &vanished).await, "there is no stack to go back with");
    change(app, EventKind::StackChanged, vec![Change::DeleteStack(stack)]).await;
    assert_eq!(collect(&controller).await, 1);
    controller.stop().await;
}

/// Not even a document that only a newer build can read lets go of what it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_an_unknown_shape_keeps_what_it_names() {
    let (_dir, controller) = ahead().await;
    let named = stored(&controller, "named").await;
    let app = controller.app();
    let input = JobInput {
        id: app.clock.new_job_id().unwrap(),
        host_id: host(),
        site_id: None,
        environment_id: None,
        stack_id: Some(app.clock.new_stack_id().unwrap()),
        request: serde_json::json!({ "later": { "parts": [{ "from": named }] } }),
        request_id: None,
        retry_of: None,
        parent_id: None,
        executor: None,
    };
    let job = new_job(input, &app.templates.for_type(JobType::StackSync), app.clock.now());
    change(app, EventKind::JobQueued, vec![Change::EnqueueJob(Box::new(job))]).await;
    assert_eq!(collect(&controller).await, 0);
    assert!(
        !app.store.is_bundle_of(&named, &host()).await.unwrap(),
        "but nobody may read it for that"
    );
    controller.stop().await;
}
