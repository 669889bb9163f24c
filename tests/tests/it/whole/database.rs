//! A live fleet whose database fails under it: requests are told so, nothing that was accepted is
//! lost, and work goes on by itself when the database is well again.

use std::io::Write as _;
use std::path::Path;

use hostler_tests::servers::postgres::Postgres;
use hostler_tests::servers::{directory, wait_for};
use hostler_tests::system::{Around, Controller, Reply, Site, System};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

/// The longest a job may take to end after a failure, in seconds: an attempt whose claim was
/// written while its answer was lost is noticed after a lease of 60 seconds.
const RECOVERY_SECS_MAX: u64 = 180;
/// Requests after which a database that fails must have refused one.
const REQUESTS_MAX: usize = 2000;

/// A fleet with one site whose caches are on, and what it was asked to do.
struct Fleet {
    system: System,
    site: Site,
    accepted: Vec<String>,
}

impl Fleet {
    fn start(controller: Controller) -> Self {
        let system = System::start_with(controller).unwrap();
        let site = Site::create(&system.controller, &system.host, "shop").unwrap();
        let job = site.set_caches(&system.controller, true, true).unwrap();
        assert_eq!(job["state"], "succeeded", "{job:#}");
        Self { system, site, accepted: Vec::new() }
    }

    fn purge(&mut self) -> Reply {
        let path = format!("/api/environments/{}/cache/purge", self.site.environment);
        let reply = self.system.controller.call("POST", &path, None).unwrap();
        if reply.status == 202 {
            self.accepted.push(reply.json()["job_id"].as_str().unwrap().to_owned());
        }
        reply
    }

    /// Asks until a request is refused.
    fn purge_until_refused(&mut self) -> Reply {
        for _ in 0..REQUESTS_MAX {
            let reply = self.purge();
            if reply.status != 202 {
                return reply;
            }
        }
        panic!("{REQUESTS_MAX} requests were accepted by a database that fails");
    }

    /// Every job that was accepted comes to its end, and so does a new one.
    fn goes_on(&mut self) {
        let controller = &self.system.controller;
        for id in &self.accepted {
            let mut last = Value::Null;
            let ended = wait_for(&format!("job {id}"), RECOVERY_SECS_MAX, || {
                last = controller.job(id).ok()?;
                (last["state"] != "queued" && last["state"] != "running").then_some(())
            });
            let told = || format!("{last:#}\n{}", controller.log());
            ended.unwrap_or_else(|error| panic!("{error}\n{}", told()));
            assert_eq!(last["state"], "succeeded", "{}", told());
        }
        self.site.get("/").unwrap();
        let job = self.site.purge(controller, None).unwrap();
        assert_eq!(job["state"], "succeeded", "{job:#}");
        assert_eq!(self.site.cache_status("/").unwrap(), "MISS");
    }
}

