//! Removing entries from an environment's page cache: all of them, or those of given URLs.
//!
//! All: the level directories are renamed into a trash directory beside the cache (one rename
//! each, a millisecond in all), so the next request misses at once; counting and deleting come
//! afterwards. URLs: the path is computed from the key; only where an entry says it varies is the
//! directory searched for its variants, and they go before the entry that told of them, so that a
//! purge that is cut short can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use hostler_protocol::job::{
    Code, EnvironmentDoc, FastcgiDoc, FastcgiPurge, PROBED_URLS_MAX, PURGE_URLS_MAX, UrlPurge,
};
use tokio_util::sync::CancellationToken;

use super::effect::{self, Live, Peek};
use super::keys::{KeyFormat, PageUrl};
use super::run::{Failure, Run, blocking};
use super::state::{self, Applied};
use super::tools::Tools;
use crate::host::fastcgi::{self, TRASH, Tally};
use crate::host::fs::{Dir, FsError};

/// Entries counted before a job reports; beyond it the count is marked as cut short.
const COUNTED_ENTRIES_MAX: u64 = 200_000;
/// Entries one search for variants looks at.
const SCANNED_ENTRIES_MAX: u64 = 5_000_000;
/// Time limit of one peek.
const PEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the cache directory of an environment if Hostler set it up for it.
///
/// # Errors
/// `PATH_OUTSIDE_ROOTS`, `PATH_IS_SYMLINK`, `CACHE_DIR_MISSING`, `CACHE_DIR_NOT_OURS`.
pub async fn open_cache(
    tools: &Tools,
    fastcgi: &FastcgiDoc,
    applied: Option<&Applied>,
) -> Result<Dir, Failure> {
    let (roots, path) = (tools.roots.clone(), fastcgi.cache_dir.clone());
    let opened = blocking(move || match roots.dir(path.as_ref()) {
        Err(FsError::Missing { path }) => {
            let message = format!("{} does not exist", path.display());
            Err(Failure::new(Code::CacheDirMissing, message))
        }
        other => other.map_err(Failure::from),
    })
    .await;
    let ours = applied.is_some_and(|applied| applied.owns(&fastcgi.cache_dir));
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
    let empty = blocking(move || match roots.dir(path.as_ref()) {
        Ok(dir) => dir.is_empty(),
        Err(FsError::Missing { .. }) => Ok(true),
        Err(error) => Err(error),
    })
    .await?;
    if applied.owns(&fastcgi.cache_dir) {
        return Ok(());
    }
    if !empty {
        let message = format!("{} holds files Hostler did not put there", fastcgi.cache_dir);
        return refuse(message);
    }
    applied.cache_dirs.push(fastcgi.cache_dir.clone());
    Ok(())
}

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
        let cache = match open_cache(tools, fastcgi, Some(applied)).await {
            Ok(cache) => cache,
            Err(failure) if failure.code() == Code::CacheDirMissing.as_str() => {
                return Ok((0, "there is no cache directory yet".to_owned()));
            }
            Err(failure) => return Err(failure),
        };
        let purged = all(tools, bin, cancel, cache, false).await?;
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
pub async fn all(
    tools: &Tools,
    name: String,
    cancel: CancellationToken,
    cache: Dir,
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
fn still_wanted(cancel: &CancellationToken) -> Result<(), Failure> {
    match cancel.is_cancelled() {
        true => Err(Failure::new(Code::Cancelled, "the job was cancelled")),
        false => Ok(()),
    }
}

/// Renames the level directories into a bin in the trash beside the cache; `None` when that is
/// on another file system, or may not be written.
fn set_aside(
    roots: &crate::host::fs::Roots,
    cache: &Dir,
    name: &str,
) -> Result<Option<(Dir, Dir)>, FsError> {
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
    FastcgiPurge {
        found: tally.found,
        removed: tally.removed,
        bytes: tally.bytes,
        counted,
        ..FastcgiPurge::default()
    }
}

/// Reads the URLs of a purge.
///
/// # Errors
/// `SPEC_INVALID`, `URL_FOREIGN`.
pub fn pages(domain: &str, urls: &[String]) -> Result<Vec<PageUrl>, Failure> {
    if urls.len() > PURGE_URLS_MAX {
        let message = format!("{} URLs in one purge; the limit is {PURGE_URLS_MAX}", urls.len());
        return Err(Failure::new(Code::SpecInvalid, message));
    }
    urls.iter()
        .map(|url| {
            let page = PageUrl::parse(url).ok_or_else(|| {
                Failure::new(Code::SpecInvalid, format!("`{url}` is no absolute http or https URL"))
            })?;
            if page.host == domain {
                return Ok(page);
            }
            let message = format!("`{url}` is not a page of {domain}");
            Err(Failure::new(Code::UrlForeign, message))
        })
        .collect()
}

/// Removes the entries of these pages with all their variants, or counts them; says per URL.
///
/// # Errors
/// `FILE_FAILED` and its like, `KEY_FORMAT_UNSUPPORTED`, `CANCELLED`.
pub async fn urls(
    fastcgi: &FastcgiDoc,
    cancel: CancellationToken,
    cache: Dir,
    live: Option<&Live>,
    urls: &[String],
    pages: &[PageUrl],
    dry_run: bool,
) -> Result<FastcgiPurge, Failure> {
    let format = KeyFormat::parse(&fastcgi.key_format)?;
    let before = peek(live, pages).await;
    let asked: Vec<_> = pages
        .iter()
        .enumerate()
        .map(|(place, page)| Asked {
            keys: format.keys(page),
            varies: before.get(place).is_some_and(|peek| peek.varies),
        })
        .collect();
    let tallies = blocking(move || remove(&cache, &asked, dry_run, &cancel)).await?;
    let after = if dry_run { Vec::new() } else { peek(live, pages).await };
    let mut total = Tally::default();
    let urls = urls
        .iter()
        .zip(&tallies)
        .enumerate()
        .map(|(place, (url, tally))| {
            total.add(*tally);
            UrlPurge {
                url: url.clone(),
                found: tally.found,
                removed: tally.removed,
                bytes: tally.bytes,
                softened: 0,
                refreshed: 0,
                failed: 0,
                before: before.get(place).map(|peek| peek.status),
                after: after.get(place).map(|peek| peek.status),
            }
        })
        .collect();
    Ok(FastcgiPurge { urls, ..result(total, true) })
}

async fn peek(live: Option<&Live>, pages: &[PageUrl]) -> Vec<Peek> {
    let mut seen = Vec::new();
    let Some(live) = live else { return seen };
    for page in pages.iter().take(PROBED_URLS_MAX) {
        seen.push(effect::peek(live, &page.uri, PEEK_TIMEOUT).await);
    }
    seen
}

/// One page to remove.
struct Asked {
    keys: Vec<Vec<u8>>,
    /// Whether the page says it varies: then variants may be stored although the entry that
    /// told of them has been evicted, and nginx would find them again.
    varies: bool,
}

fn remove(
    cache: &Dir,
    asked: &[Asked],
    dry_run: bool,
    cancel: &CancellationToken,
) -> Result<Vec<Tally>, Failure> {
    let mut tallies = vec![Tally::default(); asked.len()];
    let mut varying: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (place, page) in asked.iter().enumerate() {
        for key in &page.keys {
            still_wanted(cancel)?;
            let Some(entry) = fastcgi::find(cache, key)? else {
                if page.varies {
                    varying.insert(key.clone(), place);
                }
                continue;
            };
            if entry.varies || page.varies {
                varying.insert(key.clone(), place);
            } else if dry_run {
                tallies[place].add(Tally { found: 1, removed: 0, bytes: entry.bytes });
            } else {
                tallies[place].add(entry.remove()?);
            }
        }
    }
    if varying.is_empty() {
        return Ok(tallies);
    }
    remove_variants(cache, &varying, dry_run, cancel, &mut tallies)?;
    Ok(tallies)
}

fn remove_variants(
    cache: &Dir,
    varying: &BTreeMap<Vec<u8>, usize>,
    dry_run: bool,
    cancel: &CancellationToken,
    tallies: &mut [Tally],
) -> Result<(), Failure> {
    let keys: BTreeSet<_> = varying.keys().cloned().collect();
    let add = |key: &[u8], tally| {
        if let Some(place) = varying.get(key) {
            tallies[*place].add(tally);
        }
    };
    let whole = fastcgi::sweep_variants(cache, &keys, dry_run, SCANNED_ENTRIES_MAX, cancel, add)?;
    still_wanted(cancel)?;
    if whole {
        return Ok(());
    }
    let message = format!(
        "the cache holds more than {SCANNED_ENTRIES_MAX} entries: not all were searched for variants"
    );
    Err(Failure::new(Code::FileFailed, message).with_hint("Purge the whole cache instead."))
}

#[cfg(test)]
mod tests {
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
            let cache = tools.roots.dir(&root.join("cache")).unwrap();
            let purged = all(&tools, "bin".to_owned(), cancelled.clone(), cache, dry_run).await;
            assert!(purged.unwrap_err().is_cancelled(), "dry run: {dry_run}");
        }
        let cache = tools.roots.dir(&root.join("cache")).unwrap();
        let wanted = CancellationToken::new();
        assert_eq!(all(&tools, "bin".to_owned(), wanted, cache, false).await.unwrap().removed, 1);
    }

    #[test]
    fn one_purge_names_no_more_urls_than_the_limit() {
        let mut urls = vec!["http://shop.test/".to_owned(); PURGE_URLS_MAX];
        assert_eq!(pages("shop.test", &urls).unwrap().len(), PURGE_URLS_MAX);
        urls.push("http://shop.test/".to_owned());
        assert_eq!(pages("shop.test", &urls).unwrap_err().code(), "SPEC_INVALID");
    }
}
