//! Placing bundles into real directories.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use hostler_protocol::bundle::{File, FileKind};
use hostler_protocol::job::{Code, FileAction};
use tempfile::TempDir;

use super::plan::sha256_hex;
use super::*;

/// A store that has what a test put into it, and a directory to place into.
#[derive(Debug)]
struct Shelf {
    home: TempDir,
}

impl BundleSource for Shelf {
    fn ensure<'a>(&'a self, bundle: &'a str) -> BoxFuture<'a, Result<Arc<Manifest>, BundleError>> {
        let what = bundle.to_owned();
        Box::pin(async { Err(BundleError::Missing { what }) })
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.home.path().join(sha256)
    }
}

use FileKind::{Executable, File as Plain, Symlink};

impl Shelf {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("stacks/shop")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    fn inode(&self, path: &str) -> u64 {
        std::fs::symlink_metadata(self.at(path)).unwrap().ino()
    }

    /// A manifest of these files, whose blobs are in the store.
    fn bundle(&self, files: &[(&str, FileKind, &str)]) -> Manifest {
        let mut files: Vec<File> = files
            .iter()
            .map(|(path, kind, content)| {
                let sha256 = sha256_hex(content.as_bytes());
                std::fs::write(self.blob(&sha256), content).unwrap();
                let (path, bytes) = ((*path).to_owned(), content.len() as u64);
                File { path, kind: *kind, sha256, bytes }
            })
            .collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Manifest { files }
    }

    async fn place(
        &self,
        manifest: &Manifest,
        before: Option<&Manifest>,
    ) -> Result<Vec<(String, FileAction)>, BundleError> {
        let bundle = Opened::from(Arc::new(manifest.clone()));
        let seen = preview(&bundle, before, &self.dir()).await;
        let placed = place(self, &bundle, before, &self.dir()).await;
        if let (Ok(seen), Ok(placed)) = (&seen, &placed) {
            assert_eq!(seen, placed, "what was foretold is not what was done");
        }
        let changes = placed?.changes;
        Ok(changes.into_iter().map(|change| (change.path, change.action)).collect())
    }
}

fn told(changes: &[(&str, FileAction)]) -> Vec<(String, FileAction)> {
    changes.iter().map(|(path, action)| ((*path).to_owned(), *action)).collect()
}

use FileAction::{Added, Changed, Kept, Removed};

#[tokio::test]
async fn files_change_through_their_inodes_and_the_rest_is_not_touched() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[
        ("compose.yaml", Plain, "services: {}"),
        ("conf/site.conf", Plain, "listen 80; # a long first line"),
        ("run.sh", Executable, "#!/bin/sh"),
        ("conf/current", Symlink, "site.conf"),
    ]);
    let added = [("compose.yaml", Added), ("conf/current", Added), ("conf/site.conf", Added)];
    let placed = shelf.place(&one, None).await.unwrap();
    assert_eq!(placed, [told(&added), told(&[("run.sh", Added)])].concat());
    assert_eq!(shelf.read("conf/current"), "listen 80; # a long first line");
    let mode = |path: &str| std::fs::metadata(shelf.at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run.sh"), mode("compose.yaml"), mode("conf")), (0o755, 0o644, 0o755));

    let inodes = ["", "conf", "conf/site.conf", "compose.yaml"].map(|path| shelf.inode(path));
    let changed_at = |path: &str| {
        let metadata = std::fs::metadata(shelf.at(path)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec())
    };
    let untouched = changed_at("compose.yaml");
    let two = shelf.bundle(&[
        ("compose.yaml", Plain, "services: {}"),
        ("conf/site.conf", Plain, "short"),
        ("run.sh", Plain, "#!/bin/sh"),
        ("conf/current", Symlink, "../compose.yaml"),
    ]);
    let placed = shelf.place(&two, Some(&one)).await.unwrap();
    let changes = [("conf/current", Changed), ("conf/site.conf", Changed), ("run.sh", Changed)];
    assert_eq!(placed, told(&changes));
    assert_eq!(shelf.read("conf/site.conf"), "short");
    assert_eq!(shelf.read("conf/current"), "services: {}");
    assert_eq!(mode("run.sh"), 0o644);
    let after = ["", "conf", "conf/site.conf", "compose.yaml"].map(|path| shelf.inode(path));
    assert_eq!(inodes, after, "a bind mount would show the old content");
    assert_eq!(changed_at("compose.yaml"), untouched);
    assert_eq!(shelf.place(&two, Some(&two)).await.unwrap(), []);
}

