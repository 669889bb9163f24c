//! Purges through the API: what may be asked, what is refused and where, what becomes of it.

use axum::http::Method;
use hostler_controller::domain::spec;
use hostler_controller::store::ClaimHost;
use hostler_protocol::SPEC_BYTES_MAX;
use hostler_protocol::job::{JobSpec, JobType, LISTS_BYTES_MAX, PurgeScope};
use hostler_tests::rows;
use serde_json::{Value, json};

use super::jobs::World;
use super::rig::Rig;

#[tokio::test]
async fn a_purge_names_what_it_removes() {
    let rig = Rig::new().await;
    let path = format!("{}/cache/purge", rig.environment("shop").await);
    let request = async |body: Option<Value>| {
        let asked = rig.call(Method::POST, &path, body).await.expect(202);
        rig.get(asked.header("location")).await.expect(200).body["request"].clone()
    };
    let both = json!({ "caches": ["fastcgi", "redis"], "dry_run": false });
    assert_eq!(request(None).await, both);
    assert_eq!(request(Some(json!({}))).await, both);
    let one = json!({ "caches": ["redis"], "dry_run": true });
    assert_eq!(request(Some(one.clone())).await, one);
    let urls = json!(["http://shop.example/", "https://shop.example/a?b=c"]);
    let by_url = json!({ "caches": ["fastcgi"], "dry_run": false, "urls": urls });
    assert_eq!(request(Some(json!({ "urls": urls }))).await, by_url);
    let all_there_is = json!({
        "caches": ["fastcgi"], "dry_run": false, "urls": urls, "query_variants": true,
        "prefixes": ["http://shop.example", "https://SHOP.example/blog?page="],
        "tags": ["post-1", "\"quoted\""], "mode": "refresh", "warm": true,
    });
    let mut plain = all_there_is.clone();
    plain["prefixes"] = json!(["http://shop.example/", "https://shop.example/blog?page="]);
    assert_eq!(request(Some(all_there_is)).await, plain);
    // What names the same page is the same page from here on.
    let forms = ["HTTP://SHOP.example.:80#top", "https://shop.example:443/a?b=c#d"];
    assert_eq!(request(Some(json!({ "urls": forms }))).await, by_url);
    let soft = json!({ "caches": ["fastcgi", "redis"], "dry_run": false, "mode": "soft" });
    assert_eq!(request(Some(json!({ "mode": "soft" }))).await, soft);
    assert_eq!(request(Some(json!({ "mode": "hard", "warm": false }))).await, both);
    let jobs = rig.get("/api/jobs?state=queued&type=cache_purge").await.expect(200);
    assert_eq!(jobs.body["items"].as_array().unwrap().len(), 8, "a purge ended another");
}

#[tokio::test]
async fn a_purge_says_what_it_cannot_do() {
    let rig = Rig::new().await;
    let path = format!("{}/cache/purge", rig.environment("shop").await);
    let url = "http://shop.example/";
    let long = format!("{url}{}", "a".repeat(5000));
    let wrong = [
        (json!({ "caches": [] }), vec!["/caches"]),
        (json!({ "caches": ["disk"] }), vec!["/caches/0"]),
        (json!({ "urls": [] }), vec!["/urls"]),
        (json!({ "urls": [1] }), vec!["/urls/0"]),
        (json!({ "urls": "x" }), vec!["/urls"]),
        (json!({ "urls": [url, "http://other.example/", long] }), vec!["/urls/1", "/urls/2"]),
        (json!({ "urls": [url], "caches": ["redis"] }), vec!["/urls"]),
        (json!({ "prefixes": [] }), vec!["/prefixes"]),
        (
            json!({ "prefixes": ["/a", "http://shop.example.evil/"] }),
            vec!["/prefixes/0", "/prefixes/1"],
        ),
        (json!({ "prefixes": ["http://shop.example:81"] }), vec!["/prefixes/0"]),
        (json!({ "prefixes": vec![url; 101] }), vec!["/prefixes"]),
        (json!({ "tags": [] }), vec!["/tags"]),
        (
            json!({ "tags": ["a", "", "a b", "\u{e4}", "x".repeat(1025)] }),
            vec!["/tags/1", "/tags/2", "/tags/3", "/tags/4"],
        ),
        (json!({ "tags": vec!["a"; 257] }), vec!["/tags"]),
        (
            json!({ "tags": ["a"], "prefixes": [url], "caches": ["fastcgi", "redis"] }),
            vec!["/prefixes", "/tags"],
        ),
        (json!({ "query_variants": true }), vec!["/query_variants"]),
        (json!({ "query_variants": true, "tags": ["a"] }), vec!["/query_variants"]),
        (json!({ "mode": "gentle" }), vec!["/mode"]),
        (json!({ "mode": null }), vec!["/mode"]),
        (json!({ "mode": "soft", "warm": true, "caches": ["redis"] }), vec!["/mode", "/warm"]),
        (json!({ "warm": "yes" }), vec!["/warm"]),
        (json!({ "dry_run": "no" }), vec!["/dry_run"]),
    ];
    for (body, pointers) in wrong {
        let answer = rig.post(&path, body.clone()).await.expect(400);
        assert_eq!((answer.code(), answer.pointers()), ("INVALID_REQUEST", pointers), "{body}");
    }
    let unknown = rig.post(&path, json!({ "force": true })).await.expect(400);
    assert_eq!((unknown.code(), unknown.pointers()), ("UNKNOWN_FIELD", vec!["/force"]));
    assert_eq!(rig.get("/api/jobs").await.expect(200).body["items"], json!([]));
}

