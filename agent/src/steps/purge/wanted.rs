//! Which entries a purge is about: read from its scope before anything is changed, then asked of
//! every entry.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::job::{
    Code, FastcgiPurge, PURGE_PREFIXES_MAX, PURGE_TAGS_MAX, PURGE_URLS_MAX, PageUrl, PurgeScope,
    Selection, TAG_BYTES_MAX, UrlPurge,
};

use crate::host::fastcgi::{Sighted, tags};
use crate::steps::keys::KeyFormat;
use crate::steps::page_url::{path, quoted, spellings};
use crate::steps::render::PROBE_KEY;
use crate::steps::run::Failure;

/// What a scope names, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Everything.
    pub all: bool,
    /// As they were named.
    pub urls: Vec<String>,
    /// The same, read.
    pub pages: Vec<PageUrl>,
    query_variants: bool,
    /// How URIs begin, in every spelling.
    prefixes: Vec<String>,
    tags: BTreeSet<Vec<u8>>,
}

impl Wanted {
    /// Reads a scope.
    ///
    /// # Errors
    /// `SPEC_INVALID`, `URL_FOREIGN`.
    pub fn read(domain: &str, scope: &PurgeScope) -> Result<Self, Failure> {
        match scope {
            PurgeScope::All => Ok(Self { all: true, ..Self::default() }),
            PurgeScope::Urls { urls } => {
                let pages = pages(domain, urls, PURGE_URLS_MAX)?;
                Ok(Self { urls: urls.clone(), pages, ..Self::default() })
            }
            PurgeScope::Select(selection) => Self::select(domain, selection),
        }
    }

    fn select(domain: &str, selection: &Selection) -> Result<Self, Failure> {
        let Selection { urls, query_variants, prefixes, tags } = selection;
        if urls.is_empty() && prefixes.is_empty() && tags.is_empty() {
            return Err(invalid("a purge that selects names URLs, prefixes or tags"));
        }
        let pages_of = pages(domain, urls, PURGE_URLS_MAX)?;
        let beginnings = pages(domain, prefixes, PURGE_PREFIXES_MAX)?;
        let prefixes = beginnings.iter().flat_map(spellings).collect();
        if tags.len() > PURGE_TAGS_MAX {
            let message =
                format!("{} tags in one purge; the limit is {PURGE_TAGS_MAX}", tags.len());
            return Err(invalid(message));
        }
        for tag in tags {
            let visible = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic());
            if !visible || tag.len() > TAG_BYTES_MAX {
                let message = format!(
                    "`{}` is no tag: one to {TAG_BYTES_MAX} visible ASCII characters, no space",
                    quoted(tag)
                );
                return Err(invalid(message));
            }
        }
        let tags = tags.iter().map(|tag| tag.clone().into_bytes()).collect();
        let (urls, query_variants) = (urls.clone(), *query_variants && !urls.is_empty());
        Ok(Self { all: false, urls, pages: pages_of, query_variants, prefixes, tags })
    }

    /// The purge of a cache that holds nothing.
    #[must_use]
    pub fn nothing(&self) -> FastcgiPurge {
        let untouched = |url: &String| UrlPurge { url: url.clone(), ..UrlPurge::default() };
        FastcgiPurge { urls: self.urls.iter().map(untouched).collect(), ..FastcgiPurge::default() }
    }

    /// Whether only a scan finds what is named.
    #[must_use]
    pub fn scans(&self) -> bool {
        self.all || self.query_variants || !self.prefixes.is_empty() || !self.tags.is_empty()
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Code::SpecInvalid, message)
}

/// Reads URLs of a domain.
///
/// # Errors
/// `SPEC_INVALID`, `URL_FOREIGN`.
pub fn pages(domain: &str, urls: &[String], urls_max: usize) -> Result<Vec<PageUrl>, Failure> {
    if urls.len() > urls_max {
        return Err(invalid(format!("{} URLs in one job; the limit is {urls_max}", urls.len())));
    }
    urls.iter()
        .map(|url| {
            let page = PageUrl::parse(url).ok_or_else(|| {
                invalid(format!("`{}` is no absolute http or https URL", quoted(url)))
            })?;
            if page.host == domain {
                return Ok(page);
            }
            let message = format!("`{}` is not a page of {domain}", quoted(url));
            Err(Failure::new(Code::UrlForeign, message))
        })
        .collect()
}

/// Tells the entries of a purge from all others.
#[derive(Debug)]
pub struct Matcher {
    domain: String,
    format: KeyFormat,
    all: bool,
    /// Keys of the pages named, with the place of their URL.
    pub keys: BTreeMap<Vec<u8>, usize>,
    /// Paths whose every query is meant, with the place of their URL.
    paths: BTreeMap<String, usize>,
    prefixes: Vec<String>,
    tags: BTreeSet<Vec<u8>>,
    scans: bool,
    urls: usize,
}

