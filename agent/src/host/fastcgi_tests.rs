//! The cache on disk, without nginx.

use std::path::{Path, PathBuf};

use super::*;
use crate::host::fs::Roots;

/// Writes an entry as nginx lays it out.
fn store(cache: &Path, name: &str, key: &str, varies: bool) -> PathBuf {
    let (first, second) = level_names(name);
    let dir = cache.join(first).join(second);
    std::fs::create_dir_all(&dir).unwrap();
    let mut bytes = vec![0; KEY_AT as usize];
    bytes[..8].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[VARY_LENGTH_AT as usize] = u8::from(varies);
    bytes.extend_from_slice(KEY_MARK);
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(b"\nbody");
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn cache() -> (tempfile::TempDir, Dir) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("cache")).unwrap();
    let dir = Roots::new(std::slice::from_ref(&root)).dir(&root.join("cache")).unwrap();
    (directory, dir)
}

#[test]
fn an_entry_lies_where_nginx_puts_it() {
    let name = entry_name(b"httpGETexample.test/");
    assert_eq!(name.len(), 32);
    assert_eq!(level_names("0123456789abcdef0123456789abcdef"), ("f", "de"));
}

#[test]
fn exactly_the_asked_key_goes() {
    let (_keep, cache) = cache();
    let one = store(cache.path(), &entry_name(b"one"), "one", false);
    let two = store(cache.path(), &entry_name(b"two"), "two", false);
    let tally = find(&cache, b"one").unwrap().unwrap().remove().unwrap();
    assert_eq!((tally.found, tally.removed), (1, 1));
    assert!(!one.exists() && two.exists());
    assert!(find(&cache, b"one").unwrap().is_none());
}

#[test]
fn a_reader_that_holds_the_file_sees_it_voided() {
    let (_keep, cache) = cache();
    let path = store(cache.path(), &entry_name(b"one"), "one", false);
    let held = std::fs::File::open(path).unwrap();
    find(&cache, b"one").unwrap().unwrap().remove().unwrap();
    let mut version = [9; 8];
    std::os::unix::fs::FileExt::read_at(&held, &mut version, 0).unwrap();
    assert_eq!(version, [0; 8]);
}

#[test]
fn a_sweep_that_is_cut_short_leaves_what_tells_of_variants() {
    let (_keep, cache) = cache();
    let keys: BTreeSet<Vec<u8>> = (0..40).map(|n| format!("key{n}").into_bytes()).collect();
    let mut first = Vec::new();
    for key in &keys {
        let text = String::from_utf8(key.clone()).unwrap();
        first.push(store(cache.path(), &entry_name(key), &text, true));
        store(cache.path(), &entry_name(&[key, b"variant".as_slice()].concat()), &text, true);
    }
    let token = CancellationToken::new();
    let whole = sweep_variants(&cache, &keys, false, 40, &token, |_, _| {}).unwrap();
    assert!(!whole, "a search that was cut short says it was whole");
    assert!(first.iter().all(|path| path.exists()), "a first entry went before its variants");
    let mut removed = 0;
    let sweep =
        sweep_variants(&cache, &keys, false, 1000, &token, |_, tally| removed += tally.removed);
    assert!(sweep.unwrap() && first.iter().all(|path| !path.exists()));
    assert!(removed >= 40, "{removed} entries went in the second sweep");
}

#[test]
fn a_tree_without_end_is_left_and_keeps_no_other_bin_from_going() {
    let (keep, _cache) = cache();
    let root = keep.path().canonicalize().unwrap();
    let parent = Roots::new(std::slice::from_ref(&root)).dir(&root).unwrap();
    let trash = root.join(TRASH);
    std::fs::create_dir_all(trash.join("deep").join("d/".repeat(100))).unwrap();
    for n in 0..8 {
        std::fs::create_dir_all(trash.join(format!("bin{n}/a/bc"))).unwrap();
        std::fs::write(trash.join(format!("bin{n}/a/bc/entry")), "x").unwrap();
    }
    let error = empty_trash(&parent).unwrap_err();
    assert!(matches!(error, FsError::Io { .. }), "{error}");
    let left: Vec<_> = std::fs::read_dir(&trash).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn variants_are_found_by_their_key_line() {
    let (_keep, cache) = cache();
    store(cache.path(), &entry_name(b"one"), "one", true);
    store(cache.path(), &"ab".repeat(16), "one", true);
    let other = store(cache.path(), &entry_name(b"two"), "two", true);
    assert!(find(&cache, b"one").unwrap().unwrap().varies);
    let mut removed = 0;
    let keys = BTreeSet::from([b"one".to_vec()]);
    let token = CancellationToken::new();
    let add = |_: &[u8], tally: Tally| removed += tally.removed;
    sweep_variants(&cache, &keys, false, 100, &token, add).unwrap();
    assert_eq!(removed, 2);
    assert!(other.exists(), "another key's variant was removed");
}

#[test]
fn a_count_stops_at_its_limit() {
    let (_keep, cache) = cache();
    for key in ["a", "b", "c"] {
        store(cache.path(), &entry_name(key.as_bytes()), key, false);
    }
    let token = CancellationToken::new();
    let (tally, whole) = count(&cache, 10, &token).unwrap();
    assert_eq!((tally.found, tally.removed, whole), (3, 0, true));
    let (tally, whole) = count(&cache, 2, &token).unwrap();
    assert_eq!((tally.found, whole), (2, false));
}

#[test]
fn setting_aside_takes_level_directories_only() {
    let (keep, cache) = cache();
    store(cache.path(), &entry_name(b"a"), "a", false);
    std::fs::create_dir(cache.path().join("other")).unwrap();
    let root = keep.path().canonicalize().unwrap();
    let parent = Roots::new(std::slice::from_ref(&root)).dir(&root).unwrap();
    let trash = parent.make_child(OsStr::new(TRASH)).unwrap();
    assert_eq!(set_aside(&cache, &trash).unwrap(), 1);
    assert!(cache.path().join("other").exists());
    assert_eq!(delete_tree(&parent, OsStr::new(TRASH)).unwrap(), 1);
    assert!(!root.join(TRASH).exists());
}
