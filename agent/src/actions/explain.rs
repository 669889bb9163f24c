//! `cache_explain`: what the page cache does with one URL, and why; changes nothing.
//!
//! Two requests are made: one reads what a visitor would be answered from, the other goes through
//! the cache as a visitor's would, with an entry of its own. Whether that was stored decides; what
//! its headers and the rendered rules say explains.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_protocol::job::{
    AppKind, CacheStatus, Code, ExplainEntry, ExplainReason, ExplainResult, ExplainSpec, PurgeScope,
};

use crate::host::fastcgi::{
    self, Entry, SCAN_THREADS, SCANNED_ENTRIES_MAX, Scan, tags, vary_names,
};
use crate::host::fs::{Dir, FsError};
use crate::host::probe::Answer;
use crate::steps::effect::{status, word};
use crate::steps::keys::KeyFormat;
use crate::steps::live::{Kind, Live};
use crate::steps::purge::{self, Matcher, Wanted};
use crate::steps::run::{Failure, Run, blocking};
use crate::steps::state;
use crate::steps::tools::Tools;
use crate::steps::verdict::{self, reason};

/// Time limit of each request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long after its answer an entry may come to its place.
const STORED_TIMEOUT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &ExplainSpec,
) -> Result<ExplainResult, Failure> {
    let environment = &spec.environment;
    let Some(fastcgi) = &environment.fastcgi else {
        return Err(Failure::new(Code::SpecInvalid, "the environment has no FastCGI cache"));
    };
    let scope = PurgeScope::Urls { urls: vec![spec.url.clone()] };
    let wanted = Wanted::read(&environment.domain, &scope)?;
    let Some(page) = wanted.pages.first() else {
        return Err(Failure::new(Code::SpecInvalid, "no URL is named"));
    };
    let applied = state::load(tools, &environment.id).await?;
    let live = applied.as_ref().and_then(|applied| Live::of(tools, environment, applied));
    let mut explained = ExplainResult {
        url: spec.url.clone(),
        status: CacheStatus::Unknown,
        http_status: None,
        cacheable: false,
        reasons: Vec::new(),
        entries: Vec::new(),
    };
    let mut varies = false;
    run.step("probe", async {
        let told = match &live {
            None => {
                let message = "Hostler has not set nginx up for this environment yet";
                explained.reasons.push(reason("not_set_up", message));
                "nothing to ask".to_owned()
            }
            Some(live) => {
                varies = ask(tools, live, &page.uri, &mut explained).await?;
                format!("a visitor would be answered {}", word(explained.status))
            }
        };
        Ok(((), told))
    })
    .await?;
    let cancel = run.cancel().clone();
    run.step("cache_scan", async {
        match purge::open_cache(tools, fastcgi, applied.as_ref()).await {
            Ok(Some(cache)) => {
                let format = KeyFormat::parse(&fastcgi.key_format)?;
                let matcher = Matcher::new(&wanted, &environment.domain, format);
                let now_secs = tools.clock.now_us() / 1_000_000;
                let look = Look { cache: Arc::new(cache), matcher, varies, now_secs };
                explained.entries = blocking(move || look.entries(&cancel)).await?;
            }
            Ok(None) => {}
            Err(failure) if is_no_cache(&failure) => {}
            Err(failure) => return Err(failure),
        }
        Ok(((), format!("{} entries", explained.entries.len())))
    })
    .await?;
    stored(&mut explained);
    Ok(explained)
}

fn is_no_cache(failure: &Failure) -> bool {
    [Code::CacheDirMissing, Code::CacheDirNotOurs]
        .iter()
        .any(|code| failure.code() == code.as_str())
}

/// Asks the site; whether its page says that it varies.
async fn ask(
    tools: &Tools,
    live: &Live,
    uri: &str,
    explained: &mut ExplainResult,
) -> Result<bool, Failure> {
    let peek = live.ask(Kind::Peek, uri, &[], TIMEOUT).await;
    let peek = match peek {
        Ok(answer) => answer,
        Err(error) => {
            let failure = Failure::from(error);
            explained.reasons.push(reason("no_answer", failure.message()));
            return Ok(false);
        }
    };
    explained.status = status(peek.cache.as_deref());
    explained.http_status = Some(peek.status);
    if !live.enabled {
        explained.reasons.push(reason("cache_off", "the environment's page cache is off"));
    } else if explained.status == CacheStatus::Unknown || explained.status == CacheStatus::Off {
        let message = "no location that goes through the cache answers this URL";
        explained.reasons.push(reason("not_cached_here", message));
    } else if explained.status == CacheStatus::Bypass {
        let message = "a rule of the environment's kind lets this URL pass the cache by";
        explained.reasons.push(reason("bypass_uri", message));
    } else {
        try_out(tools, live, uri, explained).await?;
    }
    conditions(live, explained);
    Ok(peek.varies())
}

