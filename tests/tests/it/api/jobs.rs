//! Jobs through the API. What only a host can do to them goes through the store.

use std::time::Duration;

use axum::http::Method;
use hostler_controller::domain::Job;
use hostler_controller::store::{AttemptRef, ClaimHost, Settlement};
use hostler_protocol::id::HostId;
use hostler_protocol::job::{
    Code, JobError, JobType, Outcome, OutcomeState, StepReport, StepState,
};
use hostler_tests::rows;
use serde_json::{Value, json};

use super::rig::{Answer, Rig, environment};

/// An API with one environment on a connected host.
pub(super) struct World {
    pub(super) rig: Rig,
    pub(super) environment: String,
    pub(super) host: HostId,
}

impl World {
    pub(super) async fn new() -> Self {
        let rig = Rig::new().await;
        let site = rig.site("shop").await;
        let host = rig.host("web1", true).await;
        let path = format!("/api/sites/{site}/environments");
        let made = rig.post(&path, environment("shop", host.as_str())).await.expect(201);
        Self { environment: format!("/api/environments/{}", made.id()), rig, host }
    }

    pub(super) async fn purge(&self) -> Answer {
        let path = format!("{}/cache/purge", self.environment);
        self.rig.call(Method::POST, &path, None).await.expect(202)
    }

    /// Claims what is runnable, as the host's controller does.
    pub(super) async fn claim(&self) -> Vec<Job> {
        let app = &self.rig.app;
        let row = app.store.host(&self.host).await.unwrap().unwrap();
        let opening = rows::opening(&row, &app.controller, app.clock.now());
        let epoch = app.store.session_open(opening).await.unwrap();
        let host = ClaimHost { host: self.host.clone(), epoch, slots: 10 };
        let claimed = app.store.claim(&[host], app.clock.now(), 10).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.job).collect()
    }

    pub(super) async fn settle(&self, job: &Job, outcome: Outcome) {
        let app = &self.rig.app;
        let settlement = Settlement {
            attempt: AttemptRef { job: job.id.clone(), attempt: job.attempt },
            host: self.host.clone(),
            outcome,
            template: app.templates.for_type(job.job_type),
            warm_template: Some(app.templates.for_type(JobType::CacheWarm)),
        };
        app.store.settle(&[settlement], app.clock.now()).await.unwrap();
    }

    pub(super) async fn act(&self, job: &str, act: &str) -> Answer {
        self.rig.call(Method::POST, &format!("/api/jobs/{job}/{act}"), None).await
    }
}

pub(super) fn succeeded(result: Value) -> Outcome {
    let step = StepReport {
        step: "purge".to_owned(),
        state: StepState::Done,
        message: "removed".to_owned(),
        took_us: 5,
    };
    Outcome {
        state: OutcomeState::Succeeded,
        result: Some(result),
        error: None,
        steps: vec![step],
        started_at_us: 1,
        finished_at_us: 2,
    }
}

fn failed(code: Code) -> Outcome {
    let mut error = JobError::new(code, "it broke");
    error.output_tail = Some("nginx: [emerg]".to_owned());
    Outcome {
        state: OutcomeState::Failed,
        result: None,
        error: Some(error),
        ..succeeded(json!(null))
    }
}

