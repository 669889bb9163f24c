//! The cache on disk, without nginx.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::host::fs::{Dir, FsError, Roots};

/// An entry as nginx lays it out, fresh until `valid_sec`.
fn laid_out(key: &str, vary: &str, valid_sec: i64, headers: &str) -> Vec<u8> {
    let mut bytes = vec![0; 336];
    bytes[..8].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[8..16].copy_from_slice(&valid_sec.to_le_bytes());
    bytes[40..48].copy_from_slice(&1000_i64.to_le_bytes());
    bytes[48..52].copy_from_slice(&crc32fast::hash(key.as_bytes()).to_le_bytes());
    let start = u16::try_from(336 + 6 + key.len() + 1).unwrap();
    let body = start + 8 + u16::try_from(headers.len()).unwrap();
    bytes[54..56].copy_from_slice(&start.to_le_bytes());
    bytes[56..58].copy_from_slice(&body.to_le_bytes());
    bytes[187] = u8::try_from(vary.len()).unwrap();
    bytes[188..188 + vary.len()].copy_from_slice(vary.as_bytes());
    bytes.extend_from_slice(b"\nKEY: ");
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(b'\n');
    let length = u16::try_from(headers.len() + 4).unwrap().to_be_bytes();
    bytes.extend_from_slice(&[1, 6, 0, 1, length[0], length[1], 0, 0]);
    bytes.extend_from_slice(headers.as_bytes());
    bytes.extend_from_slice(b"body");
    bytes
}

