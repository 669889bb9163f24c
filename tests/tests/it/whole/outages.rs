//! Three failures other systems lose jobs by, as the people who had them told of them: a controller
//! that is away for minutes in the middle of jobs, an agent killed in the middle of one, and a host
//! that is not there when its job is handed out.

use std::time::Duration;

use hostler_tests::servers::wait_for;
use hostler_tests::system::{Site, System};
use serde_json::{Value, json};

use super::faults::told_of;

/// Names how many seconds the controller is away in the longest test here: 300 are the five minutes
/// of its name.
const OUTAGE_VARIABLE: &str = "HOSTLER_TEST_OUTAGE_SECS";
/// Seconds the controller is away unless told otherwise: longer than every time-out that could
/// matter (a silent connection is given up after 45 s, a lease is lost after 60 s, and agents wait
/// at most 60 s between two tries).
const OUTAGE_SECS: u64 = 70;

fn outage_secs() -> u64 {
    std::env::var(OUTAGE_VARIABLE).map_or(OUTAGE_SECS, |secs| secs.parse().unwrap())
}

/// A page so slow that a switch, which asks for it several times, is always met in the middle.
fn slow(site: &Site) {
    let page = "<?php usleep(900000); echo 'made at ', hrtime(true), \"\\n\";\n";
    std::fs::write(site.docroot.join("index.php"), page).unwrap();
}

/// Asks for a switch and waits until it is under way on its host.
fn begin(system: &System, site: &Site, on: bool) -> String {
    let path = format!("/api/environments/{}/cache", site.environment);
    let body = json!({ "fastcgi_cache_enabled": on });
    let accepted = system.controller.call("PATCH", &path, Some(&body)).unwrap();
    accepted.expect(202).unwrap()["job_id"].as_str().unwrap().to_owned()
}

/// How often the host's agent says that it began an attempt of the job, and that it ended one.
fn begun_and_ended(system: &System, job: &str) -> (usize, usize) {
    let log = system.host.agent_log();
    let count =
        |what: &str| log.lines().filter(|line| line.contains(what) && line.contains(job)).count();
    (count("job starts"), count("job ends"))
}

fn ended_well(system: &System, job: &str) -> Value {
    let ended = system.controller.wait_job(job, &["succeeded", "failed", "held"]).unwrap();
    let told = || format!("{ended:#}\n{}", system.host.agent_log());
    assert_eq!(ended["state"], "succeeded", "{}", told());
    ended
}

