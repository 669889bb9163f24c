//! One run of one playbook.

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::events::{Event, read};
use super::fifo::{Fifo, Line};
use super::private::Private;
use super::recital::{Recital, Trouble};
use super::{Ansible, AnsibleError};
use crate::host::process::{self, Invocation};

/// Events of one run that are heard, and the bytes they may have together; what follows is rubbish.
const EVENTS_MAX: usize = 5_000;
const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A playbook and what it is told.
#[derive(Debug)]
pub struct Play {
    /// File name of the playbook.
    pub playbook: &'static str,
    /// Name of the run's private directory; never used twice.
    pub name: String,
    pub variables: Map<String, Value>,
    /// Files the run may read, by the variable that holds their path.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Texts that stand nowhere in what comes back.
    pub secrets: Vec<String>,
}

/// A run that ended by itself.
#[derive(Debug)]
pub struct Played {
    pub trouble: Option<Trouble>,
    pub command: Vec<String>,
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// What it printed last: never read, only quoted.
    pub tail: String,
}

impl Ansible {
    /// Runs a playbook to its end, to its time limit or to the cancellation; `hear` gets every event
    /// as it comes.
    ///
    /// # Errors
    /// [`AnsibleError`]; a playbook that fails is no error here.
    pub async fn play(
        &self,
        play: Play,
        cancel: &CancellationToken,
        hear: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<Played, AnsibleError> {
        self.ready(play.playbook)?;
        let private = Private::make(&self.runs_dir, &play.name)?;
        private.configure(self)?;
        let mut fifo = Fifo::make(&private.path("events"))?;
        let secrets = play.secrets.clone();
        let invocation = self.invocation(play, &private)?;
        let mut recital = Recital::default();
        let (mut events, mut bytes_heard) = (0, 0);
        let mut tell = |lines: Vec<Line>| {
            for line in lines {
                let event = match line {
                    Line::Whole(bytes) if events < EVENTS_MAX && bytes_heard < EVENTS_BYTES_MAX => {
                        (events, bytes_heard) = (events + 1, bytes_heard + bytes.len());
                        read(&bytes, &secrets)
                    }
                    Line::Whole(_) | Line::TooLong => None,
                };
                let Some(event) = event else {
                    recital.hear_rubbish();
                    continue;
                };
                recital.hear(&event);
                hear(&event);
            }
        };
        let mut program = Box::pin(process::run(&invocation, cancel));
        let ended = loop {
            tokio::select! {
                ended = &mut program => break ended,
                lines = fifo.next() => tell(lines),
            }
        };
        tell(fifo.ready());
        let finished = ended?;
        Ok(Played {
            trouble: recital.verdict(finished.status, &finished.tail),
            command: invocation.command.clone(),
            status: finished.status,
            tail: finished.tail,
        })
    }

    fn invocation(&self, play: Play, private: &Private) -> Result<Invocation, AnsibleError> {
        let Play { playbook, variables, files, secrets, .. } = play;
        let mut told = Map::new();
        for (name, value) in variables {
            told.insert(name, as_data(value));
        }
        for (name, bytes) in files {
            let path = private.write(name, &bytes)?;
            told.insert(name.to_owned(), as_data(json!(path.display().to_string())));
        }
        let state_dir = private.path("state").display().to_string();
        told.insert("hostler_state_dir".to_owned(), as_data(json!(state_dir)));
        let python = self.python.display().to_string();
        told.insert("ansible_python_interpreter".to_owned(), json!(python));
        let bytes = serde_json::to_vec(&told).unwrap_or_default();
        let variables = private.write("variables.json", &bytes)?;
        let more = [
            "--inventory".to_owned(),
            "localhost,".to_owned(),
            "--connection".to_owned(),
            "local".to_owned(),
            "--extra-vars".to_owned(),
            format!("@{}", variables.display()),
            self.playbook_dir.join(playbook).display().to_string(),
        ];
        Ok(Invocation {
            command: self.command.iter().cloned().chain(more).collect(),
            timeout: self.timeout,
            stdout_bytes_max: 0,
            secrets,
            environment: private.environment(),
            mark: Some(private.mark()),
        })
    }
}

/// The value with every text marked as data: Ansible expands nothing in it, whatever it looks like.
fn as_data(value: Value) -> Value {
    match value {
        Value::String(text) => json!({ "__ansible_unsafe": text }),
        Value::Array(items) => Value::Array(items.into_iter().map(as_data).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, as_data(value))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}
