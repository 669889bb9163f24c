//! Warming pages: each is asked for past the cache and stored over what is there.
//!
//! Invariants:
//! * a page stored since the warm-up was wanted, and fresh, is not asked for again, so that what
//!   was cut off goes on where it was;
//! * how many are asked for at once is [`pace`]'s to say, anew each second;
//! * a site in trouble is left alone after [`FAILURES_IN_A_ROW_MAX`] pages.

mod pace;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hostler_protocol::job::{
    Code, EnvironmentDoc, PageUrl, UrlWarm, WarmResult, WarmSpec, WarmState,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::pace::{AT_ONCE_DEFAULT, AT_ONCE_MAX, LOAD_PER_CPU_MAX};
use self::pace::{Pace, Pool};
use super::live::Live;
use super::refresh::{self, Made, Page};
use super::run::{Failure, blocking};
use super::state::Applied;
use super::tools::Tools;
use crate::host::fastcgi::{self, vary_names};
use crate::host::fs::{Dir, FsError};

/// Pages that fail one after the other before no more are asked for.
pub const FAILURES_IN_A_ROW_MAX: usize = 10;
/// Time between two lines of progress, in milliseconds.
const TOLD_EVERY_MS: u64 = 1000;

/// From when on a page counts as warm, in seconds of this host's clock: entries tell no more.
#[must_use]
pub fn wanted_sec(spec: &WarmSpec, now_us: i64) -> i64 {
    let ahead_us = spec.sent_at_us.map_or(0, |sent_us| now_us.saturating_sub(sent_us));
    spec.wanted_at_us.saturating_add(ahead_us).div_euclid(1_000_000).saturating_add(1)
}

/// The live configuration that can be warmed.
///
/// # Errors
/// `CACHE_OFF`; `MODE_NOT_SUPPORTED` where its files do not know how.
pub fn live(
    tools: &Tools,
    environment: &EnvironmentDoc,
    applied: Option<&Applied>,
) -> Result<Live, Failure> {
    let live = applied.and_then(|applied| Live::of(tools, environment, applied));
    let Some(live) = live.filter(|live| live.enabled) else {
        return Err(Failure::new(Code::CacheOff, "the environment's FastCGI cache is off"));
    };
    if live.current {
        return Ok(live);
    }
    let message = "the environment's nginx files were written by an older agent";
    Err(Failure::new(Code::ModeNotSupported, message)
        .with_hint("Reconcile the environment, then warm it again."))
}

/// A warm-up.
#[derive(Debug)]
pub struct Warming<'a> {
    pub tools: &'a Tools,
    pub live: &'a Live,
    pub cache: &'a Arc<Dir>,
    /// See [`wanted_sec`].
    pub wanted_sec: i64,
    pub cancel: &'a CancellationToken,
}

/// What came of one page.
struct Warmed {
    place: usize,
    line: UrlWarm,
}

