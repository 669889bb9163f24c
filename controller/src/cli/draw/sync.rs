//! What jobs about stacks have to say. The documents are read leniently, as all results are.

use comfy_table::{Cell, Color};
use serde::Deserialize;

use crate::cli::output::{Output, cell, clean, colored};

use super::refresh::short;

#[derive(Debug, Deserialize)]
pub(super) struct Sync {
    #[serde(default)]
    bundle: String,
    #[serde(default)]
    changed: bool,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    files: Vec<File>,
    #[serde(default)]
    files_more: u64,
    #[serde(default)]
    containers: Vec<Running>,
    #[serde(default)]
    compose: String,
}

#[derive(Debug, Deserialize)]
struct Service {
    service: String,
    action: String,
    #[serde(default)]
    reasons: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    action: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Running {
    name: String,
    image: String,
    state: String,
    health: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Down {
    #[serde(default)]
    containers: u64,
    #[serde(default)]
    volumes_kept: Vec<String>,
    #[serde(default)]
    volumes_removed: Vec<String>,
}

/// What a sync did.
pub(super) fn sync(out: &Output, sync: &Sync) -> String {
    let mut text = changes(out, sync, "WAS");
    if !sync.containers.is_empty() {
        let rows = sync.containers.iter().map(|one| {
            let health = one.health.as_deref().unwrap_or("-");
            vec![cell(&one.name), cell(&one.image), cell(&one.state), cell(health)]
        });
        text.push_str("\n\n");
        text.push_str(&out.table(&["CONTAINER", "IMAGE", "STATE", "HEALTH"], rows.collect()));
    }
    text.push_str(&clean(&format!("\n\nbundle {} by {}", short(&sync.bundle), sync.compose)));
    if !sync.changed {
        text.push_str("\nit ran just so already: nothing was done");
    }
    text
}

/// What a sync would do.
pub(super) fn plan(out: &Output, sync: &Sync) -> String {
    let mut text = changes(out, sync, "WOULD BE");
    text.push_str(if sync.changed {
        "\n\na plan: nothing was done"
    } else {
        "\n\nit runs just so already: a sync would do nothing"
    });
    text
}

fn changes(out: &Output, sync: &Sync, word: &str) -> String {
    let rows = sync.services.iter().map(|one| {
        let why = if one.reasons.is_empty() { "-".to_owned() } else { one.reasons.join("; ") };
        vec![cell(&one.service), action(&one.action), cell(why)]
    });
    let mut text = out.table(&["SERVICE", word, "WHY"], rows.collect());
    if !sync.files.is_empty() {
        let mut rows: Vec<_> =
            sync.files.iter().map(|one| vec![cell(&one.path), action(&one.action)]).collect();
        if sync.files_more > 0 {
            rows.push(vec![cell(format!("and {} more", sync.files_more)), cell("")]);
        }
        text.push_str("\n\n");
        text.push_str(&out.table(&["FILE", word], rows));
    }
    text
}

/// The cell of what becomes of a service or a file.
pub(super) fn action(word: &str) -> Cell {
    match word {
        "created" | "started" | "added" => colored(word, Color::Green),
        "recreated" | "restarted" | "changed" => colored(word, Color::Yellow),
        "removed" => colored(word, Color::Red),
        other => cell(other),
    }
}

/// What taking a stack down did.
pub(super) fn down(down: &Down) -> String {
    let mut text = format!("{} containers removed", down.containers);
    for (volumes, fate) in [(&down.volumes_kept, "kept"), (&down.volumes_removed, "removed")] {
        for volume in volumes {
            text.push_str(&format!("\nvolume {volume} {fate}"));
        }
    }
    clean(&text)
}
