//! Requests about stacks that are repeated under one `Idempotency-Key`.

use axum::http::Method;
use serde_json::{Value, json};

use super::repository::{Kept, WEB};
use super::rig::Answer;
use crate::store::world::World;

impl Kept {
    async fn keyed(&self, path: &str, key: &str, body: Option<Value>) -> Answer {
        self.rig.call_with(Method::POST, path, &[("idempotency-key", key)], body).await
    }

    async fn jobs(&self) -> usize {
        let jobs = self.rig.get("/api/jobs?limit=200").await.expect(200);
        jobs.body["items"].as_array().unwrap().len()
    }
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == "true"
}

/// A stack on two hosts, one of them for the database's sake in another order than their names.
async fn on_two_hosts(place: World) -> Kept {
    let kept = Kept::on(place).await;
    kept.rig.host("web2", true).await;
    kept.repository.write("web/docker-compose.yml", &WEB.replace("[web1]", "[web1, web2]"));
    kept.repository.commit("Run it twice");
    kept.refresh().await;
    kept.carry().await;
    kept
}

#[tokio::test]
async fn the_same_request_about_a_stack_is_carried_out_once() {
    for place in [World::sqlite().await, World::postgres("the_same_request_about_a").await] {
        let kept = on_two_hosts(place).await;
        let stack = kept.stack("web").await;
        for (act, body) in [
            ("sync", Some(json!({ "force": true }))),
            ("plan", None),
            ("plan", Some(json!({ "hosts": ["web2"] }))),
        ] {
            let (path, key) = (format!("{stack}/{act}"), format!("{act}-{}", body.is_some()));
            let first = kept.keyed(&path, &key, body.clone()).await.expect(202);
            let (asked, before) = (&first.body["jobs"], kept.jobs().await);
            assert!(!is_replayed(&first));
            let again = kept.keyed(&path, &key, body.clone()).await.expect(202);
            assert!(is_replayed(&again));
            assert_eq!((again.body["jobs"].clone(), kept.jobs().await), (asked.clone(), before));
            let hosts = if key == "plan-true" { 1 } else { 2 };
            assert_eq!(asked.as_array().unwrap().len(), hosts, "{asked}");
            // Another request under that key is none of these, whatever else is wrong with it.
            for (path, body) in [
                (path.clone(), Some(json!({ "hosts": ["web1"] }))),
                (path.clone(), Some(json!({ "hosts": ["nobody"] }))),
                (format!("{stack}/suspend"), None),
                ("/api/refresh".to_owned(), None),
            ] {
                let other = kept.keyed(&path, &key, body).await.expect(422);
                assert_eq!(other.code(), "KEY_REUSED", "{path}");
            }
            assert_eq!(kept.jobs().await, before);
        }
        // What was asked for is remembered also when it could not be asked for any more.
        let (path, force) = (format!("{stack}/sync"), Some(json!({ "force": true })));
        let first = kept.keyed(&path, "sync-true", force.clone()).await.expect(202);
        kept.repository.remove("web");
        kept.repository.commit("Remove it");
        kept.refresh().await;
        let again = kept.keyed(&path, "sync-true", force.clone()).await.expect(202);
        assert_eq!(again.body, first.body);
        kept.keyed(&path, "another", force).await.expect(409);
        kept.end().await;
    }
}

#[tokio::test]
async fn of_the_same_requests_at_once_one_is_carried_out() {
    for place in [World::sqlite().await, World::postgres("of_the_same_requests").await] {
        let kept = on_two_hosts(place).await;
        let path = format!("{}/sync", kept.stack("web").await);
        let before = kept.jobs().await;
        let asked = (0..6).map(|_| kept.keyed(&path, "one", None));
        let answers = futures_util::future::join_all(asked).await;
        let first = &answers[0].body;
        assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == *first));
        assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
        assert_eq!(kept.jobs().await, before + 2, "one for each host");
        kept.end().await;
    }
}

#[tokio::test]
async fn a_repeated_rollback_answers_with_the_first_ones_job() {
    let kept = Kept::sqlite().await;
    kept.refresh().await;
    kept.settle_down().await;
    let first = kept.show("web").await["on"][0]["last"]["job_id"].clone();
    let path = format!("{}/rollback", kept.stack("web").await);
    let body = Some(json!({ "job_id": first }));
    let back = kept.keyed(&path, "back", body.clone()).await.expect(202);
    // A key is good for what it was used for, also where that is a refusal by itself.
    let nobodys = json!({ "job_id": format!("job_{}", "0".repeat(26)) });
    assert_eq!(kept.keyed(&path, "back", Some(nobodys)).await.expect(422).code(), "KEY_REUSED");
    // It runs by now: asked for anew, it would be refused.
    assert_eq!(kept.claim().await.len(), 1);
    let again = kept.keyed(&path, "back", body.clone()).await.expect(202);
    assert_eq!((is_replayed(&again), &again.body), (true, &back.body));
    assert_eq!(kept.keyed(&path, "again", body).await.expect(409).code(), "STACK_BUSY");
    kept.end().await;
}

#[tokio::test]
async fn a_change_of_a_stack_that_is_repeated_undoes_nothing_that_came_after_it() {
    for place in [World::sqlite().await, World::postgres("a_change_of_a_stack_that").await] {
        let kept = Kept::on(place).await;
        kept.refresh().await;
        kept.settle_down().await;
        let stack = kept.stack("web").await;
        let suspend = format!("{stack}/suspend");
        let first = kept.keyed(&suspend, "s", None).await.expect(200);
        assert_eq!((is_replayed(&first), &first.body["suspended"]), (false, &json!(true)));
        kept.keyed(&format!("{stack}/resume"), "r", None).await.expect(200);
        let again = kept.keyed(&suspend, "s", None).await.expect(200);
        assert_eq!((is_replayed(&again), &again.body["suspended"]), (true, &json!(false)));

        let shown = kept.show("web").await;
        let report = json!({ "stacks": [{
            "stack": shown["id"], "desired": shown["on"][0]["applied"], "seen_at_us": 1,
            "containers": [], "drift": [{ "kind": "file_changed", "subject": "web/conf" }],
        }] });
        let report = serde_json::to_vec(&report).unwrap();
        kept.rig.app.observed(&kept.host, &report).await.unwrap();
        let accept = format!("{stack}/accept-drift");
        kept.keyed(&accept, "d", None).await.expect(200);
        assert_eq!(kept.keyed(&accept, "e", None).await.expect(409).code(), "NO_DRIFT");
        let again = kept.keyed(&accept, "d", None).await.expect(200);
        assert_eq!((is_replayed(&again), &again.body["drifted"]), (true, &json!(false)));
        kept.end().await;
    }
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_again_is_the_same_one() {
    for place in [World::sqlite().await, World::postgres("a_refresh_that_is_asked").await] {
        let kept = Kept::on(place).await;
        let headers = [("idempotency-key", "one"), ("prefer", "wait=60")];
        let ask = async || {
            kept.rig.call_with(Method::POST, "/api/refresh", &headers, None).await.expect(200)
        };
        let first = ask().await;
        let newer = kept.refresh().await;
        assert_ne!(newer.id(), first.id());
        let again = ask().await;
        assert_eq!((is_replayed(&first), is_replayed(&again)), (false, true));
        assert_eq!(again.body, first.body);
        kept.end().await;
    }
}
