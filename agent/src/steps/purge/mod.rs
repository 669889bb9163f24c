//! Purging an environment's page cache: which entries ([`wanted`]), in which mode ([`treat`]), all
//! at once ([`all`]) or one by one ([`select`]), made anew in their places ([`renew`]).
//!
//! Invariants:
//! * a scope is read whole, and a mode decided, before anything is changed;
//! * one job scans the cache at most once;
//! * what was being rendered meanwhile is left to [`super::watch`].

mod all;
mod counts;
mod directory;
mod renew;
mod select;
mod treat;
mod wanted;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use hostler_protocol::job::{
    CacheStatus, FastcgiPurge, PROBED_URLS_MAX, PageUrl, PurgeMode, UrlPurge,
};
use tokio_util::sync::CancellationToken;

pub use self::all::{all_step, bin_name};
pub use self::counts::{Count, Counts};
pub use self::directory::{claim, open_cache};
pub use self::renew::{REFRESHED_ENTRIES_MAX, Renewal, Renewed};
pub use self::select::{Acting, Picked, Walk, Walked, pick};
pub use self::treat::{Treatment, decide};
pub use self::wanted::{Hit, Matcher, Wanted, pages};
use super::effect::{self, Peek};
use super::live::{Kind, Live};
use super::run::{Failure, blocking};
use super::seen;
use super::tools::Tools;
use super::verdict;
use crate::host::fs::Dir;

/// Time limit of one peek.
const PEEK_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests of a purge that are under way at once.
const REQUESTS_AT_ONCE: usize = 2;
/// Pages a soft purge asks whether they are still there, per job.
pub const ASKED_PAGES_MAX: usize = 100;
/// Time limit of one such question.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// One purge of a page cache.
#[derive(Debug)]
pub struct Purge<'a> {
    pub tools: &'a Tools,
    pub cache: Arc<Dir>,
    pub live: Option<&'a Live>,
    pub wanted: &'a Wanted,
    pub matcher: Arc<Matcher>,
    pub treatment: &'a Treatment,
    pub dry_run: bool,
    pub cancel: CancellationToken,
}

/// What came of a purge, besides its result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    pub result: FastcgiPurge,
    /// Inodes of the entries it made anew.
    pub inodes: Vec<u64>,
    /// Whether a page varies.
    pub varies: bool,
    /// URLs whose page is no longer there and was removed, whatever the mode.
    pub gone: Vec<String>,
}

