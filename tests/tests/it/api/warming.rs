//! Warm-ups, asked for and following from purges, and questions to the cache, through the API.

use std::time::Duration;

use axum::http::Method;
use hostler_controller::domain::Job;
use serde_json::{Value, json};

use super::jobs::{World, succeeded};
use super::rig::{Answer, environment};

/// A world whose environment's FastCGI cache should be on.
async fn world() -> World {
    let world = World::new().await;
    let on = json!({ "fastcgi_cache_enabled": true });
    world.rig.patch(&format!("{}/cache", world.environment), on).await.expect(202);
    let toggle = world.claim().await.remove(0);
    world.settle(&toggle, succeeded(json!({ "generation": 1 }))).await;
    world
}

async fn warm(world: &World, urls: &[&str]) -> Answer {
    let path = format!("{}/cache/warm", world.environment);
    world.rig.post(&path, json!({ "urls": urls })).await
}

async fn job(world: &World, id: &str) -> Value {
    world.rig.get(&format!("/api/jobs/{id}")).await.expect(200).body
}

const A: &str = "http://shop.example/a";
const B: &str = "http://shop.example/b";

#[tokio::test]
async fn a_newer_warm_up_of_the_same_pages_ends_older_ones_that_wait() {
    let world = world().await;
    let (first, other) =
        (warm(&world, &[A]).await.expect(202), warm(&world, &[B]).await.expect(202));
    let both = warm(&world, &[B, A]).await.expect(202);
    for older in [first, other] {
        let older = job(&world, older.job_id()).await;
        assert_eq!(
            (&older["state"], &older["reason"]),
            (&json!("cancelled"), &json!("SUPERSEDED"))
        );
    }
    let running = world.claim().await.remove(0);
    assert_eq!(running.id.as_str(), both.job_id());
    let again = warm(&world, &[A]).await.expect(202);
    assert_eq!(job(&world, both.job_id()).await["state"], "running");
    let waits = job(&world, again.job_id()).await;
    assert_eq!(
        waits["waits_for"][0]["kind"], "lane",
        "two warm-ups of one environment run at once"
    );
    // A warm-up keeps nothing else waiting.
    let purge = world.purge().await;
    let next: Vec<Job> = world.claim().await;
    assert_eq!(next[0].id.as_str(), purge.job_id());
}

#[tokio::test]
async fn a_warm_up_says_what_it_cannot_do() {
    let world = World::new().await;
    let off = warm(&world, &[A]).await.expect(409);
    assert_eq!(off.code(), "CACHE_OFF");
    let path = format!("{}/cache/warm", world.environment);
    let many: Vec<String> = (0..10_001).map(|n| format!("{A}{n}")).collect();
    for (body, pointer) in [
        (json!({}), "/urls"),
        (json!({ "urls": [] }), "/urls"),
        (json!({ "urls": null }), "/urls"),
        (json!({ "urls": [A, "http://shop.example.evil/"] }), "/urls/1"),
        (json!({ "urls": many }), "/urls"),
        (json!({ "urls": [A], "x": 1 }), "/x"),
    ] {
        let answer = world.rig.post(&path, body.clone()).await.expect(400);
        assert_eq!(answer.pointers(), [pointer]);
    }
    world.rig.patch(&world.environment, json!({ "fastcgi": null })).await.expect(200);
    let answer = warm(&world, &[A]).await.expect(400);
    assert!(answer.text.contains("no FastCGI cache"), "{}", answer.text);
}

#[tokio::test]
async fn deleting_an_environment_ends_its_warm_ups() {
    let world = world().await;
    let running = warm(&world, &[A]).await.expect(202);
    let attempt = world.claim().await.remove(0);
    let waiting = warm(&world, &[B]).await.expect(202);
    let removal = world.rig.delete(&world.environment).await.expect(202);
    assert_eq!(job(&world, waiting.job_id()).await["reason"], "ENVIRONMENT_DELETED");
    assert!(job(&world, running.job_id()).await["cancel_requested_at"].is_string());
    assert!(world.claim().await.is_empty(), "the cache goes while pages are stored into it");
    assert_eq!(job(&world, removal.job_id()).await["waits_for"][0]["job_id"], running.job_id());
    world.settle(&attempt, succeeded(json!({ "warmed": 1 }))).await;
    assert_eq!(world.claim().await[0].id.as_str(), removal.job_id());
}