fn kinds(job: &Answer) -> Vec<&str> {
    let waits = job.body["waits_for"].as_array().unwrap();
    waits.iter().map(|wait| wait["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_job_says_what_it_waits_for() {
    let world = World::new().await;
    let first = world.purge().await;
    let second = world.purge().await;
    assert_eq!(kinds(&world.rig.get(first.header("location")).await.expect(200)), [""; 0]);
    let running = world.claim().await;
    assert_eq!(running.len(), 1, "two jobs of one environment run at once");
    let waits = world.rig.get(second.header("location")).await.expect(200);
    assert_eq!(kinds(&waits), ["lane"]);
    assert_eq!(waits.body["waits_for"][0]["job_id"], first.job_id());
    world.settle(&running[0], failed(Code::ProbeFailed)).await;
    let retrying = world.rig.get(first.header("location")).await.expect(200);
    assert_eq!(kinds(&retrying), ["time"], "{}", retrying.text);
    assert_eq!(retrying.body["reason"], "RETRY");
    assert_eq!(retrying.body["error"]["output_tail"], "nginx: [emerg]");
}

#[tokio::test]
async fn a_list_is_newest_first_and_light() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.purge().await.job_id().to_owned());
    }
    let running = world.claim().await.remove(0);
    world.settle(&running, succeeded(json!({ "dry_run": false }))).await;
    let first = world.rig.get("/api/jobs?limit=2").await.expect(200);
    let next = first.body["next"].as_str().unwrap();
    let second = world.rig.get(&format!("/api/jobs?limit=2&after={next}")).await.expect(200);
    let mut listed = Vec::new();
    for page in [&first, &second] {
        for job in page.body["items"].as_array().unwrap() {
            assert_eq!((&job["result"], &job["steps"]), (&json!(null), &json!([])));
            listed.push(job["id"].as_str().unwrap().to_owned());
        }
    }
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let ended = world.rig.get("/api/jobs?state=succeeded&type=cache_purge").await.expect(200);
    assert_eq!(ended.body["items"][0]["id"], running.id.as_str());
    let shown = world.rig.get(&format!("/api/jobs/{}", running.id)).await.expect(200);
    assert_eq!(shown.body["result"], json!({ "dry_run": false }));
    assert_eq!(shown.body["steps"][0]["step"], "purge");
    let host = world.host.as_str();
    for (filter, count) in [(format!("host={host}"), 3), ("state=held".to_owned(), 0)] {
        let list = world.rig.get(&format!("/api/jobs?{filter}")).await.expect(200);
        assert_eq!(list.body["items"].as_array().unwrap().len(), count, "{filter}");
    }
}

#[tokio::test]
async fn cancelling_ends_what_waits_and_asks_what_runs() {
    let world = World::new().await;
    let (first, second) = (world.purge().await, world.purge().await);
    let running = world.claim().await;
    let ended = world.act(second.job_id(), "cancel").await.expect(200);
    assert_eq!(
        (&ended.body["state"], &ended.body["reason"]),
        (&json!("cancelled"), &json!("CANCELLED"))
    );
    let again = world.act(second.job_id(), "cancel").await.expect(409);
    assert_eq!(again.code(), "JOB_ENDED");
    let asked = world.act(first.job_id(), "cancel").await.expect(200);
    assert_eq!(asked.body["state"], "running");
    assert!(asked.body["cancel_requested_at"].is_string());
    world.act(first.job_id(), "cancel").await.expect(200);
    world.settle(&running[0], succeeded(json!({}))).await;
    let won = world.rig.get(first.header("location")).await.expect(200);
    assert_eq!(won.body["state"], "succeeded");
    world.act("job_00000000000000000000000000", "cancel").await.expect(404);
}

#[tokio::test]
async fn a_retry_is_a_new_job_that_names_the_old_one() {
    let world = World::new().await;
    let first = world.purge().await;
    assert_eq!(world.act(first.job_id(), "retry").await.expect(409).code(), "JOB_NOT_ENDED");
    let running = world.claim().await.remove(0);
    world.settle(&running, failed(Code::RedisAuthFailed)).await;
    let again = world.act(first.job_id(), "retry").await.expect(202);
    let new = world.rig.get(again.header("location")).await.expect(200);
    assert_eq!(new.body["retry_of"], first.job_id());
    assert_eq!(new.body["state"], "queued");
    let old = world.rig.get(first.header("location")).await.expect(200);
    assert_eq!(old.body["request"], new.body["request"]);
    assert_eq!(old.body["error"]["code"], "REDIS_AUTH_FAILED");
}

