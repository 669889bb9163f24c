//! Making picked entries anew in their places.
//!
//! Only what a request of ours is stored as can be made anew: an answer to GET, of the scheme the
//! probes speak, at the key's own place; of a page that varies, the one variant that lies there,
//! if we can send what it was asked for with. What cannot be is removed, and so is a page that
//! answers in a way that is not stored. Where the site is in trouble the old entry stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::counts::{Count, Counts};
use super::select::Picked;
use crate::host::fastcgi;
use crate::host::fs::{Dir, FsError};
use crate::steps::keys::KeyFormat;
use crate::steps::live::Live;
use crate::steps::refresh::{self, Fetch, Made, Page};
use crate::steps::run::{Failure, blocking};
use crate::steps::tools::Tools;

/// Pages made anew at the same time.
pub(super) const REFRESHES_AT_ONCE: usize = 2;
/// Entries one job makes anew.
pub const REFRESHED_ENTRIES_MAX: usize = 10_000;
/// Pages that fail one after the other before no more are asked for.
const FAILURES_IN_A_ROW_MAX: usize = 20;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    pub counts: Counts,
    /// Inodes of the new entries.
    pub inodes: Vec<u64>,
    /// Why entries were treated in another way than asked.
    pub notes: Vec<String>,
}

/// Makes entries anew.
#[derive(Debug)]
pub struct Renewal<'a> {
    pub tools: &'a Tools,
    pub live: &'a Live,
    pub cache: &'a Arc<Dir>,
    pub format: &'a KeyFormat,
    pub cancel: &'a CancellationToken,
}

/// The entries of one page: the one to be made anew, and others that go when it is.
struct Group {
    main: Picked,
    others: Vec<Picked>,
}

impl Renewal<'_> {
    /// Makes entries anew, or removes them; `tell` hears of how many pages are done.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like, `CANCELLED`.
    pub async fn run(
        &self,
        picked: Vec<Picked>,
        urls: usize,
        mut tell: impl FnMut(usize),
    ) -> Result<Renewed, Failure> {
        let mut renewed = Renewed { counts: Counts::new(urls), ..Renewed::default() };
        let mut why = Why::default();
        let (mut groups, mut pages) = (Vec::new(), Vec::new());
        let mut doomed = Vec::new();
        for (main, others) in by_page(picked) {
            match main.as_ref().ok_or(Unable::Variant).and_then(|main| self.page(main)) {
                Ok(page) => {
                    pages.push(page);
                    groups.extend(main.map(|main| Group { main, others }));
                }
                Err(unable) => {
                    why.count(unable, others.len() + usize::from(main.is_some()));
                    doomed.extend(main.into_iter().chain(others));
                }
            }
        }
        let (mut fetched, mut in_a_row, mut done) = (BTreeMap::new(), 0, 0);
        let list = refresh::pages(
            self.tools,
            self.live,
            self.cache,
            &pages,
            REFRESHES_AT_ONCE,
            self.cancel,
            |place, fetch| {
                in_a_row = if matches!(fetch.made, Made::Failed { .. }) { in_a_row + 1 } else { 0 };
                done += 1;
                tell(done);
                fetched.insert(place, fetch);
                in_a_row < FAILURES_IN_A_ROW_MAX
            },
        );
        list.await?;
        for (place, Group { main, others }) in groups.into_iter().enumerate() {
            let fetch = fetched.remove(&place);
            doomed.extend(settle(main, others, fetch, &mut renewed, &mut why));
        }
        self.remove(doomed, &mut renewed.counts).await?;
        renewed.notes = why.notes();
        Ok(renewed)
    }

    /// The request that is stored as this entry.
    fn page(&self, main: &Picked) -> Result<Page, Unable> {
        let domain = &self.live.environment.domain;
        let read = self.format.read(&main.key, domain).ok_or(Unable::Key)?;
        if read.method.is_some_and(|method| method != "GET") {
            return Err(Unable::Method);
        }
        if read.scheme.is_some_and(|scheme| scheme != self.live.origin.scheme()) {
            return Err(Unable::Scheme);
        }
        // What older files stored under other keys nobody is served any more.
        let fastcgi = self.live.environment.fastcgi.as_ref().ok_or(Unable::Key)?;
        let same = self.live.key(fastcgi, read.uri).is_ok_and(|key| key.as_bytes() == main.key);
        if !same || read.uri.parse::<http::Uri>().is_err() {
            return Err(Unable::Key);
        }
        let headers = refresh::headers(domain, &main.key, &main.vary, main.variant);
        let headers = headers.ok_or(Unable::Variant)?;
        Ok(Page { uri: read.uri.to_owned(), headers })
    }

    async fn remove(&self, doomed: Vec<Picked>, counts: &mut Counts) -> Result<(), Failure> {
        let cache = self.cache.clone();
        let removed = blocking(move || -> Result<_, FsError> {
            let mut removed = Vec::new();
            for picked in doomed {
                let entry = fastcgi::find_named(&cache, &picked.name)?;
                let same = entry.filter(|entry| {
                    entry.head().map_or(picked.key.is_empty(), |head| head.key == picked.key)
                });
                if let Some(entry) = same
                    && entry.remove()?.removed > 0
                {
                    removed.push((picked.url, picked.bytes));
                }
            }
            Ok(removed)
        })
        .await?;
        for (url, bytes) in removed {
            counts.add(url, Count::removed(bytes));
        }
        Ok(())
    }
}

