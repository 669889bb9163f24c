//! Exit codes and what is said when something is wrong.

use hostler_tests::servers::free_port;
use serde_json::json;

use super::fake::{Fake, Say, problem};
use super::samples::{HOST, SITE, world};
use super::{finish, hostler, run};

#[test]
fn each_refusal_has_its_exit_code() {
    for (status, code, exit) in [
        (400, "INVALID_REQUEST", 5),
        (401, "UNAUTHENTICATED", 4),
        (403, "FORBIDDEN", 4),
        (404, "NOT_FOUND", 3),
        (409, "ENVIRONMENT_FAILED", 5),
        (500, "INTERNAL", 1),
        (503, "DATABASE_UNAVAILABLE", 1),
    ] {
        let fake = Fake::start(move |_, _| problem(status, code, "It is like this."));
        let ran = run(fake.port, &["site", "list"]).expect(exit);
        assert_eq!(ran.stdout, "", "{status}: stdout is for data");
        for part in ["error: It is like this.", code, "req_01kah2m3n4p5q6r7s8t9v0w1x2"] {
            assert!(ran.stderr.contains(part), "{status}: {part} is missing:\n{}", ran.stderr);
        }
    }
}

#[test]
fn what_is_wrong_in_a_request_is_told_place_by_place() {
    let fake = Fake::start(|_, _| {
        let Say::Json(status, mut document) = problem(400, "INVALID_REQUEST", "Two mistakes.")
        else {
            unreachable!("a problem is a document")
        };
        document["errors"] = json!([
            {"pointer": "/name", "detail": "is taken"},
            {"pointer": "/host", "detail": "has a \u{1b}[31mcolour"},
        ]);
        Say::Json(status, document)
    });
    let ran = run(fake.port, &["site", "create", "shop"]).expect(5);
    assert!(ran.stderr.contains("\n  /name: is taken\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("/host: has a [31mcolour"), "{:?}", ran.stderr);
}

#[test]
fn who_is_not_there_is_unreachable() {
    let nobody = free_port().unwrap();
    let ran = run(nobody, &["site", "list"]).expect(9);
    assert!(ran.stderr.contains(&format!("http://127.0.0.1:{nobody} cannot be reached")));
    assert!(ran.stderr.contains("HOSTLER_SERVER"), "a hint: {}", ran.stderr);
    let rude = Fake::start(|_, _| Say::HangUp);
    run(rude.port, &["site", "list"]).expect(9);
}

#[test]
fn something_else_than_a_controller_is_recognised() {
    let other = Fake::start(|_, _| Say::Json(200, json!("hello")));
    let ran = run(other.port, &["site", "list"]).expect(1);
    assert!(ran.stderr.contains("does --server name a Hostler controller"), "{}", ran.stderr);
    let proxy = Fake::start(|_, _| Say::Json(502, json!("bad gateway")));
    run(proxy.port, &["site", "list"]).expect(9);
}

#[test]
fn a_mistyped_name_is_recognised() {
    let fake = Fake::start(|seen, _| world(seen));
    for (typed, meant) in [
        ("shop/prodction", "shop/production"),
        ("shpo/production", "shop/production"),
        ("shop/PRODUCTION", "shop/production"),
    ] {
        let ran = run(fake.port, &["cache", "show", typed]).expect(3);
        let hint = format!("did you mean `{meant}`?");
        assert!(ran.stderr.contains(&hint), "{typed}: {}", ran.stderr);
    }
    let ran = run(fake.port, &["host", "show", "intranet"]).expect(3);
    assert!(ran.stderr.contains("`hostler host list`"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_undone_is_not_done_unasked() {
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "GET" => world(seen),
        _ => Say::Json(200, super::samples::host("web1", false)),
    });
    for arguments in [
        &["site", "delete", "shop"][..],
        &["env", "delete", "shop/production"],
        &["host", "revoke", "web1"],
        &["host", "delete", "web1"],
        &["token", "delete", "enrol_01kah2m3n4p5q6r7s8t9v0w1x2"],
    ] {
        let ran = run(fake.port, arguments).expect(2);
        assert!(ran.stderr.contains("--yes"), "{arguments:?}: {}", ran.stderr);
    }
    let changed = fake.seen().into_iter().filter(|seen| seen.method != "GET").count();
    assert_eq!(changed, 0, "nothing may be changed without --yes: {:?}", fake.seen());
    run(fake.port, &["site", "delete", "shop", "--yes"]).expect(0);
    run(fake.port, &["host", "revoke", "web1", "--yes"]).expect(0);
    assert_eq!(fake.seen_as(&format!("DELETE /api/sites/{SITE}")).len(), 1);
    assert_eq!(fake.seen_as(&format!("POST /api/hosts/{HOST}/revoke")).len(), 1);
}

#[test]
fn a_host_is_evicted_or_banned_and_never_both() {
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "GET" => world(seen),
        _ => Say::Json(200, super::samples::host("web1", false)),
    });
    let revoke = |option: &[&str]| {
        let arguments = [&["host", "revoke", "web1", "--yes"], option].concat();
        run(fake.port, &arguments)
    };
    for option in [&[][..], &["--evict"], &["--ban"]] {
        let told = revoke(option).expect(0).stderr;
        let word = if option == ["--ban"] { "banned" } else { "evicted" };
        assert!(told.contains(word), "{option:?}: {told}");
    }
    let sent: Vec<_> = fake
        .seen_as(&format!("POST /api/hosts/{HOST}/revoke"))
        .into_iter()
        .map(|seen| seen.body)
        .collect();
    let (evict, ban) = (r#"{"as":"evict"}"#, r#"{"as":"ban"}"#);
    assert_eq!(sent, [evict, evict, ban]);
    revoke(&["--evict", "--ban"]).expect(2);
}

#[test]
fn a_host_shows_its_certificate_its_returns_and_its_clock() {
    let shown = |name: &'static str, value: serde_json::Value| {
        let fake = Fake::start(move |seen, _| {
            if seen.target.contains(HOST) {
                let host = super::samples::host("web1", true);
                let host =
                    super::samples::with(host, "recovered_at", json!("2026-01-31T12:00:00Z"));
                return Say::Json(200, super::samples::with(host, name, value.clone()));
            }
            world(seen)
        });
        run(fake.port, &["host", "show", "web1"]).expect(0).stdout
    };
    let text = shown("recoveries", json!(0));
    for line in ["Certificate until", "Renewed", "never", "within a second of the controller's"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(shown("recoveries", json!(1)).contains("once, 2026-01-31 12:00:00Z"));
    assert!(shown("recoveries", json!(3)).contains("3 times, last 2026-01-31"));
    assert!(shown("clock_skew_ms", json!(-75_000)).contains("1 min 15 s behind"));
    assert!(shown("clock_skew_ms", json!(1_500)).contains("1.5 s ahead"));
    assert!(shown("clock_skew_ms", json!(null)).contains('-'));
    assert!(shown("state", json!("revoked")).contains("revoked"));
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    let fake = Fake::start(|seen, _| world(seen));
    for arguments in [
        &["nonsense"][..],
        &["env", "show", "shop"],
        &["env", "create", "shop/production", "--host", "web1"],
        &["env", "create", "shop/production", "--from-file", "/nonexistent.json"],
        &["env", "change", "shop/production"],
        &["cache", "purge", "shop/production", "--wait=soon"],
        &["site", "list", "--server", "ftp://127.0.0.1"],
        &["site", "list", "--token-file", "/dev/null"],
    ] {
        let ran = run(fake.port, arguments).expect(2);
        assert!(ran.stderr.contains("error: "), "{arguments:?}: {}", ran.stderr);
    }
    let mut command = hostler(fake.port, &["site", "list"]);
    let ran = finish(command.env("HOSTLER_TOKEN", "two words")).expect(2);
    assert!(!ran.stderr.contains("two words"), "a token is never printed: {}", ran.stderr);
}