#[tokio::test]
async fn only_a_held_job_is_released() {
    let world = World::new().await;
    let job = world.purge().await;
    assert_eq!(world.act(job.job_id(), "release").await.expect(409).code(), "JOB_NOT_HELD");
    let template = world.rig.app.templates.for_type(hostler_protocol::job::JobType::CachePurge);
    for _ in 0..template.crashes_max {
        let running = world.claim().await.remove(0);
        world.settle(&running, failed(Code::Interrupted)).await;
    }
    let held = world.rig.get(job.header("location")).await.expect(200);
    assert_eq!(held.body["state"], "held", "{}", held.text);
    assert_eq!(kinds(&held), ["person"]);
    let released = world.act(job.job_id(), "release").await.expect(200);
    assert_eq!(released.body["state"], "queued");
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn a_client_can_wait_for_the_end() {
    let world = World::new().await;
    let path = format!("{}/cache/purge", world.environment);
    let short = [("prefer", "wait=0")];
    world.rig.call_with(Method::POST, &path, &short, None).await.expect(202);
    let long = [("prefer", "respond-async, wait=30")];
    let waiting = world.rig.call_with(Method::POST, &path, &long, None);
    let working = async {
        for _ in 0..2 {
            let running = loop {
                match world.claim().await.pop() {
                    Some(job) => break job,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            world.settle(&running, succeeded(json!({ "dry_run": false }))).await;
        }
    };
    let (answer, ()) = tokio::join!(waiting, working);
    let answer = answer.expect(200);
    assert_eq!(answer.header("preference-applied"), "wait=30");
    assert_eq!(answer.body["state"], "succeeded");
    assert_eq!(answer.header("location"), format!("/api/jobs/{}", answer.id()));
}

#[tokio::test]
async fn an_unknown_attempt_says_so() {
    let world = World::new().await;
    let job = world.purge().await;
    let running = world.claim().await.remove(0);
    let app = &world.rig.app;
    let attempt = AttemptRef { job: running.id.clone(), attempt: running.attempt };
    app.store.mark_unknown(&[attempt], app.clock.now()).await.unwrap();
    app.store.sessions_clear(None, app.clock.now()).await.unwrap();
    let shown = world.rig.get(job.header("location")).await.expect(200);
    let state = (&shown.body["state"], &shown.body["reason"]);
    assert_eq!(state, (&json!("running"), &json!("UNKNOWN")));
    assert_eq!(kinds(&shown), ["host"]);
    assert!(shown.body["waits_for"][0]["message"].as_str().unwrap().contains("force"));
}

#[tokio::test]
async fn only_a_job_nobody_can_tell_of_is_cancelled_by_force() {
    let world = World::new().await;
    let cancel = async |job: &str, body: Value| {
        world.rig.post(&format!("/api/jobs/{job}/cancel"), body).await
    };
    let (first, second) = (world.purge().await, world.purge().await);
    let force = || json!({ "force": true });
    for (body, code, pointer) in [
        (json!({ "Force": true }), "UNKNOWN_FIELD", "/Force"),
        (json!({ "force": "yes" }), "INVALID_REQUEST", "/force"),
        (json!({ "force": null }), "INVALID_REQUEST", "/force"),
        (json!([true]), "INVALID_REQUEST", ""),
    ] {
        let answer = cancel(first.job_id(), body).await.expect(400);
        assert_eq!((answer.code(), answer.pointers()), (code, vec![pointer]));
    }
    let running = world.claim().await.remove(0);
    let refused = cancel(first.job_id(), force()).await.expect(409);
    assert_eq!(refused.code(), "JOB_NOT_UNKNOWN");
    let shown = world.rig.get(first.header("location")).await.expect(200);
    assert_eq!(shown.body["cancel_requested_at"], json!(null), "a refusal asked the host");
    let ended = cancel(second.job_id(), force()).await.expect(200);
    assert_eq!(ended.body["reason"], "CANCELLED", "what waits needs no force");

    let app = &world.rig.app;
    let attempt = AttemptRef { job: running.id.clone(), attempt: running.attempt };
    app.store.sessions_clear(None, app.clock.now()).await.unwrap();
    app.store.mark_unknown(&[attempt], app.clock.now()).await.unwrap();
    let asked = cancel(first.job_id(), json!({ "force": false })).await.expect(200);
    assert_eq!(asked.body["state"], "running", "without force its host has the word");
    let given_up = cancel(first.job_id(), force()).await.expect(200);
    let (state, reason) = (&given_up.body["state"], &given_up.body["reason"]);
    assert_eq!((state, reason), (&json!("cancelled"), &json!("ABANDONED")));
    assert_eq!(cancel(first.job_id(), force()).await.expect(409).code(), "JOB_ENDED");
    cancel("job_00000000000000000000000000", force()).await.expect(404);
}

#[tokio::test]
async fn a_removal_that_nobody_would_run_is_not_repeated() {
    let world = World::new().await;
    let removal = world.rig.delete(&world.environment).await.expect(202);
    let revoke = format!("/api/hosts/{}/revoke", world.host);
    world.rig.call(Method::POST, &revoke, None).await.expect(200);
    let ended = world.rig.get(removal.header("location")).await.expect(200);
    assert_eq!(ended.body["reason"], "HOST_REVOKED");
    let refused = world.act(removal.job_id(), "retry").await.expect(409);
    assert_eq!(refused.code(), "HOST_REVOKED");
    assert!(refused.text.contains("delete the environment again"), "{}", refused.text);
    let queued = world.rig.get("/api/jobs?state=queued").await.expect(200);
    assert_eq!(queued.body["items"], json!([]), "a job was queued all the same");
    world.rig.delete(&world.environment).await.expect(204);
}