/// The answer while the database fails: which, until when, and why.
#[track_caller]
fn unavailable(reply: &Reply, why: &str) {
    let problem = reply.expect(503).unwrap();
    assert_eq!(problem["code"], "STORE_UNAVAILABLE", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
    assert_eq!(reply.header("retry-after"), Some("2"));
}

#[test]
fn a_fleet_outlives_a_restart_of_its_database() {
    let mut postgres = Postgres::start_own().unwrap();
    let url = postgres.create_database("restarted").unwrap();
    let mut fleet = Fleet::start(Controller::new(Some(&url)).unwrap());
    for _ in 0..2 {
        for _ in 0..20 {
            fleet.purge().expect(202).unwrap();
        }
        postgres.halt().unwrap();
        unavailable(&fleet.purge(), "cannot be reached");
        let controller = &fleet.system.controller;
        let ready = controller.call("GET", "/readyz", None).unwrap();
        assert_eq!(ready.expect(503).unwrap()["code"], "STORE_UNAVAILABLE");
        controller.call("GET", "/livez", None).unwrap().expect(200).unwrap();
        let told = crate::cli::run(controller.api_port, &["site", "list"]).expect(1);
        assert!(told.stderr.contains("STORE_UNAVAILABLE"), "{}", told.stderr);
        postgres.run().unwrap();
        fleet.goes_on();
    }
}

#[test]
fn a_database_that_takes_no_writes_for_a_while_is_said_so() {
    let mut postgres = Postgres::start_own().unwrap();
    let url = postgres.create_database("read_only").unwrap();
    let mut fleet = Fleet::start(Controller::new(Some(&url)).unwrap());
    let read_only = |on: &str| {
        let change = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        postgres.psql("postgres", &change).unwrap();
        postgres.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    };
    fleet.purge().expect(202).unwrap();
    read_only("on");
    unavailable(&fleet.purge_until_refused(), "read-only");
    let controller = &fleet.system.controller;
    controller.call("GET", "/api/jobs", None).unwrap().expect(200).unwrap();
    read_only("off");
    fleet.goes_on();
    // The same as a setting of the database: connections have it from when they were opened.
    let set = |change: &str| {
        postgres.psql("postgres", &format!("ALTER DATABASE read_only {change}")).unwrap();
    };
    set("SET default_transaction_read_only = on");
    let kick = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'read_only'";
    postgres.psql("postgres", kick).unwrap();
    // The first to ask finds that its connection is gone.
    wait_for("a refusal of a database that is read-only", RECOVERY_SECS_MAX, || {
        fleet.purge_until_refused().text.contains("read-only").then_some(())
    })
    .unwrap();
    set("RESET default_transaction_read_only");
    fleet.goes_on();
    drop(fleet);
    postgres.halt().unwrap();
}

/// Fills a file system to its last byte; the file that does is to be removed.
fn fill(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("everything-else");
    let mut file = std::fs::File::create(&path).unwrap();
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
    for byte in block {
        if file.write_all(&[byte]).is_err() {
            break;
        }
    }
    path
}

#[test]
fn a_full_disk_refuses_requests_and_loses_nothing() {
    let small = Around::SmallDisk { mib: 24 };
    let mut fleet = Fleet::start(Controller::new(None).unwrap().in_surroundings(small));
    for _ in 0..3 {
        fleet.purge().expect(202).unwrap();
        let file = fill(&fleet.system.controller.data_dir());
        unavailable(&fleet.purge_until_refused(), "free disk space");
        let controller = &fleet.system.controller;
        controller.call("GET", "/api/jobs", None).unwrap().expect(200).unwrap();
        std::fs::remove_file(file).unwrap();
        fleet.goes_on();
    }
}

#[test]
fn a_disk_that_refuses_writes_is_said_so_and_nothing_is_lost() {
    let around = Around::FileSizeSignalIgnored;
    let mut fleet = Fleet::start(Controller::new(None).unwrap().in_surroundings(around));
    fleet.purge().expect(202).unwrap();
    let pid = fleet.system.controller.pid().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let usual = getrlimit(Resource::Fsize);
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(4096), ..usual }).unwrap();
    unavailable(&fleet.purge_until_refused(), "disk cannot be");
    prlimit(pid, Resource::Fsize, usual).unwrap();
    fleet.goes_on();
}

/// Starts a controller that cannot start; what it says.
fn refusal(mut controller: Controller) -> String {
    let refused = controller.run().unwrap_err().to_string();
    assert!(refused.contains("the controller ended"), "it did not end by itself: {refused}");
    refused
}

#[test]
fn a_start_without_its_database_says_which_and_what_to_do() {
    // Nobody listens; somebody listens and has no such database, or refuses the password.
    let refused = refusal(Controller::new(Some("postgres://me:hunter2@127.0.0.1:1/x")).unwrap());
    for part in ["postgres://127.0.0.1:1/x", "start the server", "refused"] {
        assert!(refused.contains(part), "{part} is not said:\n{refused}");
    }
    assert!(!refused.contains("hunter2"), "a password is shown:\n{refused}");
    let mut postgres = Postgres::start_own().unwrap();
    let refused = refusal(Controller::new(Some(&postgres.url("nothing"))).unwrap());
    assert!(refused.contains("create it"), "{refused}");
    let hba = postgres.dir().unwrap().join("data/pg_hba.conf");
    std::fs::write(hba, "host all nobody all scram-sha-256\nhost all all all trust\n").unwrap();
    postgres.psql("postgres", "CREATE ROLE nobody LOGIN PASSWORD 'hunter3'").unwrap();
    postgres.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    let url = postgres.url("postgres").replace("postgres@", "nobody:hunter2@");
    let refused = refusal(Controller::new(Some(&url)).unwrap());
    assert!(refused.contains("refuses this user or its password"), "{refused}");
    assert!(!refused.contains("hunter"), "a password is shown:\n{refused}");
    postgres.halt().unwrap();
}

#[test]
fn a_start_on_a_read_only_disk_says_so() {
    let dir = directory("database").unwrap();
    let url = format!("sqlite:{}/hostler.db", dir.path().display());
    let mut controller = Controller::new(Some(&url)).unwrap();
    controller.run().unwrap();
    let made = controller.call("POST", "/api/sites", Some(&json!({ "name": "shop" }))).unwrap();
    made.expect(201).unwrap();
    assert_eq!(controller.stop(), Some(0));
    let dir = dir.path().to_owned();
    let refused = refusal(controller.in_surroundings(Around::ReadOnly { dir }));
    assert!(refused.contains(&url), "{refused}");
    assert!(refused.contains("this user"), "{refused}");
}
