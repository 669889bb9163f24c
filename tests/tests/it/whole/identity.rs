//! Identities that last: real processes with certificates of seconds, renewed again and again,
//! ended, taken back, shut out, and killed in between.

use hostler_tests::servers::wait_for;
use hostler_tests::system::{Controller, Site, System, request};
use rustix::process::Signal;
use serde_json::Value;

/// Seconds a certificate is good for: half of it is enough for what a busy machine does in between.
const LIFE_SECS: u64 = 6;
/// Seconds anything here may take.
const PATIENCE_SECS: u64 = 90;

fn told(controller: &Controller, kind: &str) -> usize {
    controller.events(kind).unwrap()
}

fn wait_told(system: &System, kind: &str, times: usize) {
    wait_for(&format!("{times} events {kind}"), PATIENCE_SECS, || {
        (told(&system.controller, kind) >= times).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", system.host.agent_log()));
}

/// Waits until the certificate of the host, as the controller knows it, has ended.
fn wait_ended(controller: &Controller) {
    let ended = |host: &Value| {
        let until = host["certificate_expires_at"].as_str().unwrap();
        until < second_ago_text().as_str()
    };
    controller.wait_host("web1", "past the end of its certificate", ended).unwrap();
}

/// A second ago, as the API writes times: a certificate is good to the end of its last second.
fn second_ago_text() -> String {
    let now = hostler_controller::clock::Clock::system().now().0;
    hostler_controller::views::Timestamp(now - 1_000_000).to_string()
}

/// Now, as the API writes times.
fn now_text() -> String {
    hostler_controller::views::Timestamp(hostler_controller::clock::Clock::system().now().0)
        .to_string()
}

fn metric(controller: &Controller, line: &str) -> f64 {
    let text = request(controller.metrics_port, "GET", "/metrics", &[], None).unwrap().text;
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or(0.0)
}

fn succeeds(system: &System, site: &Site) {
    let job = site.set_caches(&system.controller, true, true).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}\n{}", system.host.agent_log());
}

#[test]
fn whole_cycles_of_renewals_go_by_while_jobs_run_and_none_of_them_fails() {
    let system = System::start_with_certificates_of(LIFE_SECS).unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    // A page so slow that a job takes about as long as a renewal comes after the other.
    let page = "<?php usleep(700000); echo 'made at ', hrtime(true), \"\\n\";\n";
    std::fs::write(site.docroot.join("index.php"), page).unwrap();
    let first = system.controller.host("web1").unwrap();
    let mut on = false;
    while told(&system.controller, "host.certificate_renewed") < 5 {
        on = !on;
        let job = site.set_caches(&system.controller, on, true).unwrap();
        assert_eq!(job["state"], "succeeded", "{job:#}\n{}", system.host.agent_log());
        assert_eq!((&job["failures"], &job["crashes"]), (&0.into(), &0.into()), "{job:#}");
    }
    let last = system.controller.host("web1").unwrap();
    assert_ne!(last["key_sha256"], first["key_sha256"]);
    assert!(last["certificate_expires_at"].as_str() > first["certificate_expires_at"].as_str());
    assert!(last["certificate_renewed_at"].is_string(), "{last:#}");
    assert_eq!(last["recoveries"], 0, "{last:#}\n{}", system.host.agent_log());
    assert!(last["clock_skew_ms"].as_i64().unwrap().abs() < 30_000, "{last:#}");
    let renewals = "hostler_certificate_renewals_total{result=\"renewed\"}";
    assert!(metric(&system.controller, renewals) >= 5.0);
    let left = metric(&system.controller, "hostler_certificate_left_seconds_min");
    assert!(left > 0.0 && left <= LIFE_SECS as f64, "{left}");
}

#[test]
fn a_host_that_was_off_past_the_end_of_its_certificate_comes_back_and_is_counted() {
    let mut system = System::start_with_certificates_of(LIFE_SECS).unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    for times in 1..=2 {
        assert_eq!(system.host.stop_agent(), Some(0), "{}", system.host.agent_log());
        wait_ended(&system.controller);
        let doctor = system.host.doctor().unwrap();
        assert!(doctor.contains("The agent comes back by its key"), "{doctor}");
        assert!(doctor.contains("the controller's"), "the clocks are compared: {doctor}");
        system.host.run_agent().unwrap();
        let host = system.controller.wait_host("web1", "back", |host| {
            host["connected"] == true && host["recoveries"] == times
        });
        let host = host.unwrap_or_else(|error| panic!("{error}\n{}", system.host.agent_log()));
        assert!(host["recovered_at"].is_string(), "{host:#}");
        assert_eq!(told(&system.controller, "host.recovered"), times);
        succeeds(&system, &site);
    }
    let recovered = "hostler_host_recoveries_total{result=\"recovered\"}";
    assert!(metric(&system.controller, recovered) >= 2.0);
}

#[test]
fn a_host_that_was_revoked_while_it_was_off_stays_out_until_it_is_enrolled_anew() {
    let mut system = System::start_with_certificates_of(LIFE_SECS).unwrap();
    assert_eq!(system.host.stop_agent(), Some(0));
    let id = system.controller.host("web1").unwrap()["id"].as_str().unwrap().to_owned();
    let evict = serde_json::json!({ "as": "evict" });
    let path = format!("/api/hosts/{id}/revoke");
    let evicted = system.controller.call("POST", &path, Some(&evict)).unwrap().expect(200).unwrap();
    assert_eq!((&evicted["state"], &evicted["revoked_as"]), (&"revoked".into(), &"evict".into()));
    wait_ended(&system.controller);
    system.host.run_agent().unwrap();
    wait_for("the agent to be refused", PATIENCE_SECS, || {
        system.host.agent_log().contains("HOST_REVOKED").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", system.host.agent_log()));
    assert!(system.host.agent_log().contains("enrol it again with a new token"));
    assert_eq!(system.controller.host("web1").unwrap()["recoveries"], 0);

    // With a new token it is another host, of the same name.
    assert_eq!(system.host.stop_agent(), Some(0));
    system.host.enrol(&system.controller).unwrap();
    system.host.run_agent().unwrap();
    let enrolled = |host: &Value| host["connected"] == true && host["id"] != id.as_str();
    wait_for("the new host", PATIENCE_SECS, || {
        let hosts = system.controller.call("GET", "/api/hosts", None).ok()?.json();
        hosts["items"].as_array()?.iter().any(enrolled).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", system.host.agent_log()));

    // A ban is for good: neither its key comes back, nor its name is free.
    assert_eq!(system.host.stop_agent(), Some(0));
    let newest = system.controller.call("GET", "/api/hosts", None).unwrap().json();
    let newest = newest["items"].as_array().unwrap().last().unwrap()["id"].clone();
    let ban = serde_json::json!({ "as": "ban" });
    let path = format!("/api/hosts/{}/revoke", newest.as_str().unwrap());
    let banned = system.controller.call("POST", &path, Some(&ban)).unwrap().expect(200).unwrap();
    assert_eq!(banned["revoked_as"], "ban");
    let less = system.controller.call("POST", &path, Some(&evict)).unwrap();
    assert_eq!((less.status, &less.json()["code"]), (409, &"HOST_BANNED".into()));
    let until = banned["certificate_expires_at"].as_str().unwrap().to_owned();
    wait_for("its certificate's end", PATIENCE_SECS, || (now_text() > until).then_some(()))
        .unwrap();
    system.host.run_agent().unwrap();
    wait_for("the agent to be refused", PATIENCE_SECS, || {
        system.host.agent_log().contains("HOST_BANNED").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", system.host.agent_log()));
    let name = serde_json::json!({ "host_name": "web1" });
    let taken = system.controller.call("POST", "/api/enrolment-tokens", Some(&name)).unwrap();
    assert_eq!(taken.json()["code"], "NAME_TAKEN");
}

#[test]
fn an_agent_killed_again_and_again_between_certificates_is_never_locked_out() {
    let mut system = System::start_with_certificates_of(LIFE_SECS).unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let candidate = system.host.state_dir().join("identity.candidate");
    let marks = ["", "key.pem", "chain.pem", "root.der", "identity.json"];
    for mark in marks.iter().cycle().take(10) {
        // Killed as soon as that file of a renewal is there, wherever the agent is by then.
        let there = candidate.join(mark);
        wait_for("a renewal", PATIENCE_SECS, || there.exists().then_some(())).unwrap_or_else(
            |error| panic!("{error}\n{}\n{}", system.host.agent_log(), system.controller.log()),
        );
        system.host.kill_agent();
        system.host.run_agent().unwrap();
        system.controller.wait_connected("web1").unwrap();
    }
    succeeds(&system, &site);
    // How many came through depends on how fast this machine is; some must.
    assert!(told(&system.controller, "host.certificate_renewed") >= 1);
}

#[test]
fn a_controller_killed_between_certificates_knows_its_hosts_again() {
    let mut system = System::start_with_certificates_of(LIFE_SECS).unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let candidate = system.host.state_dir().join("identity.candidate");
    for round in 0..6 {
        // Now and then it dies while a candidate waits, now and then while the agent asks.
        let wanted = round % 2 == 0;
        wait_for("the moment", PATIENCE_SECS, || (candidate.exists() == wanted).then_some(()))
            .unwrap();
        system.controller.kill();
        system.controller.run().unwrap();
        system.controller.wait_connected("web1").unwrap_or_else(|error| {
            panic!("{error}\n{}", system.host.agent_log());
        });
        succeeds(&system, &site);
    }
    wait_told(&system, "host.certificate_renewed", 2);
}

#[test]
fn a_certificate_that_ends_while_its_agent_is_frozen_in_a_job_ends_no_job() {
    let system = System::start_with_certificates_of(LIFE_SECS).unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    let page = "<?php usleep(1500000); echo 'made at ', hrtime(true), \"\\n\";\n";
    std::fs::write(site.docroot.join("index.php"), page).unwrap();
    let path = format!("/api/environments/{}/cache", site.environment);
    let body = serde_json::json!({ "fastcgi_cache_enabled": true });
    let accepted =
        system.controller.call("PATCH", &path, Some(&body)).unwrap().expect(202).unwrap();
    let id = accepted["job_id"].as_str().unwrap();
    system.controller.wait_job(id, &["running"]).unwrap();
    let agent = system.host.agent().unwrap();
    agent.signal(Signal::STOP);
    wait_ended(&system.controller);
    agent.signal(Signal::CONT);
    let job = system.controller.wait_job(id, &["succeeded", "failed", "held"]).unwrap();
    assert_eq!(job["state"], "succeeded", "{job:#}\n{}", system.host.agent_log());
    assert_eq!((&job["attempt"], &job["failures"]), (&1.into(), &0.into()), "{job:#}");
    wait_told(&system, "host.certificate_renewed", 1);
}