/// What lies at a page's place.
enum There {
    Nothing,
    /// It is warm.
    Fresh,
    /// It is to be made anew by a request with these headers.
    Stale(Vec<(&'static str, String)>),
    /// It varies by these, and nobody knows what was sent for it.
    Unknown(String),
}

impl Warming<'_> {
    /// Warms pages, named as in `urls`; `tell` hears how far it has come.
    ///
    /// # Errors
    /// `WARM_FAILED`, `CANCELLED`, `FILE_FAILED` and its like, `KEY_FORMAT_UNSUPPORTED`.
    pub async fn run(
        &self,
        urls: &[String],
        pages: &[PageUrl],
        tell: impl FnMut(String),
    ) -> Result<WarmResult, Failure> {
        let id = &self.live.environment.id;
        let pool = Pool::find(self.tools, self.live, self.cancel).await;
        let going = AtomicUsize::new(0);
        let first = pace::look(self.tools, id, pool.as_ref(), 0).await;
        let (set, seen) = watch::channel(first);
        tokio::select! {
            biased;
            done = self.pages(urls, pages, seen, &going, tell) => done,
            never = pace::keep(self.tools, id, pool.as_ref(), &going, &set) => match never {},
        }
    }

    async fn pages(
        &self,
        urls: &[String],
        pages: &[PageUrl],
        mut pace: watch::Receiver<Pace>,
        going: &AtomicUsize,
        mut tell: impl FnMut(String),
    ) -> Result<WarmResult, Failure> {
        let mut tally = Tally::new(urls.len());
        let mut waiting: VecDeque<usize> = (0..pages.len()).collect();
        let mut under_way = FuturesUnordered::new();
        let mut told_ms = self.tools.clock.monotonic_ms();
        loop {
            match *pace.borrow_and_update() {
                Pace::AtOnce(at_once) => {
                    while under_way.len() < at_once
                        && let Some(place) = waiting.pop_front()
                    {
                        under_way.push(self.one(place, &urls[place], &pages[place]));
                    }
                }
                Pace::Stop(why) => tally.drop_rest(urls, &mut waiting, why),
            }
            going.store(under_way.len(), Ordering::Relaxed);
            tally.result.concurrency =
                tally.result.concurrency.max(u32::try_from(under_way.len()).unwrap_or(u32::MAX));
            if under_way.is_empty() {
                break;
            }
            let next = tokio::select! {
                () = self.cancel.cancelled() => {
                    return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
                }
                // The sender lives as long as this does.
                _ = pace.changed() => continue,
                next = under_way.next() => next,
            };
            if let Some(warmed) = next {
                tally.add(warmed?);
            }
            if tally.in_a_row >= FAILURES_IN_A_ROW_MAX {
                return Err(tally.trouble(&format!(
                    "{FAILURES_IN_A_ROW_MAX} pages failed one after the other"
                )));
            }
            let now_ms = self.tools.clock.monotonic_ms();
            if now_ms.saturating_sub(told_ms) >= TOLD_EVERY_MS {
                told_ms = now_ms;
                tell(format!("{} of {} pages", tally.done, urls.len()));
            }
        }
        tally.end()
    }

    async fn one(&self, place: usize, url: &str, page: &PageUrl) -> Result<Warmed, Failure> {
        let mut line = UrlWarm {
            url: url.to_owned(),
            state: WarmState::Failed,
            status: None,
            took_ms: None,
            note: None,
        };
        let headers = match self.there(&page.uri).await? {
            There::Fresh => {
                line.state = WarmState::Fresh;
                return Ok(Warmed { place, line });
            }
            There::Unknown(names) => {
                line.state = WarmState::NotStored;
                line.note = Some(format!(
                    "it varies by {names}, and the variant at its place cannot be asked for"
                ));
                return Ok(Warmed { place, line });
            }
            There::Nothing => vec![("accept-encoding", refresh::ENCODINGS[0].to_owned())],
            There::Stale(headers) => headers,
        };
        let asked = Page { uri: page.uri.clone(), headers };
        let fetch = refresh::page(self.tools, self.live, self.cache, &asked).await?;
        (line.status, line.took_ms) = (fetch.status, Some(fetch.took_ms));
        (line.state, line.note) = match fetch.made {
            Made::Stored { .. } => (WarmState::Warmed, None),
            Made::NotStored { why } => (WarmState::NotStored, Some(why)),
            Made::Failed { why } => (WarmState::Failed, Some(why)),
        };
        Ok(Warmed { place, line })
    }

    async fn there(&self, uri: &str) -> Result<There, Failure> {
        let Some(fastcgi) = &self.live.environment.fastcgi else { return Ok(There::Nothing) };
        let key = self.live.key(fastcgi, uri)?.into_bytes();
        let now_sec = self.tools.clock.now_us().div_euclid(1_000_000);
        let (cache, wanted_sec) = (self.cache.clone(), self.wanted_sec);
        let domain = self.live.environment.domain.clone();
        blocking(move || -> Result<_, FsError> {
            let Some(entry) = fastcgi::find(&cache, &key)? else { return Ok(There::Nothing) };
            let Some(head) = entry.head() else { return Ok(There::Nothing) };
            if head.date >= wanted_sec && head.valid_sec >= now_sec {
                return Ok(There::Fresh);
            }
            if head.vary.is_empty() {
                return Ok(There::Nothing);
            }
            Ok(match refresh::headers(&domain, &key, head.vary, head.variant) {
                Some(headers) => There::Stale(headers),
                None => There::Unknown(vary_names(head.vary).join(", ")),
            })
        })
        .await
    }
}

/// What came of the pages so far.
struct Tally {
    result: WarmResult,
    lines: Vec<Option<UrlWarm>>,
    done: usize,
    in_a_row: usize,
    last_failure: String,
}

impl Tally {
    fn new(count: usize) -> Self {
        Self {
            result: WarmResult::default(),
            lines: vec![None; count],
            done: 0,
            in_a_row: 0,
            last_failure: String::new(),
        }
    }

