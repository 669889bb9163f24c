//! The mirror of the configuration repository against real git servers.

mod faults;
mod history;
mod host;
mod limits;
mod proxied;
mod servers;
mod signed;
mod trees;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use hostler_controller::clock::Clock;
use hostler_controller::domain::stack::Tree as _;
use hostler_controller::git::{Class, DeployDir, Fetched, GitError, GitSettings, Mirror, RepoTree};
use hostler_tests::servers::git::{GitServer, Work};

/// A repository called `stacks` with one commit, and an empty directory for a mirror of it.
struct Rig {
    server: GitServer,
    work: Work,
    first: String,
    dir: tempfile::TempDir,
}

impl Rig {
    fn over(server: GitServer) -> Self {
        let mut work = server.create("stacks").unwrap();
        let first =
            work.publish(&[("web/docker-compose.yml", "services: {a: {image: x}}\n")]).unwrap();
        Self { server, work, first, dir: tempfile::tempdir().unwrap() }
    }

    fn file() -> Self {
        Self::over(GitServer::file().unwrap())
    }

    fn https() -> Self {
        Self::over(GitServer::https(None).unwrap())
    }

    fn ssh() -> Self {
        Self::over(GitServer::ssh().unwrap())
    }

    fn settings(&self) -> GitSettings {
        self.server.settings("stacks", "main").unwrap()
    }

    fn mirror(&self) -> Mirror {
        self.open(self.settings())
    }

    fn open(&self, settings: GitSettings) -> Mirror {
        open(self.dir.path(), settings)
    }

    /// A mirror of another reference in a directory of its own, and what fetching it gives.
    fn try_reference(&self, reference: &str) -> Result<Fetched, GitError> {
        try_once(self.server.settings("stacks", reference).unwrap())
    }
}

fn open(dir: &Path, settings: GitSettings) -> Mirror {
    Mirror::open(&dir.join("mirror"), settings, Clock::system()).unwrap()
}

fn fetch(mirror: &Mirror) -> Result<Fetched, GitError> {
    mirror.fetch(&AtomicBool::new(false))
}

/// What one fetch into an empty mirror gives.
fn try_once(settings: GitSettings) -> Result<Fetched, GitError> {
    let dir = tempfile::tempdir().unwrap();
    fetch(&open(dir.path(), settings))
}

fn class(error: &GitError) -> (Class, &'static str) {
    (error.class(), error.code())
}

fn root(mirror: &Mirror, revision: &str) -> RepoTree {
    mirror.tree(revision, &DeployDir::parse("/").unwrap()).unwrap()
}

/// A file's bytes as of the last accepted commit.
fn read(mirror: &Mirror, path: &str) -> Option<Vec<u8>> {
    let tree = root(mirror, &mirror.revision().unwrap().revision);
    let node = tree.node(path.as_bytes()).unwrap()?;
    Some(tree.read(&node.oid, usize::MAX).unwrap())
}

/// Text that takes a while to send: hardly compressible.
fn noise() -> String {
    (0..40_000_u32).map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761))).collect()
}