#[tokio::test]
async fn only_what_hostler_wrote_and_nobody_changed_is_deleted() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[
        ("a", Plain, "a"),
        ("b", Plain, "b"),
        ("d/e/f", Plain, "f"),
        ("d/g", Plain, "g"),
        ("l", Symlink, "a"),
    ]);
    shelf.place(&one, None).await.unwrap();
    std::fs::write(shelf.at("b"), "B").unwrap();
    std::fs::write(shelf.at("d/data"), "the container's").unwrap();
    let two = shelf.bundle(&[("a", Plain, "a")]);
    let placed = shelf.place(&two, Some(&one)).await.unwrap();
    let changes = [("b", Kept), ("d/e/f", Removed), ("d/g", Removed), ("l", Removed)];
    assert_eq!(placed, told(&changes));
    assert_eq!((shelf.read("b"), shelf.read("d/data")), ("B".into(), "the container's".into()));
    assert!(!shelf.at("d/e").exists(), "an empty directory that was made is left");
    assert_eq!(shelf.place(&two, Some(&two)).await.unwrap(), [], "said once");
    // The bundle before is known from the record, too, and it wins over what the caller says.
    std::fs::remove_file(shelf.at("d/data")).unwrap();
    let placed = shelf.place(&shelf.bundle(&[]), None).await.unwrap();
    assert_eq!(placed, told(&[("a", Removed)]));
    assert!(!shelf.at("d").exists() && shelf.dir().is_dir());
}

#[tokio::test]
async fn a_file_changed_by_hand_becomes_what_is_wanted_again() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[("a", Plain, "wanted")]);
    shelf.place(&one, None).await.unwrap();
    let inode = shelf.inode("a");
    std::fs::write(shelf.at("a"), "by hand, and longer").unwrap();
    assert_eq!(shelf.place(&one, Some(&one)).await.unwrap(), told(&[("a", Changed)]));
    assert_eq!((shelf.read("a"), shelf.inode("a")), ("wanted".into(), inode));
    std::fs::remove_file(shelf.at("a")).unwrap();
    assert_eq!(shelf.place(&one, Some(&one)).await.unwrap(), told(&[("a", Added)]));
}

#[tokio::test]
async fn what_somebody_else_put_there_is_never_overwritten_and_nothing_else_is_written() {
    let shelf = Shelf::new();
    std::fs::create_dir_all(shelf.dir()).unwrap();
    std::fs::write(shelf.at("b"), "mine").unwrap();
    let one = shelf.bundle(&[("a", Plain, "a"), ("b", Plain, "b")]);
    let refused = shelf.place(&one, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::FileForeign, "{refused}");
    assert!(refused.to_string().contains("shop/b"), "{refused}");
    assert!(!shelf.at("a").exists(), "part of it was written");
    // The same bytes are what is wanted, whoever put them there.
    std::fs::write(shelf.at("b"), "b").unwrap();
    assert_eq!(shelf.place(&one, None).await.unwrap(), told(&[("a", Added)]));
    // A second name would change with it.
    let two = shelf.bundle(&[("a", Plain, "A"), ("b", Plain, "b")]);
    std::fs::hard_link(shelf.at("a"), shelf.home.path().join("backup")).unwrap();
    assert_eq!(shelf.place(&two, Some(&one)).await.unwrap_err().code(), Code::FileForeign);
    assert_eq!(shelf.read("a"), "a");
}

#[tokio::test]
async fn a_placing_that_was_cut_off_is_finished_by_the_next_one() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[("a", Plain, "old a"), ("b", Plain, "old b"), ("z", Plain, "z")]);
    shelf.place(&one, None).await.unwrap();
    let inodes = ["a", "b"].map(|path| shelf.inode(path));
    let two = shelf.bundle(&[("a", Plain, "new a"), ("b", Plain, "new b"), ("c", Plain, "c")]);
    // As a kill in the middle leaves it: the record says what was being written, one file is half
    // of each, and what was staged lies about.
    let record = shelf.home.path().join("stacks/.shop.placed.json");
    let mut written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    for file in &two.files {
        written["writing"][&file.path] =
            serde_json::to_value(record::Written::of(file, false)).unwrap();
    }
    std::fs::write(&record, serde_json::to_vec(&written).unwrap()).unwrap();
    std::fs::write(shelf.at("a"), "new a").unwrap();
    std::fs::write(shelf.at("b"), "newd b").unwrap();
    let placed = shelf.place(&two, Some(&one)).await.unwrap();
    assert_eq!(placed, told(&[("b", Changed), ("c", Added), ("z", Removed)]));
    assert_eq!(["a", "b"].map(|path| shelf.read(path)), ["new a", "new b"]);
    assert_eq!(["a", "b"].map(|path| shelf.inode(path)), inodes);
    let told_again = shelf.place(&two, Some(&two)).await.unwrap();
    assert_eq!(told_again, []);
}