#[test]
fn the_controller_is_away_for_five_minutes_in_the_middle_of_a_job() {
    let mut system = System::start().unwrap();
    let names = ["shop", "blog", "news"];
    let sites = names.map(|name| Site::create(&system.controller, &system.host, name).unwrap());
    sites.iter().for_each(slow);
    let jobs = sites.each_ref().map(|site| begin(&system, site, true));
    for job in &jobs {
        assert!(told_of(&system, job, "job.accepted", ""), "{job} was never accepted");
    }
    system.controller.kill();
    assert!(jobs.iter().any(|job| begun_and_ended(&system, job).1 == 0), "none was in the middle");
    // Meanwhile the host goes on by itself.
    wait_for("the jobs' ends on the host", 60, || {
        jobs.iter().all(|job| begun_and_ended(&system, job).1 == 1).then_some(())
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(outage_secs()));
    system.controller.run().unwrap();
    for job in &jobs {
        let ended = ended_well(&system, job);
        assert_eq!((&ended["attempt"], &ended["failures"]), (&json!(1), &json!(0)), "{ended:#}");
        assert_eq!(begun_and_ended(&system, job), (1, 1), "{}", system.host.agent_log());
    }
    for site in &sites {
        let path = format!("/api/environments/{}/cache", site.environment);
        let state = system.controller.call("GET", &path, None).unwrap().expect(200).unwrap();
        assert_eq!((&state["in_sync"], &state["fastcgi"]["applied"]), (&json!(true), &json!(true)));
        let served = [site.cache_status("/").unwrap(), site.cache_status("/").unwrap()];
        assert_eq!(served[1], "HIT", "{served:?}");
    }
}

#[test]
fn results_outlast_an_outage_of_the_controller_and_the_agent_s_own_end_in_it() {
    let mut system = System::start().unwrap();
    let names = ["shop", "blog"];
    let sites = names.map(|name| Site::create(&system.controller, &system.host, name).unwrap());
    sites.iter().for_each(slow);
    let jobs = sites.each_ref().map(|site| begin(&system, site, true));
    for job in &jobs {
        assert!(told_of(&system, job, "job.accepted", ""), "{job} was never accepted");
    }
    system.controller.kill();
    wait_for("the jobs' ends on the host", 60, || {
        jobs.iter().all(|job| begun_and_ended(&system, job).1 == 1).then_some(())
    })
    .unwrap();
    // Told to end, it has everything on disk when it does.
    assert_eq!(system.host.stop_agent(), Some(0), "{}", system.host.agent_log());
    let doctor = system.host.doctor().unwrap();
    assert!(doctor.contains("0 unfinished, 2 unacknowledged"), "{doctor}");
    system.host.run_agent().unwrap();
    system.host.kill_agent();
    system.host.run_agent().unwrap();
    system.controller.run().unwrap();
    for job in &jobs {
        let ended = ended_well(&system, job);
        assert_eq!((&ended["attempt"], &ended["crashes"]), (&json!(1), &json!(0)), "{ended:#}");
        assert_eq!(begun_and_ended(&system, job), (1, 1), "{}", system.host.agent_log());
    }
}

#[test]
fn an_agent_killed_in_the_middle_of_a_job_tells_of_it_and_the_job_is_done_once_more() {
    let mut system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    slow(&site);
    let job = begin(&system, &site, true);
    assert!(told_of(&system, &job, "job.progress", "nginx_test_before"));
    system.host.kill_agent();
    assert_eq!(begun_and_ended(&system, &job), (1, 0), "{}", system.host.agent_log());
    // Nobody knows how far it came, and nobody claims to.
    let meanwhile = system.controller.job(&job).unwrap();
    assert_eq!(meanwhile["state"], "running", "{meanwhile:#}");
    system.host.run_agent().unwrap();
    let ended = ended_well(&system, &job);
    let counters = (&ended["attempt"], &ended["crashes"], &ended["failures"]);
    assert_eq!(counters, (&json!(2), &json!(1), &json!(0)), "{ended:#}");
    assert!(told_of(&system, &job, "job.retrying", ""));
    assert_eq!(begun_and_ended(&system, &job), (2, 1), "{}", system.host.agent_log());
    assert_eq!([site.cache_status("/").unwrap(), site.cache_status("/").unwrap()][1], "HIT");
}

#[test]
fn a_host_offline_at_dispatch_gets_the_job_when_it_returns() {
    let mut system = System::start().unwrap();
    let site = Site::create(&system.controller, &system.host, "shop").unwrap();
    // Gone without a word: to the controller it is there, and the job is handed out.
    system.host.kill_agent();
    let job = begin(&system, &site, true);
    let handed_out = system.controller.wait_job(&job, &["running"]).unwrap();
    assert_eq!(handed_out["attempt"], 1, "{handed_out:#}");
    assert_eq!(begun_and_ended(&system, &job), (0, 0));
    system.host.run_agent().unwrap();
    let ended = ended_well(&system, &job);
    // What never came to the host counts as neither failed nor cut off.
    let counters = (&ended["attempt"], &ended["crashes"], &ended["failures"]);
    assert_eq!(counters, (&json!(2), &json!(0), &json!(0)), "{ended:#}");
    assert_eq!(begun_and_ended(&system, &job), (1, 1), "{}", system.host.agent_log());

    // Known to be away: the job waits for it, and says so.
    assert_eq!(system.host.stop_agent(), Some(0), "{}", system.host.agent_log());
    system.controller.wait_host("web1", "away", |host| host["connected"] == false).unwrap();
    let job = begin(&system, &site, false);
    let waiting = system.controller.job(&job).unwrap();
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("queued"), &json!(0)));
    assert!(waiting["waits_for"].to_string().contains("host"), "{waiting:#}");
    system.host.run_agent().unwrap();
    let ended = ended_well(&system, &job);
    assert_eq!(ended["attempt"], 1, "{ended:#}");
    assert_eq!(begun_and_ended(&system, &job), (1, 1), "{}", system.host.agent_log());
    assert_eq!(site.cache_status("/").unwrap(), "OFF");
}
