//! Stacks as a whole: a repository, a controller that looks at it, and hosts with an engine and an
//! agent each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::http::Reply;
use super::{Controller, program};
use crate::servers::docker::{Compose, DockerServer, config_dir};
use crate::servers::git::{GitServer, Work};
use crate::servers::{Process, ServerError, command, directory, wait_for, write};

/// What the repository's webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "a secret between the forge and the controller";
/// The longest stacks may take to be as wished, in seconds.
const STACKS_SECS_MAX: u64 = 120;

/// A machine with Docker and an agent.
#[derive(Debug)]
pub struct StackHost {
    pub name: String,
    pub engine: Arc<DockerServer>,
    agent: Option<Process>,
    dir: tempfile::TempDir,
}

impl StackHost {
    /// A host with that engine, whose agent does not run yet.
    ///
    /// # Errors
    /// When Compose is missing.
    pub fn new(
        name: &str,
        engine: Arc<DockerServer>,
        compose: Compose,
    ) -> Result<Self, ServerError> {
        let host = Self { name: name.to_owned(), engine, agent: None, dir: directory("host")? };
        let policy = format!(
            "roots = [{:?}]\n[docker]\nsocket = {:?}\ncompose = [{:?}]\nconfig_dir = {:?}\n\
             stacks_dir = {:?}\n",
            host.dir.path(),
            host.engine.sock(),
            compose.program()?,
            config_dir(),
            host.stacks_dir(),
        );
        write(&host.dir.path().join("policy.toml"), &policy)?;
        let settings = format!("jobs_max = 4\nage_key = {:?}\n", host.age_key_file());
        write(&host.dir.path().join("agent.toml"), &settings)?;
        Ok(host)
    }

    /// Where the stacks' files are.
    #[must_use]
    pub fn stacks_dir(&self) -> PathBuf {
        self.dir.path().join("stacks")
    }

    /// All the host has.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its age keys are, if there are any.
    #[must_use]
    pub fn age_key_file(&self) -> PathBuf {
        self.dir.path().join("age.key")
    }

    /// Asks the agent what to encrypt to, as a person does.
    ///
    /// # Errors
    /// What `hostler-agent age-key` printed, if it failed.
    pub fn age_key(&self) -> Result<String, ServerError> {
        let out = command(program("hostler-agent")?)
            .args(["age-key", "--config"])
            .arg(self.dir.path().join("agent.toml"))
            .output()
            .map_err(|error| ServerError::new("running hostler-agent age-key", error))?;
        if !out.status.success() {
            return Err(ServerError(String::from_utf8_lossy(&out.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// Gives the host an identity.
    ///
    /// # Errors
    /// What `hostler-agent enroll` printed, if it failed.
    pub fn enrol(&self, controller: &Controller) -> Result<(), ServerError> {
        let token = self.dir.path().join("token");
        write(&token, &controller.join_string(&self.name)?)?;
        let out = command(program("hostler-agent")?)
            .args(["enroll", "--replace", "--token-file"])
            .arg(&token)
            .arg("--state-dir")
            .arg(self.state_dir())
            .output()
            .map_err(|error| ServerError::new("running hostler-agent enroll", error))?;
        if out.status.success() {
            return Ok(());
        }
        Err(ServerError(String::from_utf8_lossy(&out.stderr).into_owned()))
    }

    /// Starts the agent (again).
    ///
    /// # Errors
    /// When it is not built.
    pub fn run_agent(&mut self) -> Result<(), ServerError> {
        let mut start = command(program("hostler-agent")?);
        start.arg("run").arg("--state-dir").arg(self.state_dir());
        start.arg("--policy").arg(self.dir.path().join("policy.toml"));
        start.arg("--config").arg(self.dir.path().join("agent.toml"));
        let log = self.dir.path().join("agent.log");
        self.agent = Some(Process::start("the agent", &mut start, &log)?);
        Ok(())
    }

    /// Kills the agent as a crash would.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Stops the agent as an operator would.
    pub fn stop_agent(&mut self) {
        self.agent.take().and_then(|mut agent| agent.stop());
    }

    /// The agent's process id, while it runs.
    #[must_use]
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Process::pid)
    }

    /// What the agent has logged.
    #[must_use]
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// Service and id of each of a project's containers, sorted; also those that do not run.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn containers(&self, project: &str) -> Result<Vec<(String, String)>, ServerError> {
        let listed = self.engine.containers(project)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut all: Vec<(String, String)> = listed
            .iter()
            .map(|one| (text(&one["Labels"]["com.docker.compose.service"]), text(&one["Id"])))
            .collect();
        all.sort();
        Ok(all)
    }
}

impl Drop for StackHost {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

/// A controller, its repository, and its hosts.
#[derive(Debug)]
pub struct StackSystem {
    // The order matters: hosts stop before their controller.
    pub hosts: Vec<StackHost>,
    pub controller: Controller,
    pub git: GitServer,
    pub work: Work,
}

impl StackSystem {
    /// A controller on that database over a repository with these files, and a host for each engine
    /// (`web1`, `web2`, …), all connected.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start(
        database_url: Option<&str>,
        engines: Vec<Arc<DockerServer>>,
        files: &[(&str, &str)],
    ) -> Result<Self, ServerError> {
        let git = GitServer::file()?;
        let mut work = git.create("config")?;
        work.commit_files(files)?;
        work.push("refs/heads/main")?;
        let mut controller = Controller::new(database_url)?;
        for (name, value) in [
            ("HOSTLER_GIT_URL", git.url("config").as_str()),
            ("HOSTLER_GIT_REF", "main"),
            // Only webhooks and people ask for a look here.
            ("HOSTLER_GIT_POLL_INTERVAL", "off"),
            ("HOSTLER_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ] {
            controller.set_variable(name, value);
        }
        controller.run()?;
        let mut system = Self { hosts: Vec::new(), controller, git, work };
        for (n, engine) in engines.into_iter().enumerate() {
            let mut host = StackHost::new(&format!("web{}", n + 1), engine, Compose::V2)?;
            host.enrol(&system.controller)?;
            host.run_agent()?;
            system.controller.wait_connected(&host.name)?;
            system.hosts.push(host);
        }
        Ok(system)
    }

    /// Commits and pushes what was changed, and tells the controller as GitHub would.
    ///
    /// # Errors
    /// When git fails, or the webhook is refused.
    pub fn push(&mut self, message: &str) -> Result<Reply, ServerError> {
        let revision = self.work.commit(message)?;
        self.work.push("refs/heads/main")?;
        let body = json!({ "ref": "refs/heads/main", "after": revision, "deleted": false });
        self.webhook(&revision, &body)
    }

    /// Sends a push as GitHub would, under that delivery's id.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn webhook(&self, delivery: &str, body: &Value) -> Result<Reply, ServerError> {
        let signature = webhook_signature(WEBHOOK_SECRET, body.to_string().as_bytes());
        self.controller.send("/api/webhook", &push_headers(delivery, &signature), body)
    }

    /// Looks at the repository now; the look as it ended.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn refresh(&self) -> Result<Value, ServerError> {
        let reply = super::request(
            self.controller.api_port,
            "POST",
            "/api/refresh",
            &[("Prefer", "wait=60")],
            None,
        )?;
        reply.expect(200)
    }

    /// A stack by its path, with all that is known of it; `None` while there is none.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub fn stack(&self, path: &str) -> Result<Option<Value>, ServerError> {
        let list = format!("/api/stacks?path={path}");
        let listed = self.controller.call("GET", &list, None)?.expect(200)?;
        let found = listed["items"].as_array().into_iter().flatten().find(|s| s["path"] == path);
        let Some(id) = found.and_then(|stack| stack["id"].as_str()) else { return Ok(None) };
        self.controller.call("GET", &format!("/api/stacks/{id}"), None)?.expect(200).map(Some)
    }

