//! Running a playbook on this very host: `ansible-playbook` with a private directory of its own, and
//! what our own callback tells of the run.
//!
//! Invariants:
//! * variables travel in a file only this user may read, never on a command line; every text in them is
//!   marked as data, so that nothing in it is ever expanded;
//! * how a run went is read from its events; what it prints is only quoted;
//! * the directory goes, and everything that was started ends, on every way out, a dropped future
//!   included; what a kill of the agent leaves, [`Ansible::clear`] takes away.

pub mod events;
mod fifo;
mod play;
mod private;
pub mod recital;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::process::{self, Invocation, ProcessError, end_marked};
use crate::clock::Clock;
pub use play::{Play, Played};

/// What has to be in the playbook directory beside the playbooks.
const CALLBACK: &str = "callback_plugins/hostler_events.py";
/// Time limit of asking Ansible about itself.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(120);
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How playbooks are run on this host; cheap enough to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ansible {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// The interpreter modules run with.
    pub python: PathBuf,
    /// Where the playbooks are.
    pub playbook_dir: PathBuf,
    /// Where runs have their private directories; nothing else may be in it.
    pub runs_dir: PathBuf,
    /// Longest time of one run.
    pub timeout: Duration,
}

impl Default for Ansible {
    /// Where packages put everything.
    fn default() -> Self {
        Self {
            command: vec!["ansible-playbook".to_owned()],
            python: "/usr/bin/python3".into(),
            playbook_dir: "/usr/share/hostler/ansible".into(),
            runs_dir: "/var/lib/hostler-agent/ansible".into(),
            timeout: Duration::from_secs(3600),
        }
    }
}

/// Why there is no run to speak of. What a run itself says of its failure is in [`Played`].
#[derive(Debug, thiserror::Error)]
pub enum AnsibleError {
    /// No such program.
    #[error("there is no program `{program}`")]
    Missing { program: String },
    /// A file of ours is not where it should be.
    #[error("there is no {}", path.display())]
    PlaybookMissing { path: PathBuf },
    /// The private directory cannot be made or filled.
    #[error("cannot {action} {}", path.display())]
    Private {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The program ran into its time limit, was cancelled or could not be run.
    #[error(transparent)]
    Process(ProcessError),
}

impl From<ProcessError> for AnsibleError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Missing { program } => Self::Missing { program },
            ProcessError::Run { .. }
            | ProcessError::TimedOut { .. }
            | ProcessError::Cancelled { .. } => Self::Process(error),
        }
    }
}

impl Ansible {
    /// Whether a playbook can be begun, as far as files tell.
    ///
    /// # Errors
    /// [`AnsibleError::PlaybookMissing`], [`AnsibleError::Missing`].
    pub fn ready(&self, playbook: &str) -> Result<(), AnsibleError> {
        let program = self.command.first().map(String::as_str).unwrap_or_default();
        if !is_program(program) {
            return Err(AnsibleError::Missing { program: program.to_owned() });
        }
        for name in [playbook, CALLBACK] {
            let path = self.playbook_dir.join(name);
            if !path.is_file() {
                return Err(AnsibleError::PlaybookMissing { path });
            }
        }
        Ok(())
    }

    /// The first line of what Ansible says of its version.
    ///
    /// # Errors
    /// [`AnsibleError`].
    pub async fn version(&self, clock: &Clock) -> Result<String, AnsibleError> {
        let (_, text) = self.ask(clock, &["--version".to_owned()]).await?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// What Ansible has against these playbooks; `None` when it can load them all.
    ///
    /// # Errors
    /// [`AnsibleError`].
    pub async fn complaint(
        &self,
        clock: &Clock,
        playbooks: &[&str],
    ) -> Result<Option<String>, AnsibleError> {
        let mut arguments =
            ["--inventory", "localhost,", "--syntax-check"].map(str::to_owned).to_vec();
        for playbook in playbooks {
            let path = self.playbook_dir.join(playbook);
            if !path.is_file() {
                return Err(AnsibleError::PlaybookMissing { path });
            }
            arguments.push(path.display().to_string());
        }
        let (good, text) = self.ask(clock, &arguments).await?;
        Ok((!good).then(|| text.trim().to_owned()))
    }

    async fn ask(
        &self,
        clock: &Clock,
        arguments: &[String],
    ) -> Result<(bool, String), AnsibleError> {
        let name = format!("question-{}", hex::encode(clock.random::<8>()));
        let private = private::Private::make(&self.runs_dir, &name)?;
        private.configure(self)?;
        let invocation = Invocation {
            command: [&self.command, arguments].concat(),
            timeout: QUESTION_TIMEOUT,
            stdout_bytes_max: ANSWER_BYTES_MAX,
            secrets: Vec::new(),
            environment: private.environment(),
            mark: Some(private.mark()),
        };
        let finished = process::run(&invocation, &CancellationToken::new()).await?;
        let text = String::from_utf8_lossy(&finished.stdout).into_owned();
        let text = if finished.success() { text } else { finished.tail.clone() };
        Ok((finished.success(), text))
    }

    /// Ends what a killed agent's runs left running and takes their directories away; says how many
    /// processes there were.
    #[must_use]
    pub fn clear(&self) -> usize {
        let ended = end_marked(&private::mark_of(&self.runs_dir));
        for entry in std::fs::read_dir(&self.runs_dir).into_iter().flatten().flatten() {
            if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                let path = entry.path();
                tracing::warn!(path = %path.display(), %error, "a run's directory stays");
            }
        }
        ended
    }
}

fn is_program(name: &str) -> bool {
    match name.contains('/') {
        true => Path::new(name).is_file(),
        false => {
            !name.is_empty()
                && process::PATH
                    .split(':')
                    .any(|directory| Path::new(directory).join(name).is_file())
        }
    }
}