impl Purge<'_> {
    /// Purges, or counts; `bin` names where entries are set aside, `tell` hears of pages that were
    /// made anew. No entry is touched before `ready` is; what that gave is handed back.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like, `CACHE_FORMAT_UNKNOWN`, `CANCELLED`, `SPEC_INVALID` for more
    /// pages than are made anew at once.
    pub async fn run<R>(
        &self,
        bin: String,
        ready: impl Future<Output = R>,
        tell: impl FnMut(usize),
    ) -> Result<(Purged, R), Failure> {
        let hard = self.treatment.mode == PurgeMode::Hard || self.dry_run;
        let (mut purged, readied) = if self.wanted.all && hard {
            let readied = ready.await;
            let (cache, cancel) = (self.cache.clone(), self.cancel.clone());
            let result = all::all(self.tools, bin, cancel, cache, self.dry_run).await?;
            (Purged { result, ..Purged::default() }, readied)
        } else {
            let (before, readied) = tokio::join!(self.peek(), ready);
            (self.selected(before, tell).await?, readied)
        };
        let result = &mut purged.result;
        result.mode = self.treatment.asked;
        let noted = result.mode_note.take();
        let notes: Vec<_> = self.treatment.notes.iter().cloned().chain(noted).collect();
        result.mode_note = (!notes.is_empty()).then(|| notes.join("; "));
        Ok((purged, readied))
    }

    async fn selected(
        &self,
        before: Vec<Peek>,
        tell: impl FnMut(usize),
    ) -> Result<Purged, Failure> {
        let unseen = match self.live {
            Some(live) => {
                let (format, spoken) = (self.matcher.format(), live.origin.scheme());
                seen::unseen(&self.cache, format, spoken, &self.wanted.pages).await?
            }
            None => Vec::new(),
        };
        let varies = |(_, peek): &(usize, &Peek)| peek.varies;
        let varying = before.iter().enumerate().filter(varies).map(|(place, _)| place).collect();
        let mut notes = Vec::new();
        let (acting, unasked) = self.acting(&varying).await?;
        let gone: Vec<String> = match &acting {
            Acting::Soften { gone, .. } => {
                gone.iter().filter_map(|place| self.wanted.urls.get(*place).cloned()).collect()
            }
            Acting::Count | Acting::Remove | Acting::Pick { .. } => Vec::new(),
        };
        if unasked > 0 {
            notes.push(format!(
                "{unasked} pages were not asked whether they are still there: {ASKED_PAGES_MAX} are in one job"
            ));
        }
        if !gone.is_empty() {
            notes.push(format!("removed: {} pages are no longer there", gone.len()));
        }
        let walked = self.walk(acting, varying).await?;
        if walked.passed_by > 0 {
            let message = "entries of a format this agent does not know may be variants of these pages and stay";
            notes.push(format!("{} {message}", walked.passed_by));
        }
        let (varies, mut counts, mut inodes) = (walked.varies, walked.counts, Vec::new());
        if let Some(live) = self.live
            && !walked.picked.is_empty()
        {
            let (tools, cache, cancel) = (self.tools, &self.cache, &self.cancel);
            let renewal = Renewal { tools, live, cache, format: self.matcher.format(), cancel };
            let renewed = renewal.run(walked.picked, self.matcher.urls(), tell).await?;
            counts.merge(&renewed.counts);
            inodes = renewed.inodes;
            notes.extend(renewed.notes);
        }
        let after = if self.dry_run { Vec::new() } else { self.peek().await };
        let mut result = result(&self.wanted.urls, &counts, |place| {
            (seen::told(&before, &unseen, place), seen::told(&after, &unseen, place))
        });
        result.mode_note = (!notes.is_empty()).then(|| notes.join("; "));
        Ok(Purged { result, inodes, varies, gone })
    }

    /// What is done with entries, and how many pages were not asked whether they are still there.
    async fn acting(&self, varying: &BTreeSet<usize>) -> Result<(Acting, usize), Failure> {
        if self.dry_run {
            return Ok((Acting::Count, 0));
        }
        match (self.treatment.mode, self.live) {
            (PurgeMode::Refresh, Some(_)) => {
                Ok((Acting::Pick { picked_max: REFRESHED_ENTRIES_MAX }, 0))
            }
            (PurgeMode::Soft, Some(live)) => {
                let (gone, unasked) = self.gone(live, varying).await?;
                let now_secs = self.tools.clock.now_us() / 1_000_000;
                Ok((Acting::Soften { now_secs, gone }, unasked))
            }
            (PurgeMode::Hard, _) | (_, None) => Ok((Acting::Remove, 0)),
        }
    }

    async fn walk(&self, acting: Acting, varying: BTreeSet<usize>) -> Result<Walked, Failure> {
        let walk = Walk {
            cache: self.cache.clone(),
            matcher: self.matcher.clone(),
            varying,
            acting,
            cancel: self.cancel.clone(),
        };
        blocking(move || walk.run()).await
    }

    /// URLs named whose page went away, of those that are stored: made stale they would be served
    /// once more, and what answers now would never take their place. Also how many were not asked.
    async fn gone(
        &self,
        live: &Live,
        varying: &BTreeSet<usize>,
    ) -> Result<(BTreeSet<usize>, usize), Failure> {
        let walk = Walk {
            cache: self.cache.clone(),
            matcher: self.matcher.clone(),
            varying: varying.clone(),
            acting: Acting::Count,
            cancel: self.cancel.clone(),
        };
        let scans = self.matcher.scans();
        let stored = blocking(move || walk.present()).await?;
        let mut pages: Vec<_> = self.wanted.pages.iter().enumerate().collect();
        pages.retain(|(place, _)| scans || stored.contains(place));
        let unasked = pages.len().saturating_sub(ASKED_PAGES_MAX);
        let asked: Vec<_> = pages
            .into_iter()
            .take(ASKED_PAGES_MAX)
            .map(|(place, page)| async move {
                let answer = live.ask(Kind::Past, &page.uri, &[], ASK_TIMEOUT).await;
                answer.is_ok_and(|answer| verdict::is_gone(answer.status)).then_some(place)
            })
            .collect();
        let asking = futures_util::stream::iter(asked).buffer_unordered(REQUESTS_AT_ONCE);
        let gone = asking.filter_map(|place| async move { place }).collect();
        tokio::select! {
            gone = gone => Ok((gone, unasked)),
            () = self.cancel.cancelled() => {
                all::still_wanted(&self.cancel).map(|()| (BTreeSet::new(), unasked))
            }
        }
    }

    async fn peek(&self) -> Vec<Peek> {
        let Some(live) = self.live else { return Vec::new() };
        let asked: Vec<_> = self
            .wanted
            .pages
            .iter()
            .take(PROBED_URLS_MAX)
            .map(|page: &PageUrl| effect::peek(live, &page.uri, PEEK_TIMEOUT))
            .collect();
        futures_util::stream::iter(asked).buffered(REQUESTS_AT_ONCE).collect().await
    }
}

fn result(
    urls: &[String],
    counts: &Counts,
    told: impl Fn(usize) -> (Option<CacheStatus>, Option<CacheStatus>),
) -> FastcgiPurge {
    let Count { found, removed, softened, refreshed, failed, bytes } = counts.total;
    let one = |(place, (url, own)): (usize, (&String, &Count))| {
        let (before, after) = told(place);
        UrlPurge {
            url: url.clone(),
            found: own.found,
            removed: own.removed,
            softened: own.softened,
            refreshed: own.refreshed,
            failed: own.failed,
            bytes: own.bytes,
            before,
            after,
        }
    };
    let urls = urls.iter().zip(&counts.urls).enumerate().map(one).collect();
    FastcgiPurge {
        found,
        removed,
        softened,
        refreshed,
        failed,
        bytes,
        urls,
        ..FastcgiPurge::default()
    }
}
