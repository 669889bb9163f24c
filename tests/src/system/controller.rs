//! A controller as a process, with everything of it in one directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::http::{Reply, request};
use super::program;
use crate::servers::{
    Process, SERVER_SECS_MAX, ServerError, command, directory, free_port, is_root, wait_for,
};

/// The longest a job of the tests may take, in seconds.
const JOB_SECS_MAX: u64 = 60;

/// A controller on loopback.
#[derive(Debug)]
pub struct Controller {
    pub api_port: u16,
    pub agent_port: u16,
    pub metrics_port: u16,
    database_url: Option<String>,
    around: Around,
    /// Further arguments of its command line.
    args: Vec<String>,
    /// Further variables of its environment.
    variables: Vec<(String, String)>,
    process: Option<Process>,
    dir: tempfile::TempDir,
}

/// What the controller's process finds around it.
#[derive(Debug, Clone, Default)]
pub enum Around {
    /// What every program finds.
    #[default]
    Usual,
    /// Its data directory is a file system of its own, of so many MiB.
    SmallDisk { mib: u32 },
    /// Writing beyond a limit on the size of files is an error and not its end.
    FileSizeSignalIgnored,
    /// A directory is on a read-only file system.
    ReadOnly { dir: PathBuf },
}

impl Around {
    /// The command that starts a program in these surroundings; the program follows.
    fn command(&self, data: &Path) -> Option<Command> {
        let data = data.display();
        let setup = match self {
            Self::Usual => return None,
            Self::FileSizeSignalIgnored => {
                let mut shell = command("sh");
                shell.args(["-c", r#"trap '' XFSZ; exec "$@""#, "sh"]);
                return Some(shell);
            }
            Self::SmallDisk { mib } => {
                format!("mkdir -p '{data}' && mount -t tmpfs -o size={mib}m tmpfs '{data}'")
            }
            Self::ReadOnly { dir } => {
                let dir = dir.display();
                format!("mount --bind '{dir}' '{dir}' && mount -o remount,bind,ro '{dir}' '{dir}'")
            }
        };
        // Mounts of its own, gone with the process.
        let mut own = command("unshare");
        if !is_root() {
            own.args(["--user", "--map-root-user"]);
        }
        own.args(["--mount", "--propagation", "private", "sh", "-c"]);
        own.arg(format!(r#"{setup} && exec "$@""#)).arg("sh");
        Some(own)
    }
}

impl Controller {
    /// Starts one on its embedded default, or on another database.
    ///
    /// # Errors
    /// When it does not become ready; its log is in the error.
    pub fn start(database_url: Option<&str>) -> Result<Self, ServerError> {
        Self::start_with(database_url, &[])
    }

    /// The same, with further arguments.
    ///
    /// # Errors
    /// As [`Controller::start`].
    pub fn start_with(database_url: Option<&str>, args: &[&str]) -> Result<Self, ServerError> {
        let mut controller = Self::new(database_url)?;
        controller.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        controller.run()?;
        Ok(controller)
    }

    /// One that does not run yet.
    ///
    /// # Errors
    /// When loopback has no ports to give.
    pub fn new(database_url: Option<&str>) -> Result<Self, ServerError> {
        Ok(Self {
            api_port: free_port()?,
            agent_port: free_port()?,
            metrics_port: free_port()?,
            database_url: database_url.map(str::to_owned),
            around: Around::Usual,
            args: Vec::new(),
            variables: Vec::new(),
            process: None,
            dir: directory("controller")?,
        })
    }

    /// Further arguments of its command line, from its next start on.
    pub fn set_args(&mut self, args: Vec<String>) {
        self.args = args;
    }

    /// A variable of its environment, from its next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The same in other surroundings, from its next start on.
    #[must_use]
    pub fn in_surroundings(mut self, around: Around) -> Self {
        self.around = around;
        self
    }

    /// Its data directory, as its process sees it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let data = self.dir.path().join("data");
        match (&self.around, self.pid()) {
            (Around::SmallDisk { .. }, Some(pid)) => {
                PathBuf::from(format!("/proc/{pid}/root{}", data.display()))
            }
            _ => data,
        }
    }

    /// Starts the process (again) on the same directory and ports.
    ///
    /// # Errors
    /// When it does not become ready; its log is in the error.
    pub fn run(&mut self) -> Result<(), ServerError> {
        let (program, data) = (program("hostler-controller")?, self.dir.path().join("data"));
        let mut start = match self.around.command(&data) {
            Some(mut around) => {
                around.arg(program);
                around
            }
            None => command(program),
        };
        start.arg("serve").arg("--data-dir").arg(data);
        for (flag, port) in [
            ("--listen", self.api_port),
            ("--agent-listen", self.agent_port),
            ("--agent-address", self.agent_port),
            ("--metrics-listen", self.metrics_port),
        ] {
            start.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        start.args(&self.args);
        start.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(url) = &self.database_url {
            start.env("HOSTLER_DATABASE_URL", url);
        }
        let mut process = Process::start("the controller", &mut start, &self.log_file())?;
        let ready = wait_for("the controller to be ready", SERVER_SECS_MAX, || {
            if !process.is_running() {
                return Some(false);
            }
            let reply = request(self.api_port, "GET", "/readyz", &[], None).ok()?;
            (reply.status == 200).then_some(true)
        });
        self.process = Some(process);
        match ready {
            Ok(true) => Ok(()),
            Ok(false) => Err(ServerError(format!("the controller ended:\n{}", self.log()))),
            Err(error) => Err(ServerError(format!("{error}\n{}", self.log()))),
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it as an operator would; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.take().and_then(|mut process| process.stop())
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("controller.log")
    }

    /// A request to its API.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, ServerError> {
        request(self.api_port, method, path, &[], body)
    }

    /// A request to its API with these headers and this body, as they are.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn send(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply, ServerError> {
        request(self.api_port, "POST", path, headers, Some(body))
    }

    /// A new enrolment token's join string.
    ///
    /// # Errors
    /// When the API refuses it.
    pub fn join_string(&self, host_name: &str) -> Result<String, ServerError> {
        let body = json!({ "host_name": host_name });
        let made = self.call("POST", "/api/enrolment-tokens", Some(&body))?.expect(201)?;
        Ok(made["join"].as_str().unwrap_or_default().to_owned())
    }

    /// A host as it stands, by its name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<Value> {
        let hosts = self.call("GET", "/api/hosts", None).ok()?.json();
        hosts["items"].as_array()?.iter().find(|host| host["name"] == name).cloned()
    }

    /// How many events of a kind are in its embedded database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn events(&self, kind: &str) -> Result<usize, ServerError> {
        let program = "import sqlite3, sys; \
            c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True, timeout=20); \
            print(c.execute('SELECT count(*) FROM events WHERE kind = ?', [sys.argv[2]]).fetchone()[0])";
        let out = command("python3")
            .args(["-c", program])
            .arg(self.dir.path().join("data/hostler.db"))
            .arg(kind)
            .output()
            .map_err(|error| ServerError::new("reading events", error))?;
        String::from_utf8_lossy(&out.stdout)
            .trim()
            .parse()
            .map_err(|_| ServerError::new("reading events", String::from_utf8_lossy(&out.stderr)))
    }

    /// Waits until a host is as wished.
    ///
    /// # Errors
    /// When it does not get there; the controller's log is in the error.
    pub fn wait_host(
        &self,
        name: &str,
        what: &str,
        wished: impl Fn(&Value) -> bool,
    ) -> Result<Value, ServerError> {
        wait_for(&format!("host {name} to be {what}"), JOB_SECS_MAX, || {
            self.host(name).filter(&wished)
        })
        .map_err(|error| {
            let host = self.host(name).unwrap_or_default();
            ServerError(format!("{error}\n{host:#}\n{}", self.log()))
        })
    }

    /// Waits until a host has a session.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_connected(&self, host_name: &str) -> Result<(), ServerError> {
        self.wait_host(host_name, "connected", |host| host["connected"] == true).map(|_| ())
    }

    /// A job as it stands.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn job(&self, id: &str) -> Result<Value, ServerError> {
        self.call("GET", &format!("/api/jobs/{id}"), None)?.expect(200)
    }

    /// Waits until a job has one of these states.
    ///
    /// # Errors
    /// When it does not get there; the job as it stands is in the error.
    pub fn wait_job(&self, id: &str, states: &[&str]) -> Result<Value, ServerError> {
        let mut last = Value::Null;
        wait_for(&format!("job {id} to be {states:?}"), JOB_SECS_MAX, || {
            last = self.job(id).ok()?;
            states.iter().any(|state| last["state"] == *state).then(|| last.clone())
        })
        .map_err(|error| ServerError(format!("{error}\n{last:#}\n{}", self.log())))
    }

    /// Sends a request that makes a job, and waits for the job's end.
    ///
    /// # Errors
    /// When the request is refused or the job does not end.
    pub fn run_job(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ServerError> {
        let accepted = self.call(method, path, body)?.expect(202)?;
        let id = accepted["job_id"].as_str().unwrap_or_default();
        self.wait_job(id, &["succeeded", "failed", "cancelled", "held"])
    }
}
