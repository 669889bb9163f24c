//! What discovery needs to know of a repository: the trees and blobs of one commit, and nothing of
//! where they come from.
//!
//! A path is the names from the root down, joined with `/`; the root is the empty path. Names are
//! bytes: git knows no encoding.

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    File,
    /// A file whose executable bit is set.
    Executable,
    Symlink,
    Directory,
    /// A commit of another repository, whose content is not here.
    Submodule,
}

impl EntryKind {
    /// The kind's stable name; it is part of digests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Executable => "executable",
            Self::Symlink => "symlink",
            Self::Directory => "directory",
            Self::Submodule => "submodule",
        }
    }

    /// Whether it has bytes of its own that are not a link's target.
    #[must_use]
    pub fn is_regular(self) -> bool {
        match self {
            Self::File | Self::Executable => true,
            Self::Symlink | Self::Directory | Self::Submodule => false,
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its own name, without the directory's.
    pub name: Vec<u8>,
    pub kind: EntryKind,
    /// The object's id, lower-case hex.
    pub oid: String,
}

/// The tree of one commit; read by several threads at once.
pub trait Tree: Sync {
    /// The children of a directory (the empty path is the root), sorted by the bytes of their
    /// names; `None` if there is no such directory. Links are not followed.
    ///
    /// # Errors
    /// What cannot be read.
    fn list(&self, dir: &[u8]) -> Result<Option<Vec<Node>>, TreeError>;

    /// What stands at a path; `None` if nothing does. Links are not followed. The root is a
    /// directory without a name.
    ///
    /// # Errors
    /// What cannot be read.
    fn node(&self, path: &[u8]) -> Result<Option<Node>, TreeError>;

    /// The bytes of a blob: a file's content, a link's target.
    ///
    /// # Errors
    /// `TooLarge` if it has more than `max_bytes`; otherwise what cannot be read.
    fn read(&self, oid: &str, max_bytes: usize) -> Result<Vec<u8>, TreeError>;
}

/// Why a tree could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("a file has {bytes} bytes, more than the {limit_bytes} that are read")]
    TooLarge { bytes: u64, limit_bytes: usize },
    /// The deploy directory is not there, or an object that should be.
    #[error("the commit has no such directory or object")]
    Missing,
    #[error("the repository cannot be read: {0}")]
    Unreadable(String),
    #[error("the repository is larger than permitted: {0}")]
    Limit(String),
    #[error("reading the repository was stopped")]
    Cancelled,
}
