//! What becomes of a mirror as its repository goes on, or back.

use std::fs;
use std::path::{Path, PathBuf};

use hostler_controller::domain::stack::Tree as _;
use hostler_controller::git::{Class, DeployDir, Mirror};
use hostler_tests::servers::git::{git, output};

use super::{Rig, class, fetch, read, root};

/// Fetches that bring something before a fresh repository is begun, as `git/mirror.rs` has it.
const PACKS_MAX: usize = 50;

/// The repository that is read, as its own directory says.
pub(super) fn current(rig: &Rig) -> PathBuf {
    let mirror = rig.dir.path().join("mirror");
    mirror.join(fs::read_to_string(mirror.join("current")).unwrap().trim())
}

fn generations(rig: &Rig) -> usize {
    let entries = fs::read_dir(rig.dir.path().join("mirror")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("g-")).count()
}

fn packs(repository: &Path) -> usize {
    let entries = fs::read_dir(repository.join("objects/pack")).unwrap().flatten();
    entries.filter(|entry| entry.path().extension() == Some("pack".as_ref())).count()
}

/// How many commits git finds in a bare repository.
fn commits(repository: &Path) -> usize {
    let arguments = ["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"];
    let listed = output(git(repository).args(arguments)).unwrap();
    String::from_utf8(listed).unwrap().lines().filter(|kind| *kind == "commit").count()
}

#[test]
fn only_one_commit_of_a_long_history_is_received() {
    let mut rig = Rig::https();
    for number in 0..20 {
        rig.work.commit_files(&[("web/docker-compose.yml", &format!("# {number}\n"))]).unwrap();
    }
    rig.work.push("refs/heads/main").unwrap();
    rig.work.push("refs/heads/other").unwrap();
    let mirror = rig.mirror();
    fetch(&mirror).unwrap();
    let repository = current(&rig);
    assert_eq!(commits(&repository), 1);
    assert_eq!(read(&mirror, "web/docker-compose.yml").unwrap(), b"# 19\n");
    output(git(&repository).args(["fsck", "--full", "--strict"])).unwrap();
    assert!(!repository.join("index").exists(), "a worktree was made");
    for _ in 0..3 {
        rig.work.publish(&[("a", "again\n")]).unwrap();
        fetch(&mirror).unwrap();
    }
    assert_eq!(commits(&repository), 4);
    output(git(&repository).args(["fsck", "--full", "--strict"])).unwrap();
}

#[test]
fn without_a_change_the_references_are_compared_and_nothing_is_fetched() {
    let rig = Rig::https();
    let mirror = rig.mirror();
    fetch(&mirror).unwrap();
    let web = rig.server.web().unwrap();
    assert_eq!(web.asked_once_there_are(3).unwrap().len(), 3);
    let same = fetch(&mirror).unwrap();
    assert!(!same.changed);
    assert_eq!(same.rewritten, None);
    let asked = web.asked_once_there_are(5).unwrap().split_off(3);
    let what: Vec<&str> = asked.iter().map(|asked| asked.what.as_str()).collect();
    let expected =
        ["GET /stacks.git/info/refs?service=git-upload-pack", "POST /stacks.git/git-upload-pack"];
    assert_eq!(what, expected);
    let bytes: u64 = asked.iter().map(|asked| asked.bytes_sent + asked.bytes_received).sum();
    assert!(bytes < 2_500, "{bytes} bytes for nothing new: {asked:?}");
    assert!(same.bytes_received < 500, "{same:?}");
    assert_eq!(packs(&current(&rig)), 1);
}

#[test]
fn history_that_was_rewritten_is_followed() {
    for mut rig in [Rig::file(), Rig::https()] {
        let mirror = rig.mirror();
        let second = rig.work.publish(&[("a", "1")]).unwrap();
        fetch(&mirror).unwrap();
        let third = rig.work.publish(&[("a", "2")]).unwrap();
        let forward = fetch(&mirror).unwrap();
        assert_eq!((forward.revision, forward.rewritten), (third, Some(false)));

        rig.work.git(&["reset", "--quiet", "--hard", &second]).unwrap();
        rig.work.push("refs/heads/main").unwrap();
        let back = fetch(&mirror).unwrap();
        assert_eq!((back.revision.as_str(), back.changed), (second.as_str(), true));
        assert_eq!(read(&mirror, "a").unwrap(), b"1");

        rig.work.git(&["checkout", "--quiet", "--orphan", "anew"]).unwrap();
        let anew = rig.work.commit_files(&[("a", "3"), ("b", "new")]).unwrap();
        rig.work.push("refs/heads/main").unwrap();
        let fetched = fetch(&mirror).unwrap();
        assert_eq!((fetched.revision, fetched.rewritten), (anew, Some(true)));
        assert_eq!(read(&mirror, "b").unwrap(), b"new");
        output(git(&current(&rig)).args(["fsck", "--full"])).unwrap();
    }
}

