//! Running a playbook as part of an attempt: its tasks become the attempt's steps, its failures the
//! same codes as ours.

use std::path::PathBuf;

use hostler_protocol::job::{Code, EnvironmentDoc, StepState};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::run::{Failure, Run};
use super::tools::Tools;
use crate::host::ansible::events::{Ended, Event};
use crate::host::ansible::recital::Trouble;
use crate::host::ansible::{Ansible, Play, Played};
use crate::host::process::redact;

/// Longest message of a task that becomes a step's, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// What the tasks of a run said, in the order they ended.
#[derive(Debug, Default)]
pub struct Told {
    ended: Vec<Ended>,
    begun: Vec<String>,
}

impl Told {
    fn of(&self, step: &str) -> Vec<&Ended> {
        self.ended.iter().filter(|ended| ended.named.step.as_deref() == Some(step)).collect()
    }

    /// Whether a step was begun.
    #[must_use]
    pub fn began(&self, step: &str) -> bool {
        self.begun.iter().any(|begun| begun == step)
    }

    /// Whether a task of that step ended in that state.
    #[must_use]
    pub fn ended_as(&self, step: &str, state: &str) -> bool {
        self.of(step)
            .iter()
            .any(|ended| ended.data.as_ref().is_some_and(|data| data.state == state))
    }

    /// Sum of a number that every task of a step tells.
    #[must_use]
    pub fn sum(&self, step: &str, key: &str) -> u64 {
        let number = |ended: &Ended| ended.data.as_ref()?.rest.get(key)?.as_u64();
        self.of(step).into_iter().filter_map(number).sum()
    }

    /// What the last task of a step told under a name.
    #[must_use]
    pub fn last(&self, step: &str, key: &str) -> Option<&Value> {
        self.of(step).into_iter().rev().find_map(|ended| ended.data.as_ref()?.rest.get(key))
    }

    /// The message of the task of that step that failed without stopping the run.
    #[must_use]
    pub fn ignored(&self, step: &str) -> Option<&str> {
        self.of(step).into_iter().find(|ended| ended.ignored).map(|ended| ended.message.as_str())
    }

    /// What the last task of a step told, as a document.
    ///
    /// # Errors
    /// `PLAYBOOK_FAILED` when it told nothing of the kind.
    pub fn document<T: DeserializeOwned>(&self, step: &str) -> Result<T, Failure> {
        let rest = self
            .of(step)
            .into_iter()
            .rev()
            .find_map(|ended| Some(ended.data.as_ref()?.rest.clone()));
        let read = rest.and_then(|rest| serde_json::from_value(Value::Object(rest)).ok());
        read.ok_or_else(|| silent(step))
    }
}

/// A playbook that says it succeeded and does not say what it did.
#[must_use]
pub fn silent(step: &str) -> Failure {
    let message = format!("the playbook does not tell what its step `{step}` did");
    Failure::new(Code::PlaybookFailed, message).at_step(step)
}

