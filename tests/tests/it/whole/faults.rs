//! What dies in the middle comes back to one defined end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hostler_tests::servers::{SERVER_SECS_MAX, wait_for};
use hostler_tests::system::{Site, System};
use rustix::process::Signal;
use serde_json::json;

fn purge_path(site: &Site) -> String {
    format!("/api/environments/{}/cache/purge", site.environment)
}

#[test]
fn a_job_for_a_host_that_is_away_waits_says_so_and_runs_on_its_return() {
    let mut system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    site.set_caches(&system.controller, true, true).unwrap();
    site.get("/").unwrap();
    assert_eq!(system.host.stop_agent(), Some(0));
    let accepted = system.controller.call("POST", &purge_path(&site), None).unwrap();
    let id = accepted.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned();
    let waiting = system.controller.job(&id).unwrap();
    assert_eq!(waiting["state"], "queued");
    assert!(waiting["waits_for"].to_string().contains("host"), "{waiting:#}");
    system.host.run_agent().unwrap();
    let done = system.controller.wait_job(&id, &["succeeded", "failed"]).unwrap();
    assert_eq!(done["state"], "succeeded", "{done:#}");
    assert_eq!(site.cache_status("/").unwrap(), "MISS");
}

#[test]
fn a_controller_killed_during_a_job_learns_its_end_when_it_is_back() {
    let mut system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    site.set_caches(&system.controller, true, true).unwrap();
    for _ in 0..3 {
        site.get("/").unwrap();
        let accepted = system.controller.call("POST", &purge_path(&site), None).unwrap();
        let id = accepted.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned();
        system.controller.kill();
        system.controller.run().unwrap();
        let done = system.controller.wait_job(&id, &["succeeded", "failed", "held"]).unwrap();
        assert_eq!(done["state"], "succeeded", "{done:#}\n{}", system.controller.log());
        assert_eq!(site.cache_status("/").unwrap(), "MISS");
    }
}

#[test]
fn an_agent_killed_again_and_again_leaves_every_job_in_one_defined_end() {
    let mut system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let mut jobs = Vec::new();
    for round in 0..6 {
        let body = json!({ "fastcgi_cache_enabled": round % 2 == 0 });
        let path = format!("/api/environments/{}/cache", site.environment);
        let accepted = system.controller.call("PATCH", &path, Some(&body)).unwrap();
        jobs.push(accepted.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned());
        let started = ["running", "succeeded", "failed", "cancelled", "held"];
        system.controller.wait_job(&jobs[round], &started).unwrap();
        system.host.kill_agent();
        system.host.run_agent().unwrap();
    }
    for id in &jobs {
        let ended = system.controller.wait_job(id, &["succeeded", "cancelled"]).unwrap();
        assert!(ended["attempt"].as_u64().unwrap() <= 3, "{ended:#}");
    }
    // Whatever was cut off where: nginx is well, and what the database claims is so.
    let job = site.set_caches(&system.controller, true, true).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}\n{}", system.host.agent_log());
    assert_eq!(site.cache_status("/").unwrap(), "MISS");
    assert_eq!(site.cache_status("/").unwrap(), "HIT");
}

