//! Batches through the API. What hosts do goes through the store.

use axum::http::Method;
use hostler_controller::domain::decide::batch as decide;
use hostler_controller::domain::{Job, Scope};
use hostler_controller::store::{AttemptRef, ClaimHost, Settlement};
use hostler_protocol::id::{BatchId, HostId};
use hostler_protocol::job::{Code, JobError, JobType, Outcome, OutcomeState};
use hostler_tests::rows;
use serde_json::{Value, json};

use super::jobs::succeeded;
use super::rig::{Answer, Rig, environment};

/// An API with environments on hosts of their own, some of them away.
struct Fleet {
    rig: Rig,
    hosts: Vec<HostId>,
    environments: Vec<String>,
}

impl Fleet {
    async fn new(connected: &[bool]) -> Self {
        let rig = Rig::new().await;
        let site = rig.site("shop").await;
        let (mut hosts, mut environments) = (Vec::new(), Vec::new());
        for (n, connected) in connected.iter().enumerate() {
            let host = rig.host(&format!("web{}", "x".repeat(n)), *connected).await;
            let mut body = environment(&format!("shop{n}"), host.as_str());
            body["name"] = format!("e{n}").into();
            let path = format!("/api/sites/{site}/environments");
            environments.push(rig.post(&path, body).await.expect(201).id().to_owned());
            hosts.push(host);
        }
        Self { rig, hosts, environments }
    }

    async fn label(&self, n: usize, labels: Value) -> Answer {
        let path = format!("/api/environments/{}", self.environments[n]);
        self.rig.patch(&path, json!({ "labels": labels })).await
    }

    async fn make(&self, body: Value) -> String {
        let made = self.rig.post("/api/batches", body).await.expect(202);
        let id = made.body["batch_id"].as_str().unwrap().to_owned();
        assert_eq!(made.header("location"), format!("/api/batches/{id}"));
        id
    }

    async fn show(&self, id: &str) -> Value {
        self.rig.app.advance_batches().await.unwrap();
        self.rig.get(&format!("/api/batches/{id}")).await.expect(200).body
    }

    /// Claims what is runnable on one host, as its controller does.
    async fn claim(&self, n: usize) -> Vec<Job> {
        let app = &self.rig.app;
        let row = app.store.host(&self.hosts[n]).await.unwrap().unwrap();
        let opening = rows::opening(&row, &app.controller, app.clock.now());
        let epoch = app.store.session_open(opening).await.unwrap();
        let host = ClaimHost { host: self.hosts[n].clone(), epoch, slots: 10 };
        let claimed = app.store.claim(&[host], app.clock.now(), 10).await.unwrap();
        claimed.into_iter().map(|claimed| claimed.job).collect()
    }

    /// Runs what is queued for one host to this end.
    async fn run(&self, n: usize, outcome: &Outcome) {
        let app = &self.rig.app;
        for job in self.claim(n).await {
            let settlement = Settlement {
                attempt: AttemptRef { job: job.id.clone(), attempt: job.attempt },
                host: self.hosts[n].clone(),
                outcome: outcome.clone(),
                template: app.templates.for_type(job.job_type),
                warm_template: Some(app.templates.for_type(JobType::CacheWarm)),
            };
            app.store.settle(&[settlement], app.clock.now()).await.unwrap();
        }
    }
}

fn failed() -> Outcome {
    let error = JobError::new(Code::RedisDenied, "not permitted");
    let state = OutcomeState::Failed;
    Outcome { state, result: None, error: Some(error), ..succeeded(json!(null)) }
}

fn purge(targets: Value) -> Value {
    json!({ "action": { "type": "cache_purge", "request": {} }, "targets": targets })
}

