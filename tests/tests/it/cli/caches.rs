//! `hostler cache …`: what is asked of the controller, and how results are told.

use serde_json::{Value, json};

use super::fake::{Fake, Say, page, problem};
use super::samples::{ENVIRONMENT, JOB, environment, job, with, world};
use super::{run, run_with_input};

const PURGE: &str = "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/purge";
const WARM: &str = "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/warm";
const FACTS: &str = "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/facts";
const EXPLAIN: &str = "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/explain";
const CACHE: &str = "GET /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache";
const READ: &str = "GET /api/jobs/job_01kah2m3n4p5q6r7s8t9v0w1x2";
const CANCEL: &str = "POST /api/jobs/job_01kah2m3n4p5q6r7s8t9v0w1x2/cancel";

/// A job of that type that has succeeded with a result.
fn done(kind: &str, result: &Value) -> Value {
    with(with(job("succeeded"), "type", json!(kind)), "result", result.clone())
}

#[test]
fn every_option_of_a_purge_is_sent() {
    let fake = Fake::start(|seen, _| world(seen));
    let line = "cache purge shop/production --url https://shop.example/ --query-variants \
                --prefix https://shop.example/blog/ --prefix https://shop.example/tag/ \
                --tag post-1 --mode refresh --warm";
    let arguments: Vec<&str> = line.split_whitespace().collect();
    run(fake.port, &arguments).expect(0);
    let sent = fake.seen_as(PURGE).remove(0).json();
    assert_eq!(
        sent,
        json!({
            "urls": ["https://shop.example/"], "query_variants": true,
            "prefixes": ["https://shop.example/blog/", "https://shop.example/tag/"],
            "tags": ["post-1"], "mode": "refresh", "warm": true,
        })
    );
    let alone = ["cache", "purge", "shop/production", "--query-variants"];
    run(fake.port, &alone).expect(2);
    run(fake.port, &["cache", "purge", "shop/production", "--mode", "gentle"]).expect(2);
    assert_eq!(fake.seen_as(PURGE).len(), 1);
}

#[test]
fn pages_to_warm_come_from_options_and_files() {
    let fake = Fake::start(|seen, _| world(seen));
    let arguments = ["cache", "warm", "shop/production", "--url", "https://shop.example/"];
    let more = ["--urls-file", "-"];
    let input = "# the rest\nhttps://shop.example/a\n";
    let ran = run_with_input(fake.port, &[&arguments[..], &more[..]].concat(), input).expect(0);
    assert_eq!(ran.stdout, format!("{JOB}\n"));
    let sent = fake.seen_as(WARM).remove(0).json();
    assert_eq!(sent, json!({ "urls": ["https://shop.example/", "https://shop.example/a"] }));
    run(fake.port, &["cache", "warm", "shop/production"]).expect(2);
    run_with_input(fake.port, &["cache", "warm", "shop/production", "--urls-from", "-"], "\n")
        .expect(2);
    assert_eq!(fake.seen_as(WARM).len(), 1);
}

#[test]
fn a_result_shows_only_columns_that_say_something() {
    let url = json!({"url": "https://shop.example/", "found": 2, "removed": 0, "softened": 1,
        "refreshed": 0, "failed": 1, "bytes": 1536, "before": "HIT", "after": "STALE"});
    let pages = json!({"found": 2, "removed": 0, "softened": 1, "failed": 1, "bytes": 1536,
        "mode": "soft", "mode_note": "1 entry was removed instead", "watched_secs": 60,
        "urls": [url]});
    let result = json!({"dry_run": false, "fastcgi": pages, "redis": {"found": 3, "removed": 3}});
    let followed = with(done("cache_purge", &result), "children", json!([JOB]));
    let fake = Fake::start(move |seen, _| match seen.line().as_str() {
        READ => Say::Json(200, followed.clone()),
        _ => world(seen),
    });
    let ran = run(fake.port, &["job", "watch", JOB]).expect(0);
    assert_eq!(
        ran.stdout,
        format!(
            "succeeded cache_purge {JOB} in 250 ms\n\n\
             CACHE    FOUND  REMOVED  SOFTENED  FAILED  SIZE\n\
             fastcgi  2      0        1         1       1.5 KiB\n\
             redis    3      3        0         0       0 B\n\n\
             URL                    FOUND  REMOVED  SOFTENED  FAILED  SIZE     BEFORE -> AFTER\n\
             https://shop.example/  2      0        1         1       1.5 KiB  HIT -> STALE\n\n\
             1 entry was removed instead\n\n\
             pages that were being made meanwhile are purged again for 60 s\n"
        )
    );
    assert!(ran.stderr.contains(&format!("followed by another job: hostler job watch {JOB}")));
}

