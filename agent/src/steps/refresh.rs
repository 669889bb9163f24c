//! Making one page anew in its place: asked for past the cache, stored over what was there.
//!
//! Visitors get the old entry until the new one takes its place in one step, so nobody misses. A
//! page that was not stored before is stored now. What was stored is looked up on disk; nobody's
//! word is taken for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hostler_protocol::job::{CacheStatus, Code};
use tokio_util::sync::CancellationToken;

use super::effect::{status, word};
use super::live::{Kind, Live};
use super::run::{Failure, blocking, chain};
use super::tools::Tools;
use super::verdict;
use crate::host::fastcgi;
use crate::host::fs::Dir;
use crate::host::probe::USER_AGENT;

/// Longest that a page may take to render, in seconds: what takes longer is given up here, and
/// what was begun longer ago is not waited for elsewhere.
pub const RENDER_SECS_MAX: u32 = 30;
/// How long after its answer an entry may come to its place.
const STORED_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for an answer that says it is not to be stored.
const UNLIKELY_TIMEOUT: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(5);

/// What browsers send and pages vary by most; what most of them send comes first.
pub const ENCODINGS: [&str; 5] =
    ["gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "gzip", "br"];

/// The headers that make nginx store an answer as this variant of a page; `None` if they cannot
/// be found out.
#[must_use]
pub fn headers(
    domain: &str,
    key: &[u8],
    vary: &[u8],
    variant: [u8; 16],
) -> Option<Vec<(&'static str, String)>> {
    if vary.is_empty() {
        return Some(Vec::new());
    }
    let ours = [("host", domain), ("user-agent", USER_AGENT), ("connection", "close")];
    let with = |encoding: Option<&'static str>| {
        let own = encoding.map(|value| ("accept-encoding", value));
        let sent: Vec<_> = ours.iter().copied().chain(own).collect();
        let same = fastcgi::variant(key, vary, &sent) == variant;
        same.then(|| own.map(|(name, value)| (name, value.to_owned())).into_iter().collect())
    };
    std::iter::once(None).chain(ENCODINGS.map(Some)).find_map(with)
}

/// A page to be made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Path and query.
    pub uri: String,
    /// Request headers the page varies by.
    pub headers: Vec<(&'static str, String)>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It is stored, in a new file of that inode. `doubtful`: the answer said that it was not to be
    /// stored, so the file may be of somebody else's request, begun before.
    Stored { inode: u64, doubtful: bool },
    /// It was answered in a way that is not stored: why. What was there is still there.
    NotStored { why: String },
    /// It was not answered, or by a site in trouble: how. What was there is still there.
    Failed { why: String },
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub made: Made,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    pub took_ms: u64,
}

/// Makes one page anew. The cache has to be on and its files current: see [`Live`].
///
/// # Errors
/// `FILE_FAILED` and its like, `KEY_FORMAT_UNSUPPORTED`; whatever the site does is no error.
pub async fn page(
    tools: &Tools,
    live: &Live,
    cache: &Arc<Dir>,
    page: &Page,
) -> Result<Fetch, Failure> {
    let Some(fastcgi) = &live.environment.fastcgi else {
        return Err(Failure::new(Code::SpecInvalid, "the environment has no FastCGI cache"));
    };
    let key = live.key(fastcgi, &page.uri)?.into_bytes();
    let before = inode(cache, &key).await?;
    let started_ms = tools.clock.monotonic_ms();
    let timeout = Duration::from_secs(RENDER_SECS_MAX.into());
    let answer = live.ask(Kind::Refresh, &page.uri, &page.headers, timeout).await;
    let took_ms = tools.clock.monotonic_ms().saturating_sub(started_ms);
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let made = Made::Failed { why: chain(&error) };
            return Ok(Fetch { made, status: None, took_ms });
        }
    };
    let made = match status(answer.cache.as_deref()) {
        _ if verdict::is_trouble(answer.status) => {
            Made::Failed { why: format!("the site answered {}", answer.status) }
        }
        CacheStatus::Bypass => {
            let forbidden = verdict::forbids(&answer).into_iter().next();
            let timeout = forbidden.as_ref().map_or(STORED_TIMEOUT, |_| UNLIKELY_TIMEOUT);
            match stored(cache, &key, before, timeout).await? {
                Some(inode) => Made::Stored { inode, doubtful: forbidden.is_some() },
                None => {
                    let why = forbidden.unwrap_or_else(|| verdict::hidden(&answer)).message;
                    Made::NotStored { why }
                }
            }
        }
        CacheStatus::Off | CacheStatus::Unknown => {
            Made::NotStored { why: "no cached location answers it".to_owned() }
        }
        other @ (CacheStatus::Miss
        | CacheStatus::Expired
        | CacheStatus::Stale
        | CacheStatus::Updating
        | CacheStatus::Revalidated
        | CacheStatus::Hit) => Made::Failed {
            why: format!("nginx answered {} where the cache was to be passed", word(other)),
        },
    };
    Ok(Fetch { made, status: Some(answer.status), took_ms })
}

/// Makes pages anew, so many at once, and hands over each as it is done with its place in the
/// list; `done` says whether to go on.
///
/// # Errors
/// As [`page`]; `CANCELLED`.
pub async fn pages(
    tools: &Tools,
    live: &Live,
    cache: &Arc<Dir>,
    list: &[Page],
    at_once: usize,
    cancel: &CancellationToken,
    mut done: impl FnMut(usize, Fetch) -> bool,
) -> Result<(), Failure> {
    let (mut going, mut begun) = (FuturesUnordered::new(), 0);
    loop {
        while going.len() < at_once.max(1)
            && let Some(one) = list.get(begun)
        {
            going.push(numbered(begun, page(tools, live, cache, one)));
            begun += 1;
        }
        let next = tokio::select! {
            () = cancel.cancelled() => {
                return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
            }
            next = going.next() => next,
        };
        let Some((place, fetch)) = next else { return Ok(()) };
        if !done(place, fetch?) {
            return Ok(());
        }
    }
}

async fn numbered<T>(place: usize, work: impl Future<Output = T>) -> (usize, T) {
    (place, work.await)
}

/// Waits for another file than that of `before` at the place of a key; its inode.
async fn stored(
    cache: &Arc<Dir>,
    key: &[u8],
    before: Option<u64>,
    timeout: Duration,
) -> Result<Option<u64>, Failure> {
    let waiting = async {
        loop {
            let now = inode(cache, key).await?;
            if now.is_some() && now != before {
                return Ok(now);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(timeout, waiting).await {
        Ok(found) => found,
        Err(_) => Ok(None),
    }
}

async fn inode(cache: &Arc<Dir>, key: &[u8]) -> Result<Option<u64>, Failure> {
    let (cache, key) = (cache.clone(), key.to_vec());
    blocking(move || Ok::<_, Failure>(fastcgi::find(&cache, &key)?.map(|entry| entry.inode))).await
}
