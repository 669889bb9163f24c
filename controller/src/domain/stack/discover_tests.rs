use proptest::prelude::*;

use super::super::compose::COMPOSE_BYTES_MAX;
use super::super::fingerprint;
use super::super::problem::{code, warning};
use super::super::reading::HASHED_BYTES_MAX;
use super::super::testing::MemoryTree;
use super::*;

const PLAIN: &str = "services: {web: {image: x}}";

fn source(deploy_dir: &str) -> Source {
    Source { deploy_dir: deploy_dir.into(), repository: "My.Repo".into() }
}

fn run(tree: &MemoryTree, deploy_dir: &str) -> Discovery {
    discover(tree, &source(deploy_dir), &Limits::default(), None).unwrap()
}

fn paths(discovery: &Discovery) -> Vec<&str> {
    discovery.stacks.values().map(|found| found.path.as_str()).collect()
}

#[test]
fn every_directory_with_a_compose_file_is_a_stack() {
    let tree = MemoryTree::of(&[
        ("docker-compose.yml", PLAIN),
        ("apps/web/docker-compose.yaml", PLAIN),
        ("apps/web/admin/docker-compose.yml", PLAIN),
        ("apps/none/compose.yml", PLAIN),
        ("apps/.hidden/docker-compose.yml", PLAIN),
        ("db/docker-compose.yml/file", "a directory of that name"),
    ])
    .with(b"linked", EntryKind::Symlink, b"apps")
    .with(b"sub", EntryKind::Submodule, b"");
    for root in ["", ".", "/", "./"] {
        assert_eq!(paths(&run(&tree, root)), [".", "apps/web", "apps/web/admin"]);
    }
    let apps = run(&tree, "/apps/");
    assert_eq!(paths(&apps), ["web", "web/admin"]);
    assert_eq!(apps.stacks[&b"web"[..]].directory, "apps/web");
    assert_eq!(paths(&run(&tree, "apps/none")), [] as [&str; 0]);
    assert_eq!(paths(&run(&tree, "apps/web")), [".", "admin"]);
}

#[test]
fn of_many_stacks_each_is_what_it_is_alone() {
    let text = |number: usize| match number % 50 {
        7 => "services: [1".to_owned(),
        _ => format!("services: {{web: {{image: 'x:{number}', env_file: ../common/env}}}}"),
    };
    let mut tree = MemoryTree::of(&[("common/env", "A=1")]);
    for number in 0..500 {
        let path = format!("s{number:03}/docker-compose.yml");
        tree.put(path.as_bytes(), EntryKind::File, text(number).as_bytes());
    }
    tree.seal();
    let found = run(&tree, "");
    assert_eq!(found.stacks.len(), 500);
    for (number, stack) in found.stacks.values().enumerate() {
        assert_eq!(stack.path, format!("s{number:03}"));
        let hash = fingerprint::compose_hash(text(number).as_bytes());
        assert_eq!(stack.compose_hash, Some(hash));
        let problem = stack.problem.as_ref().map(|problem| problem.code);
        assert_eq!(problem, (number % 50 == 7).then_some(code::COMPOSE_INVALID), "{number}");
        assert_eq!(stack.bundle.is_some(), problem.is_none(), "{number}");
    }
    // One that cannot be read leaves open what there is.
    let missing = found.stacks[&b"s123"[..]].compose_hash.clone().unwrap();
    tree.lose(&missing);
    let result = discover(&tree, &source(""), &Limits::default(), None);
    assert_eq!(result.map(|_| ()).unwrap_err(), TreeError::Missing);
}

#[test]
fn a_missing_deploy_directory_is_an_error_of_the_whole() {
    let tree = MemoryTree::of(&[("a/docker-compose.yml", PLAIN)]);
    for gone in ["b", "a/docker-compose.yml", "../a", "a/b/c"] {
        let result = discover(&tree, &source(gone), &Limits::default(), None);
        assert_eq!(result.map(|_| ()).unwrap_err(), TreeError::Missing, "{gone}");
    }
}

