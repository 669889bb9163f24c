//! Which stacks this host has, and which bundles it still needs.

use std::collections::BTreeSet;
use std::path::Path;

use super::state::{FILE, State};
use crate::steps::run::{Failure, blocking};
use crate::steps::tools::Tools;

/// The projects of the stacks a directory has a state of, sorted; none where it cannot be read.
/// Blocks for as long as listing a directory takes.
#[must_use]
pub fn projects(stacks_dir: &Path) -> BTreeSet<String> {
    let listing = std::fs::read_dir(stacks_dir).into_iter().flatten();
    let has_state = |path: &Path| path.join(FILE).is_file();
    listing
        .filter_map(Result::ok)
        .filter(|entry| has_state(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Tells the source of bundles which ones the stacks of this host may still need. A stack whose
/// state cannot be read keeps everything where it is.
///
/// # Errors
/// `FILE_FAILED`.
pub async fn keep_bundles(tools: &Tools) -> Result<(), Failure> {
    let Some(source) = tools.bundles.clone() else { return Ok(()) };
    let stacks_dir = tools.policy.docker.stacks_dir.clone();
    let needed = blocking(move || -> Result<_, Failure> {
        let mut needed = BTreeSet::new();
        let Ok(listing) = std::fs::read_dir(&stacks_dir) else { return Ok(None) };
        for entry in listing.filter_map(Result::ok) {
            let bytes = match std::fs::read(entry.path().join(FILE)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(_) => return Ok(None),
            };
            let Ok(state) = serde_json::from_slice::<State>(&bytes) else { return Ok(None) };
            needed.extend(state.bundles());
        }
        Ok(Some(needed))
    })
    .await?;
    if let Some(needed) = needed {
        source.keep(needed);
    }
    Ok(())
}