#[test]
fn a_deleted_branch_keeps_what_was_read() {
    for rig in [Rig::file(), Rig::https(), Rig::ssh()] {
        let mirror = rig.mirror();
        fetch(&mirror).unwrap();
        rig.work.push("refs/heads/other").unwrap();
        rig.work.delete("refs/heads/main").unwrap();
        let error = fetch(&mirror).unwrap_err();
        assert_eq!(class(&error), (Class::Ref, "GIT_REF_NOT_FOUND"), "{error}");
        assert!(error.to_string().contains("`main`"), "{error}");
        assert!(!error.class().passes());
        assert_eq!(mirror.revision().unwrap().revision, rig.first);
        assert_eq!(
            read(&mirror, "web/docker-compose.yml").unwrap(),
            b"services: {a: {image: x}}\n"
        );
        // Put back, it is found again.
        rig.work.push("refs/heads/main").unwrap();
        assert!(!fetch(&mirror).unwrap().changed);
    }
}

#[test]
fn a_deploy_directory_that_is_not_there_is_its_own_error() {
    let mut rig = Rig::file();
    let mirror = rig.mirror();
    let fetched = fetch(&mirror).unwrap();
    let dir = |path: &str| DeployDir::parse(path).unwrap();
    let tree = mirror.tree(&fetched.revision, &dir("/web/")).unwrap();
    assert_eq!(tree.deploy_dir(), "web");
    for missing in ["hosts", "web/nowhere", "web/docker-compose.yml", "web/docker-compose.yml/a"] {
        let error = mirror.tree(&fetched.revision, &dir(missing)).unwrap_err();
        assert_eq!(class(&error), (Class::Path, "GIT_PATH_NOT_FOUND"), "{missing}: {error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
    // A repository without any file is one, and empty.
    rig.work.git(&["rm", "--quiet", "-r", "web"]).unwrap();
    rig.work.commit("Empty").unwrap();
    rig.work.push("refs/heads/main").unwrap();
    let empty = fetch(&mirror).unwrap();
    assert_eq!(root(&mirror, &empty.revision).list(b"").unwrap().unwrap(), []);
    assert_eq!(mirror.tree(&empty.revision, &dir("web")).unwrap_err().class(), Class::Path);
}

#[test]
fn a_commit_the_mirror_does_not_have_is_no_tree() {
    let rig = Rig::file();
    let mirror = rig.mirror();
    let dir = DeployDir::parse("/").unwrap();
    assert_eq!(mirror.tree(&rig.first, &dir).unwrap_err().class(), Class::Ref);
    fetch(&mirror).unwrap();
    for revision in ["main", "", &"ab".repeat(20)] {
        assert_eq!(mirror.tree(revision, &dir).unwrap_err().class(), Class::Ref, "{revision}");
    }
}

#[test]
fn a_commit_of_before_stays_readable() {
    let mut rig = Rig::file();
    let mirror = rig.mirror();
    let first = fetch(&mirror).unwrap().revision;
    rig.work.publish(&[("web/docker-compose.yml", "services: {b: {image: x}}\n")]).unwrap();
    let before = root(&mirror, &first);
    fetch(&mirror).unwrap();
    for tree in [before, root(&mirror, &first)] {
        let node = tree.node(b"web/docker-compose.yml").unwrap().unwrap();
        assert_eq!(tree.read(&node.oid, 100).unwrap(), b"services: {a: {image: x}}\n");
    }
}

/// Fetches until a fresh repository has taken the place of the one that is full.
fn fill(rig: &mut Rig, mirror: &Mirror) {
    let full = current(rig);
    for number in 0..=PACKS_MAX {
        rig.work.publish(&[("a", &number.to_string())]).unwrap();
        assert!(fetch(mirror).unwrap().changed);
        if current(rig) != full {
            return;
        }
    }
    panic!("{} packs and no fresh repository", packs(&full));
}

#[test]
fn packs_are_cleared_away_by_a_fresh_repository() {
    let mut rig = Rig::file();
    let mirror = rig.mirror();
    let first = fetch(&mirror).unwrap().revision;
    let old = current(&rig);
    let reader = root(&mirror, &first);
    fill(&mut rig, &mirror);
    let new = current(&rig);
    assert_eq!(packs(&new), 1);
    assert_eq!(commits(&new), 1);
    assert_eq!(packs(&old), PACKS_MAX);
    // Whoever still reads the old one can: its files go with its last reader.
    let node = reader.node(b"web/docker-compose.yml").unwrap().unwrap();
    assert_eq!(reader.read(&node.oid, 100).unwrap(), b"services: {a: {image: x}}\n");
    assert_eq!(generations(&rig), 2);
    drop(reader);
    assert!(!old.exists());
    assert_eq!(generations(&rig), 1);
    rig.work.publish(&[("a", "last")]).unwrap();
    fetch(&mirror).unwrap();
    assert_eq!(read(&mirror, "a").unwrap(), b"last");
    assert_eq!((current(&rig), packs(&new)), (new.clone(), 2));
}

#[test]
fn what_a_crash_leaves_is_cleared_away() {
    let mut rig = Rig::file();
    let mirror = rig.mirror();
    fetch(&mirror).unwrap();
    drop(mirror);
    let repository = current(&rig);
    let half = repository.join("objects/pack/tmp_half.pack.tmp");
    fs::write(&half, "half a pack").unwrap();
    fs::write(repository.join("shallow.lock"), "").unwrap();
    fs::create_dir_all(rig.dir.path().join("mirror/g-99/objects")).unwrap();
    let second = rig.work.publish(&[("a", "1")]).unwrap();
    let mirror = rig.mirror();
    assert_eq!(mirror.revision().unwrap().revision, rig.first);
    assert!(!half.exists());
    assert_eq!(generations(&rig), 1);
    assert_eq!(fetch(&mirror).unwrap().revision, second);
}

#[test]
fn a_damaged_mirror_is_built_anew() {
    let rig = Rig::file();
    let mirror = rig.mirror();
    fetch(&mirror).unwrap();
    drop(mirror);
    let repository = current(&rig);
    for entry in fs::read_dir(repository.join("objects/pack")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    let mirror = rig.mirror();
    assert_eq!(mirror.revision(), None);
    assert!(fetch(&mirror).unwrap().changed);
    assert_eq!(read(&mirror, "web/docker-compose.yml").unwrap(), b"services: {a: {image: x}}\n");
    // A pointer that was never finished is no mirror either.
    drop(mirror);
    fs::write(rig.dir.path().join("mirror/current"), "../elsewhere\n").unwrap();
    let mirror = rig.mirror();
    assert_eq!(mirror.revision(), None);
    assert_eq!(fetch(&mirror).unwrap().revision, rig.first);
}

#[test]
fn damage_found_while_reading_is_mended_by_the_next_fetch() {
    let rig = Rig::file();
    let mirror = rig.mirror();
    let revision = fetch(&mirror).unwrap().revision;
    let damaged = current(&rig);
    for entry in fs::read_dir(damaged.join("objects/pack")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    drop(mirror);
    // Only the tree of the commit is there, so that it opens and cannot be read further.
    let mirror = {
        let copy = rig.server.path("stacks");
        for object in [&revision, &rig.work.git(&["rev-parse", "HEAD^{tree}"]).unwrap()] {
            let name = format!("objects/{}/{}", &object[..2], &object[2..]);
            fs::create_dir_all(damaged.join(&name).parent().unwrap()).unwrap();
            fs::copy(copy.join(&name), damaged.join(&name)).unwrap();
        }
        rig.mirror()
    };
    assert_eq!(mirror.revision().unwrap().revision, revision);
    let tree = root(&mirror, &revision);
    let error = tree.list(b"web").unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    let again = fetch(&mirror).unwrap();
    assert_eq!((again.revision.as_str(), again.changed), (revision.as_str(), false));
    assert_ne!(current(&rig), damaged, "a fresh repository");
    assert_eq!(read(&mirror, "web/docker-compose.yml").unwrap(), b"services: {a: {image: x}}\n");
}

#[test]
fn two_controllers_do_not_share_a_mirror() {
    let rig = Rig::file();
    let _mirror = rig.mirror();
    let clock = hostler_controller::clock::Clock::system();
    let second = Mirror::open(&rig.dir.path().join("mirror"), rig.settings(), clock);
    let error = second.unwrap_err();
    assert_eq!(class(&error), (Class::Internal, "GIT_INTERNAL"));
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn another_repository_takes_the_place_of_the_first() {
    let rig = Rig::file();
    fetch(&rig.mirror()).unwrap();
    let mut other = rig.server.create("other").unwrap();
    let commit = other.publish(&[("b", "2")]).unwrap();
    let mirror = rig.open(rig.server.settings("other", "main").unwrap());
    let fetched = fetch(&mirror).unwrap();
    assert_eq!((fetched.revision, fetched.changed), (commit, true));
    assert_eq!(read(&mirror, "b").unwrap(), b"2");
    assert_eq!(read(&mirror, "web/docker-compose.yml"), None);
}
