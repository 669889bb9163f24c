//! `hostler stack …` against a scripted controller, and against a real one with a repository.

use hostler_tests::system::Controller;
use serde_json::{Value, json};

use super::fake::{Fake, Say, Seen, page, problem};
use super::run;
use super::samples::{HOST, JOB, host, job, with};
use crate::api::repository::{Repository, WEB};

const STACK: &str = "stack_01kah2m3n4p5q6r7s8t9v0w1x2";
const OTHER_JOB: &str = "job_11kah2m3n4p5q6r7s8t9v0w1x2";
const TIME: &str = "2026-01-31T12:00:00.000000Z";
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

fn row(path: &str) -> Value {
    json!({
        "id": STACK, "path": path, "project": "web", "compose_file": "docker-compose.yml",
        "hash": "a".repeat(64), "status": "synced", "out_of_sync": false, "revision": REVISION,
        "changed_in": REVISION, "suspended": false, "problem": null, "hosts": 1,
        "failed_hosts": 0, "unhealthy_hosts": 0, "unseen_hosts": 0, "removal_held": null, "last_sync_at": TIME, "drifted": true,
    })
}

fn on(name: &str, id: &str) -> Value {
    json!({
        "host_id": id, "host": name, "connected": true, "status": "synced", "out_of_sync": false,
        "wanted": "w".repeat(64), "applied": "w".repeat(64), "applied_bundle": "b2".repeat(32),
        "applied_revision": REVISION, "applied_at": TIME, "job_id": null,
        "last": {
            "job_id": JOB, "succeeded": true, "reason": "its files changed", "at": TIME,
            "error": null,
            "services": [{"service": "web", "action": "restarted",
                "reasons": ["its mounted file conf/site.conf changed"]}],
        },
        "job_error": null, "retry_at": null,
        "containers": [{
            "name": "web-web-1", "id": "0123456789ab", "service": "web", "image": "web:1",
            "image_id": "sha256:ab", "state": "exited", "health": "unhealthy", "exit_code": 137,
            "restarts": 3,
        }],
        "seen_at": TIME, "docker_unavailable": "its socket is not there",
        "drift": [{"kind": "file_changed", "subject": "conf/site.conf", "accepted": false}],
        "drift_more": 4, "loop_since": TIME,
    })
}

fn stack() -> Value {
    let mut stack = row("shop/web");
    let more = json!({
        "override_file": "docker-compose.override.yml", "directory": "shop/web",
        "tree_oid": "c".repeat(40), "bundle_digest": "d".repeat(64),
        "targets": {"hosts": ["web1"], "labels": {}, "after": ["shop/db"]},
        "warnings": ["build contexts are large"],
        "on": [on("web1", HOST)], "created_at": TIME, "updated_at": TIME,
    });
    stack.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stack
}

/// A sync that succeeded with that bundle.
fn sync(id: &str, bundle: &str) -> Value {
    let mut sync = with(job("succeeded"), "type", json!("stack_sync"));
    sync["id"] = json!(id);
    sync["environment_id"] = Value::Null;
    sync["stack_id"] = json!(STACK);
    sync["request"] = json!({
        "spec": {"bundle": bundle, "stack": {"path": "shop/web"}}, "revision": REVISION,
        "why": "its files changed",
    });
    sync
}

fn result() -> Value {
    json!({
        "desired": "w", "bundle": "b2".repeat(32), "changed": true,
        "services": [{"service": "web", "action": "recreated", "reasons": ["its image changed"]},
            {"service": "db", "action": "unchanged"}],
        "files": [{"path": "conf/site.conf", "action": "changed"}], "files_more": 7,
        "containers": [], "compose": "docker compose 2.26.1",
    })
}

fn queued(jobs: &[(&str, &str)]) -> Say {
    let one = |(name, id): &(&str, &str)| json!({"host_id": HOST, "host": name, "job_id": id});
    Say::Json(202, json!({ "jobs": jobs.iter().map(one).collect::<Vec<_>>() }))
}