#[test]
fn the_yml_counts_before_the_yaml() {
    let tree = MemoryTree::of(&[
        ("both/docker-compose.yml", PLAIN),
        ("both/docker-compose.yaml", "services: {other: {image: y}}"),
        ("one/docker-compose.yaml", PLAIN),
        ("real/docker-compose.yaml", PLAIN),
    ])
    .with(b"real/docker-compose.yml", EntryKind::Symlink, b"docker-compose.yaml")
    .with(b"link/docker-compose.yml", EntryKind::Symlink, b"../one/docker-compose.yaml")
    .with(b"exec/docker-compose.yml", EntryKind::Executable, PLAIN.as_bytes());
    let all = run(&tree, "");
    let found = |path: &str| &all.stacks[path.as_bytes()];
    assert_eq!(found("both").compose_file, "docker-compose.yml");
    assert_eq!(found("both").warnings[0].code, warning::BOTH_COMPOSE_FILES);
    let hash = fingerprint::compose_hash(PLAIN.as_bytes());
    assert_eq!(found("both").compose_hash.as_ref(), Some(&hash));
    assert_eq!(found("one").compose_file, "docker-compose.yaml");
    assert_eq!(found("one").warnings, []);
    assert_eq!(found("exec").problem, None);
    assert_eq!(found("real").compose_file, "docker-compose.yaml");
    assert_eq!(found("link").compose_file, "docker-compose.yml");
    assert_eq!(found("link").compose_hash.as_ref(), Some(&hash));
}

#[test]
fn an_override_file_that_is_a_link_is_the_file_it_leads_to() {
    let over = "services: {web: {env_file: ./more.env}}";
    let tree = |to: &[u8]| {
        MemoryTree::of(&[
            ("base/over.yml", over),
            ("web/docker-compose.yml", PLAIN),
            ("web/more.env", "A=1"),
        ])
        .with(b"web/docker-compose.override.yml", EntryKind::Symlink, to)
    };
    let found = |to: &[u8]| run(&tree(to), "").stacks[&b"web"[..]].clone();
    let web = found(b"../base/over.yml");
    assert_eq!((&web.problem, web.warnings.as_slice()), (&None, [].as_slice()));
    assert_eq!(web.override_file.as_deref(), Some("docker-compose.override.yml"));
    assert!(web.uses.iter().any(|used| used.path == "web/more.env"), "{:?}", web.uses);
    let files = &web.bundle.as_ref().unwrap().files;
    assert!(files.iter().any(|file| file.path == "base/over.yml"), "{files:?}");
    assert!(web.outside.contains_key("base/over.yml"), "{:?}", web.outside);
    // As Compose has it, a link to nothing is none; one out of the repository is none of ours.
    let nowhere = found(b"gone.yml");
    assert_eq!((&nowhere.problem, &nowhere.override_file), (&None, &None));
    assert_eq!(nowhere.warnings[0].code, warning::OVERRIDE_LEADS_NOWHERE);
    let out = found(b"/etc/over.yml").problem.clone().unwrap();
    assert_eq!(out.code, code::SYMLINK_LEAVES);
}

#[test]
fn a_compose_file_that_is_a_link_is_the_file_it_leads_to() {
    let text = "services: {web: {image: x, env_file: ./web.env}}";
    let tree = || {
        MemoryTree::of(&[
            ("base/web.yml", text),
            ("d/web/web.env", "A=1"),
            ("d/web/docker-compose.override.yml", "services: {web: {image: y}}"),
        ])
        .with(b"d/web/docker-compose.yml", EntryKind::Symlink, b"../../base/hop")
        .with(b"base/hop", EntryKind::Symlink, b"web.yml")
    };
    let first_tree = tree();
    let first = run(&first_tree, "d");
    let web = &first.stacks[&b"web"[..]];
    assert_eq!((&web.problem, web.project.as_deref()), (&None, Some("web")));
    assert_eq!(web.compose_hash, Some(fingerprint::compose_hash(text.as_bytes())));
    let files: Vec<&str> =
        web.bundle.as_ref().unwrap().files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        files,
        [
            "base/hop",
            "base/web.yml",
            "d/web/docker-compose.override.yml",
            "d/web/docker-compose.yml",
            "d/web/web.env",
        ],
        "paths are taken from the link's directory"
    );
    // What it hangs on stands elsewhere, and is looked at again though its own directory is the same.
    let again = |tree: &MemoryTree, before: &Discovery| {
        discover(tree, &source("d"), &Limits::default(), Some(before)).unwrap()
    };
    for text in ["services: {web: {image: z}}", "services: ["] {
        let tree = tree().with(b"base/web.yml", EntryKind::File, text.as_bytes());
        let changed = again(&tree, &first);
        let web = &changed.stacks[&b"web"[..]];
        assert_eq!(web.compose_hash, Some(fingerprint::compose_hash(text.as_bytes())));
        assert_eq!(web.problem.is_some(), text.ends_with('['));
        assert_eq!(changed.stacks, run(&tree, "d").stacks);
        assert_eq!(again(&first_tree, &changed).stacks, first.stacks, "and back again");
    }
    let gone = tree().with(b"base/hop", EntryKind::Symlink, b"nowhere.yml");
    let gone = again(&gone, &first);
    let web = &gone.stacks[&b"web"[..]];
    assert_eq!(web.problem.as_ref().unwrap().code, code::COMPOSE_IS_SYMLINK);
    assert_eq!(again(&first_tree, &gone).stacks, first.stacks, "it is there again");
}

