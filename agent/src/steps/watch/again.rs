//! Looking for entries that came to their places since a purge, and purging them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use hostler_protocol::job::{FastcgiDoc, PurgeMode};
use tokio_util::sync::CancellationToken;

use crate::host::fastcgi::{self, SCANNED_ENTRIES_MAX, Scan};
use crate::host::fs::{Dir, FsError};
use crate::steps::keys::KeyFormat;
use crate::steps::live::Live;
use crate::steps::purge::{Matcher, Picked, Renewal, Wanted, open_cache, pick};
use crate::steps::render::STALE_SECS_MAX;
use crate::steps::run::{Failure, blocking};
use crate::steps::state;
use crate::steps::tools::Tools;

use super::record::Record;

/// How often one entry is purged again: whoever renders the page all the time gets it stored.
const AGAIN_PER_ENTRY_MAX: u8 = 2;
/// Keys that are looked up one by one rather than by going through the cache.
const LOOKED_UP_KEYS_MAX: usize = 1000;

/// What a purge that is watched knows of the entries it is about.
#[derive(Debug, Clone)]
pub(super) struct Quarry {
    pub record: Record,
    /// Entries the purge made anew itself.
    own: BTreeSet<u64>,
    /// Whether variants may come to places that cannot be computed.
    varies: bool,
    again: BTreeMap<String, u8>,
    matcher: Option<Arc<Matcher>>,
}

/// Where an environment's cache is, as of now.
struct Place {
    cache: Arc<Dir>,
    fastcgi: FastcgiDoc,
    domain: String,
    /// Set where pages can be made anew.
    live: Option<Live>,
}

impl Quarry {
    /// The entries of a purge.
    #[must_use]
    pub(super) fn new(record: Record, inodes: Vec<u64>, varies: bool) -> Self {
        let own = inodes.into_iter().collect();
        Self { record, own, varies, again: BTreeMap::new(), matcher: None }
    }

    /// Purges again what came to its place; how many entries. `None` when the cache has gone.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like.
    pub(super) async fn look(&mut self, tools: &Tools) -> Result<Option<usize>, Failure> {
        let Some(place) = self.place(tools).await? else { return Ok(None) };
        let landed = self.landed(tools, &place).await?;
        if landed.is_empty() {
            return Ok(Some(0));
        }
        for picked in &landed {
            *self.again.entry(picked.name.clone()).or_default() += 1;
        }
        let count = landed.len();
        match (&place.live, self.record.mode) {
            (Some(live), PurgeMode::Refresh) => {
                let format = KeyFormat::parse(&place.fastcgi.key_format)?;
                let cancel = CancellationToken::new();
                let (cache, format) = (&place.cache, &format);
                let renewal = Renewal { tools, live, cache, format, cancel: &cancel };
                self.own.extend(renewal.run(landed, 0, |_| ()).await?.inodes);
            }
            (Some(_), PurgeMode::Soft) => {
                let now_secs = tools.clock.now_us() / 1_000_000;
                each(&place.cache, landed, move |entry| {
                    entry.soften(now_secs, STALE_SECS_MAX.into()).map(|_| ())
                })
                .await?;
            }
            (_, PurgeMode::Hard) | (None, _) => {
                each(&place.cache, landed, |entry| entry.remove().map(|_| ())).await?;
            }
        }
        tracing::info!(
            environment = %self.record.environment,
            mode = self.record.mode.as_str(),
            entries = count,
            "pages that were being rendered during a purge are purged again"
        );
        Ok(Some(count))
    }

    async fn place(&mut self, tools: &Tools) -> Result<Option<Place>, Failure> {
        let Some(applied) = state::load(tools, &self.record.environment).await? else {
            return Ok(None);
        };
        let environment = &applied.environment;
        let Some(fastcgi) = environment.fastcgi.clone() else { return Ok(None) };
        let Ok(Some(cache)) = open_cache(tools, &fastcgi, Some(&applied)).await else {
            return Ok(None);
        };
        let live = Live::of(tools, environment, &applied);
        let live = live.filter(|live| live.enabled && live.current);
        let domain = environment.domain.clone();
        Ok(Some(Place { cache: Arc::new(cache), fastcgi, domain, live }))
    }

