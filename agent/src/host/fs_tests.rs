//! Files and directories, with and without links in the way.

use super::*;

const LOOK: Look = Look { mode: 0o640, owner: None };

fn roots() -> (tempfile::TempDir, Roots) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    (directory, Roots::new(&[root]))
}

#[test]
fn two_missing_levels_are_made_and_a_whole_missing_tree_is_a_mistake() {
    let (directory, roots) = roots();
    let root = directory.path().canonicalize().unwrap();
    roots.make_dir(&root.join("hostler/shop")).unwrap();
    assert!(root.join("hostler/shop").is_dir());
    let mistyped = root.join("x/y/z");
    assert!(matches!(roots.make_dir(&mistyped), Err(FsError::Missing { .. })));
    assert!(!root.join("x").exists());
    assert!(matches!(roots.make_dir(Path::new("/nowhere/a")), Err(FsError::Outside { .. })));
    std::os::unix::fs::symlink("/tmp", root.join("link")).unwrap();
    let unmade = Roots::new(&[root.join("cache")]);
    unmade.make_dir(&root.join("cache/hostler")).unwrap();
    let through = roots.make_dir(&root.join("link/a"));
    assert!(matches!(through, Err(FsError::Symlink { .. })), "{through:?}");
}

#[test]
fn writes_keep_what_they_are_told_and_leave_nothing_behind() {
    let (directory, roots) = roots();
    let path = directory.path().canonicalize().unwrap().join("a.conf");
    let place = roots.place(&path).unwrap();
    assert_eq!(place.read(10).unwrap(), None);
    place.write(b"one", LOOK).unwrap();
    let content = place.read(10).unwrap().unwrap();
    assert_eq!((content.bytes.as_slice(), content.look.mode), (b"one".as_slice(), 0o640));
    assert!(matches!(place.read(2), Err(FsError::TooLarge { .. })));
    assert_eq!(place.dir().entries().unwrap().len(), 1, "a staged file was left");
    assert!(place.remove().unwrap() && !place.remove().unwrap());
}

#[test]
fn staged_files_go_and_a_directory_of_such_a_name_stays() {
    let (directory, roots) = roots();
    let root = directory.path().canonicalize().unwrap();
    for n in 0..4 {
        std::fs::create_dir(root.join(format!("{STAGED_PREFIX}dir{n}"))).unwrap();
        std::fs::write(root.join(format!("{STAGED_PREFIX}file{n}")), "x").unwrap();
    }
    std::fs::write(root.join("kept"), "x").unwrap();
    assert_eq!(clear_staged(&roots.dir(&root).unwrap()).unwrap(), 4);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 5);
}

#[test]
fn nothing_outside_and_nothing_through_links() {
    let (directory, roots) = roots();
    let root = directory.path().canonicalize().unwrap();
    for outside in ["/etc/passwd", "relative", "/", "/tmp/../etc/passwd"] {
        let error = roots.place(Path::new(outside)).unwrap_err();
        assert!(matches!(error, FsError::Outside { .. }), "{outside}: {error}");
    }
    let dotted = root.join("x/../../y");
    assert!(matches!(roots.place(&dotted).unwrap_err(), FsError::Outside { .. }));
    std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
    let error = roots.place(&root.join("link/passwd")).unwrap_err();
    assert!(matches!(error, FsError::Symlink { .. }), "{error}");
    let error = roots.dir(&root.join("link")).unwrap_err();
    assert!(matches!(error, FsError::Symlink { .. }), "{error}");
    std::os::unix::fs::symlink("/etc/passwd", root.join("file")).unwrap();
    let error = roots.place(&root.join("file")).unwrap().read(10).unwrap_err();
    assert!(matches!(error, FsError::Symlink { .. }), "{error}");
}

#[test]
fn the_stepwise_way_refuses_links_too() {
    let (directory, _) = roots();
    let root = directory.path();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::os::unix::fs::symlink("a", root.join("link")).unwrap();
    let fd = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    assert!(open_stepwise(&fd, Path::new("a/b"), flags).is_ok());
    assert!(open_stepwise(&fd, Path::new("link/b"), flags).is_err());
    assert!(leads_through_link(root, Path::new("link/b")));
}
