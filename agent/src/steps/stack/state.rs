//! What the host remembers of a stack.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::job::{Code, StackDoc, StackSyncResult, StackSyncSpec};
use serde::{Deserialize, Serialize};

use super::home::Home;
use super::stopped::Stopped;
use crate::host::fs::{FsError, Look, Place, Roots};
use crate::steps::run::{Failure, blocking};

/// The file's name.
pub(super) const FILE: &str = "state.json";
/// Largest state, in bytes.
const STATE_BYTES_MAX: u64 = 8 * 1024 * 1024;
const PRIVATE: Look = Look { mode: 0o600, owner: None };

/// A stack's state; the default is that of one never seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Whose project it is.
    #[serde(default)]
    pub stack: Option<StackDoc>,
    /// What was applied and found healthy last.
    #[serde(default)]
    pub good: Option<Applied>,
    /// What was begun and has not come to an end.
    #[serde(default)]
    pub attempt: Option<Attempt>,
    /// What the sync said that applied `good`: a sync that was cut off before it could say so is
    /// answered with it.
    #[serde(default)]
    pub result: Option<StackSyncResult>,
    /// Whether what somebody stops is to stay so, as the last sync said.
    #[serde(default)]
    pub respect: bool,
    /// Containers somebody told to end.
    #[serde(default)]
    pub stopped: Stopped,
}

/// What was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// As the controller said.
    pub desired: String,
    pub bundle: String,
    pub directory: String,
    pub compose_files: Vec<String>,
    /// Digest of the host's own variables, if there were any.
    #[serde(default)]
    pub host_env: Option<String>,
    pub services: BTreeMap<String, Seen>,
    /// When, in microseconds since the Unix epoch.
    pub at_us: i64,
}

/// What a service was made from, and how it ran when that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The digest of each part of its definition, by key; never its values.
    pub keys: BTreeMap<String, String>,
    /// Digests of what it has mounted out of the bundle, by path.
    #[serde(default)]
    pub mounts: BTreeMap<String, String>,
    /// Digest of its build context.
    #[serde(default)]
    pub build: Option<String>,
    /// What compose knew its containers' definition by.
    #[serde(default)]
    pub hashes: BTreeSet<String>,
    /// The ids of its containers' images.
    #[serde(default)]
    pub images: BTreeSet<String>,
    /// Containers that ran, and that had ended well.
    #[serde(default)]
    pub running: u32,
    #[serde(default)]
    pub ended: u32,
    /// Whether somebody had stopped it and it was left so.
    #[serde(default)]
    pub left_out: bool,
    /// How often the engine had started one of its containers again, at most.
    #[serde(default)]
    pub restarts: u64,
}

/// What was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub desired: String,
    pub bundle: String,
    pub directory: String,
    pub compose_files: Vec<String>,
    /// Files it was about to change: what has them mounted has not seen them yet.
    #[serde(default)]
    pub changed: BTreeSet<String>,
    pub at_us: i64,
}

impl Attempt {
    /// An attempt to apply that.
    #[must_use]
    pub fn of(spec: &StackSyncSpec, at_us: i64) -> Self {
        Self {
            desired: spec.desired.clone(),
            bundle: spec.bundle.clone(),
            directory: spec.directory.clone(),
            compose_files: spec.compose_files.clone(),
            changed: BTreeSet::new(),
            at_us,
        }
    }
}

impl State {
    /// Those whose stop is respected, as the last sync said.
    #[must_use]
    pub fn respected(&self) -> Option<&Stopped> {
        self.respect.then_some(&self.stopped)
    }

    /// Reads a stack's state.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn load(home: &Home) -> Result<Self, Failure> {
        let home = home.clone();
        blocking(move || -> Result<_, Failure> {
            if !home.root().try_exists().unwrap_or(true) {
                return Ok(Self::default());
            }
            let place = place(&home)?;
            let Some(content) = place.read(STATE_BYTES_MAX)? else { return Ok(Self::default()) };
            serde_json::from_slice(&content.bytes).map_err(|error| {
                let message = format!("{} cannot be read: {error}", place.path().display());
                Failure::new(Code::FileFailed, message)
            })
        })
        .await
    }

    /// Writes it, durably and in one step; makes the stack's directory if missing.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn save(&self, home: &Home) -> Result<(), Failure> {
        let (home, state) = (home.clone(), self.clone());
        blocking(move || -> Result<(), FsError> {
            home.make()?;
            let bytes = serde_json::to_vec_pretty(&state).unwrap_or_default();
            place(&home)?.write(&bytes, PRIVATE)
        })
        .await
    }

    /// Forgets it, and the stack's directory if nothing else is left in it.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub async fn forget(home: &Home) -> Result<(), Failure> {
        let home = home.clone();
        blocking(move || -> Result<(), FsError> {
            match place(&home).and_then(|place| place.remove()) {
                Ok(_) | Err(FsError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
            std::fs::remove_file(home.merged_env()).ok();
            // The host's own variables stay: a person put them there.
            std::fs::remove_dir(home.root()).ok();
            Ok(())
        })
        .await
    }

    /// The bundles it may still need.
    pub(super) fn bundles(&self) -> impl Iterator<Item = String> + use<'_> {
        let good = self.good.iter().map(|good| good.bundle.clone());
        good.chain(self.attempt.iter().map(|attempt| attempt.bundle.clone()))
    }
}

pub(super) fn place(home: &Home) -> Result<Place, FsError> {
    Roots::new(&[home.root().to_owned()]).place(&home.root().join(FILE))
}
