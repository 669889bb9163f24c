//! Going over the entries a purge is about.
//!
//! Pages named by URL are looked up at the places computed from their keys; one scan finds what
//! else is meant: variants of a page that varies, other queries, prefixes, tags. The entry at a
//! key's own place goes last: it tells that there are others, so a purge that is cut short can be
//! repeated.

use std::collections::BTreeSet;
use std::sync::Arc;

use hostler_protocol::job::Code;
use tokio_util::sync::CancellationToken;

use super::all::still_wanted;
use super::counts::{Count, Counts};
use super::wanted::{Hit, Matcher};
use crate::host::fastcgi::{self, Entry, SCAN_THREADS, SCANNED_ENTRIES_MAX, Scan, Seen, Sighted};
use crate::host::fs::{Dir, FsError};
use crate::steps::render::STALE_SECS_MAX;
use crate::steps::run::Failure;

/// What is done with each entry.
#[derive(Debug, Clone)]
pub enum Acting {
    Count,
    Remove,
    /// Makes it stale, except those of URLs whose page is gone.
    Soften {
        now_secs: i64,
        gone: BTreeSet<usize>,
    },
    /// Only notes it, to be made anew afterwards.
    Pick {
        picked_max: usize,
    },
}

/// An entry that was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Empty when its format is unknown.
    pub key: Vec<u8>,
    /// Its file name.
    pub name: String,
    pub url: Option<usize>,
    pub bytes: u64,
    /// Whether it is stored where its key says.
    pub own_place: bool,
    pub vary: Vec<u8>,
    pub variant: [u8; 16],
}

/// One purge's walk.
#[derive(Debug)]
pub struct Walk {
    pub cache: Arc<Dir>,
    pub matcher: Arc<Matcher>,
    /// URLs whose page says that it varies: then variants may be stored although the entry that
    /// told of them has been evicted, and nginx would find them again.
    pub varying: BTreeSet<usize>,
    pub acting: Acting,
    pub cancel: CancellationToken,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walked {
    pub counts: Counts,
    pub picked: Vec<Picked>,
    /// Entries of an unknown format a scan for variants passed by.
    pub passed_by: u64,
    /// Whether a page varies.
    pub varies: bool,
}

impl Walk {
    /// Which URLs have an entry at one of their places.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like, `CANCELLED`.
    pub fn present(&self) -> Result<BTreeSet<usize>, Failure> {
        Ok(self.own_places()?.into_iter().map(|own| own.url).collect())
    }

    fn own_places(&self) -> Result<Vec<Own<'_>>, Failure> {
        let mut found = Vec::new();
        for (key, url) in &self.matcher.keys {
            still_wanted(&self.cancel)?;
            if let Some(entry) = fastcgi::find(&self.cache, key)? {
                let varies = entry.varies() || self.varying.contains(url);
                found.push(Own { key, url: *url, varies });
            }
        }
        Ok(found)
    }

    /// Goes over them.
    ///
    /// # Errors
    /// `FILE_FAILED` and its like, `CACHE_FORMAT_UNKNOWN`, `CANCELLED`, `SPEC_INVALID` for more
    /// entries than may be picked.
    pub fn run(&self) -> Result<Walked, Failure> {
        let own = self.own_places()?;
        let mut walked = Walked { counts: Counts::new(self.matcher.urls()), ..Walked::default() };
        let varies = !self.varying.is_empty() || own.iter().any(|own| own.varies);
        let mut seen = Seen::default();
        if self.matcher.scans() || varies {
            seen = self.scan(&mut walked)?;
        }
        for Own { key, url, .. } in own {
            still_wanted(&self.cancel)?;
            if let Some(entry) = fastcgi::find(&self.cache, key)? {
                self.act(entry, Some(url), true, &mut walked)?;
            }
        }
        unread(&self.cache, &seen)?;
        let foreign = seen.foreign;
        if foreign > 0 && self.matcher.scans() {
            let message = format!(
                "{foreign} entries are of a format this agent does not know: whether they are meant cannot be told"
            );
            return Err(Failure::new(Code::CacheFormatUnknown, message));
        }
        (walked.passed_by, walked.varies) = (foreign, varies);
        Ok(walked)
    }

    /// Says what it came across besides the entries that are meant.
    fn scan(&self, walked: &mut Walked) -> Result<Seen, Failure> {
        let scan = Scan {
            cache: &self.cache,
            entries_max: SCANNED_ENTRIES_MAX,
            since_sec: None,
            cancel: &self.cancel,
        };
        let blank = || Part {
            walked: Walked { counts: Counts::new(self.matcher.urls()), ..Walked::default() },
            failure: None,
        };
        let states = (0..SCAN_THREADS).map(|_| blank()).collect();
        let (seen, parts) = fastcgi::scan(&scan, states, |part, entry| self.visit(part, entry))?;
        still_wanted(&self.cancel)?;
        for part in parts {
            if let Some(failure) = part.failure {
                return Err(failure);
            }
            walked.counts.merge(&part.walked.counts);
            walked.picked.extend(part.walked.picked);
        }
        self.bounded(walked)?;
        if seen.whole {
            return Ok(seen);
        }
        let message = format!(
            "the cache holds more than {SCANNED_ENTRIES_MAX} entries: not all of them were looked at"
        );
        Err(Failure::new(Code::FileFailed, message).with_hint("Purge the whole cache instead."))
    }

