//! `hostler refresh …` against a scripted controller.

use serde_json::{Value, json};

use super::fake::{Fake, Say, page, problem};
use super::run;
use super::samples::with;

const REFRESH: &str = "refresh_01kah2m3n4p5q6r7s8t9v0w1x2";
const SHOW: &str = "GET /api/refreshes/refresh_01kah2m3n4p5q6r7s8t9v0w1x2";
const TIME: &str = "2026-01-31T12:00:00.000000Z";
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

fn refresh(status: &str) -> Value {
    let ended = matches!(status, "completed" | "failed");
    let done = status == "completed";
    json!({
        "id": REFRESH, "status": status, "trigger": "manual", "requested_at": TIME,
        "started_at": TIME,
        "finished_at": ended.then_some("2026-01-31T12:00:00.750000Z"),
        "replaced_by": null, "revision": done.then_some(REVISION),
        "error": (status == "failed").then(|| json!({
            "class": "auth", "code": "GIT_AUTH_FAILED", "message": "the server refused the token",
        })),
        "counts": done.then(|| json!({
            "stacks": 200, "added": 1, "changed": 2, "removed": 0, "problems": 1,
        })),
        "fetch_ms": 700, "read_ms": 50, "bytes_received": 1536,
        "field_of_a_later_version": true,
    })
}

fn status(stale: bool) -> Value {
    let outcome = if stale { "failed" } else { "completed" };
    json!({
        "configured": true, "status": outcome, "outcome": outcome, "finished_at": TIME,
        "last_success_at": TIME, "stale": stale, "revision": REVISION,
        "commit": {"author": "Ada", "summary": "Add a shop", "committed_at": TIME},
        "trigger": "webhook", "error": refresh(outcome)["error"],
        "running": null, "queued": null, "last": refresh(outcome),
    })
}

#[test]
fn a_refresh_is_asked_for_and_waited_for() {
    let fake = Fake::start(|seen, nth| match (seen.line().as_str(), nth) {
        ("POST /api/refresh", _) => Say::Json(202, refresh("queued")),
        (SHOW, 0) => Say::Json(200, refresh("queued")),
        (SHOW, 1) => Say::HangUp,
        (SHOW, 2) => Say::Json(200, refresh("refreshing")),
        (SHOW, _) => Say::Json(200, refresh("completed")),
        (line, _) => problem(404, "NOT_FOUND", line),
    });
    let alone = run(fake.port, &["refresh"]).expect(0);
    assert_eq!(alone.stdout, format!("{REFRESH}\n"));
    assert!(alone.stderr.contains(&format!("hostler refresh show {REFRESH}")), "{}", alone.stderr);
    assert!(fake.seen_as(SHOW).is_empty(), "nobody asked to wait");
    let waited = run(fake.port, &["refresh", "--wait"]).expect(0);
    for text in
        ["completed", REVISION, "200 stacks, 1 added, 2 changed, 1 with problems", "1.5 KiB"]
    {
        assert!(waited.stdout.contains(text), "{text} is missing: {}", waited.stdout);
    }
    assert!(waited.stderr.contains("waits for the refresh that runs"), "{}", waited.stderr);
    assert!(waited.stderr.contains("reading the repository"), "{}", waited.stderr);
    let document = run(fake.port, &["refresh", "--wait", "-o", "json"]).expect(0).json();
    assert_eq!(document, refresh("completed"), "every field the controller sent");
}

#[test]
fn how_a_refresh_ended_is_the_exit_code() {
    let says = |answer: &'static str| {
        Fake::start(move |seen, _| match seen.method.as_str() {
            "POST" => Say::Json(202, refresh("refreshing")),
            _ => Say::Json(200, refresh(answer)),
        })
    };
    let failed = run(says("failed").port, &["refresh", "--wait"]).expect(6);
    assert!(failed.stdout.contains("GIT_AUTH_FAILED: the server refused the token (auth)"));
    let gone = Fake::start(|seen, _| match seen.method.as_str() {
        "POST" => Say::Json(202, refresh("refreshing")),
        _ => Say::HangUp,
    });
    let away = run(gone.port, &["refresh", "--wait=1"]).expect(9);
    assert!(away.stderr.contains(&format!("hostler refresh show {REFRESH}")), "{}", away.stderr);
    let pending = run(says("refreshing").port, &["refresh", "--wait=1"]).expect(8);
    assert!(pending.stderr.contains("the refresh goes on"), "{}", pending.stderr);
    let none = Fake::start(|_, _| problem(409, "GIT_NOT_CONFIGURED", "set HOSTLER_GIT_URL"));
    let refused = run(none.port, &["refresh"]).expect(5);
    assert!(refused.stderr.contains("GIT_NOT_CONFIGURED"), "{}", refused.stderr);
}

#[test]
fn the_desired_state_says_whether_it_is_stale() {
    let fake = |stale: bool| {
        Fake::start(move |seen, _| match seen.line().as_str() {
            "GET /api/refresh-status" => Say::Json(200, status(stale)),
            "GET /api/refreshes" => {
                let other = with(refresh("queued"), "replaced_by", json!(REFRESH));
                page(json!([refresh("completed"), other]))
            }
            SHOW => Say::Json(200, refresh("completed")),
            line => problem(404, "NOT_FOUND", line),
        })
    };
    let (fresh, stale) = (fake(false), fake(true));
    let shown = run(fresh.port, &["refresh", "status"]).expect(0);
    for text in ["Add a shop (Ada, 2026-01-31 12:00:00Z)", "webhook", REVISION] {
        assert!(shown.stdout.contains(text), "{text} is missing: {}", shown.stdout);
    }
    let shown = run(stale.port, &["refresh", "status"]).expect(0);
    assert!(shown.stdout.contains("yes: the last refresh failed"), "{}", shown.stdout);
    assert!(shown.stdout.contains("GIT_AUTH_FAILED"), "{}", shown.stdout);
    for line in [["-o", "json", "refresh", "status"], ["refresh", "status", "-o", "json"]] {
        assert_eq!(run(stale.port, &line).expect(0).json(), status(true), "{line:?}");
    }
    let listed = run(fresh.port, &["refresh", "list", "--limit", "2"]).expect(0);
    assert!(listed.stdout.contains("replaced") && listed.stdout.contains("750 ms"));
    let one = run(fresh.port, &["refresh", "show", REFRESH]).expect(0);
    assert!(one.stdout.contains(REVISION), "{}", one.stdout);
    let unconfigured = with(status(false), "configured", json!(false));
    let fake = Fake::start(move |_, _| Say::Json(200, unconfigured.clone()));
    let shown = run(fake.port, &["refresh", "status"]).expect(0);
    assert!(shown.stdout.contains("no repository is configured"), "{}", shown.stdout);
}