fn put(cache: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (first, second) = level_names(name);
    let dir = cache.join(first).join(second);
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn store(cache: &Path, name: &str, key: &str, varies: bool) -> PathBuf {
    put(cache, name, &laid_out(key, if varies { "Cookie" } else { "" }, 2000, "A: b\r\n\r\n"))
}

/// Keys a scan visits, and what else it saw.
fn scanned(cache: &Dir, threads: usize, entries_max: u64) -> (Vec<String>, Seen) {
    let cancel = CancellationToken::new();
    let scan_of = Scan { cache, entries_max, since_sec: None, cancel: &cancel };
    let (seen, keys) = scan(&scan_of, vec![Vec::new(); threads], |keys, entry| {
        keys.push(String::from_utf8_lossy(entry.head.key).into_owned());
        Ok(())
    })
    .unwrap();
    let mut keys = keys.concat();
    keys.sort();
    (keys, seen)
}

pub(crate) fn cache() -> (tempfile::TempDir, Dir) {
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
fn a_scan_sees_every_entry_and_tells_what_is_none() {
    let (_keep, cache) = cache();
    for n in 0..300 {
        let key = format!("key{n:03}");
        store(cache.path(), &entry_name(key.as_bytes()), &key, false);
    }
    let long = format!("long{}", "x".repeat(60_000));
    store(cache.path(), &entry_name(long.as_bytes()), &long, false);
    store(cache.path(), &"ab".repeat(16), "key000", true);
    let wrong = laid_out("key", "", 1, "");
    for (name, bytes) in [
        ("00".repeat(16), b"rubbish".to_vec()),
        ("01".repeat(16), [&wrong[..48], &[9; 4], &wrong[52..]].concat()),
        ("02".repeat(16), [&6_u64.to_le_bytes(), &wrong[8..]].concat()),
        ("03".repeat(16), [&0_u64.to_le_bytes(), &wrong[8..]].concat()),
        (format!("{}.0000000017", "04".repeat(16)), b"half".to_vec()),
        ("05".repeat(16) + "x", wrong.clone()),
    ] {
        let dir = cache.path().join("0/00");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    for threads in [1, 2, 4] {
        let (keys, seen) = scanned(&cache, threads, 1_000_000);
        assert_eq!(keys.len(), 302, "{threads} threads");
        assert_eq!((keys[0].as_str(), keys[1].as_str()), ("key000", "key000"));
        assert_eq!(keys[301], long);
        assert_eq!((seen.entries, seen.foreign, seen.whole), (302, 1, true));
        assert_eq!(seen.unreadable, 3, "{seen:?}");
    }
    let (keys, seen) = scanned(&cache, 2, 100);
    assert!(keys.len() <= 100 && !seen.whole, "{seen:?}");
}

#[test]
fn links_are_not_followed_by_a_scan() {
    let (keep, cache) = cache();
    let entry = store(cache.path(), &entry_name(b"one"), "one", false);
    let elsewhere = keep.path().join("elsewhere");
    std::fs::copy(&entry, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, entry.with_file_name("cd".repeat(16))).unwrap();
    let link = cache.path().join("0");
    std::os::unix::fs::symlink(entry.parent().unwrap(), link).unwrap();
    let (keys, seen) = scanned(&cache, 2, 100);
    assert_eq!((keys.len(), seen.unreadable, seen.links), (1, 1, 2));
}

#[test]
fn clearing_takes_links_away_and_leaves_what_they_lead_to() {
    for aside in [true, false] {
        let (keep, cache) = cache();
        let root = keep.path().canonicalize().unwrap();
        let entry = store(cache.path(), &entry_name(b"one"), "one", false);
        let elsewhere = root.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let kept = elsewhere.join("ab".repeat(16));
        std::fs::copy(&entry, &kept).unwrap();
        let second = entry.parent().unwrap();
        for (target, link) in [
            (&kept, entry.with_file_name("cd".repeat(16))),
            (&elsewhere, second.with_file_name("ff")),
            (&elsewhere, cache.path().join("f")),
            (&elsewhere, cache.path().join("e")),
        ] {
            // One of them may be where the entry is.
            drop(std::os::unix::fs::symlink(target, link));
        }
        if aside {
            let parent = Roots::new(std::slice::from_ref(&root)).dir(&root).unwrap();
            let trash = parent.make_child(OsStr::new(TRASH)).unwrap();
            set_aside(&cache, &trash).unwrap();
            delete_tree(&parent, OsStr::new(TRASH)).unwrap();
        } else {
            remove_in_place(&cache, &CancellationToken::new()).unwrap();
        }
        let mut open = vec![cache.path().to_owned()];
        while let Some(dir) = open.pop() {
            for left in std::fs::read_dir(dir).unwrap().flatten() {
                assert!(left.file_type().unwrap().is_dir(), "{} stays", left.path().display());
                open.push(left.path());
            }
        }
        assert_eq!(std::fs::read(&kept).unwrap()[0], 5, "a link was followed");
    }
}

#[test]
fn a_scan_that_is_cancelled_stops_and_says_so() {
    let (_keep, cache) = cache();
    for key in ["a", "b", "c"] {
        store(cache.path(), &entry_name(key.as_bytes()), key, false);
    }
    let cancel = CancellationToken::new();
    let scan_of = Scan { cache: &cache, entries_max: 9, since_sec: None, cancel: &cancel };
    let (seen, _) = scan(&scan_of, vec![()], |(), _| {
        cancel.cancel();
        Ok(())
    })
    .unwrap();
    assert_eq!((seen.entries, seen.whole), (1, false));
}

#[test]
fn files_that_vanish_during_a_scan_are_passed_over() {
    let (_keep, cache) = cache();
    let dir = cache.path().join("0/00");
    let name = |n: usize| format!("{n:029x}000");
    for n in 0..50 {
        put(cache.path(), &name(n), &laid_out(&format!("key{n}"), "", 1, ""));
    }
    let cancel = CancellationToken::new();
    let scan_of = Scan { cache: &cache, entries_max: 99, since_sec: None, cancel: &cancel };
    let (seen, _) = scan(&scan_of, vec![()], |(), entry| {
        for other in std::fs::read_dir(&dir).unwrap().flatten() {
            if other.file_name() != entry.name() {
                std::fs::remove_file(other.path()).unwrap();
            }
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((seen.entries, seen.unreadable, seen.whole), (1, 0, true));
}

#[test]
fn an_entry_is_made_stale_in_place_and_only_its_times_change() {
    let (_keep, cache) = cache();
    let path = put(cache.path(), &entry_name(b"one"), &laid_out("one", "", 2000, "A: b\r\n"));
    let before = std::fs::read(&path).unwrap();
    let entry = find(&cache, b"one").unwrap().unwrap();
    assert!(entry.soften(1000, 60).unwrap());
    let after = std::fs::read(&path).unwrap();
    assert_eq!(before[..8], after[..8]);
    assert_eq!(before[24..], after[24..]);
    let entry = find(&cache, b"one").unwrap().unwrap();
    let head = entry.head().unwrap();
    assert_eq!((head.valid_sec, head.updating_sec), (999, 60));
    assert!(entry.soften(1030, 60).unwrap());
    let entry = find(&cache, b"one").unwrap().unwrap();
    assert_eq!(entry.head().unwrap().valid_sec, 999, "an entry was given a second window");
}

#[test]
fn what_is_no_entry_of_its_key_is_not_found_and_another_format_only_by_its_name() {
    let (_keep, cache) = cache();
    put(cache.path(), &entry_name(b"one"), &laid_out("other", "", 1, ""));
    assert!(find(&cache, b"one").unwrap().is_none());
    let mut foreign = laid_out("two", "", 1, "");
    foreign[0] = 6;
    let path = put(cache.path(), &entry_name(b"two"), &foreign);
    let entry = find(&cache, b"two").unwrap().unwrap();
    assert!(entry.head().is_none() && !entry.soften(1, 1).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), foreign);
    assert_eq!(entry.remove().unwrap().removed, 1);
    assert!(!path.exists());
}

#[test]
fn tags_are_read_from_the_stored_headers() {
    let (_keep, cache) = cache();
    let headers = "X-A: b\r\nSurrogate-Key: home post-7\r\n\r\n";
    put(cache.path(), &entry_name(b"one"), &laid_out("one", "", 1, headers));
    let entry = find(&cache, b"one").unwrap().unwrap();
    let stored = entry.response_headers().unwrap();
    assert_eq!(tags(&stored).collect::<Vec<_>>(), [b"home".as_slice(), b"post-7"]);
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