#[tokio::test]
async fn a_purge_is_followed_by_one_warm_up_of_what_it_named() {
    let world = world().await;
    let path = format!("{}/cache/purge", world.environment);
    let waiting = warm(&world, &[A]).await.expect(202);
    let asked = world.rig.post(&path, json!({ "urls": [A, B], "warm": true })).await.expect(202);
    assert_eq!(job(&world, asked.job_id()).await["children"], json!([]));
    let claimed = world.claim().await;
    let purge = claimed.iter().find(|job| job.id.as_str() == asked.job_id()).unwrap();
    let older = claimed.iter().find(|job| job.id.as_str() == waiting.job_id()).unwrap();
    world.settle(older, succeeded(json!({ "warmed": 1 }))).await;
    let covered = warm(&world, &[B]).await.expect(202);
    let done = succeeded(json!({ "dry_run": false }));
    // The agent delivers until it is acknowledged.
    world.settle(purge, done.clone()).await;
    world.settle(purge, done.clone()).await;
    let mut late = purge.clone();
    late.attempt += 1;
    world.settle(&late, done).await;

    let parent = job(&world, asked.job_id()).await;
    let children = parent["children"].as_array().unwrap();
    assert_eq!(children.len(), 1, "{parent}");
    let child = job(&world, children[0].as_str().unwrap()).await;
    assert_eq!(child["type"], "cache_warm");
    assert_eq!(child["parent_id"], parent["id"]);
    assert_eq!(child["request_id"], parent["request_id"]);
    assert_eq!(child["request"]["urls"], json!([A, B]));
    // It was asked for while the purge ran, so its pages have to be newer than the child's.
    assert_eq!(job(&world, covered.job_id()).await["state"], "queued");

    let list = format!("/api/jobs?parent={}", asked.job_id());
    let found = world.rig.get(&list).await.expect(200);
    assert_eq!(found.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(found.body["items"][0]["id"], child["id"]);
    let events = world.rig.app.store.events_after(0, 1000, &Default::default()).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.event.document["parent_id"] == asked.job_id())
        .map(|event| event.event.kind.as_str())
        .collect();
    assert_eq!(told, ["job.queued"]);
}

#[tokio::test]
async fn only_a_purge_that_succeeded_and_was_meant_is_followed() {
    let world = world().await;
    let path = format!("{}/cache/purge", world.environment);
    let children = async |body: Value| {
        let asked = world.rig.post(&path, body).await.expect(202);
        let running = world.claim().await.remove(0);
        world.settle(&running, succeeded(json!({ "dry_run": false }))).await;
        job(&world, asked.job_id()).await["children"].as_array().unwrap().len()
    };
    assert_eq!(children(json!({})).await, 0);
    assert_eq!(children(json!({ "warm": true, "dry_run": true })).await, 0);
    assert_eq!(children(json!({ "warm": true })).await, 1);
    let off = json!({ "fastcgi_cache_enabled": false });
    world.rig.patch(&format!("{}/cache", world.environment), off).await.expect(202);
    for toggle_and_child in world.claim().await {
        world.settle(&toggle_and_child, succeeded(json!({ "generation": 2 }))).await;
    }
    assert_eq!(children(json!({ "warm": true })).await, 0, "there is no cache to warm");
}

#[tokio::test]
async fn questions_are_answered_to_who_waits() {
    let world = World::new().await;
    let wait = [("prefer", "wait=30")];
    for (question, body, kind) in
        [("facts", None, "cache_facts"), ("explain", Some(json!({ "url": A })), "cache_explain")]
    {
        // A question waits for nobody, whatever the environment is busy with.
        world.purge().await;
        let path = format!("{}/cache/{question}", world.environment);
        let asking = world.rig.call_with(Method::POST, &path, &wait, body);
        let answering = async {
            loop {
                for job in world.claim().await {
                    let asked = job.job_type.as_str() == kind;
                    world.settle(&job, succeeded(json!({ "entries": 3 }))).await;
                    if asked {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (answer, ()) = tokio::join!(asking, answering);
        let answer = answer.expect(200);
        assert_eq!(
            (&answer.body["type"], &answer.body["result"]["entries"]),
            (&json!(kind), &json!(3))
        );
    }
    let path = format!("{}/cache/explain", world.environment);
    for (body, pointer) in [
        (json!({}), "/url"),
        (json!({ "url": "http://other.example/" }), "/url"),
        (json!({ "url": "/a" }), "/url"),
        (json!({ "url": A, "x": 1 }), "/x"),
    ] {
        let answer = world.rig.post(&path, body.clone()).await.expect(400);
        assert_eq!(answer.pointers(), [pointer], "{body}");
    }
    let mut bare = environment("bare", world.host.as_str());
    bare["name"] = json!("bare");
    bare.as_object_mut().unwrap().remove("fastcgi");
    let site = world.rig.site("bare").await;
    let made = world.rig.post(&format!("/api/sites/{site}/environments"), bare).await.expect(201);
    let facts = format!("/api/environments/{}/cache/facts", made.id());
    assert_eq!(world.rig.call(Method::POST, &facts, None).await.expect(400).pointers(), [""]);
    let nobody = "/api/environments/env_00000000000000000000000000/cache/facts";
    world.rig.call(Method::POST, nobody, None).await.expect(404);
}

#[tokio::test]
async fn a_page_is_the_same_in_every_form_of_its_url() {
    let world = world().await;
    let form = "HTTP://SHOP.example.:80/a#top";
    let plain = json!("http://shop.example/a");
    let warmed = warm(&world, &[form]).await.expect(202);
    let read = world.rig.get(warmed.header("location")).await.expect(200);
    assert_eq!(read.body["request"]["urls"], json!([plain]));
    let path = format!("{}/cache/explain", world.environment);
    let asked = world.rig.post(&path, json!({ "url": form })).await.expect(202);
    let read = world.rig.get(asked.header("location")).await.expect(200);
    assert_eq!(read.body["request"]["url"], plain);
    for foreign in ["http://other.example/#http://shop.example/", "http://shop.example../"] {
        let refused = world.rig.post(&path, json!({ "url": foreign })).await.expect(400);
        assert_eq!(refused.pointers(), ["/url"], "{foreign}");
    }
}
