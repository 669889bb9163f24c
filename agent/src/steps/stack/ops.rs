//! What compose is run for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_protocol::bundle::FileKind;
use hostler_protocol::job::{Code, PullPolicy};

use super::classify;
use super::hidden::{hidden, values};
use super::resolved::Resolved;
use super::site::Site;
use crate::host::docker::{Generation, Project};
use crate::host::fs::{Look, Roots};
use crate::steps::bundle::{self, Opened};
use crate::steps::run::{Failure, blocking};

/// Longest `compose config`.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest of everything else; a job's own limit is usually shorter.
const WORK_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// Most bytes of a resolved project.
const CONFIG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest file that compose is taken to read itself; larger ones are for containers and builds.
const READ_BYTES_MAX: u64 = 1024 * 1024;
/// Most bytes of the host's own variables.
const HOST_ENV_BYTES_MAX: u64 = 256 * 1024;
const PRIVATE: Look = Look { mode: 0o600, owner: None };

/// What compose is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    All,
    These(Vec<String>),
    /// Not one of those there are. Compose takes no services named for all of them.
    Nothing,
}

/// Where compose is to find a stack, and the host's own values in it.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) project: Project,
    /// Values of the host's own variables, and what was encrypted: never shown.
    pub(super) secrets: Vec<String>,
    /// Digest of the host's own variables.
    pub(super) host_env: Option<String>,
}

