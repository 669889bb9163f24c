//! Asking the live configuration: its generation, whether requests go through the cache, what a
//! visitor would get.
//!
//! Two kinds of probe request a page. The *effect* probe has a cache key of its own (a nonce in
//! front), so it neither fills nor reads the visitors' entry; what it stored is removed again. The
//! *peek* probe reads the visitors' entry and stores nothing.

use std::time::Duration;

use hostler_protocol::job::{CacheStatus, Code, HealthDoc};

use super::live::{Kind, Live};
use super::origin;
use super::render::generation_path;
use super::run::Failure;
use super::tools::Tools;
use crate::host::probe::Answer;

/// Longest wait for old workers to stop answering.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// Time limit of one generation probe.
const GENERATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The generation that answers; `None` when something else does.
///
/// # Errors
/// `PROBE_FAILED`.
pub async fn generation(live: &Live) -> Result<Option<u64>, Failure> {
    let path = generation_path(&live.environment);
    let answer = live.ask(Kind::Generation, &path, &[], GENERATION_TIMEOUT).await?;
    let text = String::from_utf8_lossy(&answer.body);
    Ok((answer.status == 200).then(|| text.trim().parse().ok()).flatten())
}

/// The origin a request for the generation is redirected to, if that speaks another scheme.
pub async fn elsewhere(live: &Live) -> Option<String> {
    let path = generation_path(&live.environment);
    let answer = live.ask(Kind::Generation, &path, &[], GENERATION_TIMEOUT).await.ok()?;
    origin::elsewhere(&live.origin, &answer)
}

/// What a peek saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    pub status: CacheStatus,
    /// Whether the page says it varies by request headers.
    pub varies: bool,
}

/// What a visitor's request for a page would be answered from; stores nothing.
pub async fn peek(live: &Live, uri: &str, timeout: Duration) -> Peek {
    match live.ask(Kind::Peek, uri, &[], timeout).await {
        Ok(answer) => Peek { status: status(answer.cache.as_deref()), varies: answer.varies() },
        Err(_) => Peek { status: CacheStatus::Unknown, varies: false },
    }
}

/// What the two requests of the effect probe said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    pub first: CacheStatus,
    pub second: CacheStatus,
    /// HTTP status of the second.
    pub http: u16,
}

/// Asks for a page the way a visitor would, past the visitors' entries of our page cache.
///
/// # Errors
/// `PROBE_FAILED`.
pub async fn health(tools: &Tools, live: &Live) -> Result<Answer, Failure> {
    let nonce = hex::encode(tools.clock.random::<8>());
    let HealthDoc { path, timeout_ms, .. } = &live.environment.health;
    let timeout = Duration::from_millis(u64::from(*timeout_ms));
    let answer = live.ask(Kind::Effect { nonce: &nonce }, path, &[], timeout).await;
    live.remove_probe_entry(tools, &nonce, path).await?;
    Ok(answer?)
}

/// Proves that requests go through the cache, or past it. Waits for old workers to leave.
///
/// # Errors
/// `CACHE_EFFECT_MISSING`, `PROBE_FAILED`.
pub async fn prove(tools: &Tools, live: &Live, enabled: bool) -> Result<Observed, Failure> {
    let started_ms = tools.clock.monotonic_ms();
    loop {
        let observed = observe(tools, live).await?;
        let off = observed.first == CacheStatus::Off && observed.second == CacheStatus::Off;
        let seen = observed.first != CacheStatus::Unknown;
        if seen && off != enabled {
            return Ok(observed);
        }
        let waited_ms = tools.clock.monotonic_ms().saturating_sub(started_ms);
        if u128::from(waited_ms) > EFFECT_TIMEOUT.as_millis() {
            return Err(missing(live, observed, enabled));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn missing(live: &Live, observed: Observed, enabled: bool) -> Failure {
    let path = &live.environment.health.path;
    let message = match (observed.first, enabled) {
        (CacheStatus::Unknown, _) => format!(
            "{path} answered {} without the cache status header: no PHP location answers it, or it has headers of its own",
            observed.http
        ),
        (_, true) => format!("{path} answered {} past the cache", observed.http),
        (first, false) => format!("{path} still answers {} from a cache", word(first)),
    };
    Failure::new(Code::CacheEffectMissing, message)
}

async fn observe(tools: &Tools, live: &Live) -> Result<Observed, Failure> {
    let nonce = hex::encode(tools.clock.random::<8>());
    let HealthDoc { path, timeout_ms, .. } = &live.environment.health;
    let timeout = Duration::from_millis(u64::from(*timeout_ms));
    let kind = Kind::Effect { nonce: &nonce };
    let first = live.ask(kind, path, &[], timeout).await;
    let second = live.ask(kind, path, &[], timeout).await;
    // A probe that got no answer in time may have stored one all the same.
    live.remove_probe_entry(tools, &nonce, path).await?;
    let (first, second) = (first?, second?);
    Ok(Observed {
        first: status(first.cache.as_deref()),
        second: status(second.cache.as_deref()),
        http: second.status,
    })
}

/// What was observed, in words a person can check.
#[must_use]
pub fn proof(live: &Live, observed: Observed, enabled: bool) -> String {
    let Observed { first, second, http } = observed;
    let path = &live.environment.health.path;
    let (first, second) = (word(first), word(second));
    if !enabled {
        return format!("two requests for {path} answered OFF (HTTP {http})");
    }
    let so = match second {
        "HIT" => "the second was answered from the cache",
        "BYPASS" => "the cache is engaged; its rules let this page pass",
        _ => "the cache is engaged; the page says it must not be stored",
    };
    format!("two requests for {path} answered {first} then {second} (HTTP {http}): {so}")
}

/// Reads the status header.
#[must_use]
pub fn status(header: Option<&str>) -> CacheStatus {
    match header {
        Some("MISS") => CacheStatus::Miss,
        Some("BYPASS") => CacheStatus::Bypass,
        Some("EXPIRED") => CacheStatus::Expired,
        Some("STALE") => CacheStatus::Stale,
        Some("UPDATING") => CacheStatus::Updating,
        Some("REVALIDATED") => CacheStatus::Revalidated,
        Some("HIT") => CacheStatus::Hit,
        Some("OFF") => CacheStatus::Off,
        Some(_) | None => CacheStatus::Unknown,
    }
}

/// A status in nginx's own word.
#[must_use]
pub fn word(status: CacheStatus) -> &'static str {
    match status {
        CacheStatus::Miss => "MISS",
        CacheStatus::Bypass => "BYPASS",
        CacheStatus::Expired => "EXPIRED",
        CacheStatus::Stale => "STALE",
        CacheStatus::Updating => "UPDATING",
        CacheStatus::Revalidated => "REVALIDATED",
        CacheStatus::Hit => "HIT",
        CacheStatus::Off => "OFF",
        CacheStatus::Unknown => "UNKNOWN",
    }
}
