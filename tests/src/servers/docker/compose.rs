//! The Compose programs that `tests/setup/docker.sh` brings.

use std::path::{Path, PathBuf};

use crate::servers::{ServerError, command};

/// Names the directory `tests/setup/docker.sh` installs into, when it is not `target/docker`.
pub const DIRECTORY_VARIABLE: &str = "HOSTLER_DOCKER_DIR";

/// A generation of Compose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compose {
    /// 1.29, a program of its own, in Python.
    V1,
    /// 2 or newer, a plugin of the command line that is also a program.
    V2,
}

impl Compose {
    /// Those this machine has. Version 2 is always among them; version 1 is where Debian has it.
    ///
    /// # Errors
    /// When version 2 is missing.
    pub fn installed() -> Result<Vec<Self>, ServerError> {
        Self::V2.program()?;
        let all = [Self::V1, Self::V2].into_iter();
        Ok(all.filter(|compose| compose.program().is_ok()).collect())
    }

    /// The program, to be called with Compose's own arguments.
    ///
    /// # Errors
    /// When this machine does not have it.
    pub fn program(self) -> Result<PathBuf, ServerError> {
        let (path, begins) = match self {
            Self::V1 => (PathBuf::from("/usr/bin/docker-compose"), "1."),
            Self::V2 => (config_dir().join("cli-plugins/docker-compose"), "2."),
        };
        let missing = || {
            ServerError(format!(
                "Compose {self:?} is missing: run tests/setup/docker.sh (looked for {})",
                path.display()
            ))
        };
        let out = command(&path).args(["version", "--short"]).output().map_err(|_| missing())?;
        if !String::from_utf8_lossy(&out.stdout).trim_start_matches('v').starts_with(begins) {
            return Err(missing());
        }
        Ok(path)
    }
}

/// What `DOCKER_CONFIG` has to be for `docker compose` to be version 2: a configuration of the
/// command line with nothing in it but the plugin.
#[must_use]
pub fn config_dir() -> PathBuf {
    std::env::var_os(DIRECTORY_VARIABLE).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/docker"),
        PathBuf::from,
    )
}