impl Site {
    /// What compose is told of a stack whose bundle is in `base`.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub(super) async fn ground(
        &self,
        base: &Path,
        directory: &str,
        compose_files: &[String],
    ) -> Result<Ground, Failure> {
        let directory = if directory.is_empty() { base.to_owned() } else { base.join(directory) };
        let mut project = Project {
            name: self.home.project().to_owned(),
            files: compose_files.iter().map(|file| base.join(file)).collect(),
            env_files: Vec::new(),
            directory,
        };
        let mut secrets = self.hidden(base).await?;
        if base != self.home.files() {
            // What runs may still say what it was given before.
            secrets.extend(self.hidden(&self.home.files()).await?);
        }
        let host = self.host_env().await?;
        if host.is_none() || self.compose.generation() == Generation::Second {
            // What an earlier attempt merged may hold what was encrypted, and is of no use now.
            std::fs::remove_file(self.home.merged_env()).ok();
        }
        let Some(host) = host else {
            return Ok(Ground { project, secrets, host_env: None });
        };
        secrets.extend(values(&host));
        let own = project.directory.join(".env");
        project.env_files = match self.compose.generation() {
            Generation::Second if own.is_file() => vec![own, self.home.host_env()],
            Generation::Second => vec![self.home.host_env()],
            Generation::First => vec![self.merge_env(own, &host).await?],
        };
        Ok(Ground { project, secrets, host_env: Some(digest(&host)) })
    }

    /// What was encrypted of the bundle in `base`.
    async fn hidden(&self, base: &Path) -> Result<Vec<String>, Failure> {
        let private = bundle::private(base).await?;
        Ok(private.iter().flat_map(|plain| hidden(plain)).collect())
    }

    /// Digest of the host's own variables; `None` when there are none.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn host_env_digest(&self) -> Result<Option<String>, Failure> {
        Ok(self.host_env().await?.map(|bytes| digest(&bytes)))
    }

    async fn host_env(&self) -> Result<Option<Vec<u8>>, Failure> {
        let home = self.home.clone();
        blocking(move || -> Result<_, Failure> {
            if !home.root().is_dir() {
                return Ok(None);
            }
            let place = Roots::new(&[home.root().to_owned()]).place(&home.host_env())?;
            Ok(place.read(HOST_ENV_BYTES_MAX)?.map(|content| content.bytes))
        })
        .await
    }

    /// One file with the stack's variables and then the host's, for a compose that takes only one.
    async fn merge_env(&self, own: PathBuf, host: &[u8]) -> Result<PathBuf, Failure> {
        let (home, host) = (self.home.clone(), host.to_vec());
        blocking(move || -> Result<_, Failure> {
            // A stack without variables of its own is usual.
            let mut merged = std::fs::read(own).unwrap_or_default();
            merged.push(b'\n');
            merged.extend_from_slice(&host);
            let path = home.merged_env();
            Roots::new(&[home.root().to_owned()]).place(&path)?.write(&merged, PRIVATE)?;
            Ok(path)
        })
        .await
    }

    /// What compose makes of a stack whose bundle is in `base`; of the live files' paths, wherever
    /// it is looked at.
    ///
    /// # Errors
    /// `COMPOSE_INVALID`, naming what compose says; `CANCELLED`.
    pub(super) async fn resolve(&self, base: &Path, ground: &Ground) -> Result<Resolved, Failure> {
        let json = self.compose.generation() == Generation::Second;
        let arguments: &[&str] = if json { &["config", "--format", "json"] } else { &["config"] };
        let command = self.compose.command(&ground.project, &owned(arguments));
        let done = self
            .compose
            .run(
                command.clone(),
                CONFIG_TIMEOUT,
                CONFIG_BYTES_MAX,
                &ground.secrets,
                self.mark(),
                &self.cancel,
            )
            .await?;
        let live = self.home.files();
        if !done.success() {
            // Compose speaks of where it looked; people know the files by their paths in the bundle.
            let said = done.tail.replace(&format!("{}/", base.display()), "");
            let message = format!("compose refuses the files: {}", classify::sentence(&said));
            let failure = Failure::new(Code::ComposeInvalid, message);
            return Err(failure.with_command(command, done.status, said));
        }
        let resolved = match done.stdout_cut {
            true => Err(format!("it has more than {CONFIG_BYTES_MAX} bytes")),
            false => Resolved::parse(&done.stdout, base, &live),
        };
        let mut resolved = resolved.map_err(|reason| {
            let message = format!("what compose makes of the files cannot be read: {reason}");
            Failure::new(Code::ComposeInvalid, message)
        })?;
        resolved.secrets.extend(ground.secrets.iter().cloned());
        Ok(resolved)
    }

    /// What compose makes of a bundle before any live file is touched.
    ///
    /// # Errors
    /// As [`Site::resolve`], and those of bundles.
    pub async fn look_into(
        &self,
        opened: &Opened,
        directory: &str,
        compose_files: &[String],
    ) -> Result<Resolved, Failure> {
        let check = self.home.check();
        let small = |file: &hostler_protocol::bundle::File| {
            file.bytes <= READ_BYTES_MAX || file.kind == FileKind::Symlink
        };
        let home = self.home.clone();
        blocking(move || home.make()).await?;
        let looked = async {
            bundle::place(self.bundles(), &opened.only(small), None, &check).await?;
            let ground = self.ground(&check, directory, compose_files).await?;
            self.resolve(&check, &ground).await
        };
        let looked = looked.await;
        let cleared = bundle::clear(None, &check).await;
        // One that was only looked at leaves nothing behind; a directory in use is not empty.
        std::fs::remove_dir(self.home.root()).ok();
        let resolved = looked?;
        cleared?;
        Ok(resolved)
    }

    /// Runs compose for something that changes what runs.
    ///
    /// # Errors
    /// By what compose says ([`classify`]); `CANCELLED`, `TIMED_OUT`.
    pub(super) async fn work(
        &self,
        ground: &Ground,
        secrets: &[String],
        arguments: Vec<String>,
    ) -> Result<(), Failure> {
        let verb = arguments.first().cloned().unwrap_or_default();
        let command = self.compose.command(&ground.project, &arguments);
        let (mark, cancel) = (self.mark(), &self.cancel);
        let done =
            self.compose.run(command.clone(), WORK_TIMEOUT, 0, secrets, mark, cancel).await?;
        if done.success() {
            return Ok(());
        }
        let code = classify::code(done.status, &done.tail);
        let message = format!("`compose {verb}` failed: {}", classify::sentence(&done.tail));
        Err(Failure::new(code, message).with_command(command, done.status, done.tail))
    }

    /// Starts what is to run, and removes containers of services that are no more.
    ///
    /// # Errors
    /// As [`Site::work`].
    pub(super) async fn up(
        &self,
        ground: &Ground,
        resolved: &Resolved,
        pull: PullPolicy,
        start: &Start,
    ) -> Result<(), Failure> {
        let services = match start {
            Start::All => Vec::new(),
            Start::These(services) => services.clone(),
            Start::Nothing => return self.remove_orphans(ground, resolved).await,
        };
        let mut arguments = owned(&["up", "--detach", "--remove-orphans", "--quiet-pull"]);
        match (self.compose.generation(), pull) {
            (Generation::Second, PullPolicy::Always) => {
                arguments.extend(owned(&["--pull", "always"]))
            }
            (Generation::Second, PullPolicy::Never) => {
                arguments.extend(owned(&["--pull", "never"]))
            }
            (Generation::First, PullPolicy::Always) => {
                let quiet = owned(&["pull", "--quiet"]);
                self.work(ground, &resolved.secrets, quiet).await?;
            }
            (Generation::First, PullPolicy::Never) => self.need_images(resolved).await?,
            (Generation::First | Generation::Second, PullPolicy::Missing) => {}
        }
        arguments.extend(services);
        self.work(ground, &resolved.secrets, arguments).await
    }

    /// Removes containers of services that are no more; what there is beside them stays as it is.
    async fn remove_orphans(&self, ground: &Ground, resolved: &Resolved) -> Result<(), Failure> {
        let mut arguments = owned(&["up", "--no-start", "--no-recreate", "--remove-orphans"]);
        arguments.extend(resolved.services.keys().cloned());
        self.work(ground, &resolved.secrets, arguments).await
    }

    async fn need_images(&self, resolved: &Resolved) -> Result<(), Failure> {
        for service in resolved.services.values().filter(|service| !service.is_built) {
            let Some(image) = &service.image else { continue };
            if self.engine.image(image).await?.is_none() {
                let message = format!("the host does not have the image {image}");
                return Err(Failure::new(Code::ImageUnavailable, message));
            }
        }
        Ok(())
    }
}

pub(super) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}