/// One stack on one host; it was synced twice.
fn world(seen: &Seen) -> Say {
    let stacks = format!("/api/stacks/{STACK}");
    match (seen.method.as_str(), seen.target.split('?').next().unwrap_or_default()) {
        ("GET", "/api/stacks") => {
            let other = seen.target.contains("path=") && !seen.target.contains("path=shop%2Fweb");
            page(if other { json!([]) } else { json!([row("shop/web")]) })
        }
        ("GET", "/api/hosts") => page(json!([host("web1", true)])),
        ("GET", "/api/environments") => page(json!([])),
        ("GET", "/api/jobs") => {
            page(json!([sync(JOB, &"b2".repeat(32)), sync(OTHER_JOB, &"b1".repeat(32))]))
        }
        ("GET", path) if path == stacks => Say::Json(200, stack()),
        ("POST", path) if path.ends_with("/suspend") => {
            Say::Json(200, with(stack(), "suspended", json!(true)))
        }
        ("POST", path) if path.ends_with("/resume") || path.ends_with("/accept-drift") => {
            Say::Json(200, stack())
        }
        ("POST", path) if path.starts_with(&stacks) => queued(&[("web1", JOB)]),
        ("GET", "/api/refresh-status") => Say::Json(
            200,
            json!({
                "configured": true, "status": "failed", "outcome": "failed", "finished_at": TIME,
                "last_success_at": TIME, "stale": true, "revision": REVISION, "commit": null,
                "trigger": "poll", "error": null, "running": null, "queued": null, "last": null,
            }),
        ),
        ("GET", path) if path == format!("/api/jobs/{JOB}") => {
            Say::Json(200, with(sync(JOB, "b2"), "result", result()))
        }
        (_, path) => problem(404, "NOT_FOUND", &format!("{path}: nothing is there")),
    }
}

#[test]
fn stacks_are_listed_and_a_stale_list_says_so() {
    let fake = Fake::start(|seen, _| world(seen));
    let listed = run(fake.port, &["stack", "list"]).expect(0);
    assert_eq!(
        listed.stdout,
        format!(
            "STACK     STATUS  IN SYNC  HOSTS  LAST SYNC             CHANGED IN    NOTE     ID\n\
             shop/web  synced  yes      1      2026-01-31 12:00:00Z  0123456789ab  drifted  {STACK}\n"
        )
    );
    assert!(listed.stderr.contains("stale: the last refresh failed"), "{}", listed.stderr);
    let filters =
        ["--status", "synced", "--host", "web1", "--out-of-sync", "--drifted", "-o", "json"];
    let found = run(fake.port, &[&["stack", "list"], &filters[..]].concat()).expect(0);
    assert_eq!(found.json(), json!([row("shop/web")]));
    let asked = fake.seen_as("GET /api/stacks").pop().unwrap().target;
    let query = format!("status=synced&host={HOST}&out_of_sync=true&drifted=true&limit=200");
    assert_eq!(asked, format!("/api/stacks?{query}"));
    run(fake.port, &["stack", "list", "--status", "gone"]).expect(2);
}

#[test]
fn what_runs_nowhere_is_not_called_in_sync() {
    let nowhere = with(with(row("a"), "status", json!("missing")), "hosts", json!(0));
    let broken = with(
        with(nowhere.clone(), "path", json!("b")),
        "problem",
        json!({"code": "COMPOSE_INVALID", "message": "no"}),
    );
    let leaving = with(row("c"), "status", json!("deleting"));
    let items: Vec<Value> =
        [nowhere, broken, leaving].map(|row| with(row, "drifted", json!(false))).to_vec();
    let fake = Fake::start(move |seen, _| match seen.target.starts_with("/api/stacks?") {
        true => page(json!(items)),
        false => world(seen),
    });
    let listed = run(fake.port, &["stack", "list"]).expect(0);
    let columns = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = listed.stdout.lines().skip(1).map(columns).collect();
    let shown: Vec<[&str; 3]> =
        rows.iter().map(|row| [row[1].as_str(), row[2].as_str(), row[6].as_str()]).collect();
    assert_eq!(
        shown,
        [
            ["missing", "-", "on no host"],
            ["missing", "-", "COMPOSE_INVALID"],
            ["deleting", "-", "-"]
        ]
    );
}

#[test]
fn a_stack_is_shown_by_path_or_id_with_all_that_is_known() {
    let fake = Fake::start(|seen, _| world(seen));
    let shown = run(fake.port, &["stack", "show", "./shop/web/"]).expect(0);
    for text in [
        "shop/web/docker-compose.yml and docker-compose.override.yml",
        "shop/db",
        "build contexts are large",
        "web1: the last job succeeded 2026-01-31 12:00:00Z, since its files changed",
        "its mounted file conf/site.conf changed",
        "file changed  conf/site.conf  no",
        "and 4 more",
        "Docker cannot be asked: its socket is not there",
        "is no longer put right since 2026-01-31 12:00:00Z",
        "exited (137)",
        "unhealthy",
        "b1b1b1b1b1b1",
    ] {
        assert!(shown.stdout.contains(text), "{text} is missing: {}", shown.stdout);
    }
    let document = run(fake.port, &["stack", "show", STACK, "-o", "json"]).expect(0).json();
    assert_eq!(document["on"], stack()["on"]);
    assert_eq!(document["history"].as_array().unwrap().len(), 2);
    let unknown = run(fake.port, &["stack", "show", "shop/wbe"]).expect(3);
    assert!(unknown.stderr.contains("did you mean `shop/web`?"), "{}", unknown.stderr);
}

