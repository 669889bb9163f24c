//! What dies in the middle comes back to one defined end.

use hostler_tests::system::{Site, System};
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

#[test]
fn both_stop_cleanly_when_asked() {
    let mut system = System::start().unwrap();
    assert_eq!(system.host.stop_agent(), Some(0), "{}", system.host.agent_log());
    assert_eq!(system.controller.stop(), Some(0), "{}", system.controller.log());
}
