//! Whole systems of real processes on loopback: a controller, hosts with nginx, PHP-FPM, Redis and
//! an agent each, and sites on them. The demo, the benchmarks and the whole-system tests start
//! here.

mod cluster;
mod controller;
mod host;
mod http;
mod site;
mod stacks;

pub use cluster::{Cluster, call_any};
pub use controller::{Around, Controller};
pub use host::Host;
pub use http::{Reply, request};
pub use site::{Site, SiteOptions};
pub use stacks::{
    StackHost, StackSystem, WEBHOOK_SECRET, hmac_sha256, push_headers, webhook_signature,
};

use std::path::PathBuf;

use crate::servers::ServerError;

/// A program of this workspace, built beside the one that runs.
///
/// # Errors
/// When it has not been built.
pub fn program(name: &str) -> Result<PathBuf, ServerError> {
    let own =
        std::env::current_exe().map_err(|error| ServerError::new("finding programs", error))?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            ServerError(format!("{name} is not built: run `cargo build --workspace --bins` first"))
        })
}

/// A controller with one enrolled host.
#[derive(Debug)]
pub struct System {
    // The order matters: hosts stop before their controller.
    pub host: Host,
    pub controller: Controller,
}

impl System {
    /// Starts everything and waits until the host is connected.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_on(None)
    }

    /// The same, with the controller on another database than its embedded default.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start_on(database_url: Option<&str>) -> Result<Self, ServerError> {
        Self::start_with(Controller::new(database_url)?)
    }

    /// The same, with hosts' certificates that are good for so long.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start_with_certificates_of(secs: u64) -> Result<Self, ServerError> {
        let args = ["--host-certificate-secs", &secs.to_string()];
        Self::start_under(Controller::start_with(None, &args)?)
    }

    /// The same, with a controller that does not run yet.
    ///
    /// # Errors
    /// When a part does not come up; its log is in the error.
    pub fn start_with(mut controller: Controller) -> Result<Self, ServerError> {
        controller.run()?;
        Self::start_under(controller)
    }

    fn start_under(controller: Controller) -> Result<Self, ServerError> {
        let mut host = Host::start("web1")?;
        host.enrol(&controller)?;
        host.run_agent()?;
        controller.wait_connected("web1")?;
        Ok(Self { host, controller })
    }
}
