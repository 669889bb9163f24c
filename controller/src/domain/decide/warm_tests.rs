use hostler_protocol::id::{EnvironmentId, HostId, SiteId};
use hostler_protocol::job::{Executor, FastcgiPurge, OutcomeState, UrlPurge};

use super::*;
use crate::domain::decide::draft::{Draft, FastcgiDraft, Part, apply, defaults};
use crate::domain::{CacheFlag, EventKind, JobState};

const NOW: Micros = Micros(1_700_000_000_000_000);

fn template(job_type: JobType) -> Template {
    let shipped = [
        include_str!("../../../templates/cache-purge.yaml"),
        include_str!("../../../templates/cache-warm.yaml"),
    ];
    let mut read = shipped.iter().map(|text| serde_norway::from_str::<Template>(text).unwrap());
    read.find(|template| template.job_type == job_type).unwrap()
}

fn environment() -> Environment {
    let id = EnvironmentId::from_parts(1, [1; 10]);
    let draft = Draft {
        domain: Some("shop.example".to_owned()),
        fastcgi: Part::Set(FastcgiDraft::default()),
        ..Draft::default()
    };
    let flag = CacheFlag { desired: true, applied: None, applied_at: None, last_error: None };
    Environment {
        id: id.clone(),
        site_id: SiteId::from_parts(1, [1; 10]),
        host_id: HostId::from_parts(1, [1; 10]),
        state: EnvironmentState::Active,
        doc: apply(&draft, defaults(id, "shop", "production")),
        fastcgi: Some(flag),
        redis: None,
        labels: std::collections::BTreeMap::new(),
        version: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn job(job_type: JobType, request: Value, number: u8) -> Job {
    let environment = environment();
    let input = JobInput {
        id: JobId::from_parts(1, [number; 10]),
        host_id: environment.host_id,
        site_id: None,
        environment_id: Some(environment.id),
        stack_id: None,
        request,
        request_id: None,
        retry_of: None,
        parent_id: None,
        executor: None,
    };
    new_job(input, &template(job_type), NOW).job
}

fn purge(request: Value) -> Job {
    let started_at = Some(NOW.plus_secs(1));
    Job { state: JobState::Running, started_at, ..job(JobType::CachePurge, request, 1) }
}

fn outcome(urls: Vec<UrlPurge>) -> Outcome {
    let fastcgi = Some(FastcgiPurge { urls, ..FastcgiPurge::default() });
    let result = PurgeResult { dry_run: false, fastcgi, redis: None };
    Outcome {
        state: OutcomeState::Succeeded,
        result: serde_json::to_value(result).ok(),
        error: None,
        steps: Vec::new(),
        started_at_us: 0,
        finished_at_us: 1,
    }
}

fn page(url: &str, refreshed: u64) -> UrlPurge {
    UrlPurge {
        url: url.to_owned(),
        found: 1,
        removed: 1 - refreshed,
        softened: 0,
        refreshed,
        failed: 0,
        bytes: 1,
        before: None,
        after: None,
    }
}

fn child(parent: &Job, environment: &Environment, outcome: &Outcome) -> Option<Job> {
    let template = template(JobType::CacheWarm);
    let (changes, events) = following(parent, environment, outcome, &[], &template, NOW)?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, EventKind::JobQueued);
    assert_eq!(events[0].document["parent_id"], parent.id.as_str());
    match changes.as_slice() {
        [Change::EnqueueJob(new)] => Some(new.job.clone()),
        other => panic!("{other:?}"),
    }
}

fn urls(child: &Job) -> Vec<String> {
    warm_ask(&child.request).unwrap().0
}

#[test]
fn what_was_named_is_warmed_by_a_child_of_the_purge() {
    let parent = purge(json!({ "caches": ["fastcgi"], "warm": true,
        "urls": ["http://shop.example/a", "http://shop.example/a", "http://shop.example/b"] }));
    let child = child(&parent, &environment(), &outcome(vec![])).unwrap();
    assert_eq!(urls(&child), ["http://shop.example/a", "http://shop.example/b"]);
    assert_eq!((child.parent_id, child.job_type), (Some(parent.id), JobType::CacheWarm));
    assert_eq!(warm_ask(&child.request).unwrap().1, Some(NOW.plus_secs(1).0));
}

#[test]
fn without_urls_the_home_page_and_what_the_purge_lists_is_warmed() {
    let mut environment = environment();
    environment.doc.nginx.probe_origin = "https://127.0.0.1:443".to_owned();
    for request in [
        json!({ "caches": ["fastcgi"], "warm": true }),
        json!({ "caches": ["fastcgi"], "warm": true, "tags": ["post-1"] }),
    ] {
        let listed = outcome(vec![page("https://shop.example/p", 0)]);
        let child = child(&purge(request), &environment, &listed).unwrap();
        assert_eq!(urls(&child), ["https://shop.example/", "https://shop.example/p"]);
    }
}

#[test]
fn what_was_refreshed_in_place_is_warm() {
    let request = json!({ "caches": ["fastcgi"], "warm": true, "mode": "refresh",
        "urls": ["http://shop.example/a", "http://shop.example/b"] });
    let parent = purge(request);
    let both =
        |b| outcome(vec![page("http://shop.example/a", 1), page("http://shop.example/b", b)]);
    let left = child(&parent, &environment(), &both(0)).unwrap();
    assert_eq!(urls(&left), ["http://shop.example/b"]);
    assert_eq!(child(&parent, &environment(), &both(1)), None);
}

#[test]
fn nobody_warms_what_nobody_wants() {
    let asked = json!({ "caches": ["fastcgi"], "warm": true });
    let off = {
        let mut environment = environment();
        environment.fastcgi.as_mut().unwrap().desired = false;
        environment
    };
    let deleting = Environment { state: EnvironmentState::Deleting, ..environment() };
    for environment in [off, deleting] {
        assert_eq!(child(&purge(asked.clone()), &environment, &outcome(vec![])), None);
    }
    for request in [
        json!({ "caches": ["fastcgi"] }),
        json!({ "caches": ["fastcgi"], "warm": true, "dry_run": true }),
    ] {
        assert_eq!(child(&purge(request), &environment(), &outcome(vec![])), None);
    }
}

#[test]
fn a_child_names_no_more_than_one_job_can_carry() {
    let long = |n: usize| format!("http://shop.example/{n:0>2000}");
    let listed = (0..1000).map(|n| page(&long(n), 0)).collect();
    let parent = purge(json!({ "caches": ["fastcgi"], "warm": true }));
    let child = child(&parent, &environment(), &outcome(listed)).unwrap();
    let text = serde_json::to_string(&urls(&child)).unwrap();
    assert!(text.len() <= LISTS_BYTES_MAX && urls(&child).len() > 400, "{}", text.len());
}

#[test]
fn a_child_has_the_executor_its_environment_chooses() {
    let mut environment = environment();
    environment.doc.executor = Some(Executor::Ansible);
    let parent = purge(json!({ "caches": ["fastcgi"], "warm": true }));
    let child = child(&parent, &environment, &outcome(vec![])).unwrap();
    assert_eq!(child.executor, Some(Executor::Ansible));
}

#[test]
fn a_newer_warm_up_ends_those_it_covers() {
    let template = template(JobType::CacheWarm);
    let warm = |urls: &[&str], number| job(JobType::CacheWarm, json!({ "urls": urls }), number);
    let (covered, other) = (warm(&["a", "b"], 2), warm(&["a", "d"], 3));
    let running = Job { state: JobState::Running, ..warm(&["a"], 4) };
    let waiting = [covered.clone(), other, running];
    let request = json!({ "urls": ["c", "b", "a"] });
    let ended = |waiting: &[Job]| {
        let (changes, _) = end_superseded(waiting, &template, &request, NOW);
        let id = |change: &Change| {
            let Change::UpdateJob { job, .. } = change else { panic!("{change:?}") };
            job.id.clone()
        };
        changes.iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(ended(&waiting), [covered.id]);

    // A child wants pages newer than its purge: who asked after that wants newer ones.
    let parent = purge(json!({ "caches": ["fastcgi"], "warm": true, "urls": ["c", "b", "a"] }));
    let later = Job { created_at: NOW.plus_secs(2), ..waiting[0].clone() };
    for (older, count) in [(waiting[0].clone(), 2), (later, 1)] {
        let found = following(&parent, &environment(), &outcome(vec![]), &[older], &template, NOW);
        assert_eq!(found.unwrap().0.len(), count);
    }
}