/// What every playbook of ours is told of an environment and its host.
#[must_use]
pub fn variables(
    tools: &Tools,
    environment: &EnvironmentDoc,
    cache_dirs: &[String],
) -> Map<String, Value> {
    let path = |path: &PathBuf| path.display().to_string();
    let policy = &tools.policy;
    let told = json!({
        "hostler_environment": environment,
        "hostler_roots": policy.roots.iter().map(path).collect::<Vec<_>>(),
        "hostler_owned_cache_dirs": cache_dirs,
        "hostler_edit_wp_config": policy.edit_wp_config,
        "hostler_reload_secs": tools.reload_timeout.as_secs(),
        "hostler_nginx": {
            "command": policy.nginx_command,
            "pid_file": path(&policy.nginx_pid_file),
            "error_log": path(&policy.nginx_error_log),
        },
    });
    match told {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// Runs a playbook; its steps become those of the attempt as they end, and `told` has what they said
/// however the run ends.
///
/// # Errors
/// The code a task failed with, `ANSIBLE_MISSING`, `PLAYBOOK_…`, `HOST_UNREACHABLE`, `TIMED_OUT`,
/// `CANCELLED`.
pub async fn play(
    tools: &Tools,
    ansible: &Ansible,
    run: &mut Run,
    play: Play,
    told: &mut Told,
) -> Result<(), Failure> {
    let cancel = run.cancel().clone();
    if cancel.is_cancelled() {
        return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
    }
    let (playbook, secrets) = (play.playbook, play.secrets.clone());
    let mut since_us = tools.clock.monotonic_us();
    let mut hear = |event: &Event| {
        let now_us = tools.clock.monotonic_us();
        match event {
            Event::Task(named) => {
                since_us = now_us;
                if let Some(step) = &named.step {
                    run.tell(step, StepState::Started, "");
                    told.begun.push(step.clone());
                }
            }
            Event::Ok(ended) | Event::Failed(ended) => {
                let failed = matches!(event, Event::Failed(_));
                report(run, ended, failed, now_us.saturating_sub(since_us));
                told.ended.push(ended.clone());
            }
            Event::Start
            | Event::NoHosts
            | Event::Skipped(_)
            | Event::Unreachable(_)
            | Event::Stats(_)
            | Event::Unknown => {}
        }
    };
    let played = Box::pin(ansible.play(play, &cancel, &mut hear)).await?;
    match failure(playbook, &played, &secrets) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

fn report(run: &mut Run, ended: &Ended, failed: bool, took_us: u64) {
    let Some(step) = &ended.named.step else { return };
    let state = ended.data.as_ref().map_or("done", |data| data.state.as_str());
    let state = match state {
        _ if failed => StepState::Failed,
        // It only looked.
        "none" => return,
        "skipped" => StepState::Skipped,
        "rolled_back" => StepState::RolledBack,
        _ => StepState::Done,
    };
    run.record(step, state, &short(&ended.message), took_us);
}

fn short(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The failure of a run, if it is one.
fn failure(playbook: &str, played: &Played, secrets: &[String]) -> Option<Failure> {
    let with_run = |failure: Failure| {
        failure.with_command(played.command.clone(), played.status, redact(&played.tail, secrets))
    };
    Some(match played.trouble.as_ref()? {
        Trouble::Invalid { message } => with_run(Failure::new(
            Code::PlaybookInvalid,
            format!("Ansible does not run {playbook}: {}", short(message)),
        )),
        Trouble::Unreachable { message } => {
            with_run(Failure::new(Code::HostUnreachable, short(message)))
        }
        Trouble::Aborted { message } => with_run(Failure::new(
            Code::PlaybookAborted,
            format!("{playbook} ended before its end: {message}"),
        )),
        Trouble::Failed { failed } => task_failure(failed, played),
        Trouble::RollbackFailed { failed, second } => {
            let mut outweighs =
                Failure::new(Code::NginxRollbackFailed, short(&second.message)).at_step("rollback");
            if let Some(first) = failed {
                outweighs = outweighs.after(&task_failure(first, played));
            }
            outweighs
        }
    })
}

/// The failure of a task: a module of ours says its code; of another's we only know what it said.
fn task_failure(failed: &Ended, played: &Played) -> Failure {
    let message = short(&failed.message);
    let data = failed.data.clone().unwrap_or_default();
    let code = data.code.as_deref().and_then(Code::parse);
    let mut told = match code {
        Some(code) => Failure::new(code, message),
        None => Failure::new(
            Code::PlaybookFailed,
            format!("the task `{}` failed: {message}", failed.named.task),
        ),
    };
    if let Some(hint) = data.hint {
        told = told.with_hint(hint);
    }
    let output = failed.printed().unwrap_or_default().to_owned();
    match (data.command, code) {
        (Some(command), _) => told = told.with_command(command, data.rc, output),
        (None, None) => {
            told = told.with_command(played.command.clone(), failed.rc.or(data.rc), output);
        }
        (None, Some(_)) => {}
    }
    match &failed.named.step {
        Some(step) => told.at_step(step),
        None => told,
    }
}
