//! Whose cache directory a directory is: only what Hostler set up for an environment is purged.

use std::path::{Path, PathBuf};

use hostler_protocol::job::{Code, EnvironmentDoc, FastcgiDoc};

use crate::host::fs::{Dir, FsError};
use crate::steps::made;
use crate::steps::run::{Failure, blocking};
use crate::steps::state::{self, Applied};
use crate::steps::tools::Tools;

/// Opens the cache directory of an environment if Hostler set it up for it; `None` when there is
/// no entry to remove, because the cache was never on or its directory is not there.
///
/// # Errors
/// `PATH_OUTSIDE_ROOTS`, `PATH_IS_SYMLINK`; `CACHE_DIR_MISSING` and `CACHE_DIR_NOT_OURS` where the
/// live cache is elsewhere.
pub async fn open_cache(
    tools: &Tools,
    fastcgi: &FastcgiDoc,
    applied: Option<&Applied>,
) -> Result<Option<Dir>, Failure> {
    let ours = applied.is_some_and(|applied| applied.owns(&fastcgi.cache_dir));
    if !ours && applied.is_none_or(|applied| applied.nginx.is_none()) {
        tools.roots.check(fastcgi.cache_dir.as_ref())?;
        return Ok(None);
    }
    let (roots, path) = (tools.roots.clone(), fastcgi.cache_dir.clone());
    let opened = blocking(move || match roots.dir(path.as_ref()) {
        Err(FsError::Missing { .. }) if ours => Ok(None),
        Err(FsError::Missing { path }) => {
            let message = format!("{} does not exist", path.display());
            Err(Failure::new(Code::CacheDirMissing, message))
        }
        other => other.map(Some).map_err(Failure::from),
    })
    .await;
    if !ours && opened.is_ok() {
        let message =
            format!("{} was not set up by Hostler for this environment", fastcgi.cache_dir);
        return Err(Failure::new(Code::CacheDirNotOurs, message));
    }
    opened
}

/// Notes a cache directory as this environment's: it must be missing or empty the first time, and
/// no other environment's.
///
/// # Errors
/// `CACHE_DIR_NOT_OURS`, `SPEC_INVALID`, those of paths.
pub async fn claim(
    tools: &Tools,
    environment: &EnvironmentDoc,
    fastcgi: &FastcgiDoc,
    applied: &mut Applied,
) -> Result<(), Failure> {
    let dir = Path::new(&fastcgi.cache_dir);
    let nginx = &environment.nginx;
    let inside = [&environment.docroot, &nginx.http_file, &nginx.server_file, &nginx.location_file]
        .into_iter()
        .find(|path| Path::new(path).starts_with(dir) || dir.starts_with(path));
    if let Some(path) = inside {
        let message = format!("the cache directory {} overlaps {path}", fastcgi.cache_dir);
        return Err(Failure::new(Code::SpecInvalid, message));
    }
    let refuse = |why: String| Err(Failure::new(Code::CacheDirNotOurs, why));
    for other in state::all(tools).await? {
        let theirs = other.cache_dirs.iter().find(|theirs| {
            let theirs = Path::new(theirs);
            theirs.starts_with(dir) || dir.starts_with(theirs)
        });
        if let Some(theirs) = theirs
            && other.environment.id != environment.id
        {
            return refuse(format!("{theirs} is the cache of {}", other.environment.id));
        }
    }
    let (roots, path) = (tools.roots.clone(), fastcgi.cache_dir.clone());
    let found = blocking(move || match roots.dir(path.as_ref()) {
        Ok(dir) => Ok(Some(dir.is_empty()?)),
        Err(FsError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    })
    .await?;
    if found.is_none() {
        // nginx will make it, because we tell it to.
        made::remember(tools, applied, &[PathBuf::from(&fastcgi.cache_dir)]).await?;
    }
    if applied.owns(&fastcgi.cache_dir) {
        return Ok(());
    }
    if found == Some(false) {
        let message = format!("{} holds files Hostler did not put there", fastcgi.cache_dir);
        return refuse(message);
    }
    applied.cache_dirs.push(fastcgi.cache_dir.clone());
    Ok(())
}
