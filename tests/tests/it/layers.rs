//! The house rules a machine can hold: rooms import only lower ranks, each heavy crate has one
//! door, pure rooms stay pure, files stay small.

use std::fs;
use std::path::{Path, PathBuf};

/// Room and rank; a room imports only rooms of a lower rank.
const CONTROLLER: &[(&str, u8)] = &[
    ("clock", 0),
    ("domain", 1),
    ("views", 1),
    ("telemetry", 1),
    ("store", 2),
    ("git", 2),
    ("bundles", 2),
    ("pki", 2),
    ("events", 3),
    ("templates", 3),
    ("app", 4),
    ("api", 5),
    ("ui", 5),
    ("fleet", 5),
    ("tasks", 6),
    ("config", 7),
    ("command", 8),
];

const AGENT: &[(&str, u8)] = &[
    ("clock", 0),
    ("policy", 0),
    ("host", 1),
    ("net", 1),
    ("steps", 2),
    ("journal", 2),
    ("actions", 3),
    ("runner", 4),
    ("observe", 4),
    ("bulk", 4),
    ("identity", 5),
    ("session", 6),
    ("config", 7),
    ("cli", 8),
];

/// A crate, and the only rooms (or files) that may name it.
const DOORS: &[(&str, &str, &[&str])] = &[
    ("controller/src", "sqlx", &["store"]),
    ("controller/src", "axum", &["api", "ui"]),
    ("controller/src", "quinn", &["fleet"]),
    ("controller/src", "rcgen", &["pki"]),
    ("controller/src", "x509_parser", &["pki"]),
    ("controller/src", "gix", &["git"]),
    ("controller/src", "reqwest", &["cli", "bin", "git", "bundles"]),
    ("controller/src", "object_store", &["bundles"]),
    ("controller/src", "getrandom", &["clock"]),
    ("agent/src", "quinn", &["net", "session", "identity", "bulk"]),
    ("agent/src", "redb", &["journal"]),
    ("agent/src", "redis", &["host"]),
    ("agent/src", "hyper", &["host"]),
    ("agent/src", "x25519_dalek", &["host"]),
    ("agent/src", "bech32", &["host"]),
    ("agent/src", "getrandom", &["clock"]),
    ("protocol/src", "bincode", &["codec"]),
];

/// Rooms that know no IO: none of these words may stand in them.
const PURE: &[&str] = &["protocol/src", "controller/src/domain"];
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::env",
    "SystemTime",
    "Instant",
    "async fn",
    "crate::clock",
    "getrandom",
];

const FILE_LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(below) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The first part of a file's path below `src`, without its ending: its room.
fn room(source: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(source).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its comment lines.
fn code(file: &Path) -> String {
    fs::read_to_string(file)
        .unwrap()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every `crate::room` a text names, also within `use crate::{a, b::c}`.
fn rooms_named(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let preceded = text[..at].chars().next_back();
        if preceded.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            named.extend(group_heads(group));
        } else {
            named.push(head(rest));
        }
    }
    named
}

fn head(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names of each item of an import group, whose opening brace has been read.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (1, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => start = true,
            c if start && depth == 1 && !c.is_whitespace() => {
                heads.push(head(&group[at..]));
                start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn check_ranks(source: &str, ranks: &[(&str, u8)]) -> Vec<String> {
    let source = root().join(source);
    let rank = |room: &str| ranks.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank);
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let own = room(&source, &file);
        if ["lib", "main", "bin", "cli"].contains(&own.as_str()) && rank(&own).is_none() {
            continue;
        }
        let Some(own_rank) = rank(&own) else {
            wrong.push(format!("{}: room `{own}` has no rank in layers.rs", file.display()));
            continue;
        };
        for other in rooms_named(&code(&file)) {
            let Some(other_rank) = rank(&other) else { continue };
            if other != own && other_rank >= own_rank {
                wrong.push(format!(
                    "{}: `{own}` (rank {own_rank}) imports `{other}` (rank {other_rank})",
                    file.display()
                ));
            }
        }
    }
    wrong
}

fn expect_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "docs/ARCHITECTURE.md forbids:\n{}", wrong.join("\n"));
}

#[test]
fn rooms_import_only_lower_ranks() {
    let mut wrong = check_ranks("controller/src", CONTROLLER);
    wrong.extend(check_ranks("agent/src", AGENT));
    expect_none(&wrong);
}

