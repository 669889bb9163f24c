//! An environment's caches.

use comfy_table::{Cell, Color};
use hostler_controller::views::{CacheFlag, CacheState};

use crate::cli::output::{Output, cell, colored};

use super::units::{on_off, when_if};

pub(in crate::cli) fn caches(out: &Output, caches: &CacheState) -> String {
    let rows = vec![row("fastcgi", caches.fastcgi.as_ref()), row("redis", caches.redis.as_ref())];
    let mut text = out.table(&["CACHE", "SHOULD BE", "IS", "SINCE", "IN SYNC"], rows);
    for (name, flag) in [("fastcgi", &caches.fastcgi), ("redis", &caches.redis)] {
        if let Some(error) = flag.as_ref().and_then(|flag| flag.last_error.as_ref()) {
            text.push_str("\n\n");
            text.push_str(&super::job::error(&format!("{name}: "), error));
        }
    }
    text
}

fn row(name: &str, flag: Option<&CacheFlag>) -> Vec<Cell> {
    let Some(flag) = flag else {
        return vec![cell(name), cell("none"), cell("-"), cell("-"), cell("-")];
    };
    let sync = if flag.applied == Some(flag.desired) {
        colored("yes", Color::Green)
    } else {
        colored("no", Color::Yellow)
    };
    vec![
        cell(name),
        cell(on_off(flag.desired)),
        cell(summary(flag)),
        cell(when_if(flag.applied_at)),
        sync,
    ]
}

/// What a cache is known to be.
pub(super) fn summary(flag: &CacheFlag) -> &'static str {
    flag.applied.map_or("unknown", on_off)
}
