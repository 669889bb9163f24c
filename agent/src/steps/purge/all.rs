//! Removing everything at once: the level directories are renamed into a trash directory beside
//! the cache (one rename each, a millisecond in all), so the next request misses at once; counting
//! and deleting come afterwards.

use std::ffi::OsStr;
use std::sync::Arc;

use hostler_protocol::job::{Code, FastcgiDoc, FastcgiPurge};
use tokio_util::sync::CancellationToken;

use super::directory::open_cache;
use crate::host::fastcgi::{self, TRASH, Tally};
use crate::host::fs::{Dir, FsError, Roots};
use crate::steps::run::{Failure, Run, blocking};
use crate::steps::state::Applied;
use crate::steps::tools::Tools;

/// Entries counted before a job reports; beyond it the count is marked as cut short.
const COUNTED_ENTRIES_MAX: u64 = 200_000;

/// Removes every entry as the step `cache_purge`; a cache that does not exist yet is empty.
///
/// # Errors
/// As [`open_cache`] and [`all`].
pub async fn all_step(
    tools: &Tools,
    run: &mut Run,
    fastcgi: &FastcgiDoc,
    applied: &Applied,
) -> Result<u64, Failure> {
    let (bin, cancel) = (bin_name(tools, run), run.cancel().clone());
    run.step("cache_purge", async {
        let Some(cache) = open_cache(tools, fastcgi, Some(applied)).await? else {
            return Ok((0, "there is no cache directory".to_owned()));
        };
        let purged = all(tools, bin, cancel, Arc::new(cache), false).await?;
        Ok((purged.removed, format!("{} entries removed", purged.removed)))
    })
    .await
}

/// Name of a bin an attempt's entries wait in; never the same twice.
#[must_use]
pub fn bin_name(tools: &Tools, run: &Run) -> String {
    let once = hex::encode(tools.clock.random::<8>());
    format!("{}-{}-{once}", run.attempt().job, run.attempt().attempt)
}

/// Removes every entry, or counts them.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub(super) async fn all(
    tools: &Tools,
    name: String,
    cancel: CancellationToken,
    cache: Arc<Dir>,
    dry_run: bool,
) -> Result<FastcgiPurge, Failure> {
    if dry_run {
        let counted = move || -> Result<_, Failure> {
            let counted = fastcgi::count(&cache, COUNTED_ENTRIES_MAX, &cancel)?;
            still_wanted(&cancel)?;
            Ok(counted)
        };
        let (tally, counted) = blocking(counted).await?;
        return Ok(result(tally, counted));
    }
    let roots = tools.roots.clone();
    let (tally, counted) = blocking(move || -> Result<_, Failure> {
        let Some((trash, bin)) = set_aside(&roots, &cache, &name)? else {
            let tally = fastcgi::remove_in_place(&cache, &cancel)?;
            still_wanted(&cancel)?;
            return Ok((tally, true));
        };
        let (mut tally, counted) =
            fastcgi::count(&bin, COUNTED_ENTRIES_MAX, &CancellationToken::new())?;
        tally.removed = tally.found;
        delete_later(trash, name);
        Ok((tally, counted))
    })
    .await?;
    Ok(result(tally, counted))
}

/// # Errors
/// `CANCELLED`: work that stopped early did not do what it was asked.
pub(super) fn still_wanted(cancel: &CancellationToken) -> Result<(), Failure> {
    match cancel.is_cancelled() {
        true => Err(Failure::new(Code::Cancelled, "the job was cancelled")),
        false => Ok(()),
    }
}

/// Renames the level directories into a bin in the trash beside the cache; `None` when that is
/// on another file system, or may not be written.
fn set_aside(roots: &Roots, cache: &Dir, name: &str) -> Result<Option<(Dir, Dir)>, FsError> {
    let Some(parent) = cache.path().parent() else { return Ok(None) };
    let made = roots.dir(parent).and_then(|parent| {
        let trash = parent.make_child(OsStr::new(TRASH))?;
        let bin = trash.make_child(OsStr::new(name))?;
        Ok((trash, bin))
    });
    let Ok((trash, bin)) = made else { return Ok(None) };
    match fastcgi::set_aside(cache, &bin) {
        Ok(_) => Ok(Some((trash, bin))),
        Err(FsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::CrossesDevices => {
            fastcgi::delete_tree(&trash, OsStr::new(name))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Deletes a bin while nobody waits for it; what a kill leaves is cleared away at the next start.
fn delete_later(trash: Dir, name: String) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = fastcgi::delete_tree(&trash, OsStr::new(&name)) {
            tracing::warn!(error = &error as &dyn std::error::Error, "purged entries stay on disk");
        }
    });
}

fn result(tally: Tally, counted: bool) -> FastcgiPurge {
    let Tally { found, removed, bytes } = tally;
    FastcgiPurge { found, removed, bytes, counted, ..FastcgiPurge::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::host::fake::Faults;
    use crate::policy::Policy;

    #[tokio::test]
    async fn a_purge_cancelled_on_its_way_never_says_it_succeeded() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("cache/a/bc")).unwrap();
        std::fs::write(root.join("cache/a/bc/entry"), "x").unwrap();
        // Nothing can be set aside: the name is taken.
        std::fs::write(root.join(TRASH), "").unwrap();
        let policy = Policy { roots: vec![root.clone()], ..Policy::default() };
        let state = root.join("state");
        let clock = Clock::system();
        let tools = Tools::new(policy, state, Duration::from_secs(1), clock, Faults::default());
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        for dry_run in [true, false] {
            let cache = Arc::new(tools.roots.dir(&root.join("cache")).unwrap());
            let purged = all(&tools, "bin".to_owned(), cancelled.clone(), cache, dry_run).await;
            assert!(purged.unwrap_err().is_cancelled(), "dry run: {dry_run}");
        }
        let cache = Arc::new(tools.roots.dir(&root.join("cache")).unwrap());
        let wanted = CancellationToken::new();
        assert_eq!(all(&tools, "bin".to_owned(), wanted, cache, false).await.unwrap().removed, 1);
    }
}
