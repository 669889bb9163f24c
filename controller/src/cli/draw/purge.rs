//! What a purge has to say.

use comfy_table::Cell;
use serde::Deserialize;

use crate::cli::output::{Output, cell, clean};

use super::units::size;

#[derive(Debug, Deserialize)]
pub(super) struct Purge {
    #[serde(default)]
    dry_run: bool,
    fastcgi: Option<Pages>,
    redis: Option<Counts>,
}

/// What every row counts.
#[derive(Debug, Default, Deserialize)]
struct Counts {
    #[serde(default)]
    found: u64,
    #[serde(default)]
    removed: u64,
    #[serde(default)]
    softened: u64,
    #[serde(default)]
    refreshed: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Pages {
    #[serde(flatten)]
    counts: Counts,
    /// False when counting was cut short: then the numbers are lower bounds.
    counted: Option<bool>,
    mode_note: Option<String>,
    #[serde(default)]
    watched_secs: u32,
    #[serde(default)]
    urls: Vec<Page>,
}

#[derive(Debug, Deserialize)]
struct Page {
    url: String,
    #[serde(flatten)]
    counts: Counts,
    before: Option<String>,
    after: Option<String>,
}

/// The columns that are shown only where they say something.
struct Columns {
    softened: bool,
    refreshed: bool,
    failed: bool,
}

impl Columns {
    fn of<'c>(rows: impl Iterator<Item = &'c Counts> + Clone) -> Self {
        Self {
            softened: rows.clone().any(|row| row.softened > 0),
            refreshed: rows.clone().any(|row| row.refreshed > 0),
            failed: rows.clone().any(|row| row.failed > 0),
        }
    }

    fn heading(&self, first: &'static str) -> Vec<&'static str> {
        let rare =
            [("SOFTENED", self.softened), ("REFRESHED", self.refreshed), ("FAILED", self.failed)];
        let rare = rare.into_iter().filter(|(_, shown)| *shown).map(|(name, _)| name);
        [first, "FOUND", "REMOVED"].into_iter().chain(rare).chain(["SIZE"]).collect()
    }

    fn row(&self, first: &str, counts: &Counts, least: &str) -> Vec<Cell> {
        let rare = [
            (counts.softened, self.softened),
            (counts.refreshed, self.refreshed),
            (counts.failed, self.failed),
        ];
        let rare = rare.into_iter().filter(|(_, shown)| *shown).map(|(count, _)| count);
        let numbers = [counts.found, counts.removed].into_iter().chain(rare);
        let mut row = vec![cell(first)];
        row.extend(numbers.map(|count| cell(format!("{least}{count}"))));
        row.push(cell(format!("{least}{}", size(counts.bytes))));
        row
    }
}

pub(super) fn purge(out: &Output, purge: &Purge) -> String {
    let pages = purge.fastcgi.as_ref();
    let least = if pages.and_then(|pages| pages.counted) == Some(false) { "at least " } else { "" };
    let caches: Vec<_> = [
        pages.map(|pages| ("fastcgi", &pages.counts, least)),
        purge.redis.as_ref().map(|counts| ("redis", counts, "")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let columns = Columns::of(caches.iter().map(|(_, counts, _)| *counts));
    let rows = caches.iter().map(|(name, counts, least)| columns.row(name, counts, least));
    let mut text = out.table(&columns.heading("CACHE"), rows.collect());
    if let Some(pages) = pages {
        text.push_str(&by_url(out, &pages.urls));
        if let Some(note) = &pages.mode_note {
            text.push_str(&format!("\n\n{}", clean(note)));
        }
        if pages.watched_secs > 0 && !purge.dry_run {
            let secs = pages.watched_secs;
            text.push_str(&format!(
                "\n\npages that were being made meanwhile are purged again for {secs} s"
            ));
        }
    }
    if purge.dry_run {
        text.push_str("\n\ndry run: nothing was removed");
    }
    text
}

fn by_url(out: &Output, urls: &[Page]) -> String {
    if urls.is_empty() {
        return String::new();
    }
    let columns = Columns::of(urls.iter().map(|page| &page.counts));
    let mut heading = columns.heading("URL");
    heading.push("BEFORE -> AFTER");
    let rows = urls.iter().map(|page| {
        let mut row = columns.row(&page.url, &page.counts, "");
        row.push(cell(turn(page)));
        row
    });
    format!("\n\n{}", out.table(&heading, rows.collect()))
}

/// Cache status of a visitor's request before and after.
fn turn(page: &Page) -> String {
    match (&page.before, &page.after) {
        (None, None) => "-".to_owned(),
        (Some(before), None) => before.clone(),
        (before, Some(after)) => {
            format!("{} -> {after}", before.as_deref().unwrap_or("?"))
        }
    }
}
