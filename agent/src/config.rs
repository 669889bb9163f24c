//! The agent's configuration: a TOML file, overridden by options. An unknown key is an error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::host::ansible::Ansible;
use crate::identity::RUNS_DIR;

/// Where the configuration lies unless an option says otherwise.
pub const CONFIG_FILE: &str = "/etc/hostler/agent.toml";
/// Where the agent keeps its identity and journal unless an option says otherwise.
pub const STATE_DIR: &str = "/var/lib/hostler-agent";
/// Where this host's age keys are unless the configuration says otherwise.
pub const AGE_KEY_FILE: &str = "/etc/hostler/age.key";
/// Largest configuration file, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What an agent needs to run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Identity, journal and the actions' own state.
    pub state_dir: PathBuf,
    /// What this host permits; `None`: [`crate::policy::POLICY_FILE`], if it exists.
    pub policy: Option<PathBuf>,
    /// `host:port` of controllers, each as good as the other: the agent begins with any of them and
    /// moves to the next when that one is gone. Empty: those named at enrolment.
    pub controllers: Vec<String>,
    /// Jobs running at once.
    pub jobs_max: usize,
    /// How long an action may take to stop when told to.
    pub stop_secs: u64,
    /// How long running jobs may take to end when the agent is stopped.
    pub drain_secs: u64,
    /// Where the playbooks are that the Ansible executor runs.
    pub playbook_dir: PathBuf,
    /// The `ansible-playbook` program and its first arguments.
    pub ansible_command: Vec<String>,
    /// The interpreter the playbooks' modules run with.
    pub python: PathBuf,
    /// Longest time of one playbook; a job's own time limit comes before it.
    pub playbook_secs_max: u64,
    /// This host's age keys, which encrypted files of stacks are decrypted with; it may be missing
    /// where there are none.
    pub age_key: PathBuf,
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        let Ansible { command, python, playbook_dir, timeout, .. } = Ansible::default();
        Self {
            state_dir: STATE_DIR.into(),
            policy: None,
            controllers: Vec::new(),
            jobs_max: 4,
            stop_secs: 30,
            drain_secs: 20,
            playbook_dir,
            ansible_command: command,
            python,
            playbook_secs_max: timeout.as_secs(),
            age_key: AGE_KEY_FILE.into(),
            log_format: LogFormat::Text,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type; the message names the line.
    #[error("the configuration {} is not valid: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("the configuration's `{key}` is not valid: {reason}")]
    Value { key: &'static str, reason: String },
}

impl Config {
    /// Reads a configuration. With no path given the usual file is read if it exists.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let usual = Path::new(CONFIG_FILE);
        let (path, text) = match (path, usual.exists()) {
            (None, false) => return Ok(Self::default()),
            (None, true) => (usual, read(usual)?),
            (Some(path), _) => (path, read(path)?),
        };
        Self::parse(&text).map_err(|message| ConfigError::Parse { path: path.to_owned(), message })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {}", error.message())
        })
    }

    /// Checks what types alone do not.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, reason: String| Err(ConfigError::Value { key, reason });
        if let Some(bad) = self.controllers.iter().find(|a| !hostler_protocol::join::is_address(a))
        {
            return wrong("controllers", format!("{bad:?} is not `host:port`"));
        }
        if !(1..=256).contains(&self.jobs_max) {
            return wrong("jobs_max", format!("{} is not within 1 and 256", self.jobs_max));
        }
        if !(1..=3600).contains(&self.stop_secs) {
            return wrong("stop_secs", format!("{} is not within 1 and 3600", self.stop_secs));
        }
        if self.drain_secs > 3600 {
            return wrong("drain_secs", format!("{} is more than 3600", self.drain_secs));
        }
        if !(1..=86_400).contains(&self.playbook_secs_max) {
            let secs = self.playbook_secs_max;
            return wrong("playbook_secs_max", format!("{secs} is not within 1 and 86400"));
        }
        if self.ansible_command.first().is_none_or(String::is_empty) {
            return wrong("ansible_command", "it names no program".to_owned());
        }
        if !self.age_key.is_absolute() {
            let path = self.age_key.display();
            return wrong("age_key", format!("{path} is no absolute path"));
        }
        for (key, path) in [("playbook_dir", &self.playbook_dir), ("python", &self.python)] {
            if !path.is_absolute() || path.to_str().is_none_or(|text| text.contains(['\n', '%'])) {
                return wrong(key, format!("{} is no absolute, plain path", path.display()));
            }
        }
        Ok(())
    }

    /// How playbooks are run.
    #[must_use]
    pub fn ansible(&self) -> Ansible {
        Ansible {
            command: self.ansible_command.clone(),
            python: self.python.clone(),
            playbook_dir: self.playbook_dir.clone(),
            runs_dir: self.state_dir.join(RUNS_DIR),
            timeout: Duration::from_secs(self.playbook_secs_max),
        }
    }
}

/// Where the environment keeps an enrolment token.
pub enum Token {
    None,
    /// In the variable `HOSTLER_ENROL_TOKEN`.
    Text(String),
    /// In the systemd credential `hostler-enrol-token`.
    File(PathBuf),
}

/// Looks for an enrolment token in the environment.
#[must_use]
pub fn enrolment_token() -> Token {
    if let Ok(token) = std::env::var("HOSTLER_ENROL_TOKEN") {
        return Token::Text(token);
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let file = credentials.map(|directory| directory.join("hostler-enrol-token"));
    file.filter(|file| file.exists()).map_or(Token::None, Token::File)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        Config::default().check().unwrap();
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Config::parse("jobs_max = 2\n\njobs = 3\n").unwrap_err();
        assert!(error.starts_with("line 3:") && error.contains("`jobs`"), "{error}");
        let error = Config::parse("jobs_max = \"two\"\n").unwrap_err();
        assert!(error.starts_with("line 1:"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (text, key) in [
            ("jobs_max = 0", "jobs_max"),
            ("stop_secs = 0", "stop_secs"),
            ("drain_secs = 9999", "drain_secs"),
            ("playbook_secs_max = 0", "playbook_secs_max"),
            ("ansible_command = []", "ansible_command"),
            ("playbook_dir = \"ansible\"", "playbook_dir"),
            ("age_key = \"age.key\"", "age_key"),
            ("controllers = [\"nowhere\"]", "controllers"),
        ] {
            let error = Config::parse(text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
