//! From a push to what runs: a repository, a controller, agents and real engines.

use std::sync::Arc;

use hostler_tests::servers::docker::DockerServer;
use hostler_tests::servers::git::Change;
use hostler_tests::system::StackSystem;
use serde_json::{Value, json};

const SHOP: &str = "services:\n  web:\n    image: hostler-test/web:1\n    volumes:\n    \
    - ./www:/www:ro\n    - kept:/kept\n  other:\n    image: hostler-test/sleeper:1\n\
    volumes:\n  kept:\nx-hostler:\n  hosts: [web1]\n";

const BLOG: &str = "services:\n  app:\n    image: hostler-test/sleeper:1\n\
    x-hostler:\n  hosts: [web1]\n";

fn engine() -> Arc<DockerServer> {
    Arc::new(DockerServer::start().unwrap())
}

fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("shop/docker-compose.yml", SHOP),
        ("shop/www/index.html", "one\n"),
        ("blog/docker-compose.yaml", BLOG),
    ]
}

fn revision(system: &StackSystem) -> String {
    system.work.git(&["rev-parse", "HEAD"]).unwrap()
}

fn volumes(engine: &DockerServer) -> String {
    engine.docker(&["volume", "ls", "-q"]).unwrap()
}

fn is_gone(stack: Option<&Value>) -> bool {
    stack.is_none()
}

#[test]
fn a_push_becomes_what_runs_and_nothing_else_is_touched() {
    let mut system = StackSystem::start(None, vec![engine()], &files()).unwrap();
    let head = revision(&system);
    let shop = system.wait_synced("shop", &head).unwrap();
    system.wait_synced("blog", &head).unwrap();
    assert_eq!(shop["on"][0]["containers"].as_array().unwrap().len(), 2, "{shop:#}");
    assert_eq!(shop["on"][0]["last"]["reason"], "it has not run there yet");
    let before = system.hosts[0].containers("shop").unwrap();
    let blog = system.hosts[0].containers("blog").unwrap();
    assert_eq!((before.len(), blog.len()), (2, 1));

    // One mounted file: its service alone is restarted, and says why.
    system.work.set("shop/www/index.html", Change::File(b"two\n")).unwrap();
    let told = system.push("Change a page").unwrap();
    assert_eq!(told.status, 202, "{}", told.text);
    let shop = system.wait_synced("shop", &revision(&system)).unwrap();
    let services = &shop["on"][0]["last"]["services"];
    let web = services.as_array().unwrap().iter().find(|one| one["service"] == "web").unwrap();
    assert_eq!(web["action"], "restarted", "{services:#}");
    assert!(web["reasons"].to_string().contains("www/index.html"), "{web:#}");
    assert_eq!(system.hosts[0].containers("shop").unwrap(), before, "none was made anew");
    assert_eq!(system.hosts[0].containers("blog").unwrap(), blog);

    // A push that is told again is answered with the first result and changes nothing.
    let again = system.webhook(&revision(&system), &json!({ "ref": "refs/heads/main" })).unwrap();
    assert_eq!((again.status, again.json()["status"].as_str()), (200, Some("completed")));

    // A directory that goes: its project goes, its volumes stay.
    system.work.set("shop/docker-compose.yml", Change::Gone).unwrap();
    system.work.set("shop/www/index.html", Change::Gone).unwrap();
    system.push("Remove the shop").unwrap();
    system.wait_stack("shop", "gone", is_gone).unwrap();
    assert_eq!(system.hosts[0].containers("shop").unwrap(), []);
    assert!(volumes(&system.hosts[0].engine).contains("shop_kept"));
    assert_eq!(system.hosts[0].containers("blog").unwrap(), blog);
}

#[test]
fn a_broken_file_is_that_stack_s_trouble_alone() {
    let mut system = StackSystem::start(None, vec![engine()], &files()).unwrap();
    system.wait_synced("shop", &revision(&system)).unwrap();
    let before = system.hosts[0].containers("shop").unwrap();
    system.work.set("shop/docker-compose.yml", Change::File(b"services: [\n")).unwrap();
    system.work.set("blog/note.txt", Change::File(b"new\n")).unwrap();
    system.push("Break the shop, change the blog").unwrap();
    system.wait_synced("blog", &revision(&system)).unwrap();
    let has_problem = |stack: Option<&Value>| stack.is_some_and(|s| s["problem"].is_object());
    let shop = system.wait_stack("shop", "broken", has_problem).unwrap();
    assert_eq!(shop["problem"]["code"], "COMPOSE_INVALID", "{shop:#}");
    assert_eq!(shop["status"], "synced", "what ran runs on");
    assert_eq!(system.hosts[0].containers("shop").unwrap(), before);
    // Put right again: nothing has to be done.
    system.work.set("shop/docker-compose.yml", Change::File(SHOP.as_bytes())).unwrap();
    system.push("Mend the shop").unwrap();
    system.wait_synced("shop", &revision(&system)).unwrap();
    assert_eq!(system.hosts[0].containers("shop").unwrap(), before);
}

