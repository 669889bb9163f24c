//! What every step works with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{Code, EnvironmentDoc};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::bundle::BundleSource;
use super::run::Failure;
use super::soft::Tested;
use super::stack::Locks;
use super::watch::Watches;
use crate::clock::Clock;
use crate::host::docker::Docker;
use crate::host::fake::Faults;
use crate::host::fs::{FsError, Place, Roots};
use crate::host::nginx::Nginx;
use crate::host::probe::Origin;
use crate::policy::Policy;

/// The host as steps see it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tools {
    pub policy: Arc<Policy>,
    /// Where jobs may read and write.
    pub roots: Roots,
    /// Where the agent keeps its own files.
    pub state_dir: PathBuf,
    pub clock: Clock,
    pub faults: Faults,
    /// Longest wait for a new nginx configuration to answer.
    pub reload_timeout: Duration,
    pub nginx: Nginx,
    /// nginx has one configuration per host: who tests, swaps and reloads does so alone.
    pub nginx_lock: Arc<Mutex<()>>,
    /// Whether soft purges work here.
    pub soft: Tested,
    /// Purges whose pages may still be coming.
    pub watches: Watches,
    /// Where bundles come from; without it this host runs no stacks.
    pub bundles: Option<Arc<dyn BundleSource>>,
    /// What encrypted files of bundles are decrypted with.
    pub age_key: PathBuf,
    pub docker: Docker,
    /// Who works on a stack's project does so alone.
    pub stacks: Locks,
    /// Fired when whatever runs in the background is to end.
    pub stop: CancellationToken,
}

/// Docker as a policy says it is reached.
#[must_use]
pub fn docker(policy: &Policy) -> Docker {
    let policy = &policy.docker;
    Docker {
        socket: policy.socket.clone(),
        compose: policy.compose.clone(),
        config_dir: policy.config_dir.clone(),
    }
}

impl Tools {
    /// The host of that policy.
    #[must_use]
    pub fn new(
        policy: Policy,
        state_dir: PathBuf,
        reload_timeout: Duration,
        clock: Clock,
        faults: Faults,
    ) -> Self {
        let nginx = Nginx {
            command: policy.nginx_command.clone(),
            pid_file: policy.nginx_pid_file.clone(),
            error_log: policy.nginx_error_log.clone(),
        };
        let docker = docker(&policy);
        Self {
            roots: Roots::new(&policy.roots),
            policy: Arc::new(policy),
            state_dir,
            clock,
            faults,
            reload_timeout,
            nginx,
            nginx_lock: Arc::default(),
            soft: Tested::default(),
            watches: Watches::default(),
            bundles: None,
            age_key: PathBuf::new(),
            docker,
            stacks: Locks::default(),
            stop: CancellationToken::new(),
        }
    }

    /// The agent's own file of an environment, in a directory of that kind, made if missing.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn state_place(
        &self,
        kind: &'static str,
        environment: &EnvironmentId,
    ) -> Result<Place, FsError> {
        self.state_file(kind, &format!("{environment}.json"))
    }

    /// The agent's own file of that name, in a directory of that kind, made if missing.
    ///
    /// # Errors
    /// Any [`FsError`].
    pub fn state_file(&self, kind: &'static str, name: &str) -> Result<Place, FsError> {
        std::fs::create_dir_all(&self.state_dir).map_err(|source| FsError::Io {
            action: "create",
            path: self.state_dir.clone(),
            source,
        })?;
        let roots = Roots::new(std::slice::from_ref(&self.state_dir));
        roots.dir(&self.state_dir)?.make_child(kind.as_ref())?;
        roots.place(&self.state_dir.join(kind).join(name))
    }

    /// Where probes of an environment connect, if the policy permits it.
    ///
    /// # Errors
    /// `SPEC_INVALID`, `POLICY_REFUSED`.
    pub fn origin(&self, environment: &EnvironmentDoc) -> Result<Origin, Failure> {
        let text = &environment.nginx.probe_origin;
        let origin = Origin::parse(text).ok_or_else(|| {
            Failure::new(
                Code::SpecInvalid,
                format!("`{text}` is no origin such as http://127.0.0.1"),
            )
        })?;
        if self.policy.probe_hosts.contains(&origin.host) {
            return Ok(origin);
        }
        let message = format!("this host does not permit probes to `{}`", origin.host);
        Err(Failure::new(Code::PolicyRefused, message)
            .with_hint("Add it to `probe_hosts` in the agent's policy file if it should."))
    }
}
