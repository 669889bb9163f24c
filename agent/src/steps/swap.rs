//! Changing several files as one: before the first is touched, the previous bytes of all are on
//! disk in the agent's own directory, so that a later failure, or the next start after a kill,
//! puts them back.
//!
//! Order: [`Swap::watch`] (previous bytes durable), [`Swap::put`] per file, then either
//! [`Swap::finish`] or [`Swap::undo`]. The record is removed only after what replaces it is
//! durable, so a kill at any moment leaves the old files, or the record that brings them back.

use std::path::{Path, PathBuf};

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::Code;
use serde::{Deserialize, Serialize};

use super::run::{Failure, blocking};
use super::tools::Tools;
use crate::host::fs::{FsError, Look};

pub(super) const KIND: &str = "swaps";
const RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest file that is ever swapped.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const PRIVATE: Look = Look { mode: 0o600, owner: None };

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    environment: EnvironmentId,
    /// The generation being brought in: once the state file has it, the change is committed.
    generation: u64,
    /// What a probe of that generation must present; none for a swap that brings in none.
    #[serde(default)]
    secret: Option<String>,
    files: Vec<Before>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Before {
    path: PathBuf,
    /// `None`: there was no such file.
    content: Option<Saved>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    hex: String,
    mode: u32,
    owner: Option<(u32, u32)>,
}

/// Files being changed together.
#[derive(Debug)]
pub struct Swap {
    tools: Tools,
    record: Record,
}

impl Swap {
    /// A swap that has touched nothing.
    #[must_use]
    pub fn new(tools: &Tools, environment: &EnvironmentId, generation: u64) -> Self {
        let environment = environment.clone();
        let record = Record { environment, generation, secret: None, files: Vec::new() };
        Self { tools: tools.clone(), record }
    }

    /// The same, bringing in a generation that answers who presents this secret.
    #[must_use]
    pub fn with_secret(mut self, secret: &str) -> Self {
        self.record.secret = Some(secret.to_owned());
        self
    }

    /// The secret of the generation being brought in.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.record.secret.as_deref()
    }

    /// The swap a killed agent left, if it left one.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn left_over(
        tools: &Tools,
        environment: &EnvironmentId,
    ) -> Result<Option<Self>, Failure> {
        let (tools, environment) = (tools.clone(), environment.clone());
        blocking(move || -> Result<_, Failure> {
            let place = tools.state_place(KIND, &environment)?;
            let Some(content) = place.read(RECORD_BYTES_MAX)? else { return Ok(None) };
            let record = serde_json::from_slice(&content.bytes).map_err(|error| {
                let path = place.path();
                Failure::new(
                    Code::FileFailed,
                    format!("{} cannot be read: {error}", path.display()),
                )
            })?;
            Ok(Some(Self { tools, record }))
        })
        .await
    }

    /// The generation this swap was to bring in.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.record.generation
    }

    /// Whether any file is being watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.files.is_empty()
    }

    /// Whether this swap watches a file.
    #[must_use]
    pub fn watches(&self, path: &Path) -> bool {
        self.record.files.iter().any(|before| before.path == path)
    }

    /// Makes the present content of these files durable elsewhere, so that they may be changed.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like; nothing has been changed then.
    pub async fn watch(&mut self, paths: &[PathBuf]) -> Result<(), Failure> {
        let new: Vec<_> = paths.iter().filter(|path| !self.watches(path)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let (tools, mut record) = (self.tools.clone(), self.record.clone());
        self.record = blocking(move || -> Result<_, FsError> {
            for path in new {
                let content = tools.roots.place(&path)?.read(FILE_BYTES_MAX)?;
                let content = content.map(|content| Saved {
                    hex: hex::encode(&content.bytes),
                    mode: content.look.mode,
                    owner: content.look.owner,
                });
                record.files.push(Before { path, content });
            }
            let bytes = serde_json::to_vec(&record).unwrap_or_default();
            tools.state_place(KIND, &record.environment)?.write(&bytes, PRIVATE)?;
            Ok(record)
        })
        .await?;
        Ok(())
    }

    /// Replaces a watched file. It keeps its owner if it had one.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like; `INTERNAL_ERROR` for a file that is not watched.
    pub async fn put(&self, path: &Path, bytes: Vec<u8>, look: Look) -> Result<(), Failure> {
        let Some(before) = self.record.files.iter().find(|before| before.path == path) else {
            let message = format!("{} was to be changed unwatched", path.display());
            return Err(Failure::new(Code::InternalError, message));
        };
        let kept = before.content.as_ref().and_then(|content| content.owner);
        let look = Look { owner: kept.or(look.owner), ..look };
        let (roots, path) = (self.tools.roots.clone(), path.to_owned());
        blocking(move || roots.place(&path)?.write(&bytes, look)).await
    }

    /// Removes a watched file.
    ///
    /// # Errors
    /// As [`Swap::put`].
    pub async fn take_away(&self, path: &Path) -> Result<(), Failure> {
        if !self.watches(path) {
            let message = format!("{} was to be removed unwatched", path.display());
            return Err(Failure::new(Code::InternalError, message));
        }
        let (roots, path) = (self.tools.roots.clone(), path.to_owned());
        blocking(move || roots.place(&path)?.remove().map(|_| ())).await
    }

    /// Puts every watched file back as it was; says which differed.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like: the first, after trying every file; the record stays.
    pub async fn undo(&mut self) -> Result<Vec<PathBuf>, Failure> {
        let (tools, record) = (self.tools.clone(), self.record.clone());
        let changed = blocking(move || -> Result<_, FsError> {
            let mut changed = Vec::new();
            let mut first = None;
            for before in &record.files {
                match put_back(&tools, before) {
                    Ok(true) => changed.push(before.path.clone()),
                    Ok(false) => {}
                    Err(error) => {
                        first.get_or_insert(error);
                    }
                }
            }
            first.map_or(Ok(changed), Err)
        })
        .await?;
        Ok(changed)
    }

    /// Forgets the previous content: the change is committed, or undone.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn finish(&mut self) -> Result<(), Failure> {
        if self.record.files.is_empty() {
            return Ok(());
        }
        let (tools, environment) = (self.tools.clone(), self.record.environment.clone());
        blocking(move || tools.state_place(KIND, &environment)?.remove()).await?;
        self.record.files.clear();
        Ok(())
    }
}

fn put_back(tools: &Tools, before: &Before) -> Result<bool, FsError> {
    let place = tools.roots.place(&before.path)?;
    let Some(saved) = &before.content else { return place.remove() };
    let bytes = hex::decode(&saved.hex).map_err(|error| FsError::Io {
        action: "read the previous content of",
        path: before.path.clone(),
        source: std::io::Error::other(error),
    })?;
    let look = Look { mode: saved.mode, owner: saved.owner };
    let same = place
        .read(FILE_BYTES_MAX)?
        .is_some_and(|now| now.bytes == bytes && now.look.mode == look.mode);
    if !same {
        place.write(&bytes, look)?;
    }
    Ok(!same)
}