    /// The entries that came to their places since, but for those that did too often.
    async fn landed(&mut self, tools: &Tools, place: &Place) -> Result<Vec<Picked>, Failure> {
        let matcher = match &self.matcher {
            Some(matcher) => matcher.clone(),
            None => {
                let wanted = Wanted::read(&place.domain, &self.record.scope)?;
                let format = KeyFormat::parse(&place.fastcgi.key_format)?;
                let matcher = Arc::new(Matcher::new(&wanted, &place.domain, format));
                self.matcher = Some(matcher.clone());
                matcher
            }
        };
        let few = !matcher.scans() && !self.varies && matcher.keys.len() <= LOOKED_UP_KEYS_MAX;
        let search = Search {
            cache: place.cache.clone(),
            matcher,
            mode: self.record.mode,
            since_sec: self.record.since_sec,
            now_secs: tools.clock.now_us() / 1_000_000,
            own: self.own.clone(),
        };
        let found = blocking(move || if few { search.by_key() } else { search.by_scan() }).await?;
        let seldom = |picked: &Picked| {
            self.again.get(&picked.name).is_none_or(|times| *times < AGAIN_PER_ENTRY_MAX)
        };
        Ok(found.into_iter().filter(seldom).collect())
    }
}

async fn each(
    cache: &Arc<Dir>,
    landed: Vec<Picked>,
    act: impl Fn(fastcgi::Entry) -> Result<(), FsError> + Send + 'static,
) -> Result<(), Failure> {
    let cache = cache.clone();
    blocking(move || -> Result<(), FsError> {
        for picked in landed {
            if let Some(entry) = fastcgi::find_named(&cache, &picked.name)? {
                act(entry)?;
            }
        }
        Ok(())
    })
    .await
}

struct Search {
    cache: Arc<Dir>,
    matcher: Arc<Matcher>,
    mode: PurgeMode,
    since_sec: i64,
    now_secs: i64,
    own: BTreeSet<u64>,
}

impl Search {
    /// Whether an entry is one the purge itself left there.
    fn is_left(&self, valid_sec: i64, inode: u64) -> bool {
        match self.mode {
            PurgeMode::Hard => false,
            PurgeMode::Soft => valid_sec < self.now_secs,
            PurgeMode::Refresh => self.own.contains(&inode),
        }
    }

    fn by_key(&self) -> Result<Vec<Picked>, FsError> {
        let mut found = Vec::new();
        for key in self.matcher.keys.keys() {
            if let Some(entry) = fastcgi::find(&self.cache, key)?
                && entry.changed_sec >= self.since_sec
                && entry.head().is_none_or(|head| !self.is_left(head.valid_sec, entry.inode))
            {
                found.push(pick(&entry, None, true));
            }
        }
        Ok(found)
    }

    fn by_scan(&self) -> Result<Vec<Picked>, FsError> {
        let cancel = CancellationToken::new();
        let scan = Scan {
            cache: &self.cache,
            entries_max: SCANNED_ENTRIES_MAX,
            since_sec: Some(self.since_sec),
            cancel: &cancel,
        };
        let found = Mutex::new(Vec::new());
        fastcgi::scan(&scan, vec![()], |(), sighted| {
            let left = self.is_left(sighted.head.valid_sec, sighted.inode);
            if !left
                && self.matcher.hit(sighted).is_some()
                && let Some(entry) = sighted.open()?
            {
                let picked = pick(&entry, None, sighted.at_own_place());
                found.lock().unwrap_or_else(PoisonError::into_inner).push(picked);
            }
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
