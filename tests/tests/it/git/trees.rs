//! A commit's files as the mirror reads them, held against what git says of the same commit.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use hostler_controller::bundles::sha256_hex;
use hostler_controller::domain::stack::{EntryKind, Tree as _, TreeError, discover};
use hostler_controller::git::{Mirror, RepoTree};
use hostler_tests::servers::git::{Change, GitServer, Work, git, output};

use super::{Rig, fetch, root};

/// Path, then mode, kind and object id as `git ls-tree` prints them.
type Listing = BTreeMap<Vec<u8>, String>;

/// What git lists of a commit.
fn listed_by_git(work: &Work, commit: &str) -> Listing {
    let text = output(git(work.dir()).args(["ls-tree", "-r", "-t", "-z", commit])).unwrap();
    let lines = text.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t').unwrap();
            let facts = String::from_utf8(line[..tab].to_vec()).unwrap();
            (line[tab + 1..].to_vec(), facts)
        })
        .collect()
}

/// What we list of it.
fn listed_by_us(tree: &RepoTree) -> Listing {
    let line = |kind: EntryKind, oid: &str| match kind {
        EntryKind::File => format!("100644 blob {oid}"),
        EntryKind::Executable => format!("100755 blob {oid}"),
        EntryKind::Symlink => format!("120000 blob {oid}"),
        EntryKind::Directory => format!("040000 tree {oid}"),
        EntryKind::Submodule => format!("160000 commit {oid}"),
    };
    let entries = tree.entries().unwrap();
    let mut listing = Listing::new();
    for entry in entries {
        let node = tree.node(&entry.path).unwrap().unwrap();
        assert_eq!((node.kind, &node.oid), (entry.kind, &entry.oid));
        assert!(listing.insert(entry.path, line(entry.kind, &entry.oid)).is_none());
    }
    listing
}

/// Small reproducible numbers: the trees below are as odd as they are the same each time.
struct Odd(u64);

impl Odd {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % below
    }

    fn name(&mut self) -> Vec<u8> {
        const NAMES: &[&[u8]] = &[
            b"a",
            b"a.b",
            b"a-b",
            b"a0",
            b"B",
            b"docker-compose.yml",
            b"sp ace",
            b"t\tab",
            b"qu\"ote",
            b"\xff\xfe",
            b"\xc3\xa9",
            b"-dash",
            b"new\nline",
            b"z",
            b"0",
        ];
        let at = usize::try_from(self.next(NAMES.len() as u64)).unwrap();
        NAMES[at].to_vec()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = if self.next(20) == 0 { 70_000 } else { self.next(300) };
        (0..length).map(|_| u8::try_from(self.next(256)).unwrap()).collect()
    }

    fn path(&mut self) -> Vec<u8> {
        let mut path = self.name();
        for _ in 0..self.next(5) {
            path.push(b'/');
            path.extend(self.name());
        }
        path
    }

    /// Changes a path, unless a file stands where a directory would have to be, or the reverse.
    fn change(&mut self, work: &Work) {
        let path = self.path();
        let at = work.dir().join(OsStr::from_bytes(&path));
        if at.is_dir() && !at.is_symlink() {
            return;
        }
        let below = at.ancestors().skip(1).take_while(|above| *above != work.dir());
        if below.into_iter().any(|above| above.is_symlink() || above.is_file()) {
            return;
        }
        let bytes = self.bytes();
        let change = match self.next(10) {
            0 => Change::Link("../nowhere/at all"),
            1 => Change::Executable(&bytes),
            2 => Change::Gone,
            _ => Change::File(&bytes),
        };
        work.set(&path, change).unwrap();
    }
}

fn expect_like_git(work: &Work, mirror: &Mirror, commit: &str) {
    let tree = root(mirror, commit);
    let (theirs, ours) = (listed_by_git(work, commit), listed_by_us(&tree));
    assert_eq!(ours, theirs);
    assert_eq!(tree.oid(), work.git(&["rev-parse", &format!("{commit}^{{tree}}")]).unwrap());
    for (path, facts) in &theirs {
        let file = work.dir().join(OsStr::from_bytes(path));
        let (mode, oid) = (&facts[..6], facts.rsplit(' ').next().unwrap());
        let expected = match mode {
            "100644" | "100755" => std::fs::read(file).unwrap(),
            "120000" => std::fs::read_link(file).unwrap().as_os_str().as_bytes().to_vec(),
            _ => continue,
        };
        assert_eq!(tree.read(oid, usize::MAX).unwrap(), expected, "{path:?}");
    }
}