/// Entries by their keys: the one at the key's own place, and the others.
fn by_page(picked: Vec<Picked>) -> Vec<(Option<Picked>, Vec<Picked>)> {
    let mut pages: BTreeMap<Vec<u8>, (Option<Picked>, Vec<Picked>)> = BTreeMap::new();
    for one in picked {
        let page = pages.entry(one.key.clone()).or_default();
        if one.own_place && page.0.is_none() {
            page.0 = Some(one);
        } else {
            page.1.push(one);
        }
    }
    pages.into_values().collect()
}

/// Counts what became of a page; gives back the entries that go.
fn settle(
    main: Picked,
    others: Vec<Picked>,
    fetch: Option<Fetch>,
    renewed: &mut Renewed,
    why: &mut Why,
) -> Vec<Picked> {
    match fetch.map(|fetch| fetch.made) {
        Some(Made::Stored { inode, doubtful }) => {
            if !doubtful {
                renewed.inodes.push(inode);
            }
            renewed.counts.add(main.url, Count::refreshed(main.bytes));
            why.count(Unable::Variant, others.len());
            others
        }
        Some(Made::NotStored { why: reason }) => {
            why.not_stored(1 + others.len(), &reason);
            std::iter::once(main).chain(others).collect()
        }
        failed @ (Some(Made::Failed { .. }) | None) => {
            if failed.is_none() {
                why.not_asked += 1;
            }
            for one in std::iter::once(&main).chain(&others) {
                renewed.counts.add(one.url, Count::failed(one.bytes));
            }
            Vec::new()
        }
    }
}

/// Why an entry cannot be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unable {
    Method,
    Scheme,
    Variant,
    Key,
}

/// How many entries were removed, and why.
#[derive(Debug, Default)]
struct Why {
    method: usize,
    scheme: usize,
    variant: usize,
    key: usize,
    not_stored: usize,
    example: String,
    not_asked: usize,
}

impl Why {
    fn count(&mut self, unable: Unable, entries: usize) {
        match unable {
            Unable::Method => self.method += entries,
            Unable::Scheme => self.scheme += entries,
            Unable::Variant => self.variant += entries,
            Unable::Key => self.key += entries,
        }
    }

    fn not_stored(&mut self, entries: usize, why: &str) {
        self.not_stored += entries;
        if self.example.is_empty() {
            why.clone_into(&mut self.example);
        }
    }

    fn notes(&self) -> Vec<String> {
        let stored = format!("removed: the page is not stored any more ({})", self.example);
        let lines = [
            (self.method, "removed: answers to HEAD are not made anew"),
            (self.scheme, "removed: of another scheme than the probe origin's"),
            (self.variant, "removed: variants of a page that varies which cannot be asked for"),
            (self.key, "removed: no request is stored under their key any more"),
            (self.not_stored, stored.as_str()),
            (self.not_asked, "not asked for: too many pages failed one after the other"),
        ];
        let told = lines.iter().filter(|(entries, _)| *entries > 0);
        told.map(|(entries, why)| format!("{entries} {why}")).collect()
    }
}