/// Waits until a job's events tell of it; gives up when the job is over.
pub(super) fn told_of(system: &System, job: &str, kind: &str, step: &str) -> bool {
    let path = format!("/api/jobs/{job}/events");
    let mut stream = TcpStream::connect(("127.0.0.1", system.controller.api_port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(SERVER_SECS_MAX))).unwrap();
    let port = system.controller.api_port;
    let asked = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(asked.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines();
    lines.map_while(Result::ok).any(|line| {
        let Some(data) = line.strip_prefix("data: ") else { return false };
        let event: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
        event["kind"] == kind && (step.is_empty() || event["document"]["step"] == step)
    })
}

#[test]
fn an_agent_killed_at_any_moment_of_a_job_leaves_it_with_one_defined_end() {
    let mut system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let path = format!("/api/environments/{}/cache", site.environment);
    // From the claim to the acknowledgement: each is one more thing that is on disk, here or there.
    let moments = [
        ("job.queued", ""),
        ("job.started", ""),
        ("job.accepted", ""),
        ("job.progress", "policy"),
        ("job.progress", "nginx_test_before"),
        ("job.progress", "includes"),
        ("job.progress", "stage"),
        ("job.progress", "swap"),
        ("job.progress", "nginx_test"),
        ("job.progress", "reload"),
        ("job.progress", "generation"),
        ("job.progress", "effect"),
        ("job.progress", "commit"),
        ("job.succeeded", ""),
    ];
    let mut cut_off = 0;
    for (round, (kind, step)) in moments.into_iter().enumerate() {
        let on = round % 2 == 0;
        let body = json!({ "fastcgi_cache_enabled": on });
        let accepted = system.controller.call("PATCH", &path, Some(&body)).unwrap();
        let id = accepted.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned();
        assert!(told_of(&system, &id, kind, step), "the job was never at {kind} {step}");
        system.host.kill_agent();
        system.host.run_agent().unwrap();
        let ended = system.controller.wait_job(&id, &["succeeded", "failed", "held"]).unwrap();
        let told = || format!("killed at {kind} {step}: {ended:#}\n{}", system.host.agent_log());
        assert_eq!(ended["state"], "succeeded", "{}", told());
        let (attempt, crashes) = (&ended["attempt"], &ended["crashes"]);
        assert!(attempt == 1 || (attempt == 2 && ended["failures"] == 0), "{}", told());
        cut_off += crashes.as_u64().unwrap();
        // What the database says is so.
        let state = system.controller.call("GET", &path, None).unwrap().expect(200).unwrap();
        assert_eq!(state["fastcgi"]["applied"], on, "{state:#}");
        let first = site.cache_status("/").unwrap();
        assert_eq!(first == "OFF", !on, "it says {first}\n{}", told());
    }
    assert!(cut_off > 0, "no kill came in time to cut anything off");
}

#[test]
fn a_job_given_up_while_its_host_is_silent_changes_nothing_on_its_return() {
    let system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let path = format!("/api/environments/{}/cache", site.environment);
    let on = json!({ "fastcgi_cache_enabled": true });
    let accepted = system.controller.call("PATCH", &path, Some(&on)).unwrap();
    let id = accepted.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned();
    assert!(told_of(&system, &id, "job.progress", "nginx_test_before"));
    system.host.agent().unwrap().signal(Signal::STOP);
    let port = system.controller.api_port;
    let early = crate::cli::run(port, &["job", "cancel", &id, "--force"]).expect(5);
    assert!(early.stderr.contains("JOB_NOT_UNKNOWN"), "{}", early.stderr);
    // A connection nothing comes through is given up after 45 seconds.
    wait_for("the attempt to be unknown", 90, || {
        let job = system.controller.job(&id).ok()?;
        (job["reason"] == "UNKNOWN").then_some(())
    })
    .unwrap();
    crate::cli::run(port, &["job", "cancel", &id, "--force"]).expect(0);
    let next = system.controller.call("POST", &format!("{path}/reconcile"), None).unwrap();
    let next = next.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned();
    system.host.agent().unwrap().signal(Signal::CONT);
    let ended = system.controller.wait_job(&next, &["succeeded", "failed", "held"]).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended:#}\n{}", system.host.agent_log());
    let given_up = system.controller.job(&id).unwrap();
    let (state, reason) = (&given_up["state"], &given_up["reason"]);
    assert_eq!((state, reason), (&json!("cancelled"), &json!("ABANDONED")), "{given_up:#}");
    wait_for("what the host said to be kept", SERVER_SECS_MAX, || {
        told_of(&system, &id, "job.late_outcome", "").then_some(())
    })
    .unwrap();
    let state = system.controller.call("GET", &path, None).unwrap().expect(200).unwrap();
    assert_eq!((&state["in_sync"], &state["fastcgi"]["applied"]), (&json!(true), &json!(true)));
    assert_eq!([site.cache_status("/").unwrap(), site.cache_status("/").unwrap()], ["MISS", "HIT"]);
}

#[test]
fn both_stop_cleanly_when_asked() {
    let mut system = System::start().unwrap();
    assert_eq!(system.host.stop_agent(), Some(0), "{}", system.host.agent_log());
    assert_eq!(system.controller.stop(), Some(0), "{}", system.controller.log());
}