#[test]
fn random_trees_are_read_as_git_reads_them() {
    for seed in [1, 20, 300] {
        let server = GitServer::file().unwrap();
        let mut work = server.create("odd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mirror = super::open(dir.path(), server.settings("odd", "main").unwrap());
        let mut odd = Odd(seed);
        for round in 0..4 {
            for _ in 0..60 {
                odd.change(&work);
            }
            let commit = work.commit(&format!("Round {round}")).unwrap();
            work.push("refs/heads/main").unwrap();
            assert_eq!(fetch(&mirror).unwrap().revision, commit);
            assert!(listed_by_git(&work, &commit).len() > 20, "seed {seed}");
            expect_like_git(&work, &mirror, &commit);
        }
    }
}

fn discovered(tree: &RepoTree) -> discover::Discovery {
    let source = discover::Source { deploy_dir: String::new(), repository: "stacks".to_owned() };
    discover::discover(tree, &source, &discover::Limits::default(), None).unwrap()
}

#[test]
fn a_stacks_hash_is_what_sha256sum_prints() {
    let mut rig = Rig::https();
    // Carriage returns, a byte order mark, no line end: bytes are bytes.
    let odd = "\u{feff}services:\r\n  a: {image: x}".as_bytes();
    rig.work.set("odd/docker-compose.yml", Change::File(odd)).unwrap();
    rig.work.set("odd/.gitattributes", Change::File(b"* text eol=crlf\n")).unwrap();
    rig.work
        .set("second/docker-compose.yaml", Change::File(b"services: {a: {image: x}}\n"))
        .unwrap();
    rig.work.commit("Odd").unwrap();
    rig.work.push("refs/heads/main").unwrap();
    let mirror = rig.mirror();
    let commit = fetch(&mirror).unwrap().revision;
    let tree = root(&mirror, &commit);
    let found = discovered(&tree);
    assert_eq!(found.stacks.len(), 3);
    for stack in found.stacks.values() {
        let name = format!("{commit}:{}/{}", stack.directory, stack.compose_file);
        let blob = output(git(&rig.server.path("stacks")).args(["cat-file", "blob", &name]));
        let file = rig.dir.path().join("blob");
        std::fs::write(&file, blob.unwrap()).unwrap();
        let printed = output(hostler_tests::servers::command("sha256sum").arg(&file)).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let hash = stack.compose_hash.as_deref().unwrap();
        assert_eq!(hash, &printed[..64], "{}", stack.path);
        let directory = format!("{commit}:{}", stack.directory);
        assert_eq!(stack.tree_oid, rig.work.git(&["rev-parse", &directory]).unwrap());
    }
    assert_eq!(
        found.stacks[b"web".as_slice()].compose_hash,
        Some(sha256_hex(b"services: {a: {image: x}}\n"))
    );
}

#[test]
fn odd_entries_are_the_stacks_own_problem() {
    let mut rig = Rig::file();
    let commit = rig.first.clone();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:\
                   4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    let compose = b"services: {a: {image: x}}\n".as_slice();
    for stack in ["good", "linked", "sub", "lfs", "bytes", "huge"] {
        let path = format!("{stack}/docker-compose.yml");
        rig.work.set(&path, Change::File(compose)).unwrap();
    }
    rig.work.set("linked/away", Change::Link("../../outside")).unwrap();
    rig.work.set("link", Change::Link("good")).unwrap();
    rig.work
        .set("compose-link/docker-compose.yml", Change::Link("../good/docker-compose.yml"))
        .unwrap();
    rig.work.set("away-link/docker-compose.yml", Change::Link("../../outside.yml")).unwrap();
    let with_env = b"services: {a: {image: x, env_file: .env}}\n";
    rig.work.set("lfs/docker-compose.yml", Change::File(with_env)).unwrap();
    rig.work.set("lfs/.env", Change::File(pointer.as_bytes())).unwrap();
    rig.work.set(b"bytes/\xff\xfe", Change::File(b"1")).unwrap();
    rig.work.set("huge/docker-compose.yml", Change::File(&vec![b'#'; 17 << 20])).unwrap();
    rig.work.git(&["add", "--all", "."]).unwrap();
    rig.work.set("sub/module", Change::Submodule(&commit)).unwrap();
    rig.work.commit_staged("Odd").unwrap();
    rig.work.push("refs/heads/main").unwrap();
    let mirror = rig.mirror();
    let fetched = fetch(&mirror).unwrap();
    let tree = root(&mirror, &fetched.revision);
    let kind = |path: &[u8]| tree.node(path).unwrap().unwrap().kind;
    assert_eq!(kind(b"linked/away"), EntryKind::Symlink);
    assert_eq!(kind(b"link"), EntryKind::Symlink);
    assert_eq!(kind(b"sub/module"), EntryKind::Submodule);
    assert_eq!(kind(b"bytes/\xff\xfe"), EntryKind::File);
    assert_eq!(tree.node(b"link/docker-compose.yml").unwrap(), None, "links are not followed");
    assert_eq!(tree.list(b"sub/module").unwrap(), None, "submodules are not entered");

    let found = discovered(&tree);
    let problem = |stack: &str| {
        let found = &found.stacks[stack.as_bytes()];
        found.problem.as_ref().map(|problem| problem.code)
    };
    assert_eq!((problem("good"), problem("web")), (None, None), "others go on");
    let hash = |stack: &str| found.stacks[stack.as_bytes()].compose_hash.clone();
    assert_eq!((problem("compose-link"), hash("compose-link")), (None, hash("good")));
    for stack in ["linked", "sub", "lfs", "bytes", "huge", "away-link"] {
        assert!(problem(stack).is_some(), "{stack} has no problem");
        assert!(found.stacks[stack.as_bytes()].bundle.is_none(), "{stack}");
    }
    assert!(!found.stacks.contains_key(b"link".as_slice()));
    assert_eq!(found.stacks[b"huge".as_slice()].compose_hash, None);
    assert!(found.stacks[b"lfs".as_slice()].compose_hash.is_some());
}

#[test]
fn names_that_could_lead_out_are_refused() {
    let rig = Rig::file();
    let blob = rig.work.git(&["rev-parse", "HEAD:web/docker-compose.yml"]).unwrap();
    for name in [b"..".as_slice(), b".", b".git", b".GIT", b"a/b"] {
        // git itself makes no such tree: its object is written by hand.
        let mut tree = b"100644 ".to_vec();
        tree.extend_from_slice(name);
        tree.push(0);
        tree.extend(hex::decode(&blob).unwrap());
        let file = rig.dir.path().join("tree");
        std::fs::write(&file, tree).unwrap();
        let path = file.to_str().unwrap();
        let tree = rig.work.git(&["hash-object", "-t", "tree", "-w", "--literally", path]).unwrap();
        let commit = rig.work.git(&["commit-tree", "-m", "Odd", &tree]).unwrap();
        rig.work.push_as(&commit, "refs/heads/evil").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mirror = super::open(dir.path(), rig.server.settings("stacks", "evil").unwrap());
        let fetched = fetch(&mirror).unwrap();
        let root = hostler_controller::git::DeployDir::parse("/").unwrap();
        let error = mirror.tree(&fetched.revision, &root).unwrap_err();
        assert!(error.to_string().contains("may be called"), "{name:?}: {error}");
    }
}

#[test]
fn an_object_that_is_no_file_is_not_read_as_one() {
    let rig = Rig::file();
    let mirror = rig.mirror();
    let tree = root(&mirror, &fetch(&mirror).unwrap().revision);
    assert_eq!(tree.read(&tree.oid(), 1000), Err(TreeError::Missing));
    assert_eq!(tree.read("not an id", 1000), Err(TreeError::Missing));
    let node = tree.node(b"web/docker-compose.yml").unwrap().unwrap();
    let too_large = TreeError::TooLarge { bytes: 26, limit_bytes: 25 };
    assert_eq!(tree.read(&node.oid, 25), Err(too_large));
    assert_eq!(tree.read(&node.oid, 26).unwrap(), b"services: {a: {image: x}}\n");
}
