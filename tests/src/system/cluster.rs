//! Several controllers as processes on one PostgreSQL of their own.

use super::controller::Controller;
use super::http::{Reply, request};
use super::{ServerError, program};
use crate::servers::command;
use crate::servers::postgres::Postgres;

/// Controllers of one installation; the root's key is with the first.
#[derive(Debug)]
pub struct Cluster {
    // The order matters: controllers stop before their database.
    pub controllers: Vec<Controller>,
    pub postgres: Postgres,
    /// The database's name on its server.
    pub database: String,
}

impl Cluster {
    /// Starts a server and so many controllers, each of which names all of them to new hosts.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start(count: usize) -> Result<Self, ServerError> {
        let postgres = Postgres::start_own()?;
        let url = postgres.create_database("cluster")?;
        Self::start_on(postgres, &vec![url; count])
    }

    /// The same on a server that runs: a controller for each of these URLs of its database `cluster`.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start_on(postgres: Postgres, urls: &[String]) -> Result<Self, ServerError> {
        let made: Result<Vec<_>, _> =
            urls.iter().map(|url| Controller::new(Some(url.as_str()))).collect();
        let mut controllers = made?;
        let ports: Vec<u16> = controllers.iter().map(|one| one.agent_port).collect();
        for controller in &mut controllers {
            let others = ports.iter().filter(|port| **port != controller.agent_port);
            let args =
                others.flat_map(|port| ["--agent-address".to_owned(), format!("127.0.0.1:{port}")]);
            controller.set_args(args.collect());
        }
        let mut controllers = controllers.into_iter();
        let mut first = controllers
            .next()
            .ok_or_else(|| ServerError("a cluster has at least one controller".to_owned()))?;
        first.run()?;
        let mut cluster =
            Self { controllers: vec![first], postgres, database: "cluster".to_owned() };
        for (place, mut controller) in controllers.enumerate() {
            cluster.controllers[0].issue_pki(&controller, &format!("ctl-{}", place + 2))?;
            controller.run()?;
            cluster.controllers.push(controller);
        }
        Ok(cluster)
    }

    /// Sends a request to whoever answers, beginning with one of them, as a load balancer does: the
    /// next one when a controller is not there or takes nothing now.
    ///
    /// # Errors
    /// When none answers.
    pub fn call(
        &self,
        first: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<Reply, ServerError> {
        let ports: Vec<u16> = self.controllers.iter().map(|one| one.api_port).collect();
        call_any(&ports, first, method, path, headers, body)
    }

    /// Runs a statement on the cluster's database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn sql(&self, sql: &str) -> Result<String, ServerError> {
        Ok(self.postgres.psql(&self.database, sql)?.trim().to_owned())
    }
}

/// Sends a request to the first of these ports that takes it, in turn from `first` on.
///
/// # Errors
/// When none does.
pub fn call_any(
    ports: &[u16],
    first: usize,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&serde_json::Value>,
) -> Result<Reply, ServerError> {
    let mut last = ServerError("there is no controller".to_owned());
    for turn in 0..ports.len() {
        let port = ports[(first + turn) % ports.len()];
        match request(port, method, path, headers, body) {
            Ok(reply) if reply.status == 503 => last = ServerError(reply.text),
            Ok(reply) => return Ok(reply),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Controller {
    /// Makes the files of another controller that does not run yet, where it looks for them.
    ///
    /// # Errors
    /// What `hostler-controller pki issue` printed, if it failed.
    pub fn issue_pki(&self, other: &Controller, name: &str) -> Result<(), ServerError> {
        let out = command(program("hostler-controller")?)
            .args(["pki", "issue", "--name", name, "--out"])
            .arg(other.data_dir().join("pki"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .output()
            .map_err(|error| ServerError::new("running hostler-controller pki issue", error))?;
        if out.status.success() {
            return Ok(());
        }
        Err(ServerError::new("pki issue", String::from_utf8_lossy(&out.stderr)))
    }
}
