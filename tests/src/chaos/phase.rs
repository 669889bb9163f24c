//! One phase: a world is set up, plan and clients run, everything is lifted and comes to quiet,
//! and the oracle looks at what is left.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::clients::{Accepted, Asked, Clients, Target, requests};
use super::faults::{Done, Driver};
use super::host::Site;
use super::judge::{Evidence, judge};
use super::logs::{Writer, read};
use super::plan::{Shape, plan};
use super::report::Report;
use super::seed::Seeded;
use super::world::World;
use crate::bench::clock::Watch;
use crate::servers::ServerError;

/// Seconds after the last fault in which everything ends that waits out no back-off.
const QUIET_SECS_MAX: u64 = 180;
/// Seconds for a job whose attempt was refused twice: it waits a minute, then five.
const BACKED_OFF_SECS_MAX: u64 = 440;
/// Seconds after the last fault in which clients still send what the faults kept them from.
const LATE_SECS_MAX: u64 = 60;
/// Milliseconds between two looks at whether all is quiet.
const LOOK_MS: u64 = 250;

/// What a phase is run with.
#[derive(Debug)]
pub struct Phase<'a> {
    pub name: &'a str,
    pub dir: &'a Path,
    pub logs: &'a Path,
    pub seed: u64,
    pub secs: u64,
    pub jobs: usize,
    pub shape: Shape,
}

impl Phase<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// When the world cannot be set up or looked at: that says nothing about the product.
    pub fn run(&self) -> Result<Report, ServerError> {
        std::fs::create_dir_all(self.logs)
            .map_err(|error| ServerError::new("making the logs' directory", error))?;
        // One number replays both phases, and each is another plan.
        let mut seeded = Seeded::new(self.seed.wrapping_add(u64::from(self.shape.postgres)));
        let planned = plan(seeded.draw(), self.secs, &self.shape);
        let wanted = requests(&mut seeded, self.jobs, self.secs * 19 / 20, self.shape.hosts);
        let mut world = World::make(self.dir, self.logs, &self.shape, &mut seeded)?;
        let targets: Vec<Target> = world.hosts.iter().map(Target::of).collect();
        let ports = world.controllers.iter().map(|controller| controller.api_port).collect();
        let stop = AtomicBool::new(false);
        let clients = Clients {
            ports,
            hosts: &targets,
            phase: self.name,
            stop: &stop,
            watch: Watch::start(),
        };
        let mut driver = Driver::new(&mut world, &planned)?;
        let mut stream = seeded.fork();
        let seen = std::thread::scope(|scope| {
            let sending = scope.spawn(|| clients.send(&wanted, &mut stream));
            let ran = driver.run(self.secs);
            let late = Watch::start();
            while !sending.is_finished() && ran.is_ok() {
                if late.elapsed() >= Duration::from_secs(LATE_SECS_MAX) {
                    stop.store(true, Ordering::Relaxed);
                }
                driver.tend()?;
                std::thread::sleep(Duration::from_millis(LOOK_MS));
            }
            stop.store(true, Ordering::Relaxed);
            let seen = sending.join().map_err(|_| ServerError("a client panicked".to_owned()));
            ran.and(seen)
        })?;
        let quiet_secs = quiet(&mut driver)?;
        let done = std::mem::take(&mut driver.done);
        drop(driver);
        let evidence = self.evidence(&world, seen.accepted, seen.wrong, done)?;
        world.end();
        let verdict = judge(&evidence.0);
        Ok(Report::new(self, &evidence.0, evidence.1, verdict, quiet_secs, seen.sent_again))
    }

    fn evidence(
        &self,
        world: &World,
        accepted: Vec<Accepted>,
        mut wrong: Vec<String>,
        done: Done,
    ) -> Result<(Evidence, usize), ServerError> {
        let jobs = world.rows(JOBS)?;
        let events = world.rows(&world.events_sql())?;
        wrong.extend(done.wrong);
        wrong.extend(out_of_step(world, &jobs));
        wrong.extend(not_back(world));
        let left = still_there(&accepted);
        let mut lines = Vec::new();
        let controllers =
            world.controllers.iter().map(|one| (Writer::Controller, &one.service.log));
        let agents = world.hosts.iter().enumerate();
        let agents = agents.map(|(number, host)| (Writer::Agent(number), &host.agent.log));
        for (writer, log) in controllers.chain(agents) {
            let text = std::fs::read_to_string(log)
                .map_err(|error| ServerError::new(&format!("reading {}", log.display()), error))?;
            lines.extend(read(writer, &text));
        }
        let (faults, exits) = (done.faults, done.exits);
        let evidence = Evidence { accepted, jobs, events, lines, faults, exits, left, wrong };
        Ok((evidence, done.tcp_passed))
    }
}

