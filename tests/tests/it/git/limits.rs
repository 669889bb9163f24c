//! Repositories larger than permitted.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hostler_controller::domain::stack::{Tree as _, TreeError};
use hostler_controller::git::{Class, GitError, GitLimits, GitSettings};

use super::{Rig, class, fetch, noise, read, root};

fn limited(rig: &Rig, limits: GitLimits) -> GitSettings {
    GitSettings { limits, ..rig.settings() }
}

#[test]
fn more_bytes_than_permitted_are_not_received() {
    for mut rig in [Rig::file(), Rig::https(), Rig::ssh()] {
        let pack_bytes_max = 50_000;
        let limits = GitLimits { pack_bytes_max, ..GitLimits::default() };
        let mirror = rig.open(limited(&rig, limits));
        fetch(&mirror).unwrap();
        let noise = noise();
        rig.work.publish(&[("noise", &noise)]).unwrap();
        let error = fetch(&mirror).unwrap_err();
        assert_eq!(class(&error), (Class::Limit, "GIT_LIMIT_EXCEEDED"), "{error}");
        assert!(!error.class().passes(), "trying again would not help");
        assert_eq!(mirror.revision().unwrap().revision, rig.first);
        assert!(read(&mirror, "web/docker-compose.yml").is_some());
    }
}

#[test]
fn a_file_that_unpacks_to_more_than_permitted_is_not_kept() {
    let mut rig = Rig::file();
    // Little to send, much to hold.
    rig.work.publish(&[("zeros", &"0".repeat(8 << 20))]).unwrap();
    let limits = GitLimits { pack_bytes_max: 1 << 20, ..GitLimits::default() };
    let error = fetch(&rig.open(limited(&rig, limits))).unwrap_err();
    assert!(matches!(error.class(), Class::Limit | Class::Corrupt), "{error}");
}

#[test]
fn more_files_than_permitted_are_not_listed() {
    let mut rig = Rig::file();
    let names: Vec<String> = (0..50).map(|number| format!("many/{number}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    rig.work.publish(&files).unwrap();
    let mirror = rig.open(limited(&rig, GitLimits { files_max: 40, ..GitLimits::default() }));
    let fetched = fetch(&mirror).unwrap();
    let tree = root(&mirror, &fetched.revision);
    let error = tree.list(b"many").unwrap_err();
    assert!(matches!(error, TreeError::Limit(_)), "{error}");
    assert_eq!(GitError::from(error).class(), Class::Limit);
    assert!(matches!(root(&mirror, &fetched.revision).entries(), Err(TreeError::Limit(_))));
    let enough = GitLimits { files_max: 54, ..GitLimits::default() };
    drop((mirror, tree));
    let mirror = rig.open(limited(&rig, enough));
    let listed = root(&mirror, &fetched.revision).entries().unwrap();
    assert_eq!(listed.len(), 53);
}

#[test]
fn directories_nested_deeper_than_permitted_are_not_read() {
    let mut rig = Rig::file();
    rig.work.publish(&[("a/b/c/d/e", "x")]).unwrap();
    let mirror = rig.open(limited(&rig, GitLimits { tree_depth_max: 3, ..GitLimits::default() }));
    let tree = root(&mirror, &fetch(&mirror).unwrap().revision);
    assert!(tree.list(b"a/b/c").unwrap().is_some());
    assert!(matches!(tree.list(b"a/b/c/d"), Err(TreeError::Limit(_))));
    assert!(matches!(tree.node(b"a/b/c/d/e"), Err(TreeError::Limit(_))));
    assert!(matches!(tree.entries(), Err(TreeError::Limit(_))));
}

#[test]
fn a_file_larger_than_permitted_is_not_read() {
    let mut rig = Rig::file();
    rig.work.publish(&[("large", &"0".repeat(5000))]).unwrap();
    let limits = GitLimits { blob_bytes_max: 4000, ..GitLimits::default() };
    let mirror = rig.open(limited(&rig, limits));
    let tree = root(&mirror, &fetch(&mirror).unwrap().revision);
    let large = tree.node(b"large").unwrap().unwrap();
    let too_large = TreeError::TooLarge { bytes: 5000, limit_bytes: 4000 };
    assert_eq!(tree.read(&large.oid, usize::MAX), Err(too_large));
    assert!(tree.read(&tree.node(b"web/docker-compose.yml").unwrap().unwrap().oid, 100).is_ok());
}

#[test]
fn reading_ends_at_its_deadline_and_when_it_is_cancelled() {
    use hostler_controller::clock::Clock;
    use hostler_controller::git::Mirror;
    use std::time::Duration;
    let rig = Rig::file();
    let clock = Clock::manual(hostler_protocol::time::Micros(1_000_000));
    let settings = limited(&rig, GitLimits { walk_secs: 3, ..GitLimits::default() });
    let mirror = Mirror::open(&rig.dir.path().join("mirror"), settings, clock.clone()).unwrap();
    let tree = root(&mirror, &fetch(&mirror).unwrap().revision);
    let cancel = Arc::new(AtomicBool::new(false));
    let bounded = tree.bounded(Arc::clone(&cancel));
    clock.advance(Duration::from_millis(2_900));
    assert!(bounded.list(b"web").unwrap().is_some());
    clock.advance(Duration::from_millis(200));
    assert!(matches!(bounded.list(b"web"), Err(TreeError::Limit(_))));
    let again = tree.bounded(Arc::clone(&cancel));
    assert!(again.list(b"web").unwrap().is_some());
    cancel.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(again.list(b"web"), Err(TreeError::Cancelled));
    assert!(tree.list(b"web").unwrap().is_some(), "the tree itself has no bounds");
}