    /// Waits until a stack is as wished.
    ///
    /// # Errors
    /// When it does not get there; the stack as it stands and the logs are in the error.
    pub fn wait_stack(
        &self,
        path: &str,
        what: &str,
        wished: impl Fn(Option<&Value>) -> bool,
    ) -> Result<Value, ServerError> {
        let mut last = self.stack(path)?;
        wait_for(&format!("stack {path} to be {what}"), STACKS_SECS_MAX, || {
            last = self.stack(path).ok()?;
            wished(last.as_ref()).then(|| last.clone().unwrap_or_default())
        })
        .map_err(|error| {
            let logs: Vec<String> = self.hosts.iter().map(StackHost::agent_log).collect();
            let stack = last.unwrap_or_default();
            let controller = self.controller.log();
            ServerError(format!("{error}\n{stack:#}\n{controller}\n{}", logs.join("\n")))
        })
    }

    /// Waits until a stack is synced everywhere, and is what the repository says.
    ///
    /// # Errors
    /// As [`StackSystem::wait_stack`].
    pub fn wait_synced(&self, path: &str, revision: &str) -> Result<Value, ServerError> {
        self.wait_stack(path, "synced", |stack| {
            stack.is_some_and(|stack| {
                stack["status"] == "synced"
                    && stack["out_of_sync"] == false
                    && stack["revision"] == revision
            })
        })
    }
}

/// The headers GitHub sends a push with.
#[must_use]
pub fn push_headers<'a>(delivery: &'a str, signature: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", delivery),
        ("X-Hub-Signature-256", signature),
    ]
}

/// GitHub's `X-Hub-Signature-256` of a body.
#[must_use]
pub fn webhook_signature(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hmac_sha256(secret, body))
}

/// HMAC-SHA-256 (RFC 2104) in lower-case hex, with a key of 64 bytes at most.
#[must_use]
pub fn hmac_sha256(secret: &str, body: &[u8]) -> String {
    let mut key = [0_u8; 64];
    for (own, byte) in key.iter_mut().zip(secret.bytes()) {
        *own = byte;
    }
    let pad = |with: u8| key.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(body).finalize();
    hex::encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}