const JOBS: &str = "SELECT j.id, j.job_type, j.state, j.reason, j.attempt, j.failures, j.crashes, \
    j.created_at, j.finished_at, j.run_after, j.environment_id, h.name AS host FROM (\
    SELECT id, job_type, state, reason, attempt, failures, crashes, created_at, finished_at, \
    run_after, environment_id, host_id FROM jobs UNION ALL \
    SELECT id, job_type, state, reason, attempt, failures, crashes, created_at, finished_at, \
    run_after, environment_id, host_id FROM jobs_history) j \
    LEFT JOIN hosts h ON h.id = j.host_id";

const UNFINISHED: &str = "SELECT id, state, reason FROM jobs WHERE state IN ('queued', 'running')";

/// Waits until no job is under way any more, within bounds; after how many seconds that was.
fn quiet(driver: &mut Driver<'_>) -> Result<u64, ServerError> {
    let watch = Watch::start();
    loop {
        driver.tend()?;
        let left = driver.world().rows(UNFINISHED)?;
        let secs = watch.elapsed().as_secs();
        let waits_long = |job: &Value| job["state"] == "queued" && job["reason"] == "RETRY";
        let patient = left.iter().all(waits_long);
        let most = if patient { BACKED_OFF_SECS_MAX } else { QUIET_SECS_MAX };
        if left.is_empty() || secs >= most {
            return Ok(secs);
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// The jobs whose entry is still where it was: the same file.
fn still_there(accepted: &[Accepted]) -> HashSet<String> {
    use std::os::unix::fs::MetadataExt as _;
    let there = |accepted: &&Accepted| {
        accepted.entry.as_ref().is_some_and(|(path, inode)| {
            std::fs::metadata(path).is_ok_and(|found| found.ino() == *inode)
        })
    };
    accepted.iter().filter(there).map(|accepted| accepted.job.clone()).collect()
}

/// Environments whose switch is not as it is said to be: by the database, and by nginx.
fn out_of_step(world: &World, jobs: &[Value]) -> Vec<String> {
    let mut told = Vec::new();
    for host in &world.hosts {
        for site in &host.sites {
            let failed = |job: &&Value| {
                job["environment_id"] == site.environment.as_str()
                    && job["job_type"] == "env_cache_toggle"
                    && (job["state"] == "failed" || job["state"] == "held")
            };
            if jobs.iter().any(|job| failed(&job)) {
                continue;
            }
            match in_step(world, host, site) {
                Ok(None) => {}
                Ok(Some(how)) => told.push(format!("{}: {how}", site.name)),
                Err(error) => told.push(format!("{}: {error}", site.name)),
            }
        }
    }
    told
}

fn in_step(
    world: &World,
    host: &super::host::Host,
    site: &Site,
) -> Result<Option<String>, ServerError> {
    let path = format!("/api/environments/{}/cache", site.environment);
    let state = world.call("GET", &path, None)?.expect(200)?;
    let answer = host.get(site, "/asked-at-the-end/")?;
    let cache = answer.header("X-Hostler-Cache").unwrap_or("none").to_owned();
    let on = state["fastcgi"]["applied"] == true;
    let right = state["in_sync"] == true && (cache == "OFF") != on && cache != "none";
    Ok((!right).then(|| format!("nginx says {cache}, the controller {state}")))
}

/// Hosts that have no session although nothing keeps them from it.
fn not_back(world: &World) -> Vec<String> {
    let connected = || {
        let hosts = world.call("GET", "/api/hosts?limit=200", None).ok()?.json();
        let hosts = hosts["items"].as_array()?.clone();
        let away = hosts.iter().filter(|host| host["connected"] != true);
        Some(away.map(|host| format!("{} did not come back", host["name"])).collect::<Vec<_>>())
    };
    let waited = crate::servers::wait_for("every host to be back", QUIET_SECS_MAX, || {
        connected().filter(Vec::is_empty)
    });
    match waited {
        Ok(none) => none,
        Err(error) => connected().unwrap_or_else(|| vec![error.to_string()]),
    }
}

/// How many of the accepted requests were of which kind.
#[must_use]
pub fn kinds(accepted: &[Accepted]) -> (usize, usize, usize) {
    let of = |wanted: fn(&Asked) -> bool| {
        accepted.iter().filter(|accepted| wanted(&accepted.wanted.asked)).count()
    };
    let switches = of(|asked| matches!(asked, Asked::Switch { .. }));
    (of(|asked| *asked == Asked::Purge), switches, of(|asked| *asked == Asked::Check))
}
