//! Directories that are on the host because of Hostler: it made them, or nginx did for a cache it
//! was told of. They are remembered per environment and go, if they are empty, with the last one
//! that needs them.

use std::path::{Path, PathBuf};

use hostler_protocol::id::JobId;

use super::nginx;
use super::run::{Failure, blocking};
use super::state::{self, Applied};
use super::tools::Tools;
use crate::host::fastcgi::{self, TRASH};
use crate::host::fs::{FsError, Roots};

/// Makes the directories above these paths as far as they are missing, and adds them to `made`.
///
/// # Errors
/// `PATH_MISSING` where too many are missing, and those of files.
pub async fn parents(
    tools: &Tools,
    paths: &[PathBuf],
    made: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    for parent in paths.iter().filter_map(|path| path.parent()) {
        let (roots, parent) = (tools.roots.clone(), parent.to_owned());
        let new = blocking(move || -> Result<_, FsError> {
            let levels = roots.missing_levels(&parent)?;
            roots.make_dir(&parent)?;
            Ok(parent.ancestors().take(levels).map(Path::to_owned).collect::<Vec<_>>())
        });
        made.extend(new.await?);
    }
    Ok(())
}

/// Remembers what was made for an environment, and what others remember of the directories its
/// files lie below: whichever goes last takes them away.
///
/// # Errors
/// Those of files.
pub async fn remember(
    tools: &Tools,
    applied: &mut Applied,
    made: &[PathBuf],
) -> Result<(), Failure> {
    let environment = &applied.environment;
    let mut needed = nginx::paths(environment).to_vec();
    needed.extend(environment.fastcgi.as_ref().map(|fastcgi| PathBuf::from(&fastcgi.cache_dir)));
    let theirs = state::all(tools).await?.into_iter().flat_map(|other| other.made_dirs);
    let shared = theirs.filter(|dir| needed.iter().any(|path| path.starts_with(dir)));
    for dir in made.iter().cloned().chain(shared) {
        if !applied.made_dirs.contains(&dir) {
            applied.made_dirs.push(dir);
        }
    }
    Ok(())
}

/// Takes away what is empty of an environment's directories, and what the job purged from its
/// caches; says how many directories. Nothing is worse for one that stays.
pub async fn take_away(tools: &Tools, applied: &Applied, job: &JobId) -> usize {
    let (roots, applied, job) = (tools.roots.clone(), applied.clone(), job.to_string());
    let taken = blocking(move || -> Result<_, FsError> {
        for cache in applied.cache_dirs.iter().map(Path::new) {
            told(empty_trash(&roots, cache, &job));
        }
        Ok(remove_empty(&roots, &applied.made_dirs, &applied.cache_dirs))
    });
    taken.await.unwrap_or(0)
}

/// Removes those of these directories that are empty; says how many.
pub async fn undo(tools: &Tools, made: Vec<PathBuf>, caches: Vec<String>) -> usize {
    let roots = tools.roots.clone();
    let removed = blocking(move || Ok::<_, FsError>(remove_empty(&roots, &made, &caches)));
    removed.await.unwrap_or(0)
}

fn remove_empty(roots: &Roots, made: &[PathBuf], caches: &[String]) -> usize {
    let mut made: Vec<&PathBuf> = made.iter().collect();
    made.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
    let remove = |dir: &PathBuf| {
        if caches.iter().any(|cache| dir.as_os_str() == cache.as_str()) {
            match roots.dir(dir) {
                Ok(cache) => fastcgi::remove_empty_levels(&cache)?,
                Err(FsError::Missing { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match roots.place(dir) {
            Ok(place) => place.remove_dir(),
            Err(FsError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    };
    made.into_iter().filter(|dir| told(remove(dir))).count()
}

/// Deletes the bins of a job in the trash beside a cache, and the trash if nothing is left in it.
fn empty_trash(roots: &Roots, cache: &Path, job: &str) -> Result<bool, FsError> {
    let Some(parent) = cache.parent() else { return Ok(false) };
    let trash = match roots.dir(&parent.join(TRASH)) {
        Ok(trash) => trash,
        Err(FsError::Missing { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    for (bin, _) in trash.entries()? {
        if bin.as_encoded_bytes().starts_with(job.as_bytes()) {
            fastcgi::delete_tree(&trash, &bin)?;
        }
    }
    roots.place(&parent.join(TRASH))?.remove_dir()
}

fn told(removed: Result<bool, FsError>) -> bool {
    removed.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "a directory stays");
        false
    })
}
