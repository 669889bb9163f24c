//! The whole of one phase: a database, controllers on it, a relay, and hosts.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::disk::Disk;
use super::host::{Host, Making, SITES};
use super::net::{BRIDGE, Net};
use super::plan::Shape;
use super::relay::Relay;
use super::seed::Seeded;
use super::service::{Exit, Service};
use crate::servers::php::PhpFpm;
use crate::servers::postgres::Postgres;
use crate::servers::{Process, SERVER_SECS_MAX, ServerError, command, free_port, wait_for};
use crate::system::{Reply, program, request};

/// Hosts set up at once.
const SET_UP_AT_ONCE: usize = 3;
/// Every so many-th host finds its controllers through the relay.
const RELAYED_EVERY: usize = 3;
/// MiB of the controller's data directory where the database is a file.
const DATA_DISK_MIB: u64 = 192;
/// The longest the set-up's jobs may take, in seconds.
const SET_UP_SECS_MAX: u64 = 120;

const DATABASE: &str = "hostler_chaos";

/// A controller.
#[derive(Debug)]
pub struct Controller {
    pub api_port: u16,
    pub agents: SocketAddrV4,
    pub service: Service,
}

/// What everything of a phase is.
#[derive(Debug)]
pub struct World {
    // Hosts go before their controllers, those before their database.
    pub hosts: Vec<Host>,
    pub relay: Relay,
    pub controllers: Vec<Controller>,
    pub postgres: Option<Postgres>,
    /// The controller's data directory, where the database is a file.
    pub disk: Option<Disk>,
    database: PathBuf,
    _php: PhpFpm,
}