#[tokio::test]
async fn what_a_cut_off_placing_wrote_is_removed_when_it_is_wanted_no_more() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[("a", Plain, "a")]);
    shelf.place(&one, None).await.unwrap();
    let two = shelf.bundle(&[("a", Plain, "a"), ("b/c", Plain, "c"), ("d", Plain, "gone")]);
    let lost = shelf.blob(&sha256_hex(b"gone"));
    std::fs::write(&lost, "other").unwrap();
    let damaged = shelf.place(&two, Some(&one)).await.unwrap_err();
    assert_eq!(damaged.code(), Code::BundleDamaged);
    assert!(!shelf.at("b").exists(), "damage is found before anything is written");
    std::fs::write(&lost, "gone").unwrap();
    shelf.place(&two, Some(&one)).await.unwrap();
    // The caller never heard that the second bundle was placed.
    let placed = shelf.place(&one, Some(&one)).await.unwrap();
    assert_eq!(placed, told(&[("b/c", Removed), ("d", Removed)]));
    assert!(!shelf.at("b").exists());
}

#[tokio::test]
async fn files_and_directories_change_places_where_all_is_hostler_s() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[("conf/x/y", Plain, "y"), ("data", Plain, "file")]);
    shelf.place(&one, None).await.unwrap();
    let two = shelf.bundle(&[("conf", Plain, "file"), ("data/z", Plain, "z")]);
    std::fs::write(shelf.at("conf/x/own"), "own").unwrap();
    let refused = shelf.place(&two, Some(&one)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FileForeign, "{refused}");
    assert_eq!(shelf.read("data"), "file", "part of it was done");
    std::fs::remove_file(shelf.at("conf/x/own")).unwrap();
    shelf.place(&two, Some(&one)).await.unwrap();
    assert_eq!((shelf.read("conf"), shelf.read("data/z")), ("file".into(), "z".into()));
    shelf.place(&one, Some(&two)).await.unwrap();
    assert_eq!((shelf.read("conf/x/y"), shelf.read("data")), ("y".into(), "file".into()));
    let link = shelf.bundle(&[("conf/x/y", Plain, "y"), ("data", Symlink, "conf/x/y")]);
    shelf.place(&link, Some(&one)).await.unwrap();
    assert_eq!(shelf.read("data"), "y");
    shelf.place(&one, Some(&link)).await.unwrap();
    assert_eq!((shelf.read("data"), shelf.read("conf/x/y")), ("file".into(), "y".into()));
}

#[tokio::test]
async fn what_was_kept_is_known_and_gives_way_when_it_is_wanted_again() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[("a", Plain, "a"), ("b", Plain, "b")]);
    let two = shelf.bundle(&[("a", Plain, "a")]);
    shelf.place(&one, None).await.unwrap();
    std::fs::write(shelf.at("b"), "somebody's").unwrap();
    assert_eq!(shelf.place(&two, Some(&one)).await.unwrap(), told(&[("b", Kept)]));
    // It is told once: what is there is as it should be from then on.
    assert_eq!(shelf.place(&two, None).await.unwrap(), []);
    assert_eq!(shelf.read("b"), "somebody's");
    // The way back, and any later bundle that has it again.
    assert_eq!(shelf.place(&one, None).await.unwrap(), told(&[("b", Changed)]));
    assert_eq!(shelf.read("b"), "b");
    std::fs::write(shelf.at("b"), "somebody's").unwrap();
    shelf.place(&two, None).await.unwrap();
    // Put back by hand to what was written, it is Hostler's to remove.
    std::fs::write(shelf.at("b"), "b").unwrap();
    assert_eq!(shelf.place(&two, None).await.unwrap(), told(&[("b", Removed)]));
    assert!(!shelf.at("b").exists());
}