#[test]
fn a_warm_up_tells_of_each_page_or_of_those_that_went_wrong() {
    let warmed = |n: usize| {
        json!({"url": format!("https://shop.example/{n}"), "state": "warmed",
        "status": 200, "took_ms": 12})
    };
    let failed = json!({"url": "https://shop.example/broken", "state": "failed", "status": 500,
        "took_ms": 3, "note": "it answered with an error"});
    let result = |count: usize| {
        let urls: Vec<Value> = (0..count).map(warmed).chain([failed.clone()]).collect();
        json!({"warmed": count, "fresh": 0, "not_stored": 0, "failed": 1, "dropped": 2,
            "dropped_because": "the cache was switched off", "concurrency": 3, "urls": urls})
    };
    let shown = |count: usize| {
        let document = done("cache_warm", &result(count));
        let fake = Fake::start(move |_, _| Say::Json(200, document.clone()));
        run(fake.port, &["job", "watch", JOB]).expect(0).stdout
    };
    let few = shown(1);
    assert_eq!(
        few,
        format!(
            "succeeded cache_warm {JOB} in 250 ms\n\n\
             WARMED  FRESH  NOT STORED  FAILED  DROPPED  AT ONCE\n\
             1       0      0           1       2        3\n\n\
             dropped: the cache was switched off\n\n\
             URL                          STATE   STATUS  TOOK   NOTE\n\
             https://shop.example/0       warmed  200     12 ms  -\n\
             https://shop.example/broken  failed  500     3 ms   it answered with an error\n"
        )
    );
    let many = shown(80);
    assert!(many.contains("/broken") && !many.contains("example/7 "), "{many}");
}

fn figures() -> Value {
    json!({"entries": 1200, "bytes": 5 * 1024 * 1024, "fresh": 1000, "stale": 200, "unreadable": 1,
        "oldest_secs": 7200, "newest_secs": 5, "whole": false, "took_ms": 3, "soft_works": false})
}

/// A controller with the sample's caches and that answer to a question about the host.
fn with_host(answer: Value, status: u16) -> Fake {
    Fake::start(move |seen, _| match seen.line().as_str() {
        CACHE => Say::Json(200, environment()["cache"].clone()),
        FACTS => Say::Json(status, answer.clone()),
        READ | CANCEL => {
            let wait = json!({"kind": "host", "message": "the host web1 is not connected",
                "job_id": null, "host_id": null, "until": null});
            Say::Json(200, with(job("queued"), "waits_for", json!([wait])))
        }
        _ => world(seen),
    })
}

#[test]
fn caches_are_shown_with_the_figures_of_the_host() {
    let fake = with_host(done("cache_facts", &figures()), 200);
    let ran = run(fake.port, &["cache", "show", "shop/production"]).expect(0);
    let (switches, host) = ran.stdout.split_once("\n\n").unwrap();
    assert!(switches.starts_with("CACHE    SHOULD BE  IS"), "{switches}");
    assert_eq!(
        host,
        "ENTRIES  SIZE     FRESH  STALE  OLDEST  NEWEST  UNREADABLE\n\
         1200     5.0 MiB  1000   200    2 h     5 s     1\n\n\
         the count was cut short: there is more\n\n\
         soft purges do not work with the nginx that runs: hard ones are made\n"
    );
    assert_eq!(fake.seen_as(FACTS)[0].header("prefer"), Some("wait=10"));
    let document = run(fake.port, &["cache", "show", ENVIRONMENT, "-o", "json"]).expect(0).json();
    assert_eq!(document, with(environment()["cache"].clone(), "facts", figures()));
    let alone = run(fake.port, &["cache", "show", ENVIRONMENT, "--no-facts", "-o", "json"]);
    assert_eq!(alone.expect(0).json(), environment()["cache"]);
    assert_eq!(fake.seen_as(FACTS).len(), 2, "--no-facts asks the host all the same");
}

