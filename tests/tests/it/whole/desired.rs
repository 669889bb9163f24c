//! A controller that looks at a repository, as processes; no host is needed for that.

use hostler_tests::servers::git::Change;
use hostler_tests::servers::wait_for;
use hostler_tests::system::StackSystem;
use serde_json::{Value, json};

const WEB: &str = "services: {web: {image: 'web:1'}}\n";

fn call(system: &StackSystem, path: &str) -> Value {
    system.controller.call("GET", path, None).unwrap().expect(200).unwrap()
}

#[test]
fn two_hundred_stacks_are_found_in_seconds() {
    let paths: Vec<String> =
        (0..200).map(|n| format!("stacks/{n:03}/docker-compose.yml")).collect();
    let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), WEB)).collect();
    let system = StackSystem::start(None, Vec::new(), &files).unwrap();
    // The wait is a minute at most; the specification permits half of that.
    let refresh = system.refresh().unwrap();
    assert_eq!(
        (&refresh["status"], &refresh["counts"]["stacks"]),
        (&json!("completed"), &json!(200))
    );
    let mut seen = 0;
    let mut path = "/api/stacks?limit=100".to_owned();
    loop {
        let page = call(&system, &path);
        for stack in page["items"].as_array().unwrap() {
            assert_eq!(stack["hash"].as_str().map(str::len), Some(64), "{stack:#}");
            assert_eq!(stack["status"], "missing", "it has no host: {stack:#}");
            seen += 1;
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/stacks?limit=100&after={}", next.replace('/', "%2F"));
    }
    assert_eq!(seen, 200);
}

#[test]
fn a_repository_without_stacks_is_an_empty_list() {
    let system = StackSystem::start(None, Vec::new(), &[("README", "nothing here\n")]).unwrap();
    assert_eq!(system.refresh().unwrap()["status"], "completed");
    assert_eq!(call(&system, "/api/stacks")["items"], json!([]));
    assert_eq!(call(&system, "/api/refresh-status")["outcome"], "completed");
}

#[test]
fn a_period_brings_a_look_nobody_asked_for() {
    let files = [("web/docker-compose.yml", WEB)];
    let mut system = StackSystem::start(None, Vec::new(), &files).unwrap();
    system.controller.stop();
    system.controller.set_variable("HOSTLER_GIT_POLL_INTERVAL", "5");
    system.controller.run().unwrap();
    system.work.set("db/docker-compose.yml", Change::File(WEB.as_bytes())).unwrap();
    let head = system.work.commit("Add a stack").unwrap();
    system.work.push("refs/heads/main").unwrap();
    let polled = wait_for("a look that nobody asked for", 30, || {
        let status = call(&system, "/api/refresh-status");
        (status["revision"] == head.as_str() && status["last"]["trigger"] == "poll").then_some(())
    });
    polled.unwrap_or_else(|error| panic!("{error}\n{}", system.controller.log()));
}

#[test]
fn refreshes_and_webhooks_are_logged_by_their_weight() {
    let files = [("web/docker-compose.yml", WEB)];
    let system = StackSystem::start(None, Vec::new(), &files).unwrap();
    system.refresh().unwrap();
    let body = json!({ "ref": "refs/heads/main" });
    let headers = [("X-GitHub-Event", "push"), ("X-Hub-Signature-256", "sha256=00")];
    let refused = system.controller.send("/api/webhook", &headers, &body).unwrap();
    assert_eq!(refused.status, 401, "{}", refused.text);
    system.webhook("one", &body).unwrap();
    let away = system.git.path("config").with_extension("away");
    std::fs::rename(system.git.path("config"), &away).unwrap();
    assert_eq!(system.refresh().unwrap()["status"], "failed");
    let log = system.controller.log();
    for (level, text) in [
        ("INFO", "a refresh of the desired state begins"),
        ("INFO", "a refresh of the desired state completed"),
        ("INFO", "a webhook asks for a refresh"),
        ("WARN", "a webhook was refused"),
        ("WARN", "a refresh of the desired state failed"),
    ] {
        let told = log.lines().any(|line| line.contains(level) && line.contains(text));
        assert!(told, "no {level} says `{text}`:\n{log}");
    }
}
