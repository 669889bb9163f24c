//! A host: nginx, PHP-FPM, Redis and the agent that looks after them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::controller::Controller;
use super::program;
use crate::servers::nginx::Nginx;
use crate::servers::php::PhpFpm;
use crate::servers::redis::Redis;
use crate::servers::{Process, ServerError, command, directory, write};

/// The repository's playbooks, which a package puts elsewhere.
const PLAYBOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible");

/// A machine as an operator has it, on loopback.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    agent: Option<Process>,
    pub nginx: Nginx,
    pub php: PhpFpm,
    pub redis: Redis,
    dir: tempfile::TempDir,
}

impl Host {
    /// Starts the servers of a host and writes its agent's policy.
    ///
    /// # Errors
    /// When a server does not come up.
    pub fn start(name: &str) -> Result<Self, ServerError> {
        let host = Self {
            name: name.to_owned(),
            agent: None,
            nginx: Nginx::start("")?,
            php: PhpFpm::start(4)?,
            redis: Redis::start(Some("correct-horse"), "")?,
            dir: directory("host")?,
        };
        write(&host.policy_file(), &host.policy()?)?;
        write(&host.config_file(), &format!("playbook_dir = {PLAYBOOKS:?}\n"))?;
        write(&host.password_file(), "correct-horse\n")?;
        std::fs::set_permissions(host.password_file(), std::fs::Permissions::from_mode(0o600))
            .map_err(|error| ServerError::new("closing the password file", error))?;
        Ok(host)
    }

    fn policy(&self) -> Result<String, ServerError> {
        Ok(format!(
            "roots = [{:?}, {:?}]\nnginx_command = {:?}\nnginx_pid_file = {:?}\nnginx_error_log = {:?}\n",
            self.dir.path(),
            self.nginx.dir(),
            self.nginx.command_line()?,
            self.nginx.pid_file(),
            self.nginx.dir().join("error.log"),
        ))
    }

    /// Where everything of this host is that is not its servers' own.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The agent's state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    fn policy_file(&self) -> PathBuf {
        self.dir.path().join("policy.toml")
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("agent.toml")
    }

    /// The file with the Redis password.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.dir.path().join("redis.password")
    }

    /// Gives the host an identity.
    ///
    /// # Errors
    /// What `hostler-agent enroll` printed, if it failed.
    pub fn enrol(&self, controller: &Controller) -> Result<(), ServerError> {
        self.enrol_as(&self.name, controller)
    }

    /// Gives the host an identity of that name, over one it has.
    ///
    /// # Errors
    /// What `hostler-agent enroll` printed, if it failed.
    pub fn enrol_as(&self, name: &str, controller: &Controller) -> Result<(), ServerError> {
        let token = self.dir.path().join("token");
        write(&token, &controller.join_string(name)?)?;
        let out = command(program("hostler-agent")?)
            .arg("enroll")
            .arg("--replace")
            .arg("--token-file")
            .arg(&token)
            .arg("--state-dir")
            .arg(self.state_dir())
            .output()
            .map_err(|error| ServerError::new("running hostler-agent enroll", error))?;
        if out.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        Err(ServerError(format!("enrolment failed:\n{told}\n{}", controller.log())))
    }

    /// Starts the agent (again).
    ///
    /// # Errors
    /// When it is not built.
    pub fn run_agent(&mut self) -> Result<(), ServerError> {
        let mut start = command(program("hostler-agent")?);
        start.arg("run").arg("--state-dir").arg(self.state_dir());
        start.arg("--policy").arg(self.policy_file());
        start.arg("--config").arg(self.config_file());
        self.agent = Some(Process::start("the agent", &mut start, &self.agent_log_file())?);
        Ok(())
    }

    /// Kills the agent as a crash would.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Stops the agent as an operator would; its exit code.
    pub fn stop_agent(&mut self) -> Option<i32> {
        self.agent.take().and_then(|mut agent| agent.stop())
    }

    /// The agent's process, while it runs.
    #[must_use]
    pub fn agent(&self) -> Option<&Process> {
        self.agent.as_ref()
    }

    /// What `hostler-agent doctor` says, whether all is well or not.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn doctor(&self) -> Result<String, ServerError> {
        let out = command(program("hostler-agent")?)
            .arg("doctor")
            .arg("--state-dir")
            .arg(self.state_dir())
            .output()
            .map_err(|error| ServerError::new("running hostler-agent doctor", error))?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn agent_log_file(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    /// What the agent has logged.
    #[must_use]
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.agent_log_file()).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop_agent();
    }
}
