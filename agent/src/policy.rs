//! What this host permits: read from a local file, never widened from afar.
//!
//! A job that asks for more is refused with `POLICY_REFUSED` or `PATH_OUTSIDE_ROOTS`; nothing
//! a controller sends changes what stands here.

use std::path::{Path, PathBuf};

use hostler_protocol::job::{Executor, JobType};
use serde::Deserialize;

/// Where the policy lies unless the configuration says otherwise.
pub const POLICY_FILE: &str = "/etc/hostler/policy.toml";
/// Largest policy file, in bytes.
const POLICY_BYTES_MAX: u64 = 256 * 1024;

/// The local policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Directories below which the agent may read and write what jobs name; absolute paths.
    /// The agent's own directories have no place among them.
    pub roots: Vec<PathBuf>,
    /// Job types this host runs.
    pub job_types: Vec<JobType>,
    /// Who may carry out jobs that a playbook exists for.
    pub executors: Vec<Executor>,
    /// The nginx program and the arguments that select its configuration.
    pub nginx_command: Vec<String>,
    /// Where the nginx master process writes its process id.
    pub nginx_pid_file: PathBuf,
    /// The nginx error log: read, from where it ended before a reload, to say why one failed.
    pub nginx_error_log: PathBuf,
    /// Whether the agent may put its marked block into a `wp-config.php`.
    pub edit_wp_config: bool,
    /// Host names and addresses Redis URLs may name; Unix sockets must lie below `roots`.
    pub redis_hosts: Vec<String>,
    /// Host names and addresses probes may connect to.
    pub probe_hosts: Vec<String>,
    /// Docker, for stacks.
    pub docker: DockerPolicy,
}

/// Docker on this host, and where stacks live.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerPolicy {
    /// The engine's Unix socket.
    pub socket: PathBuf,
    /// The compose program and its leading arguments (`["docker", "compose"]`). Empty: the first
    /// of `docker compose` and `docker-compose` that is installed.
    pub compose: Vec<String>,
    /// Where the Docker client finds registry logins and plugins.
    pub config_dir: PathBuf,
    /// The stacks' files, a directory per compose project; the agent's own, like its state.
    pub stacks_dir: PathBuf,
}

impl Default for DockerPolicy {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/docker.sock"),
            compose: Vec::new(),
            config_dir: PathBuf::from("/root/.docker"),
            stacks_dir: PathBuf::from("/var/lib/hostler-agent/stacks"),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let paths = [
            "/var/www",
            "/srv",
            "/home",
            "/var/cache/nginx",
            "/etc/nginx",
            "/etc/hostler/secrets",
            "/run/redis",
        ];
        let loopback = || ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
        Self {
            roots: paths.iter().map(PathBuf::from).collect(),
            job_types: JobType::ALL.to_vec(),
            executors: vec![Executor::Native, Executor::Ansible],
            nginx_command: vec!["nginx".to_owned()],
            nginx_pid_file: PathBuf::from("/run/nginx.pid"),
            nginx_error_log: PathBuf::from("/var/log/nginx/error.log"),
            edit_wp_config: true,
            redis_hosts: loopback(),
            probe_hosts: loopback(),
            docker: DockerPolicy::default(),
        }
    }
}

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("the policy file {} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than its limit.
    #[error("the policy file {} has more than {POLICY_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    /// Not TOML of the expected shape, or an unknown key.
    #[error("the policy file {} is wrong in line {line}", path.display())]
    Parse {
        path: PathBuf,
        line: usize,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("the policy file {} is wrong: {reason}", path.display())]
    Value { path: PathBuf, reason: String },
}

impl Policy {
    /// Reads a policy. With no path given [`POLICY_FILE`] is read if it exists; without one
    /// the default policy holds.
    ///
    /// # Errors
    /// [`PolicyError`]; a wrong or unknown key names its line.
    pub fn load(path: Option<&Path>) -> Result<Self, PolicyError> {
        match path {
            Some(path) => Self::read(path),
            None => Self::read_usual(Path::new(POLICY_FILE)),
        }
    }

    /// A file that is there and cannot be read is an error: it may forbid what the default permits.
    fn read_usual(usual: &Path) -> Result<Self, PolicyError> {
        match usual.try_exists() {
            Ok(false) => Ok(Self::default()),
            Ok(true) | Err(_) => Self::read(usual),
        }
    }

    fn read(path: &Path) -> Result<Self, PolicyError> {
        let read = |source| PolicyError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(read)?.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let policy: Self = toml::from_str(&text).map_err(|source| {
            let start = source.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
            PolicyError::Parse { path: path.to_owned(), line, source: Box::new(source) }
        })?;
        policy.check().map_err(|reason| PolicyError::Value { path: path.to_owned(), reason })?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), String> {
        if self.nginx_command.first().is_none_or(String::is_empty) {
            return Err("`nginx_command` must name a program".to_owned());
        }
        let docker = &self.docker;
        for (name, path) in [
            ("socket", &docker.socket),
            ("config_dir", &docker.config_dir),
            ("stacks_dir", &docker.stacks_dir),
        ] {
            if !path.is_absolute() || path == Path::new("/") {
                let path = path.display();
                return Err(format!("`docker.{name}` `{path}` must be an absolute path below `/`"));
            }
        }
        for root in &self.roots {
            if !root.is_absolute() || root == Path::new("/") {
                return Err(format!(
                    "root `{}` must be an absolute path below `/`",
                    root.display()
                ));
            }
        }
        Ok(())
    }

    /// Whether this host runs jobs of that type.
    #[must_use]
    pub fn allows(&self, job_type: JobType) -> bool {
        self.job_types.contains(&job_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Policy, PolicyError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Policy::load(Some(&path))
    }

    #[test]
    fn what_is_not_said_keeps_its_default() {
        let policy = load("roots = [\"/srv/a\"]\njob_types = [\"cache_purge\"]\n").unwrap();
        assert_eq!(policy.roots, [PathBuf::from("/srv/a")]);
        assert!(policy.allows(JobType::CachePurge) && !policy.allows(JobType::EnvDelete));
        assert_eq!(policy.nginx_command, ["nginx"]);
    }

    #[test]
    fn a_policy_in_its_usual_place_holds_without_being_named() {
        let directory = tempfile::tempdir().unwrap();
        let usual = directory.path().join("policy.toml");
        assert_eq!(Policy::read_usual(&usual).unwrap(), Policy::default());
        std::fs::write(&usual, "job_types = [\"env_check\"]\n").unwrap();
        assert_eq!(Policy::read_usual(&usual).unwrap().job_types, [JobType::EnvCheck]);
        std::fs::write(&usual, "job_types = [\n").unwrap();
        assert!(Policy::read_usual(&usual).is_err(), "a broken policy was passed over");
    }

    #[test]
    fn an_unknown_key_names_its_line() {
        let error = load("roots = []\n\nallow_all = true\n").unwrap_err();
        assert!(error.to_string().ends_with("wrong in line 3"), "{error}");
    }

    #[test]
    fn roots_are_absolute_and_never_everything() {
        for bad in ["/", "srv"] {
            let error = load(&format!("roots = [\"{bad}\"]")).unwrap_err();
            assert!(matches!(error, PolicyError::Value { .. }), "{bad}: {error}");
        }
    }
}
