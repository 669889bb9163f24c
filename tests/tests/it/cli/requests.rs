//! What is sent and how answers are printed.

use serde_json::json;

use super::fake::{Fake, Say, page};
use super::samples::{ENVIRONMENT, HOST, JOB, SITE, environment, host, job, with, world};
use super::{finish, hostler, run, run_with_input};

const PURGE: &str = "POST /api/environments/env_01kah2m3n4p5q6r7s8t9v0w1x2/cache/purge";

#[test]
fn lists_are_read_page_by_page() {
    let fake = Fake::start(|seen, nth| {
        if nth % 2 == 0 {
            assert!(!seen.target.contains("after="), "the first page has no cursor: {seen:?}");
            Say::Json(200, json!({ "items": [host("web1", true)], "next": HOST }))
        } else {
            assert!(seen.target.contains(&format!("after={HOST}")), "{seen:?}");
            page(json!([host("web2.example", false)]))
        }
    });
    let table = run(fake.port, &["host", "list"]).expect(0);
    assert_eq!(
        table.stdout,
        "NAME          STATE     CONNECTED  AGENT  LAST SEEN             ID\n\
         web1          enrolled  yes        0.1.0  2026-01-31 12:00:00Z  host_01kah2m3n4p5q6r7s8t9v0w1x2\n\
         web2.example  enrolled  no         0.1.0  2026-01-31 12:00:00Z  host_01kah2m3n4p5q6r7s8t9v0w1x2\n"
    );
    let documents = run(fake.port, &["host", "list", "-o", "json"]).expect(0).json();
    assert_eq!(documents, json!([host("web1", true), host("web2.example", false)]));
}

#[test]
fn a_purge_names_its_environment_and_urls() {
    let fake = Fake::start(|seen, _| world(seen));
    let arguments = ["cache", "purge", "shop/production", "--url", "https://shop.example/"];
    let more = ["--urls-from", "-", "--only", "fastcgi", "--idempotency-key", "k-1"];
    let input = "# the front page too\nhttps://shop.example/a?b=1\n\n  https://shop.example/c \n";
    let ran = run_with_input(fake.port, &[&arguments[..], &more[..]].concat(), input).expect(0);
    assert_eq!(ran.stdout, format!("{JOB}\n"), "stdout carries the job's id and nothing else");
    assert!(ran.stderr.contains(&format!("hostler job watch {JOB}")), "{}", ran.stderr);
    let sent = fake.seen_as(PURGE);
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].json(),
        json!({
            "caches": ["fastcgi"],
            "urls": [
                "https://shop.example/", "https://shop.example/a?b=1", "https://shop.example/c"
            ],
        })
    );
    assert_eq!(sent[0].header("idempotency-key"), Some("k-1"));
}

#[test]
fn an_empty_list_of_urls_never_purges_everything() {
    let fake = Fake::start(|seen, _| world(seen));
    let arguments = ["cache", "purge", "shop/production", "--urls-from", "-"];
    run_with_input(fake.port, &arguments, "# nothing changed\n").expect(2);
    assert!(fake.seen_as(PURGE).is_empty(), "nothing may be purged: {:?}", fake.seen());
}

#[test]
fn a_switch_changes_only_what_is_named() {
    let fake = Fake::start(|seen, _| world(seen));
    let arguments = ["cache", "set", ENVIRONMENT, "--redis", "off", "-o", "json"];
    let ran = run(fake.port, &arguments).expect(0);
    assert_eq!(ran.json(), json!({ "job_id": JOB }));
    let seen = fake.seen();
    assert_eq!(seen.len(), 1, "an id needs no look-up: {seen:?}");
    assert_eq!(seen[0].json(), json!({ "redis_cache_enabled": false }));
    run(fake.port, &["cache", "set", ENVIRONMENT]).expect(2);
}

