//! `make demo-cluster`: two controllers on one PostgreSQL, three hosts with their sites, on loopback.
//! Work is asked of either controller, one of them is killed, its hosts move, and who follows the
//! events goes on at the other. Everything it starts has its own directory and ports and ends with it.

mod follower;

use std::io::IsTerminal;
use std::process::ExitCode;

use hostler_tests::servers::{ServerError, instant, wait_for};
use hostler_tests::system::{Cluster, Host, Site};
use hostler_tests::teller::{Teller, complain};
use serde_json::{Value, json};

use follower::Follower;

/// Hosts of the demo.
const HOSTS: usize = 3;
/// Purges of each fan.
const FAN: usize = 12;
/// The longest anything here may take, in seconds.
const SECS_MAX: u64 = 90;

fn main() -> ExitCode {
    let teller = Teller::begin();
    match run(&teller) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Hosts before controllers: the order in which they stop.
struct Show {
    hosts: Vec<Host>,
    sites: Vec<Site>,
    cluster: Cluster,
}

fn run(teller: &Teller) -> Result<(), ServerError> {
    teller.say("starting PostgreSQL and a controller; it makes the installation's root");
    teller.say(
        "`hostler-controller pki issue --name ctl-2`, and a second controller with what it made",
    );
    let cluster = Cluster::start(2)?;
    let mut show = Show { hosts: Vec::new(), sites: Vec::new(), cluster };
    for n in 0..HOSTS {
        let controller = &show.cluster.controllers[n % 2];
        let mut host = Host::start(&format!("web{}", n + 1))?;
        host.enrol(controller)?;
        host.run_agent()?;
        controller.wait_connected(&host.name)?;
        let site = Site::create(controller, &host, &format!("shop{}", n + 1))?;
        show.hosts.push(host);
        show.sites.push(site);
    }
    teller.say(&format!("{HOSTS} hosts with a site each, enrolled at either: {}", show.places()?));

    for (n, site) in show.sites.iter().enumerate() {
        let job = site.set_caches(&show.cluster.controllers[(n + 1) % 2], true, true)?;
        succeeded(&job)?;
    }
    teller.say("both caches of every site switched on, asked of the one controller or the other");
    show.fan(teller, "by fan over both controllers")?;

    let victim = show.busiest()?;
    let port = |place: usize| show.cluster.controllers[place].api_port;
    let follower = Follower::start(vec![port(victim), port(1 - victim)])?;
    teller.say(&format!("kill -9 of controller {}; somebody follows its events", victim + 1));
    show.cluster.controllers[victim].kill();
    show.fan(teller, "while a controller is dead")?;
    teller.say(&format!("its hosts have moved: {}", show.places()?));
    show.cluster.controllers[victim].run()?;
    teller.say(&format!("controller {} serves again", victim + 1));
    show.fan(teller, "by fan over both controllers again")?;
    let newest: i64 = show
        .cluster
        .sql("SELECT value FROM counters WHERE name = 'event_seq'")?
        .parse()
        .map_err(|error| ServerError::new("reading the newest event", error))?;
    let followed = follower.until(newest)?;
    teller.say(&format!(
        "the follower saw events {} to {} over {} connections, without a gap or a repeat",
        followed.first, followed.last, followed.connections
    ));
    let bad = show.cluster.sql(
        "SELECT count(*) FROM events WHERE kind IN ('job.failed', 'job.held', 'job.cancelled')",
    )?;
    teller.say(&format!("jobs that failed, were held or cancelled in all: {bad}"));
    if bad != "0" {
        return Err(ServerError("not every job succeeded".to_owned()));
    }
    show.stay(teller)?;
    teller.say("done; stopping everything");
    Ok(())
}

fn succeeded(job: &Value) -> Result<(), ServerError> {
    if job["state"] == "succeeded" {
        return Ok(());
    }
    Err(ServerError(format!("the job did not succeed: {job:#}")))
}

impl Show {
    /// Which host is connected where.
    fn places(&self) -> Result<String, ServerError> {
        let told = self.cluster.sql(
            "SELECT string_agg(h.name || ' at ' || p.controller_id, ', ' ORDER BY h.name) \
             FROM host_sessions p JOIN hosts h ON h.id = p.host_id",
        )?;
        let mut told = told;
        for (n, controller) in self.cluster.controllers.iter().enumerate() {
            told = told.replace(&id(controller)?, &format!("controller {}", n + 1));
        }
        Ok(told)
    }

    /// The controller with the most hosts.
    fn busiest(&self) -> Result<usize, ServerError> {
        let told = self.cluster.sql(
            "SELECT controller_id FROM host_sessions GROUP BY 1 ORDER BY count(*) DESC LIMIT 1",
        )?;
        for (n, controller) in self.cluster.controllers.iter().enumerate() {
            if id(controller)? == told {
                return Ok(n);
            }
        }
        Err(ServerError(format!("no controller is called {told}")))
    }

    /// Purges of every site, asked of either controller in turn; waits for all.
    fn fan(&self, teller: &Teller, how: &str) -> Result<(), ServerError> {
        let began = instant();
        let mut jobs = Vec::new();
        for n in 0..FAN {
            let site = &self.sites[n % self.sites.len()];
            let path = format!("/api/environments/{}/cache/purge", site.environment);
            let purge = json!({ "urls": [site.url(&format!("/{n}"))] });
            let reply = self.cluster.call(n, "POST", &path, &[], Some(&purge))?.expect(202)?;
            jobs.push(reply["job_id"].as_str().unwrap_or_default().to_owned());
        }
        for id in &jobs {
            let job = wait_for(&format!("job {id}"), SECS_MAX, || {
                let path = format!("/api/jobs/{id}");
                let job = self.cluster.call(0, "GET", &path, &[], None).ok()?.json();
                (job["finished_at"] != Value::Null).then_some(job)
            })?;
            succeeded(&job)?;
        }
        let secs = began.elapsed().as_secs_f64();
        teller.say(&format!("{} purges {how}: all succeeded, in {secs:.2} s", jobs.len()));
        Ok(())
    }

    /// In a terminal the demo stays up until it is interrupted.
    fn stay(&self, teller: &Teller) -> Result<(), ServerError> {
        if std::env::var_os("CI").is_some() || !std::io::stdout().is_terminal() {
            return Ok(());
        }
        let ports: Vec<String> = self
            .cluster
            .controllers
            .iter()
            .map(|one| format!("http://127.0.0.1:{}/", one.api_port))
            .collect();
        teller.say(&format!("it stays up until Ctrl-C. Look at {}", ports.join(" or ")));
        let failed = |error| ServerError::new("waiting for Ctrl-C", error);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?
            .block_on(tokio::signal::ctrl_c())
            .map_err(failed)
    }
}

fn id(controller: &hostler_tests::system::Controller) -> Result<String, ServerError> {
    let path = controller.data_dir().join("controller-id");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| ServerError::new("reading a controller's id", error))?;
    Ok(text.trim().to_owned())
}