#[test]
fn a_compose_file_that_is_a_link_to_no_file_of_the_repository_is_refused() {
    let dir = |target: &[u8]| {
        let tree = MemoryTree::of(&[("d/other/docker-compose.yml", PLAIN), ("d/web/x", "1")]);
        run(&tree.with(b"d/web/docker-compose.yml", EntryKind::Symlink, target), "d")
    };
    for target in [
        &b"../../../etc/passwd"[..],
        b"/etc/passwd",
        b"docker-compose.yml",
        b"../other",
        b"nowhere",
        b"",
        b"\xff",
    ] {
        let all = dir(target);
        let web = &all.stacks[&b"web"[..]];
        assert_eq!(web.problem.as_ref().unwrap().code, code::COMPOSE_IS_SYMLINK, "{target:?}");
        assert_eq!((&web.compose_hash, &web.bundle), (&None, &None));
        assert_eq!(all.stacks[&b"other"[..]].problem, None);
    }
}

#[test]
fn what_is_written_where_nobody_reads_it_is_warned_of() {
    let tree = MemoryTree::of(&[
        ("a/docker-compose.yml", PLAIN),
        ("a/docker-compose.override.yml", "x-hostler: {hosts: [web1]}"),
        ("a/.env", "COMPOSE_FILE=docker-compose.yml:more.yml\nCOMPOSE_PROFILES=x\n"),
        ("b/docker-compose.yml", PLAIN),
        ("b/docker-compose.override.yml", "services: {web: {restart: always}}"),
        ("b/.env", "A=1\n"),
    ]);
    let all = run(&tree, "");
    let told = |path: &str| {
        let found = &all.stacks[path.as_bytes()];
        assert_eq!(found.problem, None);
        found.warnings.iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(told("a"), [warning::VARIABLE_UNUSED, warning::SECTION_UNUSED]);
    assert_eq!(told("b"), [""; 0]);
}

#[test]
fn large_files_are_hashed_but_not_read() {
    let large = format!("#{}\n{PLAIN}", "x".repeat(COMPOSE_BYTES_MAX));
    let huge = "#".repeat(HASHED_BYTES_MAX + 1);
    let tree = MemoryTree::of(&[("l/docker-compose.yml", &large), ("h/docker-compose.yml", &huge)]);
    let all = run(&tree, "");
    for (path, hashed) in [("l", true), ("h", false)] {
        let found = &all.stacks[path.as_bytes()];
        assert_eq!(found.problem.as_ref().unwrap().code, code::COMPOSE_TOO_LARGE);
        assert_eq!(found.compose_hash.is_some(), hashed);
    }
}

#[test]
fn a_projects_name_comes_from_the_nearest_source() {
    let named = "name: My Shop\nservices: {web: }";
    let tree = MemoryTree::of(&[
        ("docker-compose.yml", PLAIN),
        ("a/My_Web/docker-compose.yml", PLAIN),
        ("a/named/docker-compose.yml", named),
        ("a/set/docker-compose.yml", "name: x\nx-hostler: {project: mine}\nservices: {web: }"),
        ("a/over/docker-compose.yml", named),
        ("a/over/docker-compose.override.yml", "name: other"),
        ("a/___/docker-compose.yml", PLAIN),
    ]);
    let all = run(&tree, "");
    let project = |path: &str| all.stacks[path.as_bytes()].project.clone();
    assert_eq!(project("").as_deref(), Some("myrepo"));
    assert_eq!(project("a/My_Web").as_deref(), Some("my_web"));
    assert_eq!(project("a/named").as_deref(), Some("myshop"));
    assert_eq!(project("a/set").as_deref(), Some("mine"));
    assert_eq!(project("a/over").as_deref(), Some("other"));
    assert_eq!(project("a/___"), None);
    let problem = all.stacks[&b"a/___"[..]].problem.as_ref().unwrap();
    assert_eq!(problem.code, code::PROJECT_NAME_INVALID);
}

#[test]
fn names_that_are_not_utf8_are_shown_and_refused() {
    let tree = MemoryTree::of(&[("ok/docker-compose.yml", PLAIN)]);
    let tree = tree.with(b"a\xff/docker-compose.yml", EntryKind::File, PLAIN.as_bytes());
    let all = run(&tree, "");
    assert_eq!(paths(&all), ["a\\xff", "ok"]);
    let found = &all.stacks[&b"a\xff"[..]];
    assert_eq!(found.problem.as_ref().unwrap().code, code::NAME_INVALID);
    assert!(found.compose_hash.is_some());
}

#[test]
fn more_than_is_permitted_is_an_error_of_the_whole() {
    let files: Vec<String> = (0..5).map(|n| format!("s{n}/docker-compose.yml")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), PLAIN)).collect();
    let tree = MemoryTree::of(&files).with(b"a/b/c/d", EntryKind::File, b"");
    let fits = Limits { stacks_max: 5, directories_max: 9, depth_max: 3, files_max: 1 };
    assert_eq!(discover(&tree, &source(""), &fits, None).unwrap().stacks.len(), 5);
    for limits in [
        Limits { stacks_max: 4, ..fits },
        Limits { directories_max: 8, ..fits },
        Limits { depth_max: 2, ..fits },
    ] {
        let result = discover(&tree, &source(""), &limits, None).map(|_| ());
        assert!(matches!(result, Err(TreeError::Limit(_))), "{limits:?}");
    }
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let outside = "services: {web: {env_file: ../common.env}}";
    let files = [
        ("deploy/a/docker-compose.yml", PLAIN),
        ("deploy/b/docker-compose.yml", outside),
        ("deploy/b/nested/docker-compose.yml", PLAIN),
        ("deploy/common.env", "A=1"),
    ];
    let first = run(&MemoryTree::of(&files), "deploy");
    let again = |tree: &MemoryTree| {
        discover(tree, &source("deploy"), &Limits::default(), Some(&first)).unwrap()
    };

    let same = MemoryTree::of(&files).with(b"readme", EntryKind::File, b"changed");
    let second = again(&same);
    assert_eq!((second.reused, same.read_count()), (3, 0));
    assert_eq!(second.stacks, first.stacks);

    let env = MemoryTree::of(&files).with(b"deploy/common.env", EntryKind::File, b"A=2");
    let third = again(&env);
    assert_eq!(third.reused, 2);
    let digest = |discovery: &Discovery, path: &str| {
        discovery.stacks[path.as_bytes()].bundle.as_ref().unwrap().digest.clone()
    };
    assert_ne!(digest(&third, "b"), digest(&first, "b"));
    assert_eq!(digest(&third, "a"), digest(&first, "a"));

    let gone = MemoryTree::of(&files[..1]);
    assert_eq!(paths(&again(&gone)), ["a"]);
    let elsewhere = Source { repository: "other".into(), ..source("deploy") };
    let other = discover(&same, &elsewhere, &Limits::default(), Some(&first)).unwrap();
    assert_eq!(other.reused, 0, "another source shares nothing");
}

