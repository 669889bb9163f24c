//! What a request to the probe origin can tell of a page's entries.

use hostler_protocol::job::{CacheStatus, PROBED_URLS_MAX, PageUrl};

use super::effect::Peek;
use super::keys::KeyFormat;
use super::run::{Failure, blocking};
use crate::host::fastcgi;
use crate::host::fs::{Dir, FsError};

/// Whether a page is stored for visitors of a scheme the origin does not speak. A request to the
/// origin then says nothing about that entry.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn unseen(
    cache: &Dir,
    format: &KeyFormat,
    spoken: &'static str,
    pages: &[PageUrl],
) -> Result<Vec<bool>, Failure> {
    let cache = Dir::clone_of(cache)?;
    let keys = |page: &PageUrl| {
        let seen = format.keys_in(page, &[spoken]);
        let mut keys = format.keys_in(page, &[page.scheme]);
        keys.retain(|key| !seen.contains(key));
        keys
    };
    let keys: Vec<Vec<_>> = pages.iter().take(PROBED_URLS_MAX).map(keys).collect();
    if keys.iter().all(Vec::is_empty) {
        return Ok(vec![false; keys.len()]);
    }
    blocking(move || keys.iter().map(|keys| stored(&cache, keys)).collect()).await
}

fn stored(cache: &Dir, keys: &[Vec<u8>]) -> Result<bool, FsError> {
    for key in keys {
        if fastcgi::find(cache, key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The status to report of a page.
#[must_use]
pub fn told(seen: &[Peek], unseen: &[bool], place: usize) -> Option<CacheStatus> {
    let peek = seen.get(place)?;
    Some(if unseen.get(place) == Some(&true) { CacheStatus::Unknown } else { peek.status })
}
