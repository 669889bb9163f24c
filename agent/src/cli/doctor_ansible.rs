//! What `doctor` says of Ansible: whether playbooks would run here. Without it nothing is wrong: the
//! agent carries every job out itself.

use hostler_protocol::job::Executor;

use super::finding::{Finding, State, bad, good};
use crate::clock::Clock;
use crate::config::Config;
use crate::host::ansible::{Ansible, AnsibleError};
use crate::policy::Policy;
use crate::session::chain;

const CHECK: &str = "ansible";
const PLAYBOOKS: [&str; 3] = ["env-cache-toggle.yml", "cache-purge.yml", "cache-warm.yml"];

/// Looks at the program, the playbooks, and whether the one can load the others.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let policy = Policy::load(config.policy.as_deref()).unwrap_or_default();
    if !policy.executors.contains(&Executor::Ansible) {
        return vec![good(CHECK, "this host's policy does not permit it")];
    }
    let (ansible, clock) = (config.ansible(), Clock::system());
    let mut findings = Vec::new();
    match ansible.version(&clock).await {
        Ok(version) => findings.push(good(CHECK, version)),
        Err(AnsibleError::Missing { program }) => {
            let message = format!("`{program}` is not installed: jobs are the agent's own to do");
            return vec![good(CHECK, message)];
        }
        Err(error) => return vec![bad(CHECK, State::Warning, chain(&error), "")],
    }
    findings.push(playbooks(&ansible, &clock).await);
    findings
}

async fn playbooks(ansible: &Ansible, clock: &Clock) -> Finding {
    let place = ansible.playbook_dir.display();
    match ansible.complaint(clock, &PLAYBOOKS).await {
        Ok(None) => good(CHECK, format!("{} playbooks in {place} can be run", PLAYBOOKS.len())),
        Ok(Some(complaint)) => {
            let line = complaint.lines().next().unwrap_or("it does not say why").to_owned();
            let hint = "`ansible-playbook --syntax-check` says more.";
            bad(CHECK, State::Warning, format!("the playbooks do not load: {line}"), hint)
        }
        Err(error) => {
            let hint = "Install them, or correct `playbook_dir` in the agent's configuration.";
            bad(CHECK, State::Warning, chain(&error), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn looked(config: &Config) -> Vec<(State, String)> {
        let findings = look(config).await;
        findings.into_iter().map(|finding| (finding.state, finding.message)).collect()
    }

    #[tokio::test]
    async fn a_host_without_ansible_is_well_and_one_with_half_of_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, "").unwrap();
        let mut config = Config {
            state_dir: dir.path().join("state"),
            policy: Some(policy.clone()),
            playbook_dir: dir.path().to_owned(),
            ansible_command: vec!["/nowhere/ansible-playbook".to_owned()],
            ..Config::default()
        };
        let found = looked(&config).await;
        assert!(found[0].0 == State::Ok && found[0].1.contains("not installed"), "{found:?}");

        // Something that answers a question about its version.
        config.ansible_command = vec!["echo".to_owned(), "ansible-playbook [core 9]".to_owned()];
        // Two may ask at once.
        let (found, other) = tokio::join!(looked(&config), looked(&config));
        assert_eq!(found, other);
        assert!(found[0].1.starts_with("ansible-playbook [core 9]"), "{found:?}");
        assert!(
            found[1].0 == State::Warning && found[1].1.contains("env-cache-toggle.yml"),
            "{found:?}"
        );

        for name in PLAYBOOKS {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(looked(&config).await[1].0, State::Ok);
        let command =
            ["sh", "-c", "case $0 in --version) echo v;; *) echo ERROR! no >&2; exit 4;; esac"];
        config.ansible_command = command.map(str::to_owned).to_vec();
        let found = looked(&config).await;
        assert!(found[1].0 == State::Warning && found[1].1.ends_with("ERROR! no"), "{found:?}");

        std::fs::write(&policy, "executors = [\"native\"]\n").unwrap();
        let found = looked(&config).await;
        assert!(found.len() == 1 && found[0].1.contains("does not permit"), "{found:?}");
    }
}
