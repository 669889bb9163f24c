//! What is kept, in which order it is read, and what the sweep takes away.

use hostler_controller::domain::job::reason;
use hostler_controller::domain::{JobState, Micros};
use hostler_controller::store::{EventFilter, JobFilter, Page, SettleAnswer, StoreError};
use hostler_protocol::id::JobId;
use hostler_protocol::job::Code;

use super::world::{
    NOW, World, failed, ids, in_lanes, job_id, purge, settlement, site, succeeded, template,
    with_template,
};

pub(crate) async fn pages_go_on_while_rows_are_added(world: &World) {
    let hosts = world.hosts(1).await;
    let free = |n| in_lanes(purge(n, &hosts[0]), &[]);
    world.enqueue(&(100..110).map(free).collect::<Vec<_>>()).await;
    let filter = JobFilter::default();
    let (first, next) = world.store.jobs(&filter, &Page::first(4)).await.unwrap();
    // Newer ones do not move the pages after the first.
    world.enqueue(&(200..210).map(free).collect::<Vec<_>>()).await;
    let mut seen: Vec<JobId> = first.into_iter().map(|job| job.id).collect();
    let mut after = next;
    while let Some(next) = after {
        let (rows, following) = world.store.jobs(&filter, &Page::after(next, 4)).await.unwrap();
        assert!(!rows.is_empty(), "a page that was announced is empty");
        seen.extend(rows.into_iter().map(|job| job.id));
        after = following;
    }
    let expected: Vec<JobId> = (100..110).rev().map(job_id).collect();
    assert_eq!(seen, expected);
    let (exact, next) = world.store.jobs(&filter, &Page::first(20)).await.unwrap();
    assert_eq!((exact.len(), next), (20, None), "a full last page announces another");
}

pub(crate) async fn jobs_are_found_by_what_they_are_about(world: &World) {
    let hosts = world.hosts(2).await;
    let mut check = template();
    check.job_type = hostler_protocol::job::JobType::EnvCheck;
    let free = |n, host| in_lanes(purge(n, host), &[]);
    world
        .enqueue(&[
            free(1, &hosts[0]),
            in_lanes(with_template(2, &hosts[0], &check), &[]),
            free(3, &hosts[1]),
        ])
        .await;
    world.claim(&[&hosts[1]], NOW).await;
    let find = async |filter: JobFilter| -> Vec<JobId> {
        let (jobs, _) = world.store.jobs(&filter, &Page::first(10)).await.unwrap();
        jobs.into_iter().map(|job| job.id).collect()
    };
    let all = JobFilter::default();
    assert_eq!(find(all.clone()).await, [job_id(3), job_id(2), job_id(1)]);
    let by = JobFilter { state: Some(JobState::Running), ..all.clone() };
    assert_eq!(find(by).await, [job_id(3)]);
    let by = JobFilter { job_type: Some(check.job_type), ..all.clone() };
    assert_eq!(find(by).await, [job_id(2)]);
    let by = JobFilter { host: Some(hosts[0].host.clone()), ..all.clone() };
    assert_eq!(find(by).await, [job_id(2), job_id(1)]);
    let by = JobFilter { environment: Some(hosts[1].environment.clone()), ..all.clone() };
    assert_eq!(find(by).await, [job_id(3)]);
    let by = JobFilter { site: Some(site(2).id), ..all.clone() };
    assert_eq!(find(by).await, Vec::<JobId>::new());
    let stats = world.store.stats().await.unwrap();
    assert_eq!((stats.queued, stats.running, stats.held), (2, 1, 0));
    assert_eq!((stats.oldest_queued_at, stats.hosts_connected), (Some(NOW), 2));
}