    fn add(&mut self, Warmed { place, line }: Warmed) {
        let result = &mut self.result;
        let count = match line.state {
            WarmState::Warmed => &mut result.warmed,
            WarmState::Fresh => &mut result.fresh,
            WarmState::NotStored => &mut result.not_stored,
            WarmState::Failed | WarmState::Unknown => &mut result.failed,
            WarmState::Dropped => &mut result.dropped,
        };
        *count += 1;
        self.done += 1;
        match line.state {
            WarmState::Failed | WarmState::Unknown => {
                self.in_a_row += 1;
                let why = line.note.as_deref().unwrap_or("it failed");
                self.last_failure = format!("{}: {why}", line.url);
            }
            // Of the site it says nothing.
            WarmState::Fresh | WarmState::Dropped => {}
            WarmState::Warmed | WarmState::NotStored => self.in_a_row = 0,
        }
        if let Some(slot) = self.lines.get_mut(place) {
            *slot = Some(line);
        }
    }

    fn drop_rest(&mut self, urls: &[String], waiting: &mut VecDeque<usize>, why: &'static str) {
        if !waiting.is_empty() {
            self.result.dropped_because = Some(why.to_owned());
        }
        for place in waiting.drain(..) {
            let url = urls.get(place).cloned().unwrap_or_default();
            let state = WarmState::Dropped;
            let line = UrlWarm { url, state, status: None, took_ms: None, note: None };
            self.add(Warmed { place, line });
        }
    }

    fn trouble(&self, what: &str) -> Failure {
        let WarmResult { warmed, fresh, .. } = &self.result;
        let message = format!(
            "{what}, the last one {}; {warmed} were warmed before, {fresh} were warm",
            self.last_failure
        );
        Failure::new(Code::WarmFailed, message)
    }

    fn end(self) -> Result<WarmResult, Failure> {
        let good = self.result.warmed + self.result.fresh + self.result.not_stored;
        if self.result.failed > 0 && good == 0 {
            return Err(self.trouble(&format!("all {} pages failed", self.result.failed)));
        }
        Ok(WarmResult { urls: self.lines.into_iter().flatten().collect(), ..self.result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::render::tests::environment;
    use hostler_protocol::job::AppKind;

    #[test]
    fn what_was_wanted_is_read_by_the_host_s_own_clock() {
        let spec = |wanted_at_us, sent_at_us| WarmSpec {
            environment: environment(AppKind::Php),
            urls: Vec::new(),
            wanted_at_us,
            sent_at_us,
        };
        assert_eq!(wanted_sec(&spec(100_500_000, None), 7), 101);
        // This host is an hour ahead: what it stored at 3700 was stored at 100.
        let now_us = 3_700_000_000;
        assert_eq!(wanted_sec(&spec(90_500_000, Some(100_000_000)), now_us), 3691);
        // And here an hour behind.
        assert_eq!(wanted_sec(&spec(3_690_500_000, Some(3_700_000_000)), 100_000_000), 91);
    }

    #[test]
    fn a_site_in_trouble_is_told_from_single_bad_pages() {
        let line = |state, note: &str| UrlWarm {
            url: "http://a.test/".to_owned(),
            state,
            status: None,
            took_ms: None,
            note: Some(note.to_owned()),
        };
        let mut tally = Tally::new(12);
        for place in 0..9 {
            tally.add(Warmed { place, line: line(WarmState::Failed, "the site answered 500") });
        }
        tally.add(Warmed { place: 9, line: line(WarmState::Fresh, "") });
        assert_eq!(tally.in_a_row, 9, "a page nobody asked for says nothing of the site");
        tally.add(Warmed { place: 10, line: line(WarmState::NotStored, "") });
        assert_eq!(tally.in_a_row, 0);
        let mut waiting = VecDeque::from([11]);
        tally.drop_rest(&vec![String::new(); 12], &mut waiting, "the cache was switched off");
        let result = tally.end().unwrap();
        assert_eq!((result.failed, result.not_stored, result.dropped), (9, 1, 1));
        assert_eq!(result.urls.len(), 12);

        let mut tally = Tally::new(1);
        tally.add(Warmed { place: 0, line: line(WarmState::Failed, "the site answered 503") });
        let failure = tally.end().unwrap_err();
        assert_eq!(failure.code(), "WARM_FAILED");
        assert!(failure.message().contains("the site answered 503"), "{}", failure.message());
    }
}