#[test]
fn a_sync_is_sent_as_it_was_asked_for() {
    let fake = Fake::start(|seen, _| world(seen));
    let plain = run(fake.port, &["stack", "sync", "shop/web"]).expect(0);
    assert_eq!(plain.stdout, format!("{JOB}\n"), "stdout carries the jobs' ids and nothing else");
    assert!(plain.stderr.contains(&format!("web1: follow it: hostler job watch {JOB}")));
    let options = ["--host", "web1", "--host", "web2", "--force", "--adopt", "-o", "json"];
    let ran = run(fake.port, &[&["stack", "sync", STACK], &options[..]].concat()).expect(0);
    assert_eq!(ran.json()["jobs"][0]["job_id"], JOB);
    let sent = fake.seen_as(&format!("POST /api/stacks/{STACK}/sync"));
    assert_eq!(sent[0].json(), json!({ "force": false, "adopt": false }));
    let all = json!({ "hosts": ["web1", "web2"], "force": true, "adopt": true });
    assert_eq!(sent[1].json(), all);
    assert_eq!(sent[0].header("idempotency-key"), None);
    let key = ["--idempotency-key", "k-1"];
    run(fake.port, &[&["stack", "sync", "shop/web"], &key[..]].concat()).expect(0);
    run(fake.port, &[&["stack", "plan", "shop/web", "--no-wait"], &key[..]].concat()).expect(0);
    run(fake.port, &[&["stack", "rollback", "shop/web"], &key[..]].concat()).expect(0);
    for (act, nth) in [("sync", 2), ("plan", 0), ("rollback", 0)] {
        let sent = fake.seen_as(&format!("POST /api/stacks/{STACK}/{act}"));
        assert_eq!(sent[nth].header("idempotency-key"), Some("k-1"), "{act}");
    }
    run(fake.port, &["stack", "sync", STACK, "--remove"]).expect(0);
    let sent = fake.seen_as(&format!("POST /api/stacks/{STACK}/sync"));
    assert_eq!(sent[3].json(), json!({ "force": false, "adopt": false, "remove": true }));
    run(fake.port, &["stack", "sync", STACK, "--remove", "--force"]).expect(2);
}

#[test]
fn what_a_stack_and_its_removal_wait_for_is_said() {
    let fake = Fake::start(|seen, _| {
        let mut shown = stack();
        let why = json!({ "code": "WAITS_FOR_STACK", "message": "it comes after shop/db" });
        (shown["waits"], shown["removal_held"]) = (why, json!("suspended"));
        shown["on"][0]["removal_waits"] = json!("declined");
        match seen.line() == format!("GET /api/stacks/{STACK}") {
            true => Say::Json(200, shown),
            false => world(seen),
        }
    });
    let shown = run(fake.port, &["stack", "show", "shop/web"]).expect(0);
    for text in [
        "WAITS_FOR_STACK: it comes after shop/db",
        "waits for a person, since it is suspended: hostler job release",
        "web1: its removal was declined: hostler stack sync STACK --remove",
    ] {
        assert!(shown.stdout.contains(text), "{text} is missing: {}", shown.stdout);
    }
}

#[test]
fn a_plan_waits_and_draws_files_and_services_with_reasons() {
    let fake = Fake::start(|seen, _| match seen.line() == format!("GET /api/jobs/{JOB}") {
        true => {
            let plan = with(sync(JOB, "b2"), "type", json!("stack_plan"));
            Say::Json(200, with(plan, "result", result()))
        }
        false => world(seen),
    });
    let plan = run(fake.port, &["stack", "plan", "shop/web"]).expect(0);
    for text in [
        "web1: succeeded stack_plan",
        "SERVICE  WOULD BE   WHY",
        "web      recreated  its image changed",
        "conf/site.conf  changed",
        "and 7 more",
        "a plan: nothing was done",
    ] {
        assert!(plan.stdout.contains(text), "{text} is missing: {}", plan.stdout);
    }
    let documents = run(fake.port, &["stack", "plan", "shop/web", "-o", "json"]).expect(0).json();
    assert_eq!(documents[0]["result"], result());
    let alone = run(fake.port, &["stack", "plan", "shop/web", "--no-wait"]).expect(0);
    assert_eq!(alone.stdout, format!("{JOB}\n"));
}

