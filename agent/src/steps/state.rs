//! What the agent remembers of an environment: what is applied, and which directories it may
//! purge because it set them up itself.
//!
//! One JSON file per environment, for the agent's eyes only (it holds the probe secret). It is
//! written last, so it never claims what the host does not do.

use std::path::PathBuf;

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{Code, EnvironmentDoc};
use serde::{Deserialize, Serialize};

use super::run::{Failure, blocking};
use super::tools::Tools;
use crate::host::fs::{FsError, Look, STAGED_PREFIX};

const KIND: &str = "environments";
const STATE_BYTES_MAX: u64 = 256 * 1024;
const PRIVATE: Look = Look { mode: 0o600, owner: None };

/// What is applied on this host for one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The environment as it was when this was written.
    pub environment: EnvironmentDoc,
    /// Cache directories that were empty or missing when Hostler first used them: they and
    /// nothing else may be purged.
    pub cache_dirs: Vec<String>,
    /// Directories that are there because of Hostler.
    #[serde(default)]
    pub made_dirs: Vec<PathBuf>,
    /// The generation of the toggle that was committed last, whatever it changed.
    #[serde(default)]
    pub committed: u64,
    #[serde(default)]
    pub nginx: Option<AppliedNginx>,
    #[serde(default)]
    pub redis: Option<AppliedRedis>,
}

/// The nginx configuration that was proven live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedNginx {
    pub generation: u64,
    /// What a probe must present.
    pub secret: String,
    pub enabled: bool,
    /// Number of what was rendered ([`super::render::RENDERING`]); 0 from before it was counted.
    #[serde(default)]
    pub rendering: u32,
}

/// The Redis switch as it was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedRedis {
    pub enabled: bool,
    /// SHA-256 of the object-cache drop-in, if it was Hostler that copied it there.
    #[serde(default)]
    pub dropin: Option<String>,
}

impl Applied {
    /// Nothing applied yet.
    #[must_use]
    pub fn new(environment: EnvironmentDoc) -> Self {
        let (cache_dirs, made_dirs) = Default::default();
        Self { environment, cache_dirs, made_dirs, committed: 0, nginx: None, redis: None }
    }

    /// Whether a cache directory was set up by Hostler for this environment.
    #[must_use]
    pub fn owns(&self, cache_dir: &str) -> bool {
        self.cache_dirs.iter().any(|dir| dir == cache_dir)
    }
}

/// Reads what is applied; `None` for an environment never seen.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn load(tools: &Tools, id: &EnvironmentId) -> Result<Option<Applied>, Failure> {
    let (tools, id) = (tools.clone(), id.clone());
    blocking(move || -> Result<_, Failure> {
        let place = tools.state_place(KIND, &id)?;
        let Some(content) = place.read(STATE_BYTES_MAX)? else { return Ok(None) };
        let applied = serde_json::from_slice(&content.bytes).map_err(|error| {
            let message = format!("{} cannot be read: {error}", place.path().display());
            Failure::new(Code::FileFailed, message)
        })?;
        Ok(Some(applied))
    })
    .await
}

/// Remembers what is applied, durably.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn save(tools: &Tools, applied: &Applied) -> Result<(), Failure> {
    let (tools, applied) = (tools.clone(), applied.clone());
    blocking(move || -> Result<(), FsError> {
        let bytes = serde_json::to_vec_pretty(&applied).unwrap_or_default();
        tools.state_place(KIND, &applied.environment.id)?.write(&bytes, PRIVATE)
    })
    .await
}

/// Forgets an environment.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn forget(tools: &Tools, id: &EnvironmentId) -> Result<(), Failure> {
    let (tools, id) = (tools.clone(), id.clone());
    blocking(move || tools.state_place(KIND, &id)?.remove().map(|_| ())).await
}

/// Every environment this host remembers; a file that cannot be read is left out.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn all(tools: &Tools) -> Result<Vec<Applied>, Failure> {
    let directory = tools.state_dir.join(KIND);
    blocking(move || -> Result<_, FsError> {
        let listing = match std::fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(FsError::Io { action: "list", path: directory, source }),
        };
        let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        // What a kill left half-written is no claim to anything.
        let whole = |entry: &std::fs::DirEntry| {
            !entry.file_name().as_encoded_bytes().starts_with(STAGED_PREFIX.as_bytes())
        };
        let mut found: Vec<Applied> = listing
            .filter_map(Result::ok)
            .filter(whole)
            .filter_map(|entry| read(entry.path()))
            .collect();
        found.sort_by(|a, b| a.environment.id.cmp(&b.environment.id));
        Ok(found)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hostler_protocol::job::AppKind;

    use super::*;
    use crate::clock::Clock;
    use crate::host::fake::Faults;
    use crate::policy::Policy;
    use crate::steps::render::tests::environment;

    #[tokio::test]
    async fn a_state_file_left_half_written_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().canonicalize().unwrap();
        let (clock, faults) = (Clock::system(), Faults::default());
        let tools =
            Tools::new(Policy::default(), state.clone(), Duration::from_secs(1), clock, faults);
        let applied = Applied::new(environment(AppKind::Php));
        save(&tools, &applied).await.unwrap();
        let id = applied.environment.id.clone();
        let staged = state.join(KIND).join(format!("{STAGED_PREFIX}{id}.json"));
        std::fs::copy(state.join(KIND).join(format!("{id}.json")), staged).unwrap();
        assert_eq!(all(&tools).await.unwrap(), [applied]);
        forget(&tools, &id).await.unwrap();
        assert_eq!(all(&tools).await.unwrap(), []);
    }
}
