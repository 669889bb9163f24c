//! Docker Engines of the tests' own: dockerd with its containerd, its containers and its files in
//! namespaces and a directory that go with it. An engine that runs already is never touched.

mod cgroups;
mod compose;
mod images;
mod room;

pub use compose::{Compose, DIRECTORY_VARIABLE, config_dir};
pub use images::{SLEEPER, WEB, WEB_NEXT};

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cgroups::Group;
use room::Room;
use serde_json::Value;

use super::{
    Answer, Process, SERVER_SECS_MAX, ServerError, command, directory, exchange, get, wait_for,
};

/// The package's command line: another one may come first in `PATH`.
pub const DOCKER: &str = "/usr/bin/docker";
const DOCKERD: &str = "/usr/sbin/dockerd";
/// How long an answer of the engine may take.
const ANSWER_SECS_MAX: u64 = 60;

/// A Docker Engine with the images [`WEB`], [`WEB_NEXT`] and [`SLEEPER`], for root.
///
/// Its containers end at once when told to: each has an init. Published ports are in the engine's
/// own network, seen only [`within`](Self::within) it, and there is no way out: an image that is
/// not there cannot be pulled.
#[derive(Debug)]
pub struct DockerServer {
    // The order matters: the engine, its containers, what they leave, the files.
    process: Option<Process>,
    room: Room,
    group: Group,
    dir: tempfile::TempDir,
}

/// The engine of the tests that run at the same time and need not be apart.
static SHARED: Mutex<Weak<DockerServer>> = Mutex::new(Weak::new());

impl DockerServer {
    /// Starts an engine that nobody else uses.
    ///
    /// # Errors
    /// When this process is not root, Docker is not installed, or the engine does not come up.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_with(&[WEB, WEB_NEXT, SLEEPER])
    }

    /// The same with these of the images alone.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(images: &[&str]) -> Result<Self, ServerError> {
        let dir = directory("docker")?;
        let room = Room::make(&dir.path().join("room.log"))?;
        let mut server = Self { process: None, room, group: Group::new(), dir };
        server.run()?;
        images.iter().try_for_each(|image| server.build_known(image))?;
        Ok(server)
    }

    /// The engine all tests of this process share that run at the same time; it ends with the last
    /// of them. To be apart they name their projects, containers and ports each for itself.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn shared() -> Result<Arc<Self>, ServerError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// Starts the engine (again) on its files.
    ///
    /// # Errors
    /// When it does not come up; what it said is in the error.
    pub fn run(&mut self) -> Result<(), ServerError> {
        let at = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let (host, group) = (self.host(), format!("/{}", self.group.name()));
        let (data, exec, pid) = (at("data"), at("exec"), at("docker.pid"));
        let config = at("daemon.json");
        // This file and no other: the machine's own is for the machine's own engine.
        super::write(config.as_ref(), "{}")?;
        let program = [
            [DOCKERD, "--init"].as_slice(),
            &["--host", &host, "--config-file", &config, "--pidfile", &pid],
            &["--data-root", &data, "--exec-root", &exec, "--cgroup-parent", &group],
            &["--shutdown-timeout", "5"],
        ]
        .concat();
        let log = self.dir.path().join("docker.log");
        let mut process = self.room.start("dockerd", &program, &log)?;
        let ready = wait_for("dockerd to answer", SERVER_SECS_MAX, || {
            if !process.is_running() {
                return Some(false);
            }
            self.api("GET", "/_ping", None).ok().map(|answer| answer.status == 200)
        });
        self.process = Some(process);
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(ServerError::new("starting dockerd", self.log())),
            Err(error) => Err(ServerError(format!("{error}\n{}", self.log()))),
        }
    }

    /// Stops the engine as its service would be: its containers stop too, and those with a restart
    /// policy come back when it [runs](Self::run) again.
    pub fn halt(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// Kills dockerd as a crash would: its containers run on.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// The socket of its API.
    #[must_use]
    pub fn sock(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// What `DOCKER_HOST` has to be.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.sock().display())
    }

    /// The name of the control group its containers are in.
    #[must_use]
    pub fn group(&self) -> &str {
        self.group.name()
    }

    /// What the engine has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("docker.log")).unwrap_or_default()
    }

    /// A program that finds this engine, and version 2 of Compose as `docker compose`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut started = command(program);
        started.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", config_dir());
        started
    }

    /// Runs the command line; what it prints.
    ///
    /// # Errors
    /// What it complained of.
    pub fn docker(&self, args: &[&str]) -> Result<String, ServerError> {
        output(self.command(DOCKER).args(args), &format!("docker {}", args.join(" ")))
    }

    /// Runs a Compose program; what it prints.
    ///
    /// # Errors
    /// What it complained of, or that it is not installed.
    pub fn compose(&self, compose: Compose, args: &[&str]) -> Result<String, ServerError> {
        let what = format!("compose {compose:?} {}", args.join(" "));
        output(self.command(compose.program()?).args(args), &what)
    }

    /// One request to the Engine's API, `/containers/json` say.
    ///
    /// # Errors
    /// When the engine does not answer; what it refuses is an answer.
    pub fn api(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ServerError> {
        let what = format!("{method} {path}");
        let failed = |error: std::io::Error| ServerError::new(&what, error);
        let stream = UnixStream::connect(self.sock()).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECS_MAX))).map_err(failed)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{what} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        exchange(stream, &what, &format!("{head}\r\n\r\n{body}"))
    }

    /// The containers of a Compose project, those that do not run included, as `/containers/json`
    /// lists them, in the order of their names.
    ///
    /// # Errors
    /// When the engine does not answer with a list.
    pub fn containers(&self, project: &str) -> Result<Vec<Value>, ServerError> {
        let answer = self.api("GET", "/containers/json?all=1", None)?;
        let mut all: Vec<Value> = serde_json::from_str(&answer.body)
            .map_err(|error| ServerError::new("listing containers", error))?;
        all.retain(|container| container["Labels"]["com.docker.compose.project"] == project);
        all.sort_by_key(|container| container["Names"][0].as_str().map(str::to_owned));
        Ok(all)
    }

    /// Does something in the engine's network, in a thread of its own: its containers and the ports
    /// they publish are there.
    ///
    /// # Errors
    /// When the network cannot be entered.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, ServerError> {
        self.room.within(act)
    }

    /// A visitor's request to a published port.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn get(&self, port: u16, path: &str) -> Result<Answer, ServerError> {
        self.within(|| get(port, "localhost", path, &[]))?
    }
}

impl Drop for DockerServer {
    fn drop(&mut self) {
        // The containers are killed with their namespaces: nobody needs to stop them first.
        self.kill();
    }
}

fn output(command: &mut Command, what: &str) -> Result<String, ServerError> {
    let out = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| ServerError::new(what, error))?;
    if !out.status.success() {
        return Err(ServerError::new(what, String::from_utf8_lossy(&out.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
