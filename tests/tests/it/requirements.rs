//! The table of requirements names tests that are there, and leaves no requirement out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The name of every function there is.
fn functions() -> BTreeSet<String> {
    let mut files = Vec::new();
    for part in ["protocol", "controller", "agent", "tests"] {
        sources(&Path::new(ROOT).join(part), &mut files);
    }
    let named = |text: String| {
        let parts: Vec<String> = text
            .split("fn ")
            .skip(1)
            .filter_map(|rest| rest.split(['(', '<']).next().map(str::to_owned))
            .collect();
        parts
    };
    files.iter().flat_map(|file| named(std::fs::read_to_string(file).unwrap())).collect()
}

fn ids() -> Vec<String> {
    let numbered = |prefix: &str, to: u32, width: usize| {
        (1..=to).map(|n| format!("{prefix}{n:0width$}")).collect::<Vec<_>>()
    };
    let stories = ["US1.1", "US1.2", "US2.1", "US2.2", "US3.1", "US3.2"].map(str::to_owned);
    [
        numbered("FR-", 16, 3),
        numbered("SC-", 4, 3),
        numbered("EDGE-", 4, 1),
        numbered("D", 8, 1),
        stories.to_vec(),
    ]
    .concat()
}

#[test]
fn every_requirement_has_tests_that_are_there() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/REQUIREMENTS.md")).unwrap();
    for id in ids() {
        let row = text.lines().find(|line| line.starts_with(&format!("| {id} |")));
        let row = row.unwrap_or_else(|| panic!("docs/REQUIREMENTS.md has no row for {id}"));
        assert!(row.contains('`'), "{id} names no test");
    }
    let known = functions();
    let is_name = |word: &&str| {
        word.len() > 20
            && word.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b))
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 60, "the table names tests: {}", named.len());
    for name in named {
        assert!(known.contains(name), "docs/REQUIREMENTS.md names `{name}`, which is no test");
    }
}