#[test]
fn a_host_that_does_not_answer_hides_no_switch() {
    let offline = with_host(json!({ "job_id": JOB }), 202);
    let ran = run(offline.port, &["cache", "show", ENVIRONMENT]).expect(0);
    assert!(ran.stdout.contains("fastcgi"), "{}", ran.stdout);
    let why = "no figures from the host: the host web1 is not connected\n";
    assert_eq!(ran.stderr, why);
    assert_eq!(offline.seen_as(CANCEL).len(), 1, "a question nobody waits for stays queued");
    let document = run(offline.port, &["cache", "show", ENVIRONMENT, "-o", "json"]).expect(0);
    assert_eq!(document.json()["facts"], Value::Null);

    let refused = Fake::start(|seen, _| match seen.line().as_str() {
        CACHE => Say::Json(200, environment()["cache"].clone()),
        FACTS => problem(403, "SCOPE_MISSING", "this token may only read"),
        _ => world(seen),
    });
    let ran = run(refused.port, &["cache", "show", ENVIRONMENT]).expect(0);
    assert_eq!(ran.stderr, "no figures from the host: this token may only read\n");
}

#[test]
fn a_url_is_explained_by_the_environment_of_its_host() {
    let entry = json!({"key": "httpsGETshop.example/cart", "file": "/c/a/bc/def", "bytes": 2048,
        "age_secs": 90, "fresh_secs": -30, "vary": ["Accept"], "tags": ["post-1", "cart"]});
    let result = json!({"url": "https://shop.example/cart", "status": "BYPASS", "http_status": 200,
        "cacheable": false, "reasons": [{"code": "bypass_uri", "message": "its path is personal"}],
        "entries": [entry]});
    let fake = Fake::start(move |seen, _| match seen.line().as_str() {
        READ => Say::Json(200, done("cache_explain", &result)),
        _ => world(seen),
    });
    let url = "https://SHOP.example/cart";
    let ran = run(fake.port, &["cache", "explain", url]).expect(0);
    assert_eq!(fake.seen_as(EXPLAIN)[0].json(), json!({ "url": url }));
    assert_eq!(
        ran.stdout,
        format!(
            "succeeded cache_explain {JOB} in 250 ms\n\n\
             URL              https://shop.example/cart\n\
             A visitor gets   BYPASS (HTTP 200)\n\
             Would be stored  no\n\n\
             REASON      MESSAGE\n\
             bypass_uri  its path is personal\n\n\
             Entry      /c/a/bc/def\n\
             Key        httpsGETshop.example/cart\n\
             Size       2.0 KiB\n\
             Stored     1 min 30 s ago, stale for 30 s\n\
             Varies by  Accept\n\
             Tags       post-1 cart\n"
        )
    );
    let unknown = run(fake.port, &["cache", "explain", "https://shoop.example/"]).expect(3);
    assert!(unknown.stderr.contains("did you mean `shop.example`?"), "{}", unknown.stderr);
    run(fake.port, &["cache", "explain", "/cart"]).expect(2);
}

#[test]
fn of_several_environments_of_a_domain_one_has_to_be_named() {
    let fake = Fake::start(|seen, _| match seen.line().as_str() {
        "GET /api/environments" => {
            let other = with(environment(), "name", json!("staging"));
            page(json!([environment(), other]))
        }
        READ => Say::Json(200, done("cache_explain", &json!({"url": "x"}))),
        _ => world(seen),
    });
    let arguments = ["cache", "explain", "https://shop.example/"];
    let ran = run(fake.port, &arguments).expect(2);
    let which = "the domain of shop/production, shop/staging: say which by --env";
    assert!(ran.stderr.contains(which), "{}", ran.stderr);
    let more = ["--env", "shop/production"];
    run(fake.port, &[&arguments[..], &more[..]].concat()).expect(0);
}
