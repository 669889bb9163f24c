//! The private directory of one run: variables, settings, events, and wherever Ansible and its modules
//! put what they need meanwhile.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Ansible, AnsibleError};
use crate::host::process::end_marked;

/// A private directory; when it is dropped, what was started in its name ends and it goes.
#[derive(Debug)]
pub(super) struct Private(PathBuf);

impl Private {
    /// Makes one below `runs_dir`; `name` is never used twice.
    pub(super) fn make(runs_dir: &Path, name: &str) -> Result<Self, AnsibleError> {
        let path = runs_dir.join(name);
        let make = |path: &Path| {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| AnsibleError::Private {
                action: "create",
                path: path.to_owned(),
                source,
            })
        };
        make(&path)?;
        let private = Self(path);
        for directory in ["home", "local", "remote", "state"] {
            make(&private.path(directory))?;
        }
        Ok(private)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What every process of the run is known by.
    pub(super) fn mark(&self) -> String {
        mark_of(&self.0)
    }

    /// Writes a file nobody else may read.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, AnsibleError> {
        let path = self.path(name);
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes));
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(AnsibleError::Private { action: "write", path, source }),
        }
    }

    /// Writes the settings of the run: no other configuration is read.
    pub(super) fn configure(&self, ansible: &Ansible) -> Result<(), AnsibleError> {
        let text = format!(
            "[defaults]\n\
             stdout_callback = hostler_events\n\
             callback_plugins = {playbooks}/callback_plugins\n\
             library = {playbooks}/library\n\
             module_utils = {playbooks}/module_utils\n\
             home = {home}\n\
             local_tmp = {local}\n\
             remote_tmp = {remote}\n\
             interpreter_python = {python}\n\
             gathering = explicit\n\
             forks = 1\n\
             nocolor = true\n\
             nocows = true\n\
             localhost_warning = false\n\
             deprecation_warnings = false\n\
             retry_files_enabled = false\n\
             [inventory]\n\
             inventory_unparsed_warning = false\n",
            playbooks = ansible.playbook_dir.display(),
            home = self.path("home").display(),
            local = self.path("local").display(),
            remote = self.path("remote").display(),
            python = ansible.python.display(),
        );
        self.write("ansible.cfg", text.as_bytes()).map(|_| ())
    }

    /// The environment of the run, beside the path.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("ANSIBLE_CONFIG", text(self.path("ansible.cfg"))),
            // Ansible refuses a locale without UTF-8.
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("HOME", text(self.path("home"))),
            ("TMPDIR", text(self.path("local"))),
            ("HOSTLER_EVENTS", text(self.path("events"))),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            // Else a process that names itself writes over the mark it is known by.
            ("SPT_NOENV", "1".to_owned()),
        ]
    }
}

/// The mark of every run whose private directory is, or lies in, that directory.
pub(super) fn mark_of(path: &Path) -> String {
    format!("{}/", path.display())
}

impl Drop for Private {
    fn drop(&mut self) {
        end_marked(&self.mark());
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a run's directory stays");
        }
    }
}