/// Puts a small repository together: stacks that refer to shared files, in links and includes too.
fn put(tree: &mut MemoryTree, (what, at, to): (u8, u8, u8)) {
    let (at, to) = (at % 4, to % 4);
    let (path, kind, content) = match what % 9 {
        0 => (format!("s{at}/docker-compose.yml"), EntryKind::File, PLAIN.to_owned()),
        1 => {
            let text = format!("include: [../shares/{to}.yml]\nservices: {{a: }}");
            (format!("s{at}/docker-compose.yml"), EntryKind::File, text)
        }
        2 => {
            let text = format!(
                "services: {{a: {{env_file: ../shares/d{to}/x, volumes: ['../s{to}:/x']}}}}"
            );
            (format!("s{at}/in/docker-compose.yaml"), EntryKind::File, text)
        }
        3 => (format!("shares/{at}.yml"), EntryKind::File, format!("services: {{b{to}: }}")),
        4 => (format!("shares/d{at}/x"), EntryKind::File, format!("X={to}")),
        5 => (format!("s{at}/link"), EntryKind::Symlink, format!("../shares/d{to}")),
        6 => (format!("shares/d{at}"), EntryKind::Symlink, format!("d{to}")),
        7 => {
            let path = format!("s{at}/linked/docker-compose.yml");
            (path, EntryKind::Symlink, format!("../../shares/{to}.yml"))
        }
        _ => {
            (format!("shares/{at}.yml"), EntryKind::Symlink, format!("../s{to}/docker-compose.yml"))
        }
    };
    tree.put(path.as_bytes(), kind, content.as_bytes());
}