#[tokio::test]
async fn no_link_leads_out_neither_the_bundle_s_nor_one_on_the_host() {
    let shelf = Shelf::new();
    let out = shelf.bundle(&[("a", Plain, "a"), ("d/l", Symlink, "../../x")]);
    let refused = shelf.place(&out, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::PathIsSymlink, "{refused}");
    assert!(!shelf.dir().exists());

    let outside = shelf.home.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f"), "not ours").unwrap();
    let one = shelf.bundle(&[("d/f", Plain, "ours"), ("g", Plain, "g")]);
    shelf.place(&one, None).await.unwrap();
    std::fs::remove_dir_all(shelf.at("d")).unwrap();
    symlink(&outside, shelf.at("d")).unwrap();
    std::fs::remove_file(shelf.at("g")).unwrap();
    symlink(outside.join("f"), shelf.at("g")).unwrap();
    let refused = shelf.place(&one, Some(&one)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FileForeign, "{refused}");
    // Deleting goes through no link either, and a link is not the file that was written.
    let placed = shelf.place(&shelf.bundle(&[]), Some(&one)).await.unwrap();
    assert_eq!(placed, told(&[("g", Kept)]));
    assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "not ours");
    std::fs::remove_file(shelf.at("d")).unwrap();
    // A link where a file of the bundle belongs gives way, and what it names stays.
    let two = shelf.bundle(&[("h", Plain, "h")]);
    shelf.place(&two, None).await.unwrap();
    std::fs::remove_file(shelf.at("h")).unwrap();
    symlink(outside.join("f"), shelf.at("h")).unwrap();
    assert_eq!(shelf.place(&two, Some(&two)).await.unwrap(), told(&[("h", Changed)]));
    assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "not ours");
    assert_eq!(shelf.read("h"), "h");
    std::fs::remove_dir_all(shelf.dir()).unwrap();
    symlink(&outside, shelf.dir()).unwrap();
    assert_eq!(shelf.place(&two, Some(&two)).await.unwrap_err().code(), Code::PathIsSymlink);
}

#[tokio::test]
async fn what_cannot_be_a_file_is_refused() {
    let shelf = Shelf::new();
    std::fs::create_dir_all(shelf.dir()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        shelf.at("a"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let one = shelf.bundle(&[("a", Plain, "a")]);
    assert_eq!(shelf.place(&one, None).await.unwrap_err().code(), Code::FileForeign);
    assert_eq!(shelf.place(&one, Some(&one)).await.unwrap_err().code(), Code::FileForeign);
    let unsorted = Manifest { files: one.files.iter().chain(&one.files).cloned().collect() };
    assert_eq!(shelf.place(&unsorted, None).await.unwrap_err().code(), Code::BundleDamaged);
}

#[tokio::test]
async fn clearing_leaves_what_others_wrote_and_else_nothing() {
    let shelf = Shelf::new();
    let one = shelf.bundle(&[("a", Plain, "a"), ("d/b", Plain, "b")]);
    shelf.place(&one, None).await.unwrap();
    std::fs::write(shelf.at("d/own"), "own").unwrap();
    clear(Some(&one), &shelf.dir()).await.unwrap();
    assert_eq!(shelf.read("d/own"), "own");
    std::fs::remove_file(shelf.at("d/own")).unwrap();
    clear(None, &shelf.dir()).await.unwrap();
    assert!(!shelf.dir().exists());
    let left = std::fs::read_dir(shelf.home.path().join("stacks")).unwrap().count();
    assert_eq!(left, 0, "the record is left");
    assert_eq!(clear(None, &shelf.dir()).await.unwrap(), Placed::default());
}

#[tokio::test]
async fn files_that_are_no_longer_as_they_were_written_are_found() {
    let shelf = Shelf::new();
    let none = Strayed::default();
    let manifest = shelf.bundle(&[
        ("a.conf", Plain, "one"),
        ("b.conf", Plain, "two"),
        ("d/run", Executable, "run"),
        ("d/to", Symlink, "../a.conf"),
    ]);
    shelf.place(&manifest, None).await.unwrap();
    let look = async |since_us, before: &Strayed| {
        let strayed = strayed(&shelf.dir(), since_us, before).await.unwrap();
        let all = |paths: &BTreeSet<String>| paths.iter().cloned().collect::<Vec<_>>().join(" ");
        (all(&strayed.changed), all(&strayed.missing), strayed)
    };
    assert_eq!(look(None, &none).await.2, none);
    std::fs::write(shelf.at("stray"), "somebody else's").unwrap();
    // Of the same size, and of another one.
    std::fs::write(shelf.at("a.conf"), "0ne").unwrap();
    std::fs::write(shelf.at("b.conf"), "longer").unwrap();
    std::fs::set_permissions(shelf.at("d/run"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::remove_file(shelf.at("d/to")).unwrap();
    let (changed, missing, found) = look(Some(0), &none).await;
    assert_eq!((changed.as_str(), missing.as_str()), ("a.conf b.conf d/run", "d/to"));
    // What was not touched since is not read, but what had strayed is.
    let future = Some(i64::MAX - 1);
    assert_eq!(look(future, &none).await.0, "");
    assert_eq!(look(future, &found).await.2, found);
    std::fs::write(shelf.at("a.conf"), "one").unwrap();
    assert_eq!(look(future, &found).await.0, "b.conf d/run");
    std::fs::remove_dir_all(shelf.dir()).unwrap();
    assert_eq!(look(None, &none).await.1, "a.conf b.conf d/run d/to");
}