#[test]
fn a_repository_that_is_away_leaves_everything_and_is_called_stale() {
    let mut system = StackSystem::start(None, vec![engine()], &files()).unwrap();
    let head = revision(&system);
    system.wait_synced("shop", &head).unwrap();
    let away = system.git.path("config").with_extension("away");
    std::fs::rename(system.git.path("config"), &away).unwrap();
    let failed = system.refresh().unwrap();
    assert_eq!(failed["status"], "failed", "{failed:#}");
    let status = system.controller.call("GET", "/api/refresh-status", None).unwrap().json();
    assert_eq!((&status["stale"], &status["outcome"]), (&json!(true), &json!("failed")));
    assert_eq!(status["revision"], head.as_str(), "{status:#}");
    assert!(status["last_success_at"].is_string() && status["error"]["code"].is_string());
    // The controller starts without it, too, and still knows everything.
    assert_eq!(system.controller.stop(), Some(0));
    system.controller.run().unwrap();
    let stack = system.stack("shop").unwrap().expect("it is known");
    assert_eq!((&stack["status"], &stack["revision"]), (&json!("synced"), &json!(head)));
    std::fs::rename(&away, system.git.path("config")).unwrap();
    assert_eq!(system.refresh().unwrap()["status"], "completed");
}

#[test]
fn a_host_that_was_away_applies_the_newest_alone() {
    let mut system = StackSystem::start(None, vec![engine()], &files()).unwrap();
    system.wait_synced("shop", &revision(&system)).unwrap();
    system.hosts[0].stop_agent();
    let off = |host: &Value| host["connected"] == false;
    system.controller.wait_host("web1", "off", off).unwrap();
    for text in ["two\n", "three\n", "four\n"] {
        system.work.set("shop/www/index.html", Change::File(text.as_bytes())).unwrap();
        system.push("Change a page").unwrap();
        assert_eq!(system.refresh().unwrap()["status"], "completed");
    }
    // What is found is queued a moment later: the newest has to wait there before the host comes.
    let head = revision(&system);
    let newest = |stack: Option<&Value>| {
        let id = stack.and_then(|stack| stack["on"][0]["job_id"].as_str());
        let job = id.and_then(|id| system.controller.job(id).ok());
        job.is_some_and(|job| job["request"]["revision"] == head.as_str())
    };
    system.wait_stack("shop", "waiting for its host", newest).unwrap();
    system.hosts[0].run_agent().unwrap();
    let shop = system.wait_synced("shop", &head).unwrap();
    let id = shop["id"].as_str().unwrap();
    let jobs = system.controller.call("GET", &format!("/api/jobs?stack={id}"), None).unwrap();
    let jobs = jobs.expect(200).unwrap();
    let done: Vec<&Value> = jobs["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|job| job["state"] == "succeeded" && job["type"] == "stack_sync")
        .collect();
    assert_eq!(done.len(), 2, "the first, and the newest: {jobs:#}");
}

#[test]
fn a_protected_stack_is_taken_down_when_a_person_says_so() {
    let mut system = StackSystem::start(None, vec![engine()], &files()).unwrap();
    let protected = BLOG.replace("hosts: [web1]", "hosts: [web1]\n  protected: true");
    system.work.set("blog/docker-compose.yaml", Change::File(protected.as_bytes())).unwrap();
    system.push("Protect the blog").unwrap();
    system.wait_synced("blog", &revision(&system)).unwrap();
    system.work.set("blog/docker-compose.yaml", Change::Gone).unwrap();
    system.push("Remove the blog").unwrap();
    let waits = |stack: Option<&Value>| {
        stack.is_some_and(|s| s["status"] == "deleting" && s["on"][0]["job_id"].is_string())
    };
    let blog = system.wait_stack("blog", "waiting for a person", waits).unwrap();
    assert_eq!(blog["removal_held"], "protected", "{blog:#}");
    let job = blog["on"][0]["job_id"].as_str().unwrap().to_owned();
    let held = system.controller.wait_job(&job, &["held"]).unwrap();
    assert_eq!(held["reason"], "REMOVAL_PROTECTED", "{held:#}");
    assert_eq!(system.hosts[0].containers("blog").unwrap().len(), 1);
    let release = format!("/api/jobs/{job}/release");
    let released = system.controller.call("POST", &release, None).unwrap();
    assert!(released.status < 300, "{}", released.text);
    system.wait_stack("blog", "gone", is_gone).unwrap();
    assert_eq!(system.hosts[0].containers("blog").unwrap(), []);
}

#[test]
fn whoever_dies_in_the_middle_of_a_sync_each_stack_ends_as_it_should() {
    let mut system = StackSystem::start(None, vec![engine()], &files()).unwrap();
    system.wait_synced("shop", &revision(&system)).unwrap();
    for (n, who) in ["agent", "controller", "both"].into_iter().enumerate() {
        let text = format!("round {n}\n");
        let renamed = SHOP.replace("hosts: [web1]", &format!("hosts: [web1]\nx-round: {n}"));
        system.work.set("shop/docker-compose.yml", Change::File(renamed.as_bytes())).unwrap();
        system.work.set("shop/www/index.html", Change::File(text.as_bytes())).unwrap();
        system.push("Go on").unwrap();
        let begun = |stack: Option<&Value>| stack.is_some_and(|s| s["status"] == "syncing");
        system.wait_stack("shop", "syncing", begun).unwrap();
        if who != "controller" {
            system.hosts[0].kill_agent();
        }
        if who != "agent" {
            system.controller.kill();
            system.controller.run().unwrap();
        }
        if who != "controller" {
            system.hosts[0].run_agent().unwrap();
        }
        system.wait_synced("shop", &revision(&system)).unwrap();
        let page = system.hosts[0].containers("shop").unwrap();
        let web = page.iter().find(|(service, _)| service == "web").expect("it runs");
        let engine = &system.hosts[0].engine;
        let served = engine.docker(&["exec", &web.1, "/bin/busybox", "cat", "/www/index.html"]);
        assert_eq!(served.unwrap().trim(), text.trim(), "after {who} died");
    }
}