#[test]
fn several_hosts_are_followed_together_and_the_worst_end_counts() {
    let fake = Fake::start(|seen, nth| {
        let other = format!("GET /api/jobs/{OTHER_JOB}");
        match (seen.line(), nth) {
            (line, 0) if line == other => {
                Say::Json(200, with(sync(OTHER_JOB, "b2"), "state", json!("running")))
            }
            (line, 1) if line == other => Say::HangUp,
            (line, _) if line == other => {
                let mut failed = with(sync(OTHER_JOB, "b2"), "state", json!("failed"));
                failed["error"] = json!({"code": "PORT_TAKEN", "message": "8080 is in use",
                    "retry": "later", "step": "up", "command": null, "exit_status": null,
                    "output_tail": null, "hint": null});
                Say::Json(200, failed)
            }
            _ if seen.method == "POST" => queued(&[("web1", JOB), ("web2", OTHER_JOB)]),
            _ => world(seen),
        }
    });
    let ran = run(fake.port, &["stack", "sync", "shop/web", "--wait"]).expect(6);
    assert!(ran.stdout.contains("web1: succeeded stack_sync"), "{}", ran.stdout);
    assert!(ran.stdout.contains("PORT_TAKEN: 8080 is in use"), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 of 2 hosts are done"), "{}", ran.stderr);
    assert!(ran.stderr.contains("web2: failed"), "{}", ran.stderr);
}

#[test]
fn going_back_finds_what_ran_before() {
    let fake = Fake::start(|seen, _| world(seen));
    let line = format!("POST /api/stacks/{STACK}/rollback");
    let asked = |arguments: &[&str]| {
        let ran = run(fake.port, &[&["stack", "rollback", "shop/web"], arguments].concat());
        let ran = ran.expect(0);
        assert!(ran.stderr.contains("hostler stack resume shop/web"), "{}", ran.stderr);
        fake.seen_as(&line).pop().unwrap().json()["job_id"].clone()
    };
    assert_eq!(asked(&[]), OTHER_JOB, "the newest with another bundle than the present one");
    assert_eq!(asked(&["--to", "b2b2b2b", "--host", "web1"]), JOB);
    assert_eq!(asked(&["--to", OTHER_JOB]), OTHER_JOB);
    let filter = fake.seen_as("GET /api/jobs").pop().unwrap().target;
    for part in [&format!("host={HOST}"), "type=stack_sync", "state=succeeded"] {
        assert!(filter.contains(part), "{filter}");
    }
    let none = run(fake.port, &["stack", "rollback", "shop/web", "--to", "fffffff"]).expect(2);
    assert!(none.stderr.contains("no sync of shop/web on web1"), "{}", none.stderr);
    let short = run(fake.port, &["stack", "rollback", "shop/web", "--to", "b2b2"]).expect(2);
    assert!(short.stderr.contains("at least 7 characters"), "{}", short.stderr);
    let several = Fake::start(|seen, _| match seen.line() == format!("GET /api/stacks/{STACK}") {
        true => {
            let both = json!([on("web1", HOST), on("web2", "host_11kah2m3n4p5q6r7s8t9v0w1x2")]);
            Say::Json(200, with(stack(), "on", both))
        }
        false => world(seen),
    });
    let which = run(several.port, &["stack", "rollback", "shop/web"]).expect(2);
    assert!(which.stderr.contains("web1, web2: say which by --host"), "{}", which.stderr);
}

#[test]
fn a_beginning_of_two_bundles_is_neither() {
    let fake = Fake::start(|seen, _| match seen.line().starts_with("GET /api/jobs") {
        true => {
            let (one, other) = (format!("b2b2b2b{}", "0".repeat(57)), "b2".repeat(32));
            page(json!([sync(JOB, &one), sync(OTHER_JOB, &other)]))
        }
        false => world(seen),
    });
    let ran = run(fake.port, &["stack", "rollback", "shop/web", "--to", "b2b2b2b"]).expect(2);
    assert!(ran.stderr.contains("several bundles"), "{}", ran.stderr);
    run(fake.port, &["stack", "rollback", "shop/web", "--to", "b2b2b2b2"]).expect(0);
}

#[test]
fn what_a_sync_has_failed_at_is_said_while_it_is_tried_again() {
    let fake = Fake::start(|seen, _| {
        let mut shown = stack();
        shown["on"][0]["retry_at"] = json!(TIME);
        shown["on"][0]["job_error"] = json!({
            "code": "IMAGE_UNAVAILABLE", "message": "no registry has it", "retry": "later",
            "step": null, "command": null, "exit_status": null, "output_tail": null, "hint": null,
        });
        let listed =
            with(with(row("shop/web"), "failed_hosts", json!(1)), "unseen_hosts", json!(1));
        match seen.line() {
            line if line == format!("GET /api/stacks/{STACK}") => Say::Json(200, shown),
            line if line.starts_with("GET /api/stacks") => {
                page(json!([with(listed, "removal_held", json!("many"))]))
            }
            _ => world(seen),
        }
    });
    let shown = run(fake.port, &["stack", "show", "shop/web"]).expect(0).stdout;
    for text in
        ["web1: the job under way has failed so far and is tried again", "no registry has it"]
    {
        assert!(shown.contains(text), "{text} is missing: {shown}");
    }
    let listed = run(fake.port, &["stack", "list"]).expect(0).stdout;
    assert!(listed.contains("failed on 1, not seen on 1, removal waits"), "{listed}");
}

#[test]
fn suspending_and_jobs_name_the_stack() {
    let fake = Fake::start(|seen, _| world(seen));
    let suspended = run(fake.port, &["stack", "suspend", "shop/web", "-o", "json"]).expect(0);
    assert_eq!(suspended.json()["suspended"], true);
    run(fake.port, &["stack", "resume", "shop/web"]).expect(0);
    run(fake.port, &["stack", "accept-drift", "shop/web"]).expect(0);
    run(fake.port, &["stack", "accept-drift", "shop/web", "--host", "web1"]).expect(0);
    let accepted = fake.seen_as(&format!("POST /api/stacks/{STACK}/accept-drift"));
    let bodies: Vec<_> = accepted.iter().map(Seen::json).collect();
    assert_eq!(bodies, [json!({}), json!({ "hosts": ["web1"] })]);
    let jobs = run(fake.port, &["job", "list", "--stack", "shop/web"]).expect(0);
    assert!(jobs.stdout.contains("shop/web"), "{}", jobs.stdout);
    let asked = fake.seen_as("GET /api/jobs").pop().unwrap().target;
    assert!(asked.contains(&format!("stack={STACK}")), "{asked}");
    let shown = run(fake.port, &["job", "show", JOB]).expect(0);
    assert!(shown.stdout.contains("SERVICE  WAS"), "{}", shown.stdout);
}

#[test]
fn a_repository_is_read_from_the_command_line() {
    let repository = Repository::new();
    repository.write("shop/web/docker-compose.yml", WEB);
    repository.write("broken/docker-compose.yml", "services: [\n");
    let head = repository.commit("Begin");
    let url = format!("file://{}", repository.path().display());
    let arguments = ["--git-url", url.as_str(), "--git-ref", "main"];
    let controller = Controller::start_with(None, &arguments).unwrap();
    let port = controller.api_port;
    let done = run(port, &["refresh", "--wait", "-o", "json"]).expect(0).json();
    assert_eq!((&done["status"], &done["revision"]), (&json!("completed"), &json!(head)));
    let status = run(port, &["refresh", "status"]).expect(0);
    assert!(status.stdout.contains(&head), "{}", status.stdout);
    let stacks = run(port, &["stack", "list", "-o", "json"]).expect(0).json();
    assert_eq!(stacks.as_array().unwrap().len(), 2, "{stacks}");
    let listed = run(port, &["stack", "list"]).expect(0);
    assert!(listed.stdout.contains("COMPOSE_INVALID"), "{}", listed.stdout);
    let shown = run(port, &["stack", "show", "shop/web"]).expect(0);
    assert!(shown.stdout.contains(&repository.git(&["rev-parse", "HEAD:shop/web"])));
    let refused = run(port, &["stack", "plan", "shop/web"]).expect(5);
    assert!(refused.stderr.contains("STACK_UNTARGETED"), "{}", refused.stderr);
    run(port, &["stack", "suspend", "shop/web"]).expect(0);
    let history = run(port, &["refresh", "list"]).expect(0);
    assert!(history.stdout.contains("startup") && history.stdout.contains("manual"));
    repository.remove(".git");
    let failed = run(port, &["refresh", "--wait"]).expect(6);
    assert!(failed.stdout.contains("Error"), "{}", failed.stdout);
    let stale = run(port, &["stack", "list"]).expect(0);
    assert!(stale.stderr.contains("stale"), "{}", stale.stderr);
    assert!(stale.stdout.contains("shop/web"), "what was known stays: {}", stale.stdout);
}