/// Why an entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The place of the URL it belongs to.
    pub url: Option<usize>,
    /// Whether its key is one of those computed from URLs.
    pub by_key: bool,
}

impl Matcher {
    /// For the entries of an environment with that domain and key format.
    #[must_use]
    pub fn new(wanted: &Wanted, domain: &str, format: KeyFormat) -> Self {
        let (mut keys, mut paths) = (BTreeMap::new(), BTreeMap::new());
        for (place, page) in wanted.pages.iter().enumerate() {
            for key in format.keys(page) {
                keys.entry(key).or_insert(place);
            }
            for uri in spellings(page).iter().filter(|_| wanted.query_variants) {
                paths.entry(path(uri).to_owned()).or_insert(place);
            }
        }
        Self {
            domain: domain.to_owned(),
            format,
            all: wanted.all,
            keys,
            paths,
            prefixes: wanted.prefixes.clone(),
            tags: wanted.tags.clone(),
            scans: wanted.scans(),
            urls: wanted.urls.len(),
        }
    }

    /// Whether only a scan finds what is meant.
    #[must_use]
    pub fn scans(&self) -> bool {
        self.scans
    }

    /// How many URLs were named.
    #[must_use]
    pub fn urls(&self) -> usize {
        self.urls
    }

    /// How the keys are made.
    #[must_use]
    pub fn format(&self) -> &KeyFormat {
        &self.format
    }

    /// Whether an entry is meant, and why. Probes' own entries never are.
    #[must_use]
    pub fn hit(&self, entry: &Sighted<'_>) -> Option<Hit> {
        let key = entry.head.key;
        if key.starts_with(PROBE_KEY.as_bytes()) {
            return None;
        }
        if let Some(place) = self.keys.get(key) {
            return Some(Hit { url: Some(*place), by_key: true });
        }
        if self.all {
            return Some(Hit { url: None, by_key: false });
        }
        if !self.paths.is_empty() || !self.prefixes.is_empty() {
            let read = self.format.read(key, &self.domain);
            let url = read.and_then(|read| self.paths.get(path(read.uri)).copied());
            let begins = |uri: &str| self.prefixes.iter().any(|prefix| uri.starts_with(prefix));
            if url.is_some() || read.is_some_and(|read| begins(read.uri)) {
                return Some(Hit { url, by_key: false });
            }
        }
        let tagged = !self.tags.is_empty()
            && tags(&entry.response_headers()).any(|tag| self.tags.contains(tag));
        tagged.then_some(Hit { url: None, by_key: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(selection: Selection) -> Result<Wanted, Failure> {
        Wanted::read("shop.test", &PurgeScope::Select(selection))
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn one_purge_names_no_more_urls_than_the_limit() {
        let mut urls = vec!["http://shop.test/".to_owned(); PURGE_URLS_MAX];
        let read =
            |urls: &[String]| Wanted::read("shop.test", &PurgeScope::Urls { urls: urls.to_vec() });
        assert_eq!(read(&urls).unwrap().pages.len(), PURGE_URLS_MAX);
        urls.push("http://shop.test/".to_owned());
        assert_eq!(read(&urls).unwrap_err().code(), "SPEC_INVALID");
    }

    #[test]
    fn what_names_nothing_or_no_tag_is_refused() {
        let code = |selection| select(selection).unwrap_err().code().to_owned();
        assert_eq!(code(Selection::default()), "SPEC_INVALID");
        let long = "x".repeat(TAG_BYTES_MAX + 1);
        for tag in ["", "a b", "a\n", "ü", &long] {
            let tags = texts(&[tag]);
            assert_eq!(code(Selection { tags, ..Selection::default() }), "SPEC_INVALID", "{tag}");
        }
        let tags = vec!["a".to_owned(); PURGE_TAGS_MAX + 1];
        assert_eq!(code(Selection { tags, ..Selection::default() }), "SPEC_INVALID");
        for (prefix, expected) in [
            ("http:///x", "SPEC_INVALID"),
            ("http://", "SPEC_INVALID"),
            ("/x", "SPEC_INVALID"),
            ("http://shop.test.evil/", "URL_FOREIGN"),
            ("http://shop.tes", "URL_FOREIGN"),
        ] {
            let prefixes = texts(&[prefix]);
            assert_eq!(code(Selection { prefixes, ..Selection::default() }), expected, "{prefix}");
        }
    }

    #[test]
    fn urls_alone_need_no_scan() {
        let urls = texts(&["http://shop.test/a"]);
        let exact = Selection { urls, ..Selection::default() };
        assert!(!select(exact.clone()).unwrap().scans());
        assert!(select(Selection { query_variants: true, ..exact }).unwrap().scans());
    }
}
