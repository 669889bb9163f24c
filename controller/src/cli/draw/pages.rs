//! What warm-ups, figures and explanations of a page cache have to say.

use comfy_table::Color;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::output::{Output, cell, clean, colored};

use super::units::{age, size, yes_no};

/// URLs of a warm-up that are listed; the others are in its document.
const LISTED_URLS_MAX: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct Warm {
    #[serde(default)]
    warmed: u64,
    #[serde(default)]
    fresh: u64,
    #[serde(default)]
    not_stored: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    dropped: u64,
    dropped_because: Option<String>,
    #[serde(default)]
    concurrency: u32,
    #[serde(default)]
    urls: Vec<WarmedUrl>,
}

#[derive(Debug, Deserialize)]
struct WarmedUrl {
    url: String,
    state: String,
    status: Option<u16>,
    took_ms: Option<u64>,
    note: Option<String>,
}

pub(super) fn warm(out: &Output, warm: &Warm) -> String {
    let counts = [warm.warmed, warm.fresh, warm.not_stored, warm.failed, warm.dropped];
    let mut row: Vec<_> = counts.iter().map(|count| cell(count.to_string())).collect();
    row.push(cell(warm.concurrency.to_string()));
    let heading = ["WARMED", "FRESH", "NOT STORED", "FAILED", "DROPPED", "AT ONCE"];
    let mut text = out.table(&heading, vec![row]);
    if let Some(why) = &warm.dropped_because {
        text.push_str(&format!("\n\ndropped: {}", clean(why)));
    }
    // Of many only those that are not as they should be.
    let all = warm.urls.len() <= LISTED_URLS_MAX;
    let good = |url: &&WarmedUrl| !["warmed", "fresh"].contains(&url.state.as_str());
    let worth: Vec<_> = warm.urls.iter().filter(|url| all || good(url)).collect();
    if worth.is_empty() {
        return text;
    }
    let rows = worth.iter().take(LISTED_URLS_MAX).map(|url| {
        vec![
            cell(&url.url),
            warm_state(&url.state),
            cell(url.status.map_or("-".to_owned(), |status| status.to_string())),
            cell(url.took_ms.map_or("-".to_owned(), |ms| format!("{ms} ms"))),
            cell(url.note.as_deref().unwrap_or("-")),
        ]
    });
    text.push_str("\n\n");
    text.push_str(&out.table(&["URL", "STATE", "STATUS", "TOOK", "NOTE"], rows.collect()));
    if let Some(more) = worth.len().checked_sub(LISTED_URLS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("\n\nand {more} more: -o json has them all"));
    }
    text
}

fn warm_state(state: &str) -> comfy_table::Cell {
    let text = state.replace('_', " ");
    match state {
        "warmed" | "fresh" => colored(text, Color::Green),
        "failed" => colored(text, Color::Red),
        "not_stored" | "dropped" => colored(text, Color::Yellow),
        _ => cell(text),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    entries: u64,
    bytes: u64,
    fresh: u64,
    stale: u64,
    unreadable: u64,
    oldest_secs: Option<u64>,
    newest_secs: Option<u64>,
    whole: Option<bool>,
    soft_works: Option<bool>,
}

/// The figures of a document of an agent; empty if it is none.
pub(in crate::cli) fn facts(out: &Output, document: &Value) -> String {
    Figures::deserialize(document).map(|found| figures(out, &found)).unwrap_or_default()
}

pub(super) fn figures(out: &Output, found: &Figures) -> String {
    let since = |secs: Option<u64>| cell(secs.map_or("-".to_owned(), age));
    let mut heading = vec!["ENTRIES", "SIZE", "FRESH", "STALE", "OLDEST", "NEWEST"];
    let mut row = vec![
        cell(found.entries.to_string()),
        cell(size(found.bytes)),
        cell(found.fresh.to_string()),
        cell(found.stale.to_string()),
        since(found.oldest_secs),
        since(found.newest_secs),
    ];
    if found.unreadable > 0 {
        heading.push("UNREADABLE");
        row.push(colored(found.unreadable.to_string(), Color::Yellow));
    }
    let mut text = out.table(&heading, vec![row]);
    if found.whole == Some(false) {
        text.push_str("\n\nthe count was cut short: there is more");
    }
    if found.soft_works == Some(false) {
        text.push_str("\n\nsoft purges do not work with the nginx that runs: hard ones are made");
    }
    text
}

#[derive(Debug, Deserialize)]
pub(super) struct Explanation {
    url: String,
    #[serde(default)]
    status: String,
    http_status: Option<u16>,
    #[serde(default)]
    cacheable: bool,
    #[serde(default)]
    reasons: Vec<Reason>,
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    key: String,
    file: String,
    bytes: u64,
    age_secs: u64,
    fresh_secs: i64,
    vary: Vec<String>,
    tags: Vec<String>,
}

pub(super) fn explain(out: &Output, found: &Explanation) -> String {
    let answer = match found.http_status {
        Some(status) => format!("{} (HTTP {status})", found.status),
        None => found.status.clone(),
    };
    let mut text = out.pairs(vec![
        ("URL", cell(&found.url)),
        ("A visitor gets", cell(answer)),
        ("Would be stored", cell(yes_no(found.cacheable))),
    ]);
    if !found.reasons.is_empty() {
        let rows = found.reasons.iter().map(|one| vec![cell(&one.code), cell(&one.message)]);
        text.push_str("\n\n");
        text.push_str(&out.table(&["REASON", "MESSAGE"], rows.collect()));
    }
    for entry in &found.entries {
        text.push_str("\n\n");
        text.push_str(&stored(out, entry));
    }
    text
}

fn stored(out: &Output, entry: &Entry) -> String {
    let fresh = match u64::try_from(entry.fresh_secs) {
        Ok(secs) => format!("fresh for {}", age(secs)),
        Err(_) => format!("stale for {}", age(entry.fresh_secs.unsigned_abs())),
    };
    let mut pairs = vec![
        ("Entry", cell(&entry.file)),
        ("Key", cell(&entry.key)),
        ("Size", cell(size(entry.bytes))),
        ("Stored", cell(format!("{} ago, {fresh}", age(entry.age_secs)))),
    ];
    if !entry.vary.is_empty() {
        pairs.push(("Varies by", cell(entry.vary.join(", "))));
    }
    if !entry.tags.is_empty() {
        pairs.push(("Tags", cell(entry.tags.join(" "))));
    }
    out.pairs(pairs)
}