fn names<'v>(listed: &'v Value, field: &str) -> Vec<&'v str> {
    listed.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_dry_run_lists_the_exact_targets_and_does_nothing() {
    let fleet = Fleet::new(&[false, true, true]).await;
    fleet.label(0, json!({ "tier": "prod" })).await.expect(200);
    fleet.label(2, json!({ "tier": "test" })).await.expect(200);
    let path = format!("/api/hosts/{}", fleet.hosts[1]);
    fleet.rig.patch(&path, json!({ "labels": { "tier": "prod" } })).await.expect(200);
    let mut body = purge(json!({ "labels": { "tier": "prod" } }));
    body["dry_run"] = true.into();
    body["canary"] = 1.into();
    let plan = fleet.rig.post("/api/batches", body).await.expect(200).body;
    assert_eq!(
        names(&plan["targets"], "environment"),
        ["shop/e1", "shop/e0"],
        "the one that can answer is the canary"
    );
    assert_eq!(plan["targets"][0]["wave"], 0);
    assert_eq!(
        (&plan["targets"][1]["wave"], &plan["targets"][1]["connected"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(fleet.rig.get("/api/batches").await.expect(200).body["items"], json!([]));
    assert_eq!(fleet.rig.get("/api/jobs").await.expect(200).body["items"], json!([]));
}

#[tokio::test]
async fn the_parent_never_hides_who_did_not_answer() {
    let fleet = Fleet::new(&[true, false, true]).await;
    let id = fleet.make(purge(json!({ "all": true }))).await;
    fleet.show(&id).await;
    fleet.run(0, &succeeded(json!({}))).await;
    fleet.run(2, &failed()).await;
    let batch = fleet.show(&id).await;
    assert_eq!(batch["state"], "running", "one host has not answered: {batch:#}");
    assert_eq!(names(&batch["unanswered"], "environment"), ["shop/e1"]);
    assert_eq!(batch["counts"]["unanswered"], 1);
    assert_eq!(names(&batch["failures"], "reason"), ["REDIS_DENIED"]);
    // Its host comes back and runs what was kept for it.
    fleet.run(1, &succeeded(json!({}))).await;
    let batch = fleet.show(&id).await;
    assert_eq!((&batch["state"], &batch["counts"]["unanswered"]), (&json!("failed"), &json!(0)));
    let jobs = fleet.rig.get(&format!("/api/jobs?batch={id}")).await.expect(200).body;
    assert_eq!(jobs["items"].as_array().unwrap().len(), 3);
    let job = jobs["items"][0]["id"].as_str().unwrap();
    let job = fleet.rig.get(&format!("/api/jobs/{job}")).await.expect(200).body;
    assert_eq!(job["batch_id"], id);
}

#[tokio::test]
async fn a_host_that_never_answers_is_told_after_the_time_that_was_set() {
    let fleet = Fleet::new(&[false]).await;
    let mut body = purge(json!({ "all": true }));
    body["answer_within_secs"] = 1.into();
    let id = fleet.make(body).await;
    fleet.show(&id).await;
    let later = fleet.rig.app.clock.now().plus_secs(2);
    assert_eq!(fleet.rig.app.store.expire_queued(later, 10).await.unwrap(), 1);
    let batch = fleet.show(&id).await;
    assert_eq!(batch["state"], "failed");
    assert_eq!(names(&batch["unanswered"], "reason"), ["EXPIRED"], "{batch:#}");
}

#[tokio::test]
async fn a_failed_canary_stops_everything() {
    let fleet = Fleet::new(&[true, true, true]).await;
    let mut body = purge(json!({ "sites": ["shop"] }));
    body["canary"] = 1.into();
    let id = fleet.make(body).await;
    let batch = fleet.show(&id).await;
    assert_eq!((&batch["counts"]["queued"], &batch["counts"]["pending"]), (&json!(1), &json!(2)));
    fleet.run(0, &failed()).await;
    let batch = fleet.show(&id).await;
    assert_eq!((&batch["state"], &batch["reason"]), (&json!("failed"), &json!("CANARY_FAILED")));
    assert_eq!(batch["counts"]["skipped"], 2, "{batch:#}");
    let jobs = fleet.rig.get("/api/jobs").await.expect(200).body;
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "the others were never touched");
}

#[tokio::test]
async fn a_stopped_batch_takes_back_what_no_host_has_begun() {
    let fleet = Fleet::new(&[true, true, false]).await;
    let mut body = purge(json!({ "hosts": ["web", "webx", "webxx"] }));
    body["failures_max"] = 0.into();
    let id = fleet.make(body).await;
    fleet.show(&id).await;
    let begun = fleet.claim(1).await;
    assert_eq!(begun.len(), 1);
    fleet.run(0, &failed()).await;
    fleet.show(&id).await;
    let batch = fleet.show(&id).await;
    assert_eq!(
        (&batch["reason"], &batch["state"]),
        (&json!("TOO_MANY_FAILURES"), &json!("running"))
    );
    assert_eq!(
        (&batch["counts"]["cancelled"], &batch["counts"]["running"]),
        (&json!(1), &json!(1)),
        "{batch:#}"
    );
    let targets = fleet.rig.get(&format!("/api/batches/{id}/targets")).await.expect(200).body;
    assert_eq!(targets["items"][2]["reason"], "BATCH_STOPPED");
    let past = fleet.rig.get(&format!("/api/batches/{id}/targets?from=10001")).await;
    assert_eq!(past.expect(400).body["code"], "INVALID_QUERY");
}

#[tokio::test]
async fn a_stopped_batch_takes_back_what_was_claimed_and_never_delivered() {
    let fleet = Fleet::new(&[true, true]).await;
    let mut body = purge(json!({ "all": true }));
    body["failures_max"] = 0.into();
    let id = fleet.make(body).await;
    fleet.show(&id).await;
    let job = fleet.claim(1).await.remove(0);
    let app = &fleet.rig.app;
    let attempt = AttemptRef { job: job.id, attempt: job.attempt };
    assert_eq!(app.store.requeue_unseen(&[attempt], app.clock.now()).await.unwrap(), [true]);
    fleet.run(0, &failed()).await;
    fleet.show(&id).await;
    let batch = fleet.show(&id).await;
    assert_eq!((&batch["state"], &batch["counts"]["cancelled"]), (&json!("failed"), &json!(1)));
}

#[tokio::test]
async fn a_cancelled_batch_ends_what_it_can() {
    let fleet = Fleet::new(&[true, true]).await;
    let mut body = purge(json!({ "all": true }));
    body["concurrency"] = 1.into();
    let id = fleet.make(body).await;
    fleet.show(&id).await;
    let running = fleet.claim(0).await;
    let cancel = format!("/api/batches/{id}/cancel");
    let batch = fleet.rig.call(Method::POST, &cancel, None).await.expect(200).body;
    assert_eq!((&batch["reason"], &batch["counts"]["skipped"]), (&json!("CANCELLED"), &json!(1)));
    let job = fleet.rig.get(&format!("/api/jobs/{}", running[0].id)).await.expect(200).body;
    assert!(job["cancel_requested_at"].is_string(), "what runs is told to stop: {job:#}");
    let app = &fleet.rig.app;
    let outcome = Outcome { state: OutcomeState::Cancelled, ..failed() };
    let settlement = Settlement {
        attempt: AttemptRef { job: running[0].id.clone(), attempt: 1 },
        host: fleet.hosts[0].clone(),
        outcome,
        template: app.templates.for_type(JobType::CachePurge),
        warm_template: None,
    };
    app.store.settle(&[settlement], app.clock.now()).await.unwrap();
    assert_eq!(fleet.show(&id).await["state"], "cancelled");
    let again = fleet.rig.call(Method::POST, &cancel, None).await.expect(409);
    assert_eq!(again.code(), "BATCH_ENDED");
}

#[tokio::test]
async fn a_cancellation_is_carried_on_by_whoever_finds_it() {
    let fleet = Fleet::new(&[true, true]).await;
    let id = fleet.make(purge(json!({ "all": true }))).await;
    fleet.show(&id).await;
    let running = fleet.claim(0).await;
    // Its controller is killed once it has committed the cancellation and before it does the rest.
    let app = &fleet.rig.app;
    let (batch, now) = (id.parse::<BatchId>().unwrap(), app.clock.now());
    let scope = Scope { batch: Some(batch.clone()), ..Scope::default() };
    let decide = move |snapshot: &_| decide::cancel(snapshot, &batch, now);
    app.store.transact("test", scope, decide).await.unwrap();
    fleet.show(&id).await;
    let job = fleet.rig.get(&format!("/api/jobs/{}", running[0].id)).await.expect(200).body;
    assert!(job["cancel_requested_at"].is_string(), "what runs is told to stop: {job:#}");
    let batch = fleet.show(&id).await;
    assert_eq!(
        (&batch["counts"]["cancelled"], &batch["counts"]["running"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn who_cannot_take_it_is_named_and_the_others_go_on() {
    let fleet = Fleet::new(&[true, true]).await;
    let path = format!("/api/environments/{}", fleet.environments[0]);
    fleet.rig.patch(&path, json!({ "redis": null })).await.expect(200);
    let mut body = purge(json!({ "all": true }));
    body["action"]["request"] = json!({ "caches": ["redis"] });
    body["dry_run"] = true.into();
    let plan = fleet.rig.post("/api/batches", body.clone()).await.expect(200).body;
    assert_eq!(plan["targets"][0]["refused"]["code"], "INVALID_REQUEST");
    assert_eq!(plan["targets"][1]["refused"], json!(null));
    body["dry_run"] = false.into();
    let id = fleet.make(body).await;
    fleet.show(&id).await;
    fleet.run(1, &succeeded(json!({}))).await;
    let batch = fleet.show(&id).await;
    assert_eq!((&batch["state"], &batch["counts"]["refused"]), (&json!("failed"), &json!(1)));
    assert!(batch["failures"][0]["message"].as_str().unwrap().contains("no Redis cache"));
}

#[tokio::test]
async fn paths_are_of_each_environments_own_domain() {
    let fleet = Fleet::new(&[true, true]).await;
    let mut body = purge(json!({ "all": true }));
    body["action"]["request"] = json!({ "urls": ["/feed"], "prefixes": ["/blog/"] });
    let id = fleet.make(body).await;
    fleet.show(&id).await;
    let jobs = fleet.rig.get(&format!("/api/jobs?batch={id}")).await.expect(200).body;
    let mut urls: Vec<_> = jobs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["request"]["urls"][0].clone())
        .collect();
    urls.sort_by_key(|url| url.to_string());
    assert_eq!(urls, ["http://shop0.example/feed", "http://shop1.example/feed"]);
}

#[tokio::test]
async fn bad_requests_are_refused_whole() {
    let fleet = Fleet::new(&[true]).await;
    let post = |body: Value| fleet.rig.post("/api/batches", body);
    let cases = [
        (purge(json!({})), "/targets"),
        (purge(json!({ "environments": ["shop/none"] })), "/targets/environments/0"),
        (purge(json!({ "hosts": ["nobody"] })), "/targets/hosts/0"),
        (purge(json!({ "sites": ["none"] })), "/targets/sites/0"),
        (purge(json!({ "labels": { "a b": "c" } })), "/targets/labels/a b"),
        (purge(json!({ "labels": { "tier": "none" } })), "/targets"),
        // It would be every environment, and nobody has said `all`.
        (purge(json!({ "labels": {} })), "/targets/labels"),
    ];
    for (body, pointer) in cases {
        let refused = post(body.clone()).await.expect(400);
        assert!(refused.pointers().contains(&pointer), "{body}: {}", refused.text);
    }
    for (field, value) in [("concurrency", 0), ("batch_size", 0), ("answer_within_secs", 0)] {
        let mut body = purge(json!({ "all": true }));
        body[field] = value.into();
        assert_eq!(post(body).await.expect(400).pointers(), [format!("/{field}")]);
    }
    let mut body = purge(json!({ "all": true }));
    body["action"]["request"] = json!({ "urls": ["http://elsewhere.example/"] });
    let refused = post(body).await.expect(400);
    assert_eq!(refused.pointers(), ["/action/request/urls/0"], "{}", refused.text);
    for body in
        [json!({}), json!({ "action": { "type": "env_delete" }, "targets": { "all": true } })]
    {
        post(body).await.expect(400);
    }
    assert_eq!(fleet.rig.get("/api/batches").await.expect(200).body["items"], json!([]));
    fleet.rig.get("/api/batches/batch_01kah2m3n4p5q6r7s8t9v0w1x2").await.expect(404);
}

#[tokio::test]
async fn one_key_is_one_batch() {
    let fleet = Fleet::new(&[true]).await;
    let key = [("idempotency-key", "nightly-1")];
    let post = |body| fleet.rig.call_with(Method::POST, "/api/batches", &key, Some(body));
    let first = post(purge(json!({ "all": true }))).await.expect(202);
    let again = post(purge(json!({ "all": true }))).await.expect(202);
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other = post(purge(json!({ "sites": ["shop"] }))).await.expect(422);
    assert_eq!(other.code(), "KEY_REUSED");
}

#[tokio::test]
async fn a_repeated_request_finds_its_batch_whatever_it_would_mean_now() {
    let fleet = Fleet::new(&[true]).await;
    fleet.label(0, json!({ "tier": "prod" })).await.expect(200);
    let key = [("idempotency-key", "nightly-2")];
    let post = |body| fleet.rig.call_with(Method::POST, "/api/batches", &key, Some(body));
    let body = purge(json!({ "labels": { "tier": "prod" } }));
    let first = post(body.clone()).await.expect(202);
    fleet.label(0, json!({ "tier": null })).await.expect(200);
    let again = post(body.clone()).await.expect(202);
    assert_eq!((&first.body, again.header("idempotent-replayed")), (&again.body, "true"));
    let other = post(purge(json!({ "labels": { "tier": "test" } }))).await.expect(422);
    assert_eq!(other.code(), "KEY_REUSED");
}

#[tokio::test]
async fn labels_are_set_taken_away_and_bounded() {
    let fleet = Fleet::new(&[true]).await;
    let labelled = fleet.label(0, json!({ "tier": "prod", "eu": "" })).await.expect(200);
    assert_eq!(labelled.body["labels"], json!({ "tier": "prod", "eu": "" }));
    let labelled = fleet.label(0, json!({ "eu": null })).await.expect(200);
    assert_eq!(labelled.body["labels"], json!({ "tier": "prod" }));
    let refused = fleet.label(0, json!({ "a b": "c" })).await.expect(400);
    assert_eq!(refused.pointers(), ["/labels/a b"]);
    let path = format!("/api/hosts/{}", fleet.hosts[0]);
    let host = fleet.rig.patch(&path, json!({ "labels": { "rack": "b7" } })).await.expect(200);
    assert_eq!(
        (&host.body["labels"], &host.body["name"]),
        (&json!({ "rack": "b7" }), &json!("web"))
    );
    fleet.rig.patch(&path, json!({})).await.expect(400);
    fleet.rig.patch(&path, json!({ "name": "db1" })).await.expect(200);
    assert_eq!(fleet.rig.get(&path).await.expect(200).body["labels"], json!({ "rack": "b7" }));
}
