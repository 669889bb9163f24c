//! What follows from a job, and who carries it out.

use std::sync::Arc;

use hostler_controller::domain::job::reason;
use hostler_controller::domain::template::{Executor, LaneKind};
use hostler_controller::domain::{CacheFlag, Change, JobState, Template};
use hostler_controller::store::{JobFilter, Page, SettleAnswer, Settlement};
use hostler_protocol::job::JobType;
use serde_json::json;

use super::world::{
    NOW, World, environment, ids, job_id, purge, settlement, site, succeeded, template,
    with_template,
};

pub(crate) async fn a_purge_is_followed_by_one_warm_up(world: &World) {
    let hosts = world.hosts(1).await;
    let mut cached = environment(1, &site(1), &hosts[0].host);
    let flag = CacheFlag { desired: true, applied: None, applied_at: None, last_error: None };
    (cached.fastcgi, cached.version) = (Some(flag), 2);
    world.write(vec![Change::UpdateEnvironment(Box::new(cached))]).await;
    let warm = Template { job_type: JobType::CacheWarm, lane: LaneKind::Warm, ..template() };
    let url = "http://1.test/a";
    let mut waiting = with_template(1, &hosts[0], &warm);
    waiting.job.request = json!({ "urls": [url] });
    waiting.job.run_after = NOW.plus_secs(60);
    let mut purge = purge(2, &hosts[0]);
    purge.job.request = json!({ "caches": ["fastcgi"], "urls": [url], "warm": true });
    world.enqueue(&[waiting, purge]).await;
    let claimed = world.claim(&[&hosts[0]], NOW).await.remove(0);
    assert_eq!(claimed.job.id, job_id(2));
    let report =
        Settlement { warm_template: Some(Arc::new(warm)), ..settlement(&claimed, succeeded()) };
    let answers = world.store.settle(&[report.clone(), report.clone()], NOW).await.unwrap();
    assert_eq!(answers, [SettleAnswer::Settled(JobState::Succeeded), SettleAnswer::AlreadySettled]);
    world.store.settle(&[report], NOW).await.unwrap();
    assert_eq!(world.job(&job_id(1)).await.reason.as_deref(), Some(reason::SUPERSEDED));
    let children = world.store.children(&job_id(2)).await.unwrap();
    let next = world.claim(&[&hosts[0]], NOW).await;
    assert_eq!(ids(&next), children);
    assert_eq!(next[0].job.parent_id, Some(job_id(2)));
    // Found by its parent still when both are in history.
    world.settle(&next[0], succeeded()).await;
    world.store.archive_finished(NOW.plus_secs(1), 10).await.unwrap();
    let filter = JobFilter { parent: Some(job_id(2)), ..JobFilter::default() };
    let (found, _) = world.store.jobs(&filter, &Page::first(10)).await.unwrap();
    assert_eq!(found.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), children);
    assert_eq!(world.store.children(&job_id(2)).await.unwrap(), children);
}

pub(crate) async fn a_claim_notes_the_executor_its_environment_chooses(world: &World) {
    let hosts = world.hosts(2).await;
    let mut chosen = environment(1, &site(1), &hosts[0].host);
    (chosen.doc.executor, chosen.version) = (Some(Executor::Ansible), 2);
    world.write(vec![Change::UpdateEnvironment(Box::new(chosen))]).await;
    let mut stale = purge(2, &hosts[1]);
    stale.job.executor = Some(Executor::Ansible);
    world.enqueue(&[purge(1, &hosts[0]), stale]).await;
    let claimed = world.claim(&[&hosts[0], &hosts[1]], NOW).await;
    for (one, executor) in claimed.iter().zip([Some(Executor::Ansible), None]) {
        assert_eq!(one.job.executor, executor);
        assert_eq!(world.job(&one.job.id).await.executor, executor);
    }
}