#[test]
fn a_kind_that_changes_outside_is_seen_though_the_bytes_are_the_same() {
    let text = "services: {web: {image: x, volumes: ['../common/run:/run:ro']}}";
    let tree = |kind: EntryKind| {
        MemoryTree::of(&[("web/docker-compose.yml", text)]).with(b"common/run", kind, b"web")
    };
    let before = run(&tree(EntryKind::File), "");
    for kind in [EntryKind::Executable, EntryKind::Symlink] {
        let changed = tree(kind);
        let after = discover(&changed, &source(""), &Limits::default(), Some(&before)).unwrap();
        assert_eq!(after.stacks, run(&changed, "").stacks, "{kind:?}");
        assert_ne!(after.stacks, before.stacks, "{kind:?}");
    }
}

proptest! {
    /// Taking over what has not changed gives what looking at everything gives.
    #[test]
    fn reuse_changes_nothing(
        first in prop::collection::vec(any::<(u8, u8, u8)>(), 1..24),
        then in prop::collection::vec(any::<(u8, u8, u8)>(), 1..4),
    ) {
        let mut tree = MemoryTree::default();
        first.into_iter().for_each(|entry| put(&mut tree, entry));
        tree.seal();
        let before = run(&tree, "");
        then.into_iter().for_each(|entry| put(&mut tree, entry));
        tree.seal();
        let reusing = discover(&tree, &source(""), &Limits::default(), Some(&before)).unwrap();
        prop_assert_eq!(&reusing.stacks, &run(&tree, "").stacks);
        for found in reusing.stacks.values() {
            prop_assert_eq!(found.bundle.is_none(), found.problem.is_some());
        }
    }

    /// A change of a path outside of every stack's bundle changes no digest, one inside does.
    #[test]
    fn a_digest_follows_the_files(
        entries in prop::collection::vec(any::<(u8, u8, u8)>(), 1..24),
        changed in any::<prop::sample::Index>(),
    ) {
        let mut tree = MemoryTree::default();
        entries.into_iter().for_each(|entry| put(&mut tree, entry));
        tree.seal();
        let before = run(&tree, "");
        let files: Vec<String> = ["a", "s0/f", "s1/f", "s2/in/f", "shares/d1/x", "shares/d2/y"]
            .map(str::to_owned)
            .into();
        let path = changed.get(&files);
        let is_file = tree.node(path.as_bytes()).unwrap().is_none_or(|n| n.kind.is_regular());
        prop_assume!(is_file);
        tree.put(path.as_bytes(), EntryKind::File, b"something new");
        tree.seal();
        let after = run(&tree, "");
        for (key, found) in &after.stacks {
            let (Some(bundle), Some(known)) = (&found.bundle, before.stacks.get(key)) else {
                continue;
            };
            let Some(known) = &known.bundle else { continue };
            let inside = bundle.files.iter().any(|file| &file.path == path);
            prop_assert_eq!(bundle.digest != known.digest, inside, "{} {}", found.path, path);
        }
    }
}
