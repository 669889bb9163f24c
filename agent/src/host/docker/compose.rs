//! The compose program: `docker compose` (the plugin, v2 and later) or `docker-compose` (v1).

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Docker;
use crate::host::process::{self, Finished, Invocation, ProcessError};

/// Longest wait for a program to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes a version has at most.
const VERSION_BYTES_MAX: usize = 256;
/// Where compose is looked for, in this order.
const PROGRAMS: &[&[&str]] = &[&["docker", "compose"], &["docker-compose"]];

/// Why compose could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// Nothing of the kind is installed.
    #[error("there is no compose on this host: {tried}")]
    Missing { tried: String },
    /// It did not come to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Which of the two it is: their options differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `docker-compose` 1.x, in Python.
    First,
    /// Everything since.
    Second,
}

/// A compose program of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    program: Vec<String>,
    version: String,
    environment: Vec<(&'static str, String)>,
}

/// What compose is to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub name: String,
    /// What relative paths in compose files are relative to.
    pub directory: PathBuf,
    /// In the order of their `-f`.
    pub files: Vec<PathBuf>,
    /// In the order in which they are read: the later ones hold. Empty: compose takes the
    /// directory's own `.env`.
    pub env_files: Vec<PathBuf>,
}

impl Docker {
    /// Finds compose and asks its version.
    ///
    /// # Errors
    /// [`ComposeError`].
    pub async fn find_compose(&self, cancel: &CancellationToken) -> Result<Compose, ComposeError> {
        let named: Vec<Vec<String>> = match self.compose.is_empty() {
            true => PROGRAMS.iter().map(|p| p.iter().map(|s| (*s).to_owned()).collect()).collect(),
            false => vec![self.compose.clone()],
        };
        let mut tried = Vec::new();
        for program in named {
            let compose =
                Compose { program, version: String::new(), environment: self.environment() };
            match compose.ask_version(cancel).await? {
                Some(version) => return Ok(Compose { version, ..compose }),
                None => tried.push(format!("`{}` is none", compose.program.join(" "))),
            }
        }
        Err(ComposeError::Missing { tried: tried.join(", ") })
    }

    /// What compose and the plugins it starts are told of this host.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let home = self.config_dir.parent().unwrap_or(Path::new("/"));
        vec![
            ("DOCKER_HOST", format!("unix://{}", self.socket.display())),
            ("DOCKER_CONFIG", self.config_dir.display().to_string()),
            ("HOME", home.display().to_string()),
            ("BUILDKIT_PROGRESS", "plain".to_owned()),
        ]
    }
}

impl Compose {
    async fn ask_version(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, ProcessError> {
        let mut command = self.program.clone();
        command.extend(["version", "--short"].map(str::to_owned));
        let invocation = Invocation {
            command,
            timeout: VERSION_TIMEOUT,
            stdout_bytes_max: VERSION_BYTES_MAX,
            secrets: Vec::new(),
            environment: self.environment.clone(),
            mark: None,
        };
        match process::run(&invocation, cancel).await {
            Ok(done) if done.success() => {
                let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
                let version = text.trim_start_matches('v').to_owned();
                Ok(version.starts_with(|c: char| c.is_ascii_digit()).then_some(version))
            }
            // A `docker` without the plugin does not know the word.
            Ok(_) | Err(ProcessError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which of the two it is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        if self.version.starts_with("1.") { Generation::First } else { Generation::Second }
    }

    /// Program and version, for people: `docker compose 2.26.1`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.program.join(" "), self.version)
    }

    /// The command line for that project.
    #[must_use]
    pub fn command(&self, project: &Project, arguments: &[String]) -> Vec<String> {
        let mut command = self.program.clone();
        let mut say = |option: &str, value: String| command.extend([option.to_owned(), value]);
        say("--ansi", "never".to_owned());
        say("--project-name", project.name.clone());
        say("--project-directory", project.directory.display().to_string());
        for file in &project.files {
            say("--file", file.display().to_string());
        }
        for file in &project.env_files {
            say("--env-file", file.display().to_string());
        }
        command.extend(arguments.iter().cloned());
        command
    }

    /// Runs compose to its end; a status other than 0 is no error here. At most
    /// `stdout_bytes_max` of what it prints is kept; `mark` is what its processes are known by.
    ///
    /// # Errors
    /// [`ComposeError::Process`].
    pub async fn run(
        &self,
        command: Vec<String>,
        timeout: Duration,
        stdout_bytes_max: usize,
        secrets: &[String],
        mark: String,
        cancel: &CancellationToken,
    ) -> Result<Finished, ComposeError> {
        let invocation = Invocation {
            command,
            timeout,
            stdout_bytes_max,
            secrets: secrets.to_vec(),
            environment: self.environment.clone(),
            mark: Some(mark),
        };
        Ok(process::run(&invocation, cancel).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(version: &str) -> Compose {
        let program = vec!["docker".to_owned(), "compose".to_owned()];
        Compose { program, version: version.to_owned(), environment: Vec::new() }
    }

    #[test]
    fn the_generation_is_told_by_the_version() {
        assert_eq!(compose("1.29.2").generation(), Generation::First);
        for later in ["2.26.1-4", "2.0.0", "5.0.1", "10.0.0"] {
            assert_eq!(compose(later).generation(), Generation::Second, "{later}");
        }
        assert_eq!(compose("2.26.1").name(), "docker compose 2.26.1");
    }

    #[test]
    fn the_command_line_names_everything() {
        let project = Project {
            name: "p".to_owned(),
            directory: PathBuf::from("/d"),
            files: vec![PathBuf::from("/d/a.yml"), PathBuf::from("/d/b.yml")],
            env_files: vec![PathBuf::from("/h.env")],
        };
        let command = compose("2.26.1").command(&project, &["up".to_owned()]).join(" ");
        assert_eq!(
            command,
            "docker compose --ansi never --project-name p --project-directory /d --file /d/a.yml \
             --file /d/b.yml --env-file /h.env up"
        );
    }

    #[tokio::test]
    async fn a_host_without_compose_is_told_as_such() {
        let docker = Docker {
            socket: PathBuf::from("/nowhere"),
            compose: vec!["hostler-no-such-program".to_owned()],
            config_dir: PathBuf::from("/nowhere"),
        };
        let found = docker.find_compose(&CancellationToken::new()).await;
        assert!(matches!(found, Err(ComposeError::Missing { .. })), "{found:?}");
    }
}