#[test]
fn an_environment_is_created_from_options_over_a_file() {
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "POST" => Say::Json(201, environment()),
        _ => world(seen),
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let document = json!({ "host": "web9", "domain": "shop.example", "health": {"path": "/up"} });
    std::fs::write(file.path(), document.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = ["env", "create", "shop/production", "--from-file", path, "--host", "web1"];
    let more = ["--docroot", "/var/www/shop", "--health-status", "204"];
    let ran = run(fake.port, &[&arguments[..], &more[..]].concat()).expect(0);
    assert!(ran.stderr.contains("include /h*.conf;"), "what to do next: {}", ran.stderr);
    assert!(ran.stdout.contains("shop/production"), "{}", ran.stdout);
    let sent = fake.seen_as(&format!("POST /api/sites/{SITE}/environments"));
    assert_eq!(sent.len(), 1, "{:?}", fake.seen());
    assert_eq!(
        sent[0].json(),
        json!({
            "name": "production", "host": "web1", "domain": "shop.example", "kind": "php",
            "docroot": "/var/www/shop", "user": "www-data",
            "health": {"path": "/up", "status": 204},
        })
    );
}

#[test]
fn a_join_string_stands_alone_on_stdout() {
    let fake = Fake::start(|_, _| {
        let id = "enrol_01kah2m3n4p5q6r7s8t9v0w1x2";
        let expires = "2026-01-31T12:15:00.000000Z";
        Say::Json(
            201,
            json!({"id": id, "host_name": "web1", "expires_at": expires, "join": "hostler1.abc"}),
        )
    });
    let ran = run(fake.port, &["token", "create", "--name", "web1", "--ttl", "1h"]).expect(0);
    assert_eq!(ran.stdout, "hostler1.abc\n");
    assert!(ran.stderr.contains("hostler-agent enroll --token-file -"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hostler1.abc"), "a secret is printed once: {}", ran.stderr);
    assert_eq!(fake.seen()[0].json(), json!({ "host_name": "web1", "ttl_secs": 3600 }));
}

#[test]
fn the_token_comes_from_the_environment_or_a_file() {
    let fake = Fake::start(|_, _| page(json!([])));
    let mut command = hostler(fake.port, &["site", "list"]);
    finish(command.env("HOSTLER_TOKEN", "from-env")).expect(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\nignored\n").unwrap();
    command.args(["--token-file", file.path().to_str().unwrap()]);
    finish(&mut command).expect(0);
    run(fake.port, &["site", "list"]).expect(0);
    let seen = fake.seen();
    let tokens: Vec<_> = seen.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(tokens, [Some("Bearer from-env"), Some("Bearer from-file"), None]);
}

#[test]
fn jobs_are_filtered_and_named() {
    let fake = Fake::start(|seen, _| match seen.line().as_str() {
        "GET /api/jobs" => page(json!([with(job("failed"), "reason", json!("EXPIRED"))])),
        _ => world(seen),
    });
    let arguments = ["job", "list", "--state", "failed", "--type", "cache_purge"];
    let more = ["--env", "shop/production", "--host", "web1", "--site", "shop", "--limit", "7"];
    let ran = run(fake.port, &[&arguments[..], &more[..]].concat()).expect(0);
    for word in [JOB, "shop/production", "web1", "EXPIRED", "250 ms"] {
        assert!(ran.stdout.contains(word), "{word} is missing:\n{}", ran.stdout);
    }
    let asked = fake.seen_as("GET /api/jobs").remove(0).target;
    assert_eq!(
        asked,
        format!(
            "/api/jobs?state=failed&type=cache_purge&environment={ENVIRONMENT}&host={HOST}\
             &site={SITE}&limit=7"
        )
    );
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let fake = Fake::start(|seen, _| world(seen));
    let colourful = |name: &str, value: &str| {
        let mut command = hostler(fake.port, &["host", "list"]);
        finish(command.env("CLICOLOR_FORCE", "1").env(name, value)).stdout.contains('\x1b')
    };
    assert!(colourful("TERM", "xterm"), "CLICOLOR_FORCE should colour");
    assert!(!colourful("NO_COLOR", "1"), "NO_COLOR wins");
    assert!(!run(fake.port, &["host", "list"]).stdout.contains('\x1b'), "a pipe has no colours");
}

#[test]
fn completions_need_no_controller() {
    for (shell, word) in [("bash", "_hostler"), ("zsh", "#compdef hostler"), ("fish", "complete")] {
        let ran = run(1, &["completions", shell]).expect(0);
        assert!(ran.stdout.contains(word) && ran.stdout.contains("reconcile"), "{shell}");
    }
}