/// As many URLs of so many bytes each.
fn urls(count: usize, bytes: usize) -> Vec<String> {
    let start = "http://shop.example/";
    (0..count).map(|n| format!("{start}{n:0>width$}", width = bytes - start.len())).collect()
}

#[tokio::test]
async fn ten_thousand_urls_reach_the_host_and_one_more_does_not() {
    let world = World::new().await;
    let (rig, path) = (&world.rig, format!("{}/cache/purge", world.environment));
    let refused = rig.post(&path, json!({ "urls": urls(10_001, 30) })).await.expect(400);
    assert_eq!(refused.pointers(), ["/urls"]);
    // As long as they can be together.
    let longest = urls(10_000, LISTS_BYTES_MAX / 10_000 - 3);
    let asked = rig.post(&path, json!({ "urls": longest })).await.expect(202);
    let too_long = urls(10_000, LISTS_BYTES_MAX / 10_000 - 1);
    let refused = rig.post(&path, json!({ "urls": too_long })).await.expect(400);
    assert_eq!(refused.pointers(), [""], "{}", refused.text);
    assert!(refused.text.contains("split it"), "{}", refused.text);

    let app = &rig.app;
    let now = app.clock.now();
    let row = app.store.host(&world.host).await.unwrap().unwrap();
    let epoch = app.store.session_open(rows::opening(&row, &app.controller, now)).await;
    let host = ClaimHost { host: world.host.clone(), epoch: epoch.unwrap(), slots: 1 };
    let claimed = app.store.claim(&[host], app.clock.now(), 1).await.unwrap().remove(0);
    assert_eq!(claimed.job.id.as_str(), asked.job_id());
    let template = app.templates.for_type(JobType::CachePurge);
    let environment = claimed.environment.as_ref();
    let doc = spec::resolve(&claimed.job, environment, &template, 1, now).unwrap();
    assert!(hostler_protocol::job::write(&doc).len() <= SPEC_BYTES_MAX);
    let JobSpec::CachePurge(purge) = doc.spec else { panic!("{doc:?}") };
    assert_eq!(purge.scope, PurgeScope::Urls { urls: longest });

    // A list of jobs does not repeat what each of them names.
    let listed = rig.get("/api/jobs").await.expect(200);
    assert_eq!(listed.body["items"][0]["request"]["urls"].as_array().unwrap().len(), 20);
    let shown = rig.get(asked.header("location")).await.expect(200);
    assert_eq!(shown.body["request"]["urls"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn what_no_playbook_does_is_refused_where_playbooks_run() {
    let world = World::new().await;
    let (rig, path) = (&world.rig, format!("{}/cache/purge", world.environment));
    let choose = async |executor: Value| {
        let body = json!({ "executor": executor });
        rig.patch(&world.environment, body).await.expect(200).body["executor"].clone()
    };
    assert_eq!(choose(json!("ansible")).await, "ansible");
    let url = "http://shop.example/";
    for (body, pointer) in [
        (json!({ "mode": "soft" }), "/mode"),
        (json!({ "mode": "refresh", "urls": [url] }), "/mode"),
        (json!({ "prefixes": [url] }), "/prefixes"),
        (json!({ "tags": ["a"] }), "/tags"),
        (json!({ "urls": [url], "query_variants": true }), "/query_variants"),
    ] {
        let answer = rig.post(&path, body.clone()).await.expect(400);
        assert_eq!(answer.pointers(), [pointer], "{body}");
        assert!(answer.text.contains("ansible"), "{}", answer.text);
    }
    let asked = rig.post(&path, json!({ "urls": [url] })).await.expect(202);
    let executor =
        async || rig.get(asked.header("location")).await.expect(200).body["executor"].clone();
    assert_eq!(executor().await, "ansible");
    // What waits goes the way its environment says when it starts.
    assert_eq!(choose(json!(null)).await, json!(null));
    assert_eq!(executor().await, "native");
    choose(json!("ansible")).await;
    let running = world.claim().await.remove(0);
    choose(json!("native")).await;
    assert_eq!(executor().await, "ansible", "what runs was handed out before");
    assert_eq!(running.id.as_str(), asked.job_id());
    // There is no playbook for a check, hence no choice.
    let check = format!("{}/check", world.environment);
    choose(json!("ansible")).await;
    let asked = rig.call(Method::POST, &check, None).await.expect(202);
    let shown = rig.get(asked.header("location")).await.expect(200);
    assert_eq!(shown.body["executor"], "native");
    for wrong in [json!("puppet"), json!(1)] {
        let answer = rig.patch(&world.environment, json!({ "executor": wrong })).await.expect(400);
        assert_eq!(answer.pointers(), ["/executor"], "{wrong}");
    }
}