#[test]
fn the_operator_cli_knows_only_views() {
    let mut wrong = Vec::new();
    for place in ["controller/src/cli", "controller/src/bin"] {
        for file in rust_files(&root().join(place)) {
            for text in [code(&file), code(&file).replace("hostler_controller::", "crate::")] {
                for other in rooms_named(&text) {
                    if CONTROLLER.iter().any(|(name, _)| *name == other) && other != "views" {
                        wrong.push(format!("{}: names `{other}`", file.display()));
                    }
                }
            }
        }
    }
    expect_none(&wrong);
}

#[test]
fn each_heavy_crate_has_one_door() {
    let mut wrong = Vec::new();
    for (source, name, doors) in DOORS {
        let source = root().join(source);
        for file in rust_files(&source) {
            if doors.contains(&room(&source, &file).as_str()) {
                continue;
            }
            let text = code(&file);
            let path = format!("{name}::");
            let named = text.match_indices(&path).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if named {
                wrong.push(format!("{}: only {doors:?} may name {name}", file.display()));
            }
        }
    }
    expect_none(&wrong);
}

#[test]
fn only_one_file_of_the_agent_starts_processes() {
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("agent/src")) {
        if !file.ends_with("host/process.rs") && code(&file).contains("Command::new") {
            wrong.push(format!("{}: starts a process", file.display()));
        }
    }
    expect_none(&wrong);
}

#[test]
fn pure_rooms_know_no_io_and_no_clock() {
    let mut wrong = Vec::new();
    for place in PURE {
        for file in rust_files(&root().join(place)) {
            let text = code(&file);
            for word in IMPURE.iter().filter(|word| text.contains(**word)) {
                wrong.push(format!("{}: `{word}` in a pure room", file.display()));
            }
        }
    }
    for place in ["controller/src", "agent/src"] {
        for file in rust_files(&root().join(place)) {
            if file.file_name().is_some_and(|name| name == "core.rs") {
                let text = code(&file);
                for word in IMPURE.iter().filter(|word| text.contains(**word)) {
                    wrong.push(format!("{}: `{word}` in a sans-IO core", file.display()));
                }
            }
        }
    }
    expect_none(&wrong);
}

#[test]
fn files_stay_small() {
    let mut wrong = Vec::new();
    for place in ["protocol", "controller", "agent", "tests"] {
        for file in rust_files(&root().join(place)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > FILE_LINES_MAX {
                wrong
                    .push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", file.display()));
            }
        }
    }
    expect_none(&wrong);
}

/// The fields called `message` that log lines give themselves.
fn fields_called_message(text: &str) -> usize {
    let levels = ["error", "warn", "info", "debug"];
    let calls = levels.iter().flat_map(|level| {
        let call = format!("tracing::{level}!(");
        let after: Vec<&str> = text.split(call.as_str()).skip(1).collect();
        after
    });
    // The fields come before the text.
    let fields = calls.map(|after| after.split('"').next().unwrap_or_default());
    let named = |field: &&str| {
        let name = field.split('=').next().unwrap_or_default();
        name.trim().trim_start_matches(['%', '?']) == "message"
    };
    fields.flat_map(|fields| fields.split(',').filter(named).collect::<Vec<_>>()).count()
}

/// The text of a log line is its `message`: with a field of that name a line in JSON has the key
/// twice, and a reader finds one of them.
#[test]
fn no_log_line_has_two_messages() {
    assert_eq!(fields_called_message(r#"tracing::warn!(code, message, "no");"#), 1);
    assert_eq!(fields_called_message(r#"tracing::warn!(reason = message, "a message, no");"#), 0);
    let mut wrong = Vec::new();
    for place in ["controller/src", "agent/src"] {
        for file in rust_files(&root().join(place)) {
            if fields_called_message(&fs::read_to_string(&file).unwrap()) > 0 {
                wrong.push(format!("{}: a log line with a field `message`", file.display()));
            }
        }
    }
    expect_none(&wrong);
}

#[test]
fn the_rules_see_what_they_forbid() {
    let text = "use crate::{app::App, store};\nuse crate::api::router;\nlet x = mycrate::y;";
    assert_eq!(rooms_named(text), ["app", "store", "api"]);
}
