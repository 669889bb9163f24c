use super::super::Found;
use super::super::discover::{Limits, Source, discover};
use super::super::testing::MemoryTree;
use super::*;

fn found(tree: &MemoryTree, stack: &str) -> Found {
    let source = Source { deploy_dir: "deploy".into(), repository: "repo".into() };
    let found = discover(tree, &source, &Limits::default(), None).unwrap();
    (*found.stacks[stack.as_bytes()]).clone()
}

fn paths(found: &Found) -> Vec<&str> {
    let bundle = found.bundle.as_ref().unwrap_or_else(|| panic!("{:?}", found.problem));
    bundle.files.iter().map(|file| file.path.as_str()).collect()
}

fn code_of(found: &Found) -> &'static str {
    assert_eq!(found.bundle, None);
    found.problem.as_ref().unwrap().code
}

const PLAIN: &str = "services: {web: {image: x}}";

#[test]
fn everything_below_the_directory_and_all_it_refers_to_is_in_it() {
    let tree = MemoryTree::of(&[
        (
            "deploy/web/docker-compose.yml",
            "include: [../../shares/base/compose.yml]\nservices:\n  web:\n    image: x\n    \
             env_file: [../common.env]\n    volumes: ['../../conf:/c', './data:/d']\n    \
             extends: {file: ../tmpl/t.yml, service: t}\n",
        ),
        ("deploy/web/docker-compose.override.yml", "services: {web: {env_file: over.env}}"),
        ("deploy/web/over.env", "A=1"),
        ("deploy/web/.env", "B=1"),
        ("deploy/web/sub/deep/file", "1"),
        ("deploy/common.env", "C=1"),
        ("deploy/tmpl/t.yml", "services: {t: {env_file: t.env}, other: {env_file: gone.env}}"),
        ("deploy/tmpl/t.env", "D=1"),
        ("deploy/tmpl/unused", "1"),
        ("shares/base/compose.yml", "services: {db: {image: y, volumes: ['./sql:/sql']}}"),
        ("shares/base/sql/a.sql", "1"),
        ("shares/base/.env", "E=1"),
        ("conf/a", "1"),
        ("conf/b/c", "1"),
        ("other/file", "1"),
    ])
    .with(b"deploy/web/run.sh", EntryKind::Executable, b"#!/bin/sh");
    let web = found(&tree, "web");
    assert_eq!(
        paths(&web),
        [
            "conf/a",
            "conf/b/c",
            "deploy/common.env",
            "deploy/tmpl/t.env",
            "deploy/tmpl/t.yml",
            "deploy/web/.env",
            "deploy/web/docker-compose.override.yml",
            "deploy/web/docker-compose.yml",
            "deploy/web/over.env",
            "deploy/web/run.sh",
            "deploy/web/sub/deep/file",
            "shares/base/.env",
            "shares/base/compose.yml",
            "shares/base/sql/a.sql",
        ]
    );
    assert_eq!(web.bundle.as_ref().unwrap().files[9].kind, EntryKind::Executable);
    assert_eq!(web.services.keys().collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!(web.override_file.as_deref(), Some("docker-compose.override.yml"));
    let used = |kind, path: &str, service: &str| {
        let (path, service) = (path.to_owned(), Some(service.to_owned()));
        web.uses.contains(&Use { service, kind, path })
    };
    assert!(used(ReferenceKind::EnvFile, "deploy/common.env", "web"));
    assert!(used(ReferenceKind::Bind, "conf", "web"));
    assert!(used(ReferenceKind::Bind, "shares/base/sql", "db"));
}

#[test]
fn links_bring_what_they_lead_to() {
    let tree = MemoryTree::of(&[
        ("deploy/web/docker-compose.yml", PLAIN),
        ("deploy/web/real", "1"),
        ("shares/dir/a", "1"),
    ])
    .with(b"deploy/web/inside", EntryKind::Symlink, b"real")
    .with(b"deploy/web/dir", EntryKind::Symlink, b"../../shares/hop")
    .with(b"shares/hop", EntryKind::Symlink, b"dir")
    .with(b"deploy/web/later", EntryKind::Symlink, b"made-on-the-host");
    let web = found(&tree, "web");
    assert_eq!(
        paths(&web),
        [
            "deploy/web/dir",
            "deploy/web/docker-compose.yml",
            "deploy/web/inside",
            "deploy/web/later",
            "deploy/web/real",
            "shares/dir/a",
            "shares/hop",
        ]
    );
    for target in [&b"../../../etc/passwd"[..], b"/etc/passwd", b"self", b"\xff"] {
        let name = b"deploy/web/self";
        let tree = MemoryTree::of(&[("deploy/web/docker-compose.yml", PLAIN)]);
        let tree = tree.with(name, EntryKind::Symlink, target);
        assert_eq!(code_of(&found(&tree, "web")), code::SYMLINK_LEAVES, "{target:?}");
    }
}

#[test]
fn a_problem_is_of_that_stack_alone() {
    let compose = |text: &str| MemoryTree::of(&[("deploy/web/docker-compose.yml", text)]);
    let plain = || compose(PLAIN);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let with = |text, path: &str, content: &str| {
        compose(text).with(path.as_bytes(), EntryKind::File, content.as_bytes())
    };
    let env = "services: {web: {env_file: ../a.env}}";
    let bind = "services: {web: {image: x, volumes: ['../a.conf:/c']}}";
    for (tree, wanted) in [
        (compose("services: ["), code::COMPOSE_INVALID),
        (compose("name: x"), code::COMPOSE_INVALID),
        (compose("x-hostler: {a: b}\nservices: {web: }"), code::HOSTLER_SECTION_INVALID),
        (compose("name: '${X}'\nservices: {web: }"), code::PROJECT_NAME_INVALID),
        (compose(env), code::REFERENCE_MISSING),
        (compose("services: {web: {env_file: ../../../a}}"), code::REFERENCE_LEAVES),
        (compose("services: {web: {volumes: ['../../..:/x']}}"), code::REFERENCE_LEAVES),
        (compose("include: [gone.yml]"), code::REFERENCE_MISSING),
        (compose(pointer), code::LFS_POINTER),
        (with(env, "deploy/a.env", pointer), code::LFS_POINTER),
        (with(bind, "deploy/a.conf", pointer), code::LFS_POINTER),
        (with("include: [../b.yml]", "deploy/b.yml", "a: ["), code::COMPOSE_INVALID),
        (with("include: [../b.yml]", "deploy/b.yml", pointer), code::LFS_POINTER),
        (
            with(PLAIN, "deploy/web/docker-compose.override.yaml", "services: 1"),
            code::COMPOSE_INVALID,
        ),
        (plain().with(b"deploy/web/vendor", EntryKind::Submodule, b""), code::SUBMODULE),
        (plain().with(b"deploy/web/\xff", EntryKind::File, b""), code::NAME_INVALID),
        (plain().with(b"deploy/web/a\\b", EntryKind::File, b""), code::NAME_INVALID),
        (
            plain().with(&[b"deploy/web/", &[b'a'; 1024][..]].concat(), EntryKind::File, b""),
            code::NAME_INVALID,
        ),
        (plain().with(b"deploy/web/.GIT/config", EntryKind::File, b""), code::NAME_INVALID),
    ] {
        let tree = tree.with(b"deploy/ok/docker-compose.yml", EntryKind::File, PLAIN.as_bytes());
        let web = found(&tree, "web");
        assert_eq!(code_of(&web), wanted, "{:?}", web.problem);
        assert!(web.compose_hash.is_some(), "the hash is there whatever the file says");
        assert_eq!(found(&tree, "ok").problem, None);
    }
}

#[test]
fn what_need_not_be_there_is_no_problem() {
    for text in [
        "services: {web: {env_file: [{path: ../a.env, required: false}]}}",
        "services: {web: {volumes: ['./data:/d']}}",
        "services: {web: {image: x}}\nsecrets: {unused: {file: gone}}",
    ] {
        let web = found(&MemoryTree::of(&[("deploy/web/docker-compose.yml", text)]), "web");
        assert_eq!(paths(&web), ["deploy/web/docker-compose.yml"], "{text}");
    }
    let text = "services: {web: {env_file: '${X}.env'}}";
    let web = found(&MemoryTree::of(&[("deploy/web/docker-compose.yml", text)]), "web");
    assert_eq!(web.warnings[0].code, warning::VARIABLE_PATH);
}

#[test]
fn an_encrypted_file_stands_for_the_one_it_becomes() {
    for text in [
        "services: {web: {env_file: ../s.env}}",
        "services: {web: {env_file: [../s.env]}}",
        "services: {web: {env_file: [{path: ../s.env}]}}",
        "services: {web: {env_file: [{path: ../s.env, required: false}]}}",
        "services: {web: {secrets: [s]}}\nsecrets: {s: {file: ../s.env}}",
        "services: {web: {configs: [s]}}\nconfigs: {s: {file: ../s.env}}",
        "services: {web: {volumes: ['../s.env:/s:ro']}}",
        "services: {web: {volumes: [{type: bind, source: ../s.env, target: /s}]}}",
    ] {
        let tree =
            MemoryTree::of(&[("deploy/web/docker-compose.yml", text), ("deploy/s.env.age", "age")]);
        let web = found(&tree, "web");
        assert_eq!(web.problem, None, "{text}");
        assert_eq!(paths(&web), ["deploy/s.env.age", "deploy/web/docker-compose.yml"], "{text}");
        assert_eq!(web.uses[0].path, "deploy/s.env.age", "{text}");
        // Nobody decrypts what stands for it in another store.
        let pointer = String::from_utf8([LFS_PREFIX, b"\noid x\n"].concat()).unwrap();
        let files = [("deploy/web/docker-compose.yml", text), ("deploy/s.env.age", &pointer)];
        assert_eq!(code_of(&found(&MemoryTree::of(&files), "web")), code::LFS_POINTER, "{text}");
    }
}

#[test]
fn an_encrypted_file_stands_for_nothing_that_is_read_here_or_built() {
    for text in [
        "include: [../s]",
        "services: {web: {extends: {service: a, file: ../s}}}",
        "services: {web: {build: ../s}}",
    ] {
        let tree =
            MemoryTree::of(&[("deploy/web/docker-compose.yml", text), ("deploy/s.age", "age")]);
        assert_eq!(code_of(&found(&tree, "web")), code::REFERENCE_MISSING, "{text}");
    }
}

#[test]
fn a_link_that_is_passed_has_a_name_a_bundle_takes() {
    let text = "services: {web: {env_file: '../a\\b/x.env'}}";
    let tree =
        MemoryTree::of(&[("deploy/web/docker-compose.yml", text), ("deploy/dir/x.env", "A=1")]);
    let web = found(&tree.with(b"deploy/a\\b", EntryKind::Symlink, b"dir"), "web");
    assert_eq!(code_of(&web), code::NAME_INVALID, "{:?}", web.problem);
}

#[test]
fn circles_and_crowds_end() {
    let tree = MemoryTree::of(&[
        ("deploy/web/docker-compose.yml", "include: [../a.yml]"),
        ("deploy/a.yml", "include: [b.yml]\nservices: {a: }"),
        ("deploy/b.yml", "include: [a.yml]\nservices: {b: }"),
    ]);
    assert_eq!(paths(&found(&tree, "web")).len(), 3);
    let mut text = "include:\n".to_owned();
    let mut tree = MemoryTree::default();
    for n in 0..=COMPOSE_FILES_MAX {
        text += &format!("  - ../{n}.yml\n");
        tree.put(format!("deploy/{n}.yml").as_bytes(), EntryKind::File, b"services: {a: }");
    }
    let tree = tree.with(b"deploy/web/docker-compose.yml", EntryKind::File, text.as_bytes());
    assert_eq!(code_of(&found(&tree, "web")), code::COMPOSE_TOO_MANY);

    let source = Source { deploy_dir: "deploy".into(), repository: "repo".into() };
    let tree = MemoryTree::of(&[("deploy/w/docker-compose.yml", PLAIN), ("deploy/w/x", "")]);
    let limits = Limits { files_max: 1, ..Limits::default() };
    let discovery = discover(&tree, &source, &limits, None).unwrap();
    assert_eq!(code_of(&discovery.stacks[&b"w"[..]]), code::TOO_MANY_FILES);
}
