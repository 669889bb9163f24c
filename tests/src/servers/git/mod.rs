//! Real git servers on loopback: bare repositories served over HTTPS by nginx and
//! `git http-backend`, over ssh by sshd, or straight from the disk.

mod https;
mod proxy;
mod ssh;
mod work;

pub use https::Https;
pub use proxy::{Break, Proxy};
pub use ssh::Ssh;
pub use work::{Change, Work, git, output};

use std::path::PathBuf;

use hostler_controller::git::{DeployDir, GitSettings, GitUrl, HttpAuth, Reference, Secret};

use super::{ServerError, directory};

/// How the repositories are reached.
#[derive(Debug)]
enum Access {
    File,
    Https(Https),
    Ssh(Ssh),
}

/// Bare repositories in a directory of their own, and who serves them.
#[derive(Debug)]
pub struct GitServer {
    access: Access,
    dir: tempfile::TempDir,
}

impl GitServer {
    /// Repositories that are read from the disk.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn file() -> Result<Self, ServerError> {
        Ok(Self { access: Access::File, dir: directory("git")? })
    }

    /// Repositories served with TLS under a CA of their own; whoever asks must be this user with
    /// this password, if one is given.
    ///
    /// # Errors
    /// When nginx, fcgiwrap or git is missing, or the server does not come up.
    pub fn https(user: Option<(&str, &str)>) -> Result<Self, ServerError> {
        let dir = directory("git")?;
        let access = Access::Https(Https::start(dir.path(), user)?);
        Ok(Self { access, dir })
    }

    /// Repositories served by sshd to whoever has its key.
    ///
    /// # Errors
    /// When sshd is missing or does not come up.
    pub fn ssh() -> Result<Self, ServerError> {
        let dir = directory("git")?;
        let access = Access::Ssh(Ssh::start()?);
        Ok(Self { access, dir })
    }

    /// Makes an empty bare repository, and a working copy of it.
    ///
    /// # Errors
    /// When git fails.
    pub fn create(&self, name: &str) -> Result<Work, ServerError> {
        let bare = self.path(name);
        let mut init = git(self.dir.path());
        output(init.args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&bare))?;
        Work::of(bare)
    }

    /// Where a repository lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.git"))
    }

    /// Sets a variable of a repository's own configuration, as its owner would.
    ///
    /// # Errors
    /// When git fails.
    pub fn configure(&self, name: &str, key: &str, value: &str) -> Result<(), ServerError> {
        output(git(&self.path(name)).args(["config", key, value])).map(drop)
    }

    /// A repository's URL.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        match &self.access {
            Access::File => format!("file://{}", self.path(name).display()),
            Access::Https(https) => format!("https://localhost:{}/{name}.git", https.port()),
            Access::Ssh(ssh) => {
                let (user, port) = (&ssh.user, ssh.port);
                format!("ssh://{user}@127.0.0.1:{port}{}", self.path(name).display())
            }
        }
    }

    /// What a mirror of a repository needs to know: its URL, who is trusted, who asks.
    ///
    /// # Errors
    /// When the reference is none.
    pub fn settings(&self, name: &str, reference: &str) -> Result<GitSettings, ServerError> {
        self.settings_of(&self.url(name), reference)
    }

    /// The same for another URL of this server: behind a proxy, say.
    ///
    /// # Errors
    /// When the URL or the reference is none.
    pub fn settings_of(&self, url: &str, reference: &str) -> Result<GitSettings, ServerError> {
        let unfit = |error: &dyn std::error::Error| ServerError::new("git settings", error);
        let url = GitUrl::parse(url).map_err(|error| unfit(&error))?;
        let reference = Reference::parse(reference).map_err(|error| unfit(&error))?;
        let root = DeployDir::parse("/").map_err(|error| unfit(&error))?;
        let mut settings = GitSettings::new(url, reference, root);
        match &self.access {
            Access::File => {}
            Access::Https(https) => {
                settings.ca_file = Some(https.ca.clone());
                settings.auth = https.user.as_ref().map(|(user, password)| {
                    HttpAuth::basic(user.clone(), Secret::new(password.clone()))
                });
            }
            Access::Ssh(ssh) => {
                settings.known_hosts_file = Some(ssh.known_hosts.clone());
                settings.ssh_key_file = Some(ssh.client_key.clone());
            }
        }
        Ok(settings)
    }

    /// The HTTPS server, if it is one.
    ///
    /// # Errors
    /// When it is not.
    pub fn web(&self) -> Result<&Https, ServerError> {
        match &self.access {
            Access::Https(https) => Ok(https),
            Access::File | Access::Ssh(_) => Err(ServerError("no HTTPS server".to_owned())),
        }
    }

    /// The ssh server, if it is one.
    ///
    /// # Errors
    /// When it is not.
    pub fn shell(&mut self) -> Result<&mut Ssh, ServerError> {
        match &mut self.access {
            Access::Ssh(ssh) => Ok(ssh),
            Access::File | Access::Https(_) => Err(ServerError("no ssh server".to_owned())),
        }
    }
}
