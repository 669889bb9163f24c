//! What Hostler wrote into a directory, kept beside it: what is not in there is somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use hostler_protocol::bundle::{File, FileKind};
use serde::{Deserialize, Serialize};

use crate::host::fs::{FsError, Look, Place, Roots};
use crate::host::tree::{Access, Found};

/// Largest record: every file of the largest manifest, twice, and the directories.
const RECORD_BYTES_MAX: u64 = 4 * hostler_protocol::bundle::MANIFEST_BYTES_MAX as u64;

/// A file as Hostler wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) kind: FileKind,
    pub(super) sha256: String,
    pub(super) bytes: u64,
    /// Whether it was encrypted, and is its owner's alone. Its digest could be guessed from: it
    /// stands in no report, and the record is its owner's alone, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) private: bool,
}

impl Written {
    pub(super) fn of(file: &File, private: bool) -> Self {
        Self { kind: file.kind, sha256: file.sha256.clone(), bytes: file.bytes, private }
    }

    pub(super) fn access(&self) -> Access {
        Access { runs: self.kind == FileKind::Executable, private: self.private }
    }

    /// Whether what is there may be used as it should be.
    pub(super) fn has_access(&self, found: &Found) -> bool {
        match found {
            Found::File { runs, open, .. } => {
                *runs == (self.kind == FileKind::Executable) && !(self.private && *open)
            }
            Found::Link { .. } | Found::Nothing | Found::Directory | Found::Other => true,
        }
    }
}

/// What Hostler wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// As the last placing that came to its end left them, by path.
    pub(super) files: BTreeMap<String, Written>,
    /// What a placing was about to write that has not come to its end.
    #[serde(default)]
    pub(super) writing: BTreeMap<String, Written>,
    /// What the bundle has no more, and somebody had changed: it is there still, and gives way when
    /// a bundle has it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) kept: BTreeMap<String, Written>,
    /// Directories that were made.
    #[serde(default)]
    pub(super) dirs: BTreeSet<String>,
}

impl Record {
    /// What a path may hold and be as Hostler wrote it.
    pub(super) fn of(&self, path: &str) -> impl Iterator<Item = &Written> {
        [&self.files, &self.writing, &self.kept].into_iter().filter_map(|written| written.get(path))
    }

    /// Whether a path is one of a file that was its owner's alone.
    pub(super) fn is_private(&self, path: &str) -> bool {
        self.of(path).any(|written| written.private)
    }

    /// All paths Hostler wrote to.
    pub(super) fn paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys().chain(self.writing.keys()).chain(self.kept.keys())
    }

    pub(super) fn knows(&self, path: &str) -> bool {
        self.of(path).next().is_some()
    }

    /// Reads the record of a directory. One that is damaged counts for none: but for what the caller
    /// knows, everything in the directory is somebody else's then.
    pub(super) fn load(dir: &Path) -> Result<Self, FsError> {
        let place = match place(dir) {
            Ok(place) => place,
            Err(FsError::Missing { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let Some(content) = place.read(RECORD_BYTES_MAX)? else { return Ok(Self::default()) };
        Ok(serde_json::from_slice(&content.bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %place.path().display(), "a record of placed files is damaged");
            Self::default()
        }))
    }

    /// Writes it in one step.
    pub(super) fn store(&self, dir: &Path) -> Result<(), FsError> {
        // String keys and no fallible serialisers.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        place(dir)?.write(&bytes, Look { mode: 0o600, owner: None })
    }

    /// Removes the record of a directory.
    pub(super) fn remove(dir: &Path) -> Result<(), FsError> {
        match place(dir) {
            Ok(place) => place.remove().map(drop),
            Err(FsError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Beside the directory, where no container sees it: `.NAME.placed.json`.
fn place(dir: &Path) -> Result<Place, FsError> {
    let outside = || FsError::Outside { path: dir.to_owned() };
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(outside());
    };
    let mut record = OsString::from(".");
    record.push(name);
    record.push(".placed.json");
    Roots::new(&[parent.to_owned()]).place(&parent.join(record))
}
