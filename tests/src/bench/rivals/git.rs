//! What one would write with git's own commands and `sha256sum`.

use std::path::{Path, PathBuf};
use std::process::Command;

use hostler_controller::git::GitSettings;

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::process::run;
use crate::servers::git::git;

/// A bare repository of git's, and a script around it.
#[derive(Debug)]
pub struct GitCli {
    dir: PathBuf,
    url: String,
    ca: PathBuf,
}

impl GitCli {
    /// For the same repository under the same authority as ours.
    ///
    /// # Errors
    /// When it is no HTTPS repository or the directory cannot be made.
    pub fn new(dir: &Path, settings: &GitSettings) -> Res<Self> {
        std::fs::create_dir_all(dir)?;
        let ca = settings.ca_file.clone().ok_or("the repository has no CA")?;
        Ok(Self { dir: dir.to_owned(), url: settings.url.to_string(), ca })
    }

    /// The same over another way.
    #[must_use]
    pub fn over(&self, url: &str) -> Self {
        Self { url: url.to_owned(), dir: self.dir.clone(), ca: self.ca.clone() }
    }

    /// `git ls-remote` of the branch: how long it took.
    ///
    /// # Errors
    /// When git fails.
    pub fn ls_remote(&self) -> Res<f64> {
        let mut ask = git(&self.dir);
        ask.env("GIT_SSL_CAINFO", &self.ca).args(["ls-remote", &self.url, "refs/heads/main"]);
        let watch = Watch::start();
        let said = run(&mut ask)?.stdout;
        if said.is_empty() {
            return Err("git ls-remote found no branch".into());
        }
        Ok(watch.secs())
    }

    /// An empty repository for the next fetch.
    ///
    /// # Errors
    /// When git fails.
    pub fn empty(&self) -> Res<()> {
        let mirror = self.dir.join("mirror.git");
        if mirror.exists() {
            std::fs::remove_dir_all(&mirror)?;
        }
        run(git(&self.dir).args(["init", "--quiet", "--bare", "mirror.git"]))?;
        Ok(())
    }

    /// Fetches the newest commit alone, lists its files and hashes every compose file: how long it
    /// took, and how many it found.
    ///
    /// # Errors
    /// When one of the programs fails.
    pub fn fetch_and_hash(&self) -> Res<(f64, usize)> {
        const SCRIPT: &str = "set -eu\n\
            git -C mirror.git fetch --quiet --depth 1 \"$0\" +refs/heads/main:refs/heads/main\n\
            git -C mirror.git ls-tree -r main >tree\n\
            rm -rf files && mkdir files\n\
            git -C mirror.git archive main | tar -x -C files --wildcards '*/docker-compose.yml'\n\
            find files -name docker-compose.yml -print0 | xargs -0 sha256sum >hashes\n\
            wc -l <hashes\n";
        let mut shell = crate::servers::command("sh");
        shell.args(["-c", SCRIPT, &self.url]);
        as_git_has_it(&mut shell, &self.dir);
        shell.env("GIT_SSL_CAINFO", &self.ca);
        let watch = Watch::start();
        let said = run(&mut shell)?.stdout;
        let secs = watch.secs();
        Ok((secs, String::from_utf8_lossy(&said).trim().parse()?))
    }
}

/// Has a script call git in `dir` as [`git`] is called: untouched by anybody's configuration.
pub(super) fn as_git_has_it(script: &mut Command, dir: &Path) {
    script.current_dir(dir);
    for (name, value) in git(dir).get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
}