pub(crate) async fn a_restart_keeps_everything(world: &World) {
    let hosts = world.hosts(1).await;
    world.enqueue(&[purge(1, &hosts[0]), purge(2, &hosts[0])]).await;
    let claimed = world.claim(&[&hosts[0]], NOW).await.remove(0);
    let job = world.job(&job_id(1)).await;
    let bounds = world.store.events_bounds().await.unwrap();
    world.store.close().await;
    match world.store.ping().await {
        Err(error @ (StoreError::Closed { .. } | StoreError::Unreachable { .. })) => {
            assert!(error.is_temporary());
        }
        other => panic!("a closed store answered {other:?}"),
    }
    match world.store.renew(&[]).await {
        Ok(none) => assert_eq!(none, Vec::<bool>::new()),
        Err(error) => panic!("nothing to renew needs no database: {error:?}"),
    }
    let late = world.store.settle(&[settlement(&claimed, succeeded())], NOW).await;
    assert!(late.is_err(), "a closed store settled a job");

    let store = world.another().await;
    store.ping().await.unwrap();
    assert_eq!(store.job(&job_id(1)).await.unwrap(), Some(job));
    assert_eq!(store.events_bounds().await.unwrap(), bounds);
    assert_eq!(*store.committed().borrow(), bounds.1, "followers start at the newest event");
    // The running job still has its lane, and its host can still report.
    assert_eq!(store.sessions_clear(None, NOW).await.unwrap(), 1);
    let answers = store.settle(&[settlement(&claimed, succeeded())], NOW).await.unwrap();
    assert_eq!(answers, [SettleAnswer::Settled(JobState::Succeeded)]);
    store.close().await;
}

pub(crate) async fn a_job_nobody_ran_expires(world: &World) {
    let hosts = world.hosts(1).await;
    let free = |n| in_lanes(purge(n, &hosts[0]), &[]);
    world.enqueue(&[free(1), free(2), free(3)]).await;
    let claimed = world.claim(&[&hosts[0]], NOW).await;
    // 1 was claimed twice and never delivered; 2 was not claimed again; 3 ran once and failed.
    let unseen: Vec<_> = claimed[..2].iter().map(super::world::attempt).collect();
    world.store.requeue_unseen(&unseen, NOW).await.unwrap();
    let failure = failed(Code::RedisUnreachable);
    assert_eq!(world.settle(&claimed[2], failure).await, SettleAnswer::Settled(JobState::Queued));
    let soon = NOW.plus_secs(60);
    let again = world.claim(&[&hosts[0]], soon).await;
    assert_eq!(ids(&again), [job_id(1), job_id(2), job_id(3)]);
    let unseen: Vec<_> = again.iter().map(super::world::attempt).collect();
    world.store.requeue_unseen(&unseen, soon).await.unwrap();
    for (n, started) in [(1, None), (2, None), (3, Some(NOW))] {
        assert_eq!(world.job(&job_id(n)).await.started_at, started, "job {n}");
    }

    let late = NOW.plus_secs(3600);
    assert_eq!(world.store.expire_queued(Micros(late.0 - 1), 10).await.unwrap(), 0);
    let claimed = ids(&world.claim(&[&hosts[0]], late).await);
    assert_eq!(claimed, [job_id(3)], "their time is over, whether or not somebody has swept");
    assert_eq!(world.store.expire_queued(late, 10).await.unwrap(), 2, "3 has begun");
    for n in [1, 2] {
        let job = world.job(&job_id(n)).await;
        assert_eq!((job.state, job.reason.as_deref()), (JobState::Failed, Some(reason::EXPIRED)));
        assert_eq!(job.outcome.unwrap()["error"]["code"], "EXPIRED");
    }
}

