//! The repository that says what should run: a bare mirror of one reference, and its trees.
//!
//! Invariants:
//! * no worktree is ever made and nothing of the repository is run: files are read from git's
//!   objects, by their bytes;
//! * neither the machine's git configuration nor its environment has a say;
//! * credentials travel in the request's own header only: they stand in no URL, configuration,
//!   argument, message or log;
//! * a fetch ends: by its answer, at its deadline, or when it is cancelled; and one that fails
//!   leaves the last good revision readable;
//! * a mirror's files are never removed while somebody reads them, and whatever a crash leaves
//!   behind is used or cleared away at the next start.
//!
//! [`Mirror::fetch`] and all reading block: they belong on a thread that may.

mod answer;
mod commit;
mod error;
mod exchange;
mod generation;
mod group;
mod http;
mod mirror;
mod process;
mod remote;
mod settings;
mod signature;
mod ssh;
mod tree;
mod url;
mod watch;

pub use commit::CommitMeta;
pub use error::{Class, GitError};
pub use mirror::{Fetched, Mirror, Revision};
pub use settings::{
    DeployDir, GitLimits, GitSettings, HttpAuth, ProxyUrl, Reference, Secret, Unfit, unreadable,
};
pub use tree::{RepoTree, TreeEntry};
pub use url::{BadUrl, GitUrl};
