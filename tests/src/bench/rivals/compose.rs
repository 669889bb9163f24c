//! What one would write with `git` and `docker compose` for each host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::git::as_git_has_it;
use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::process::run;
use crate::servers::docker::{DOCKER, DockerServer};
use crate::servers::git::git;

/// A working copy on one host, and a script that brings it up to date and its stacks up.
#[derive(Debug)]
pub struct ComposeCli {
    engine: Arc<DockerServer>,
    dir: PathBuf,
    url: String,
}

impl ComposeCli {
    /// An empty working copy for a host's engine.
    ///
    /// # Errors
    /// When git fails.
    pub fn new(dir: &Path, engine: Arc<DockerServer>, url: &str) -> Res<Self> {
        std::fs::create_dir_all(dir)?;
        run(git(dir).args(["init", "--quiet"]))?;
        Ok(Self { engine, dir: dir.to_owned(), url: url.to_owned() })
    }

    /// Fetches the newest commit and brings one stack up, as a project of its own.
    fn up(&self, stack: &str) -> Res<()> {
        const SCRIPT: &str = "set -eu\n\
            git fetch --quiet --depth 1 \"$0\" refs/heads/main\n\
            git reset --quiet --hard FETCH_HEAD\n\
            \"$1\" compose --project-name \"script-$2\" --file \"$2/docker-compose.yml\" up --detach\n";
        let mut shell = self.engine.command("sh");
        shell.args(["-c", SCRIPT, &self.url, DOCKER, stack]);
        as_git_has_it(&mut shell, &self.dir);
        run(&mut shell).map(drop)
    }
}

/// Runs the script for a stack on several hosts at the same time: how long until the last has ended.
///
/// # Errors
/// When one of them fails.
pub fn up_everywhere(hosts: &[ComposeCli], stack: &str) -> Res<f64> {
    let watch = Watch::start();
    std::thread::scope(|scope| {
        let all: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.up(stack))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a script panicked")?)
    })?;
    Ok(watch.secs())
}