/// An agent that is stopping, or has no place, has begun nothing: its host may never come back.
pub(crate) async fn a_job_its_agent_had_no_place_for_expires(world: &World) {
    let hosts = world.hosts(1).await;
    let free = |n| in_lanes(purge(n, &hosts[0]), &[]);
    world.enqueue(&[free(1), free(2)]).await;
    let busy = || failed(Code::AgentBusy);
    let claimed = world.claim(&[&hosts[0]], NOW).await;
    world.settle(&claimed[0], busy()).await;
    world.settle(&claimed[1], failed(Code::RedisUnreachable)).await;
    let soon = NOW.plus_secs(60);
    let again = world.claim(&[&hosts[0]], soon).await;
    assert_eq!(ids(&again), [job_id(1), job_id(2)]);
    // Never delivered after it was refused is not begun either.
    world.store.requeue_unseen(&[super::world::attempt(&again[0])], soon).await.unwrap();
    world.settle(&again[1], busy()).await;
    for (n, started) in [(1, None), (2, Some(NOW))] {
        assert_eq!(world.job(&job_id(n)).await.started_at, started, "job {n}");
    }
    let late = NOW.plus_secs(3600);
    assert_eq!(world.store.expire_queued(late, 10).await.unwrap(), 1, "2 has begun");
    assert_eq!(world.job(&job_id(1)).await.reason.as_deref(), Some(reason::EXPIRED));
}

pub(crate) async fn ended_jobs_move_to_history_and_are_found_there(world: &World) {
    let hosts = world.hosts(1).await;
    let free = |n| in_lanes(purge(n, &hosts[0]), &[]);
    world.enqueue(&[free(1), free(2), free(3)]).await;
    let claimed = world.claim(&[&hosts[0]], NOW).await;
    for one in &claimed[..2] {
        world.settle(one, succeeded()).await;
    }
    let before = world.job(&job_id(1)).await;
    assert_eq!(world.store.archive_finished(NOW, 10).await.unwrap(), 0, "not old enough");
    let later = NOW.plus_secs(1);
    assert_eq!(world.store.archive_finished(later, 1).await.unwrap(), 1);
    assert_eq!(world.store.archive_finished(later, 10).await.unwrap(), 1);
    assert_eq!(world.job(&job_id(1)).await, before, "moving a job changed it");
    let (jobs, _) = world.store.jobs(&JobFilter::default(), &Page::first(10)).await.unwrap();
    let found: Vec<JobId> = jobs.into_iter().map(|job| job.id).collect();
    assert_eq!(found, [job_id(3), job_id(2), job_id(1)]);
    assert_eq!(world.settle(&claimed[0], succeeded()).await, SettleAnswer::AlreadySettled);
    let again = world.store.enqueue(&[free(1)], NOW).await.unwrap();
    assert_eq!(again, [hostler_controller::store::EnqueueAnswer::Duplicate]);
    assert_eq!(world.store.prune_history(later, 10).await.unwrap(), 2);
    assert_eq!(world.store.job(&job_id(1)).await.unwrap(), None);
}

pub(crate) async fn old_events_go_from_the_oldest_on(world: &World) {
    let hosts = world.hosts(1).await;
    for n in 1..=5 {
        world.store.enqueue(&[purge(n, &hosts[0])], NOW.plus_secs(n)).await.unwrap();
    }
    assert_eq!(world.store.events_bounds().await.unwrap(), (1, 6));
    assert_eq!(world.store.prune_events(NOW.plus_secs(3), 1, 2).await.unwrap(), 2, "the limit");
    assert_eq!(world.store.prune_events(NOW.plus_secs(3), 1, 10).await.unwrap(), 1);
    assert_eq!(world.store.events_bounds().await.unwrap(), (4, 6));
    assert_eq!(world.store.prune_events(NOW.plus_secs(99), 1, 10).await.unwrap(), 2);
    assert_eq!(world.store.events_bounds().await.unwrap(), (6, 6), "the newest one stays");
    assert_eq!(world.store.prune_events(NOW.plus_secs(99), 0, 10).await.unwrap(), 1);
    assert_eq!(world.store.events_bounds().await.unwrap(), (7, 6), "empty: one past the newest");
    world.enqueue(&[purge(9, &hosts[0])]).await;
    let events = world.store.events_after(6, 10, &EventFilter::default()).await.unwrap();
    assert_eq!(events[0].seq, 7, "numbers go on where they stood");
}
