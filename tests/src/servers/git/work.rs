//! A working copy that commits at fixed times and pushes straight into its bare repository.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::{ServerError, command, directory};

/// When the first commit is made, in seconds since the Unix epoch; each next one a minute later.
const FIRST_SECS: u64 = 1_700_000_000;

/// git, untouched by the machine's or the user's configuration, working in `dir`.
#[must_use]
pub fn git(dir: &Path) -> Command {
    let mut git = command("git");
    git.current_dir(dir)
        .env_remove("GIT_DIR")
        .env("HOME", "/nonexistent")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    git
}

/// Runs a program to its end: what it printed.
///
/// # Errors
/// When it cannot be started or fails; what it complained about is in the error.
pub fn output(command: &mut Command) -> Result<Vec<u8>, ServerError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ServerError::new(&format!("starting {name}"), error))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let doing = format!("{name} {}", arguments.join(" "));
    Err(ServerError::new(&doing, String::from_utf8_lossy(&out.stderr)))
}

/// What is done to one path.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    File(&'a [u8]),
    Executable(&'a [u8]),
    /// A link and what it points to.
    Link(&'a str),
    /// Another repository's commit.
    Submodule(&'a str),
    Gone,
}

/// A working copy of one bare repository.
#[derive(Debug)]
pub struct Work {
    bare: PathBuf,
    commits: u64,
    dir: tempfile::TempDir,
}

impl Work {
    pub(super) fn of(bare: PathBuf) -> Result<Self, ServerError> {
        let work = Self { bare, commits: 0, dir: directory("work")? };
        work.git(&["init", "--quiet", "--initial-branch=main"])?;
        for (key, value) in [("user.name", "Ada"), ("user.email", "ada@example.test")] {
            work.git(&["config", key, value])?;
        }
        Ok(work)
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs git here: what it printed, without the white space around it.
    ///
    /// # Errors
    /// When git fails.
    pub fn git(&self, arguments: &[&str]) -> Result<String, ServerError> {
        let secs = FIRST_SECS + 60 * self.commits;
        let mut git = git(self.dir.path());
        git.args(arguments);
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            git.env(name, format!("@{secs} +0000"));
        }
        let said = output(&mut git)?;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// Changes the file at a path; directories above it come by themselves.
    ///
    /// # Errors
    /// When the disk or git refuses.
    pub fn set(&self, path: impl AsRef<[u8]>, change: Change<'_>) -> Result<(), ServerError> {
        let relative = Path::new(OsStr::from_bytes(path.as_ref()));
        let path = self.dir.path().join(relative);
        let failed = |error| ServerError::new(&format!("changing {}", relative.display()), error);
        if let Change::Submodule(commit) = change {
            let entry = format!("160000,{commit},{}", relative.display());
            return self.git(&["update-index", "--add", "--cacheinfo", &entry]).map(drop);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        match change {
            Change::File(bytes) => std::fs::write(&path, bytes),
            Change::Executable(bytes) => std::fs::write(&path, bytes).and_then(|()| {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            }),
            Change::Link(target) => symlink(target, &path),
            Change::Submodule(_) | Change::Gone => Ok(()),
        }
        .map_err(failed)
    }

    /// Writes text files and commits them: the commit's id.
    ///
    /// # Errors
    /// When the disk or git refuses.
    pub fn commit_files(&mut self, files: &[(&str, &str)]) -> Result<String, ServerError> {
        for (path, text) in files {
            self.set(path, Change::File(text.as_bytes()))?;
        }
        self.commit("Change files")
    }

    /// Commits everything: the commit's id.
    ///
    /// # Errors
    /// When git refuses.
    pub fn commit(&mut self, message: &str) -> Result<String, ServerError> {
        self.git(&["add", "--all", "."])?;
        self.commit_staged(message)
    }

    /// Commits what is staged: the commit's id.
    ///
    /// # Errors
    /// When git refuses.
    pub fn commit_staged(&mut self, message: &str) -> Result<String, ServerError> {
        self.commits += 1;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Pushes what is checked out to a reference (`refs/heads/main`), whatever was there.
    ///
    /// # Errors
    /// When git refuses.
    pub fn push(&self, reference: &str) -> Result<(), ServerError> {
        self.push_as("HEAD", reference)
    }

    /// The same for any revision.
    ///
    /// # Errors
    /// When git refuses.
    pub fn push_as(&self, revision: &str, reference: &str) -> Result<(), ServerError> {
        let refspec = format!("+{revision}:{reference}");
        let bare = self.bare.to_string_lossy();
        self.git(&["push", "--quiet", &bare, &refspec]).map(drop)
    }

    /// Removes a reference from the bare repository.
    ///
    /// # Errors
    /// When git refuses.
    pub fn delete(&self, reference: &str) -> Result<(), ServerError> {
        output(git(&self.bare).args(["update-ref", "-d", reference])).map(drop)
    }

    /// Writes text files, commits and pushes them to `main`: the commit's id.
    ///
    /// # Errors
    /// When the disk or git refuses.
    pub fn publish(&mut self, files: &[(&str, &str)]) -> Result<String, ServerError> {
        let commit = self.commit_files(files)?;
        self.push("refs/heads/main")?;
        Ok(commit)
    }
}
