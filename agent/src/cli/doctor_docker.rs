//! What `doctor` says of Docker: whether stacks can run here. Without it nothing is wrong: a host may
//! have no stacks.

use tokio_util::sync::CancellationToken;

use super::finding::{Finding, State, bad, good};
use crate::config::Config;
use crate::host::docker::ComposeError;
use crate::policy::Policy;
use crate::session::chain;
use crate::steps::tools::docker;

const CHECK: &str = "docker";

/// Looks at the engine, and at the compose program there would be for it.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let docker = docker(&Policy::load(config.policy.as_deref()).unwrap_or_default());
    let socket = docker.socket.display();
    if !docker.socket.exists() {
        let message = format!("there is no engine at {socket}: stacks cannot run here");
        return vec![good(CHECK, message)];
    }
    let engine = match docker.engine().ping().await {
        Ok(()) => good(CHECK, format!("the engine at {socket} answers")),
        Err(error) => {
            let hint = "Start Docker, or correct `docker.socket` in the policy.";
            bad(CHECK, State::Warning, chain(&error), hint)
        }
    };
    let compose = match docker.find_compose(&CancellationToken::new()).await {
        Ok(compose) => good(CHECK, compose.name()),
        Err(error @ ComposeError::Missing { .. }) => {
            let hint = "Install Docker Compose (the plugin, or docker-compose).";
            bad(CHECK, State::Warning, chain(&error), hint)
        }
        Err(error) => bad(CHECK, State::Warning, chain(&error), ""),
    };
    vec![engine, compose]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_without_docker_is_well_and_one_with_half_of_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (policy, socket) = (dir.path().join("policy.toml"), dir.path().join("docker.sock"));
        let written = format!(
            "[docker]\nsocket = \"{}\"\ncompose = [\"/nowhere/compose\"]\n",
            socket.display()
        );
        std::fs::write(&policy, written).unwrap();
        let config = Config { policy: Some(policy), ..Config::default() };
        let found = look(&config).await;
        assert!(found.len() == 1 && found[0].state == State::Ok, "{found:?}");
        assert!(found[0].message.contains("no engine at"), "{found:?}");

        // Nobody listens there.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let found = look(&config).await;
        let states: Vec<_> = found.iter().map(|one| one.state).collect();
        assert_eq!(states, [State::Warning, State::Warning], "{found:?}");
        assert!(found[0].message.contains("cannot be reached"), "{found:?}");
    }
}
