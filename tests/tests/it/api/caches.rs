//! Switching and reconciling through the API, and what its requests have in common.

use axum::http::Method;
use hostler_controller::api::Access;
use serde_json::json;

use super::rig::Rig;

#[tokio::test]
async fn a_switch_changes_what_should_be_at_once_and_what_is_not() {
    let rig = Rig::new().await;
    let path = format!("{}/cache", rig.environment("shop").await);
    let asked = rig.patch(&path, json!({ "fastcgi_cache_enabled": true })).await.expect(202);
    assert_eq!(asked.header("location"), format!("/api/jobs/{}", asked.job_id()));
    let state = rig.get(&path).await.expect(200);
    assert_eq!(state.body["fastcgi"]["desired"], true);
    assert_eq!(state.body["fastcgi"]["applied"], json!(null));
    assert_eq!(state.body["redis"]["desired"], false, "a flag that was not named changed");
    assert_eq!(state.body["in_sync"], false);
    let job = rig.get(asked.header("location")).await.expect(200);
    assert_eq!(job.body["type"], "env_cache_toggle");
    assert_eq!(job.body["request"], json!({ "fastcgi_cache_enabled": true }));
    assert_eq!(job.body["request_id"], asked.header("x-request-id"));
}

#[tokio::test]
async fn a_switch_says_what_it_cannot_do() {
    let rig = Rig::new().await;
    let path = format!("{}/cache", rig.environment("shop").await);
    let wrong = [
        (json!({}), "INVALID_REQUEST", ""),
        (json!({ "fastcgi": true }), "UNKNOWN_FIELD", "/fastcgi"),
        (json!({ "fastcgi_cache_enabled": "yes" }), "INVALID_REQUEST", "/fastcgi_cache_enabled"),
        (json!({ "redis_cache_enabled": null }), "INVALID_REQUEST", "/redis_cache_enabled"),
    ];
    for (body, code, pointer) in wrong {
        let answer = rig.patch(&path, body.clone()).await.expect(400);
        assert_eq!((answer.code(), answer.pointers()), (code, vec![pointer]), "{body}");
    }
    rig.call(Method::PATCH, &path, None).await.expect(415);
    let environment = path.trim_end_matches("/cache");
    rig.patch(environment, json!({ "redis": null })).await.expect(200);
    let answer = rig.patch(&path, json!({ "redis_cache_enabled": true })).await.expect(400);
    assert_eq!(answer.pointers(), ["/redis_cache_enabled"]);
    let nobody = "/api/environments/env_00000000000000000000000000/cache";
    rig.patch(nobody, json!({ "redis_cache_enabled": true })).await.expect(404);
    assert_eq!(rig.get("/api/jobs").await.expect(200).body["items"], json!([]));
}

#[tokio::test]
async fn a_newer_switch_ends_older_ones_that_wait() {
    let rig = Rig::new().await;
    let path = format!("{}/cache", rig.environment("shop").await);
    let first = rig.patch(&path, json!({ "fastcgi_cache_enabled": true })).await.expect(202);
    let second = rig.patch(&path, json!({ "redis_cache_enabled": true })).await.expect(202);
    let old = rig.get(first.header("location")).await.expect(200);
    let why = (old.body["state"].as_str(), old.body["reason"].as_str());
    assert_eq!(why, (Some("cancelled"), Some("SUPERSEDED")));
    let third = rig.call(Method::POST, &format!("{path}/reconcile"), None).await.expect(202);
    let old = rig.get(second.header("location")).await.expect(200);
    assert_eq!(old.body["reason"], "SUPERSEDED");
    let new = rig.get(third.header("location")).await.expect(200);
    assert_eq!((new.body["state"].as_str(), &new.body["request"]), (Some("queued"), &json!({})));
    let state = rig.get(&path).await.expect(200);
    let desired = (&state.body["fastcgi"]["desired"], &state.body["redis"]["desired"]);
    assert_eq!(desired, (&json!(true), &json!(true)), "a superseded switch lost its wish");
}

#[tokio::test]
async fn the_same_request_under_one_key_is_one_job() {
    let rig = Rig::with(Access::Insecure).await;
    let path = format!("{}/cache/purge", rig.environment("shop").await);
    let key = [("idempotency-key", "\"one\"")];
    let dry = Some(json!({ "dry_run": true }));
    let first = rig.call_with(Method::POST, &path, &key, dry.clone()).await.expect(202);
    assert_eq!(first.header("idempotent-replayed"), "");
    let again = rig.call_with(Method::POST, &path, &key, dry).await.expect(202);
    assert_eq!(again.job_id(), first.job_id());
    assert_eq!(again.header("idempotent-replayed"), "true");
    for (path, body) in [(path.clone(), None), (path.replace("purge", "reconcile"), None)] {
        let other = rig.call_with(Method::POST, &path, &key, body).await.expect(422);
        assert_eq!(other.code(), "KEY_REUSED");
    }
    let empty = rig.call_with(Method::POST, &path, &[("idempotency-key", "")], None).await;
    assert_eq!(empty.expect(400).code(), "IDEMPOTENCY_KEY_INVALID");
    let jobs = rig.get("/api/jobs").await.expect(200);
    assert_eq!(jobs.body["items"].as_array().unwrap().len(), 1);
}