/// Goes through the cache with an entry of our own.
async fn try_out(
    tools: &Tools,
    live: &Live,
    uri: &str,
    explained: &mut ExplainResult,
) -> Result<(), Failure> {
    let nonce = hex::encode(tools.clock.random::<8>());
    let tried = live.ask(Kind::Effect { nonce: &nonce }, uri, &[], TIMEOUT).await;
    let forbidden = tried.as_ref().map(verdict::forbids).unwrap_or_default();
    let found = probe_entry(tools, live, &nonce, uri, forbidden.is_empty()).await;
    live.remove_probe_entry(tools, &nonce, uri).await?;
    match (tried, found?) {
        (Err(error), _) => {
            let failure = Failure::from(error);
            explained.reasons.push(reason("no_answer", failure.message()));
        }
        (Ok(answer), Some((valid_sec, date))) => {
            explained.cacheable = true;
            let secs = valid_sec.saturating_sub(date);
            let message = format!("PHP's answer ({}) is stored for {secs} s", answer.status);
            explained.reasons.push(reason("storable", message));
        }
        (Ok(answer), None) => explained.reasons.extend(against(&answer, forbidden)),
    }
    Ok(())
}

fn against(answer: &Answer, forbidden: Vec<ExplainReason>) -> Vec<ExplainReason> {
    match forbidden.is_empty() {
        true => vec![verdict::hidden(answer)],
        false => forbidden,
    }
}

/// Until when the probe's entry is fresh and when it was stored, if it was.
async fn probe_entry(
    tools: &Tools,
    live: &Live,
    nonce: &str,
    uri: &str,
    likely: bool,
) -> Result<Option<(i64, i64)>, Failure> {
    let looking = async {
        loop {
            if let Some(entry) = live.probe_entry(tools, nonce, uri).await? {
                return Ok(entry.head().map(|head| (head.valid_sec, head.date)));
            }
            if !likely {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(STORED_TIMEOUT, looking).await.unwrap_or(Ok(None))
}

/// Which requests for this URL pass the cache by although others do not.
fn conditions(live: &Live, explained: &mut ExplainResult) {
    if !explained.cacheable {
        return;
    }
    let reasons = &mut explained.reasons;
    reasons.push(reason("method", "only answers to GET and HEAD are stored"));
    let message = "requests with an Authorization header pass the cache by";
    reasons.push(reason("authorization", message));
    if live.environment.kind == AppKind::Wordpress {
        let message = "visitors who are logged in, have commented or have a cart pass it by";
        reasons.push(reason("bypass_cookie", message));
    }
}

/// Says what the stored entries mean, before anything else if a visitor is answered from one.
fn stored(explained: &mut ExplainResult) {
    let Some(freshest) = explained.entries.iter().map(|entry| entry.fresh_secs).max() else {
        return;
    };
    let told = match freshest {
        0.. => reason("stored", format!("stored, and fresh for another {freshest} s")),
        _ => reason(
            "stored_stale",
            format!("stored, and past its time for {} s", freshest.unsigned_abs()),
        ),
    };
    let served = explained.status == CacheStatus::Hit;
    let place = if served { 0 } else { explained.reasons.len().min(1) };
    explained.reasons.insert(place, told);
    if served {
        explained.cacheable = true;
    }
}

/// The search for the entries of a URL.
struct Look {
    cache: Arc<Dir>,
    matcher: Matcher,
    varies: bool,
    now_secs: i64,
}

impl Look {
    fn entries(
        &self,
        cancel: &tokio_util::sync::CancellationToken,
    ) -> Result<Vec<ExplainEntry>, FsError> {
        let mut found = Vec::new();
        let mut varies = self.varies;
        for key in self.matcher.keys.keys() {
            if let Some(entry) = fastcgi::find(&self.cache, key)? {
                varies |= entry.varies();
                found.extend(self.entry(&entry)?);
            }
        }
        if !varies {
            return Ok(found);
        }
        let known: BTreeSet<_> = found.iter().map(|entry| entry.file.clone()).collect();
        let others = Mutex::new(Vec::new());
        let entries_max = SCANNED_ENTRIES_MAX;
        let scan = Scan { cache: &self.cache, entries_max, since_sec: None, cancel };
        fastcgi::scan(&scan, vec![(); SCAN_THREADS], |(), sighted| {
            if self.matcher.hit(sighted).is_some()
                && let Some(entry) = sighted.open()?
                && let Some(told) = self.entry(&entry)?
                && !known.contains(&told.file)
            {
                others.lock().unwrap_or_else(PoisonError::into_inner).push(told);
            }
            Ok(())
        })?;
        found.extend(others.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(found)
    }

    fn entry(&self, entry: &Entry) -> Result<Option<ExplainEntry>, FsError> {
        let Some(head) = entry.head() else { return Ok(None) };
        let headers = entry.response_headers()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(ExplainEntry {
            key: text(head.key),
            file: entry.path().display().to_string(),
            bytes: entry.bytes,
            // The site's own user may have written any times.
            age_secs: u64::try_from(self.now_secs.saturating_sub(head.date)).unwrap_or(0),
            fresh_secs: head.valid_sec.saturating_sub(self.now_secs),
            vary: vary_names(head.vary),
            tags: tags(&headers).map(text).collect(),
        }))
    }
}
