//! Waiting for jobs: progress, lost streams, and how each end is told.

use std::process::Stdio;

use hostler_tests::servers::{SERVER_SECS_MAX, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::fake::{Fake, Say, problem};
use super::samples::{JOB, end, event, job, step, with, world};
use super::{hostler, run};

const READ: &str = "GET /api/jobs/job_01kah2m3n4p5q6r7s8t9v0w1x2";
const STREAM: &str = "GET /api/jobs/job_01kah2m3n4p5q6r7s8t9v0w1x2/events";
const PURGE_WAIT: [&str; 6] =
    ["cache", "purge", "shop/production", "--url", "https://shop.example/", "--wait"];

fn purged() -> Value {
    let url = json!({"url": "https://shop.example/", "found": 1, "removed": 1, "bytes": 1536,
        "before": "HIT", "after": "MISS"});
    let counts = json!({"found": 1, "removed": 1, "bytes": 1536, "urls": [url]});
    json!({"dry_run": false, "fastcgi": counts, "redis": null, "later": 1})
}

#[test]
fn a_lost_stream_is_resumed_and_never_taken_for_an_end() {
    let fake = Fake::start(|seen, nth| match (seen.line().as_str(), nth) {
        // The first stream breaks off, the second cannot be opened, the third tells of an end
        // that the controller cannot confirm at first.
        (STREAM, 0) => {
            Say::Stream(event(4, "job.started", &json!({})) + &step(5, "nginx_test", "done"))
        }
        (STREAM, 1) => Say::HangUp,
        (STREAM, 2) => Say::Stream(step(9, "purge", "done") + &end("succeeded")),
        (STREAM, _) => Say::Stream(end("succeeded")),
        (READ, 0..=2) => Say::Json(200, job("running")),
        // Even the controller may be away for a while.
        (READ, 3) => Say::HangUp,
        (READ, 4) => Say::Json(200, job("running")),
        (READ, _) => Say::Json(200, with(job("succeeded"), "result", purged())),
        _ => world(seen),
    });
    let ran = run(fake.port, &PURGE_WAIT).expect(0);
    let cursors: Vec<_> = fake
        .seen_as(STREAM)
        .iter()
        .map(|seen| seen.header("last-event-id").map(str::to_owned))
        .collect();
    let cursors: Vec<_> = cursors.iter().map(Option::as_deref).collect();
    assert_eq!(cursors, [None, Some("5"), Some("5"), Some("9")]);
    for line in ["done        nginx_test told so", "done        purge told so"] {
        assert_eq!(ran.stderr.matches(line).count(), 1, "one line a step:\n{}", ran.stderr);
    }
    assert_eq!(
        ran.stdout,
        format!(
            "succeeded cache_purge {JOB} in 250 ms\n\n\
             CACHE    FOUND  REMOVED  SIZE\n\
             fastcgi  1      1        1.5 KiB\n\n\
             URL                    FOUND  REMOVED  SIZE     BEFORE -> AFTER\n\
             https://shop.example/  1      1        1.5 KiB  HIT -> MISS\n"
        )
    );
}

#[test]
fn a_cursor_older_than_what_is_kept_starts_anew() {
    let fake = Fake::start(|seen, nth| match (seen.line().as_str(), nth) {
        (STREAM, 0) => Say::Stream(step(5, "a", "done")),
        (STREAM, 1) => problem(410, "CURSOR_TOO_OLD", "events up to 7 are no longer kept"),
        (STREAM, _) => Say::Stream(end("succeeded")),
        (READ, 0..=2) => Say::Json(200, job("running")),
        (READ, _) => Say::Json(200, job("succeeded")),
        _ => world(seen),
    });
    run(fake.port, &["job", "watch", JOB]).expect(0);
    let cursors = fake.seen_as(STREAM);
    assert_eq!(cursors[1].header("last-event-id"), Some("5"));
    assert_eq!(cursors[2].header("last-event-id"), None);
}

/// A job that is over before anybody watches it.
fn ended(document: Value) -> Fake {
    Fake::start(move |seen, _| match seen.line().as_str() {
        READ => Say::Json(200, document.clone()),
        _ => world(seen),
    })
}

#[test]
fn each_end_has_its_exit_code() {
    let error = json!({"code": "NGINX_TEST_FAILED", "message": "nginx refused it",
        "retry": "never", "step": "nginx_test", "command": ["nginx", "-t"], "exit_status": 1,
        "output_tail": "line one\nline two\n", "hint": "the old files were put back"});
    let failed = ended(with(job("failed"), "error", error));
    let ran = run(failed.port, &["job", "watch", JOB]).expect(6);
    for part in [
        "failed cache_purge",
        "NGINX_TEST_FAILED: nginx refused it",
        "step: nginx_test",
        "command: nginx -t",
        "exit status: 1",
        "  | line two",
        "hint: the old files were put back",
    ] {
        assert!(ran.stdout.contains(part), "{part} is missing:\n{}", ran.stdout);
    }
    run(ended(job("cancelled")).port, &["job", "watch", JOB]).expect(7);
    let held = run(ended(job("held")).port, &["job", "watch", JOB]).expect(8);
    assert!(held.stderr.contains("hostler job release"), "{}", held.stderr);
    let document = run(ended(job("succeeded")).port, &["job", "watch", JOB, "-o", "json"]);
    assert_eq!(document.expect(0).json(), job("succeeded"));
    let unknown = Fake::start(|_, _| problem(404, "NOT_FOUND", "no job has this id"));
    run(unknown.port, &["job", "watch", JOB]).expect(3);
}

#[test]
fn a_check_that_found_an_error_is_a_failure() {
    let finding = |severity: &str| {
        json!({"check": "nginx_include_http", "severity": severity, "message": "not included",
            "hint": "include it"})
    };
    let check = |ok: bool, severity: &str| {
        let checked = with(job("succeeded"), "type", json!("env_check"));
        ended(with(checked, "result", json!({"ok": ok, "findings": [finding(severity)]})))
    };
    let bad = run(check(false, "error").port, &["env", "check", "shop/production"]).expect(1);
    assert!(bad.stdout.contains("nginx_include_http: include it"), "{}", bad.stdout);
    run(check(true, "ok").port, &["env", "check", "shop/production"]).expect(0);
}

#[test]
fn waiting_has_an_end() {
    let fake = Fake::start(|seen, _| match seen.line().as_str() {
        READ => {
            let wait = json!({"kind": "host", "message": "web1 is not connected", "job_id": null,
                "host_id": null, "until": null});
            Say::Json(200, with(job("queued"), "waits_for", json!([wait])))
        }
        STREAM => Say::Hang(": keep-alive\n\n".to_owned()),
        _ => world(seen),
    });
    let ran = run(fake.port, &["cache", "set", "shop/production", "--fastcgi", "on", "--wait=1"]);
    let ran = ran.expect(8);
    assert!(ran.stderr.contains("queued: web1 is not connected"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("hostler job watch {JOB}")), "{}", ran.stderr);
    assert!(ran.stdout.contains("queued cache_purge"), "{}", ran.stdout);
}

#[test]
fn a_cancel_is_done_when_the_job_is_cancelled() {
    let cancel = |state: &'static str| {
        Fake::start(move |seen, _| match seen.method.as_str() {
            "POST" => Say::Json(200, job("running")),
            _ => Say::Json(200, job(state)),
        })
    };
    run(cancel("cancelled").port, &["job", "cancel", JOB, "--wait"]).expect(0);
    let late = run(cancel("succeeded").port, &["job", "cancel", JOB, "--wait"]).expect(1);
    assert!(late.stderr.contains("before it could be cancelled"), "{}", late.stderr);
}

#[test]
fn ctrl_c_leaves_the_job_alone_and_says_how_to_come_back() {
    let fake = Fake::start(|seen, _| match seen.line().as_str() {
        READ => Say::Json(200, job("running")),
        STREAM => Say::Hang(event(1, "job.accepted", &json!({}))),
        _ => world(seen),
    });
    let mut command = hostler(fake.port, &["job", "watch", JOB]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for("the stream to be opened", SERVER_SECS_MAX, || {
        (!fake.seen_as(STREAM).is_empty()).then_some(())
    })
    .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ran = super::ran(child.wait_with_output().unwrap()).expect(130);
    assert!(ran.stderr.contains(&format!("hostler job watch {JOB}")), "{}", ran.stderr);
    let cancels = fake.seen().into_iter().filter(|seen| seen.method != "GET").count();
    assert_eq!(cancels, 0, "the job goes on: {:?}", fake.seen());
}
