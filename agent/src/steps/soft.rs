//! Whether an entry can be made stale in place with the nginx that runs: tried out, not assumed.
//!
//! The format of the cache files is nginx's own affair. So before the first entry of a visitor is
//! touched, an entry made by a probe goes through it all: put past its window it must be EXPIRED,
//! made stale it must be STALE. The result holds for as long as that nginx runs.

use std::sync::Arc;
use std::time::Duration;

use hostler_protocol::job::CacheStatus;
use tokio::sync::Mutex;

use super::effect::{status, word};
use super::live::{Kind, Live};
use super::render::STALE_SECS_MAX;
use super::run::{Failure, blocking};
use super::tools::Tools;
use crate::host::fastcgi::Entry;

/// How long after its answer an entry may come to its place.
const STORED_TIMEOUT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// What is known of soft purges here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    Works,
    /// It was tried and went otherwise: how.
    Broken(String),
    /// It could not be tried: why.
    Untested(String),
}

/// What was found out, and of which nginx; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tested(Arc<Mutex<Option<(i32, Support)>>>);

impl Tested {
    /// Whether soft purges work with the nginx that runs; `None` when that was not tried.
    #[must_use]
    pub fn known(&self, tools: &Tools) -> Option<bool> {
        let known = self.0.try_lock().ok()?;
        let (pid, support) = known.as_ref()?;
        (tools.nginx.master().ok()? == *pid).then_some(*support == Support::Works)
    }
}

/// Whether soft purges work, tried with this configuration if it is not known yet.
pub async fn support(tools: &Tools, live: &Live) -> Support {
    let mut known = tools.soft.0.lock().await;
    let Ok(pid) = tools.nginx.master() else {
        return Support::Untested("nginx does not run".to_owned());
    };
    if let Some((of, support)) = known.as_ref()
        && *of == pid
    {
        return support.clone();
    }
    // A reload in between would be taken for an answer.
    let _alone = tools.nginx_lock.lock().await;
    let nonce = hex::encode(tools.clock.random::<8>());
    let tried = match attempt(tools, live, &nonce).await {
        Ok(support) => support,
        Err(failure) => Support::Untested(failure.message().to_owned()),
    };
    let path = &live.environment.health.path;
    if let Err(failure) = live.remove_probe_entry(tools, &nonce, path).await {
        tracing::warn!(code = failure.code(), "a probe's entry stays: {}", failure.message());
    }
    match &tried {
        Support::Works => tracing::info!("soft purges work with this nginx"),
        Support::Broken(why) => tracing::warn!(why, "soft purges do not work with this nginx"),
        Support::Untested(why) => tracing::info!(why, "soft purges could not be tried"),
    }
    if !matches!(tried, Support::Untested(_)) {
        *known = Some((pid, tried.clone()));
    }
    tried
}

async fn attempt(tools: &Tools, live: &Live, nonce: &str) -> Result<Support, Failure> {
    if !cfg!(all(target_pointer_width = "64", target_endian = "little")) {
        return Ok(Support::Broken("this machine's cache files are laid out otherwise".to_owned()));
    }
    let path = live.environment.health.path.as_str();
    let untested = |what: String| Ok(Support::Untested(format!("{path} {what}")));
    let broken = |what: String| Ok(Support::Broken(what));
    let first = ask(live, nonce).await?;
    if first != CacheStatus::Miss {
        return untested(format!("answered {} to a first request", word(first)));
    }
    let Some(entry) = stored(tools, live, nonce, None, STORED_TIMEOUT).await? else {
        return untested("is not stored".to_owned());
    };
    if entry.head().is_none() {
        return broken("nginx stores entries in a format this agent does not know".to_owned());
    }
    let window = i64::from(STALE_SECS_MAX);
    let expired = set_times(tools, entry, -2 * window).await?;
    let second = ask(live, nonce).await?;
    if second != CacheStatus::Expired {
        return broken(format!("a page past its window was answered {}", word(second)));
    }
    let Some(entry) = stored(tools, live, nonce, Some(expired), STORED_TIMEOUT).await? else {
        return untested("is not stored anew".to_owned());
    };
    let softened = set_times(tools, entry, -1).await?;
    let third = ask(live, nonce).await?;
    if third != CacheStatus::Stale {
        return broken(format!("a page made stale was answered {}", word(third)));
    }
    // What is made anew behind that answer comes yet, and is the last.
    let timeout = timeout(live) + STORED_TIMEOUT;
    stored(tools, live, nonce, Some(softened), timeout).await?;
    Ok(Support::Works)
}

fn timeout(live: &Live) -> Duration {
    Duration::from_millis(u64::from(live.environment.health.timeout_ms))
}

async fn ask(live: &Live, nonce: &str) -> Result<CacheStatus, Failure> {
    let path = &live.environment.health.path;
    let answer = live.ask(Kind::Effect { nonce }, path, &[], timeout(live)).await?;
    Ok(status(answer.cache.as_deref()))
}

/// Waits for another file than that of `before` at the probe's place.
async fn stored(
    tools: &Tools,
    live: &Live,
    nonce: &str,
    before: Option<u64>,
    timeout: Duration,
) -> Result<Option<Entry>, Failure> {
    let path = &live.environment.health.path;
    let waiting = async {
        loop {
            let found = live.probe_entry(tools, nonce, path).await?;
            if found.as_ref().is_some_and(|entry| before != Some(entry.inode)) {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(timeout, waiting).await.unwrap_or(Ok(None))
}

/// Sets until when an entry is fresh, from now; its inode.
async fn set_times(tools: &Tools, entry: Entry, valid_from_now: i64) -> Result<u64, Failure> {
    let now_secs = tools.clock.now_us() / 1_000_000;
    blocking(move || {
        entry.set_times(now_secs + valid_from_now, STALE_SECS_MAX.into())?;
        Ok::<_, Failure>(entry.inode)
    })
    .await
}