    fn visit(&self, part: &mut Part, entry: &Sighted<'_>) -> Result<(), FsError> {
        let Some(Hit { url, by_key }) = self.matcher.hit(entry) else { return Ok(()) };
        let own_place = entry.at_own_place();
        if part.failure.is_some() || by_key && own_place {
            return Ok(());
        }
        let Some(entry) = entry.open()? else { return Ok(()) };
        if let Err(failure) = self.act(entry, url, own_place, &mut part.walked) {
            part.failure = Some(failure);
        }
        Ok(())
    }

    fn act(
        &self,
        entry: Entry,
        url: Option<usize>,
        own_place: bool,
        walked: &mut Walked,
    ) -> Result<(), Failure> {
        let bytes = entry.bytes;
        let count = match &self.acting {
            Acting::Count => Count::found(bytes),
            Acting::Soften { now_secs, gone } if url.is_none_or(|url| !gone.contains(&url)) => {
                if !entry.soften(*now_secs, STALE_SECS_MAX.into())? {
                    let path = entry.path();
                    let message = format!("{} is of an unknown format", path.display());
                    return Err(Failure::new(Code::CacheFormatUnknown, message));
                }
                Count::softened(bytes)
            }
            Acting::Soften { .. } | Acting::Remove => match entry.remove()?.removed {
                0 => Count::default(),
                _ => Count::removed(bytes),
            },
            Acting::Pick { .. } => {
                walked.picked.push(pick(&entry, url, own_place));
                return self.bounded(walked);
            }
        };
        walked.counts.add(url, count);
        Ok(())
    }

    fn bounded(&self, walked: &Walked) -> Result<(), Failure> {
        match self.acting {
            Acting::Pick { picked_max } if walked.picked.len() > picked_max => {
                let message =
                    format!("more than {picked_max} entries would have to be made anew at once");
                Err(Failure::new(Code::SpecInvalid, message)
                    .with_hint("Purge them in mode `soft`, or name fewer."))
            }
            Acting::Pick { .. } | Acting::Count | Acting::Remove | Acting::Soften { .. } => Ok(()),
        }
    }
}

/// What nginx may serve though nobody could look whether it is meant: then the purge has not done
/// what it was asked.
fn unread(cache: &Dir, seen: &Seen) -> Result<(), Failure> {
    let (Seen { links, failed, .. }, dir) = (seen, cache.path().display());
    let (code, what) = match (links, failed) {
        (0, 0) => return Ok(()),
        (0, _) => (Code::FileFailed, format!("{failed} files in {dir} cannot be read")),
        _ => (Code::PathIsSymlink, format!("{links} links in {dir} stand where entries may lie")),
    };
    let message = format!("{what}: whether nginx serves something that is meant cannot be told");
    Err(Failure::new(code, message).with_hint("A purge of the whole cache takes them away."))
}

struct Own<'a> {
    key: &'a [u8],
    url: usize,
    varies: bool,
}

/// What one thread of a scan has come to.
struct Part {
    walked: Walked,
    failure: Option<Failure>,
}

/// Notes an entry.
#[must_use]
pub fn pick(entry: &Entry, url: Option<usize>, own_place: bool) -> Picked {
    let name = entry.name().to_string_lossy().into_owned();
    let mut picked = Picked {
        key: Vec::new(),
        name,
        url,
        bytes: entry.bytes,
        own_place,
        vary: Vec::new(),
        variant: [0; 16],
    };
    if let Some(head) = entry.head() {
        picked.key = head.key.to_vec();
        picked.vary = head.vary.to_vec();
        picked.variant = head.variant;
    }
    picked
}

#[cfg(test)]
mod tests {
    use hostler_protocol::job::{KEY_FORMAT_DEFAULT, PurgeScope, Selection};

    use super::*;
    use crate::host::fastcgi::entry_name;
    use crate::host::fastcgi::tests::{cache, store};
    use crate::steps::keys::KeyFormat;
    use crate::steps::purge::Wanted;

    fn walk(cache: Dir, scope: &PurgeScope, acting: Acting) -> Walk {
        let wanted = Wanted::read("shop.test", scope).unwrap();
        let format = KeyFormat::parse(KEY_FORMAT_DEFAULT).unwrap();
        Walk {
            cache: Arc::new(cache),
            matcher: Arc::new(Matcher::new(&wanted, "shop.test", format)),
            varying: BTreeSet::new(),
            acting,
            cancel: CancellationToken::new(),
        }
    }

    fn pages(cache: &Dir, count: usize) -> Vec<std::path::PathBuf> {
        let page = |n| {
            let key = format!("httpGETshop.test/{n}");
            store(cache.path(), &entry_name(key.as_bytes()), &key, false)
        };
        (0..count).map(page).collect()
    }

    #[test]
    fn more_than_may_be_made_anew_is_refused_before_anything_changes() {
        let (_keep, cache) = cache();
        let files = pages(&cache, 3);
        let walk = walk(cache, &PurgeScope::All, Acting::Pick { picked_max: 2 });
        assert_eq!(walk.run().unwrap_err().code(), "SPEC_INVALID");
        assert!(files.iter().all(|file| file.exists()));
    }

    #[test]
    fn an_entry_two_lists_name_is_counted_once() {
        let (_keep, cache) = cache();
        pages(&cache, 2);
        let scope = PurgeScope::Select(Selection {
            urls: vec!["http://shop.test/0".to_owned(), "https://shop.test/0".to_owned()],
            prefixes: vec!["http://shop.test/".to_owned()],
            ..Selection::default()
        });
        let walked = walk(cache, &scope, Acting::Remove).run().unwrap();
        assert_eq!((walked.counts.total.removed, walked.counts.urls[0].removed), (2, 1));
        assert_eq!(walked.counts.urls[1].found, 0);
    }
}