impl World {
    /// Sets everything up below `dir`; every process logs into `logs`.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn make(
        dir: &Path,
        logs: &Path,
        shape: &Shape,
        seeded: &mut Seeded,
    ) -> Result<Self, ServerError> {
        // By us, since a controller makes what it needs for itself alone.
        std::fs::create_dir_all(dir)
            .map_err(|error| ServerError::new("making the phase's directory", error))?;
        let php = PhpFpm::start(24)?;
        let data = dir.join("controller-0");
        let (mut postgres, mut disk, mut url) = (None, None, None);
        if shape.postgres {
            let server = Postgres::start_own()?;
            url = Some(server.create_database(DATABASE)?);
            postgres = Some(server);
        } else {
            disk = Some(Disk::make(&dir.join("data.img"), &data, DATA_DISK_MIB)?);
        }
        let mut controllers = Vec::new();
        for number in 0..shape.controllers {
            controllers.push(controller(number, dir, logs, url.clone(), shape.certificate_secs)?);
        }
        let first = controllers.first().map_or_else(|| SocketAddrV4::new(BRIDGE, 0), |c| c.agents);
        let relay = Relay::start(BRIDGE, SocketAddr::V4(first), seeded.fork())?;
        let database = data.join("hostler.db");
        let mut world =
            Self { hosts: vec![], relay, controllers, postgres, disk, database, _php: php };
        world.start_controllers()?;
        world.add_hosts(dir, logs, shape)?;
        world.add_environments()?;
        Ok(world)
    }

    fn start_controllers(&mut self) -> Result<(), ServerError> {
        for controller in &mut self.controllers {
            controller.service.run()?;
            let port = controller.api_port;
            wait_for("a controller to be ready", SERVER_SECS_MAX, || {
                let reply = request(port, "GET", "/readyz", &[], None).ok()?;
                (reply.status == 200).then_some(())
            })?;
        }
        Ok(())
    }

    fn add_hosts(&mut self, dir: &Path, logs: &Path, shape: &Shape) -> Result<(), ServerError> {
        let direct: Vec<String> =
            self.controllers.iter().map(|controller| controller.agents.to_string()).collect();
        let relayed = vec![format!("{BRIDGE}:{}", self.relay.port)];
        let php_socket = self._php.socket.clone();
        let makings = (0..shape.hosts).map(|number| {
            let through = if number % RELAYED_EVERY == 0 { &relayed } else { &direct };
            Making {
                number,
                dir,
                logs,
                php_socket: &php_socket,
                controllers: through.clone(),
                small_disk: number < shape.small_disks,
            }
        });
        let makings: Vec<Making<'_>> = makings.collect();
        let api = self.controllers.first().map_or(0, |controller| controller.api_port);
        for some in makings.chunks(SET_UP_AT_ONCE) {
            let made = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    some.iter().map(|making| scope.spawn(|| add_host(making, api))).collect();
                threads.into_iter().map(joined).collect::<Result<Vec<Host>, ServerError>>()
            })?;
            self.hosts.extend(made);
        }
        Ok(())
    }

    /// Makes the hosts' environments and switches their caches on.
    fn add_environments(&mut self) -> Result<(), ServerError> {
        let mut jobs = Vec::new();
        let mut environments = Vec::new();
        for host in &self.hosts {
            for site in &host.sites {
                let body = json!({ "name": site.name });
                let made = self.call("POST", "/api/sites", Some(&body))?.expect(201)?;
                let path = format!("/api/sites/{}/environments", text(&made["id"]));
                let body = host.body(site);
                let made = self.call("POST", &path, Some(&body))?.expect(201)?;
                let environment = text(&made["id"]);
                let path = format!("/api/environments/{environment}/cache");
                let on = json!({ "fastcgi_cache_enabled": true });
                let job = self.call("PATCH", &path, Some(&on))?.expect(202)?;
                environments.push(environment);
                jobs.push(text(&job["job_id"]));
            }
        }
        for (host, ids) in self.hosts.iter_mut().zip(environments.chunks(SITES)) {
            for (site, id) in host.sites.iter_mut().zip(ids) {
                site.environment.clone_from(id);
            }
        }
        for job in jobs {
            let mut last = Value::Null;
            wait_for(&format!("job {job} of the set-up"), SET_UP_SECS_MAX, || {
                last = self.call("GET", &format!("/api/jobs/{job}"), None).ok()?.json();
                (last["state"] != "queued" && last["state"] != "running").then_some(())
            })?;
            if last["state"] != "succeeded" {
                return Err(ServerError::new("a job of the set-up", format!("{last:#}")));
            }
        }
        Ok(())
    }

    /// A request to the first controller's API.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, ServerError> {
        let port = self.controllers.first().map_or(0, |controller| controller.api_port);
        request(port, method, path, &[], body)
    }

    /// Starts again what has ended; what ended without having been told to.
    ///
    /// # Errors
    /// When something cannot be started.
    pub fn tend(&mut self) -> Result<Vec<Exit>, ServerError> {
        let controllers = self.controllers.iter_mut().map(|controller| &mut controller.service);
        let agents = self.hosts.iter_mut().map(|host| &mut host.agent);
        let mut exits = Vec::new();
        for service in controllers.chain(agents) {
            exits.extend(service.tend()?);
        }
        Ok(exits)
    }

    /// Rows of the database, one JSON object each, as `sql` names their columns.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn rows(&self, sql: &str) -> Result<Vec<Value>, ServerError> {
        let text = match &self.postgres {
            Some(postgres) => {
                let sql = format!("SELECT row_to_json(wanted) FROM ({sql}) wanted");
                postgres.psql(DATABASE, &sql)?
            }
            None => self.sqlite(sql)?,
        };
        text.lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|error| ServerError::new("reading rows", error))
    }

    /// What reads the event log as the oracle wants it.
    #[must_use]
    pub fn events_sql(&self) -> String {
        let attempt = match self.postgres {
            Some(_) => "CAST(CAST(document AS json) ->> 'attempt' AS bigint)",
            None => "json_extract(document, '$.attempt')",
        };
        format!("SELECT seq, kind, job_id, {attempt} AS attempt FROM events ORDER BY seq")
    }

    fn sqlite(&self, sql: &str) -> Result<String, ServerError> {
        let program = "import json, sqlite3, sys\n\
            c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True, timeout=30)\n\
            c.row_factory = sqlite3.Row\n\
            for row in c.execute(sys.argv[2]): print(json.dumps(dict(row)))\n";
        let mut python = command("python3");
        let out = python.args(["-c", program]).arg(&self.database).arg(sql).output();
        let out = out.map_err(|error| ServerError::new("running python3", error))?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            false => Err(ServerError::new("reading rows", String::from_utf8_lossy(&out.stderr))),
        }
    }

    /// Ends what would take its time to end by itself.
    pub fn end(&mut self) {
        for host in &mut self.hosts {
            host.agent.kill();
        }
        for controller in &mut self.controllers {
            controller.service.kill();
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn joined<T>(
    thread: std::thread::ScopedJoinHandle<'_, Result<T, ServerError>>,
) -> Result<T, ServerError> {
    thread.join().unwrap_or_else(|_| Err(ServerError("a thread panicked".to_owned())))
}

fn add_host(making: &Making<'_>, api_port: u16) -> Result<Host, ServerError> {
    let mut host = Host::make(Net::make(making.number)?, making)?;
    let body = json!({ "host_name": host.name });
    let made = request(api_port, "POST", "/api/enrolment-tokens", &[], Some(&body))?.expect(201)?;
    host.enrol(&text(&made["join"]))?;
    host.agent.run()?;
    Ok(host)
}

fn controller(
    number: usize,
    dir: &Path,
    logs: &Path,
    url: Option<String>,
    certificate_secs: u64,
) -> Result<Controller, ServerError> {
    let (program, api_port) = (program("hostler-controller")?, free_port()?);
    let agents = UdpSocket::bind((BRIDGE, 0)).and_then(|socket| socket.local_addr());
    let port = agents.map_err(|error| ServerError::new("looking for a free port", error))?.port();
    let agents = SocketAddrV4::new(BRIDGE, port);
    let name = format!("controller-{number}");
    let (data, log) = (dir.join(&name), logs.join(format!("{name}.log")));
    let into = log.clone();
    let start = move || {
        let mut start = command(&program);
        start.args(["serve", "--log-format", "json", "--metrics-listen", "off", "--data-dir"]);
        start.arg(&data).args(["--listen", &format!("127.0.0.1:{api_port}")]);
        start.args(["--agent-listen", &agents.to_string(), "--agent-address", &agents.to_string()]);
        start.args(["--host-certificate-secs", &certificate_secs.to_string()]);
        if let Some(url) = &url {
            start.env("HOSTLER_DATABASE_URL", url);
        }
        Process::start("a controller", &mut start, &into)
    };
    Ok(Controller { api_port, agents, service: Service::new(name, log, Box::new(start)) })
}
