use super::ReferenceKind::{Bind, BuildContext, Config, EnvFile, Extends, Include, Secret};
use super::*;

fn references(text: &str) -> Vec<(ReferenceKind, String, Option<String>, bool)> {
    let file = read(text.as_bytes()).unwrap();
    let tuple = |to: Reference| (to.kind, to.path, to.service, to.required);
    file.references.into_iter().map(tuple).collect()
}

fn of(service: &str) -> Option<String> {
    Some(service.to_owned())
}

#[test]
fn services_and_the_name_are_read() {
    let file = read(
        b"name: Shop\nx-base: &base {image: 'web:${TAG}'}\nservices:\n  web:\n    <<: *base\n  \
          worker: {build: ., profiles: [tools]}\n  nothing:\n",
    )
    .unwrap();
    assert_eq!(file.name.as_deref(), Some("Shop"));
    assert_eq!(file.services["web"].image.as_deref(), Some("web:${TAG}"));
    assert!(file.services["worker"].build && file.services["worker"].profiled);
    assert_eq!(file.services["nothing"], Service::default());
    assert_eq!(file.hostler, None);
}

#[test]
fn env_files_have_three_shapes() {
    let text = "services:\n  a: {env_file: a.env}\n  b: {env_file: [b.env, ../c.env]}\n  \
                c: {env_file: [{path: d.env, required: false}, {path: e.env, format: raw}]}\n  \
                d: {label_file: labels}\n";
    assert_eq!(
        references(text),
        [
            (EnvFile, "a.env".into(), of("a"), true),
            (EnvFile, "b.env".into(), of("b"), true),
            (EnvFile, "../c.env".into(), of("b"), true),
            (EnvFile, "d.env".into(), of("c"), false),
            (EnvFile, "e.env".into(), of("c"), true),
            (EnvFile, "labels".into(), of("d"), true),
        ]
    );
}

#[test]
fn configs_and_secrets_are_of_the_services_that_name_them() {
    let text = "services:\n  a: {configs: [app], secrets: [{source: key, target: k}]}\n  \
                b: {configs: [{source: app}]}\nconfigs:\n  app: {file: ./app.conf}\n  \
                inline: {content: x}\n  unused: {file: u.conf}\nsecrets:\n  key: {file: key.txt}\n  \
                env: {environment: KEY}\n  out: {external: true}\n";
    assert_eq!(
        references(text),
        [
            (Config, "./app.conf".into(), of("a"), true),
            (Config, "./app.conf".into(), of("b"), true),
            (Config, "u.conf".into(), None, false),
            (Secret, "key.txt".into(), of("a"), true),
        ]
    );
}

#[test]
fn binds_and_build_contexts_are_found() {
    let text = "services:\n  a:\n    volumes: [./conf:/c:ro, data:/d, /etc/x:/x, ~/y:/y, \
                {type: bind, source: more, target: /m}]\n    build:\n      context: ../src\n      \
                dockerfile: docker/Dockerfile\n      additional_contexts: [lib=../lib, \
                base=docker-image://base, self=service:b]\n  b: {build: https://example.org/x.git}\n  \
                c: {build: {context: ., additional_contexts: {docs: ../docs}}}\n\
                volumes:\n  data:\n  bound: {driver_opts: {o: bind, type: none, device: ./bound}}\n";
    assert_eq!(
        references(text),
        [
            (BuildContext, "../src".into(), of("a"), true),
            (BuildContext, "../src/docker/Dockerfile".into(), of("a"), true),
            (BuildContext, "../lib".into(), of("a"), true),
            (Bind, "./conf".into(), of("a"), false),
            (Bind, "more".into(), of("a"), false),
            (BuildContext, ".".into(), of("c"), true),
            (BuildContext, "../docs".into(), of("c"), true),
            (Bind, "./bound".into(), None, false),
        ]
    );
}

#[test]
fn includes_and_extends_bring_other_compose_files() {
    let text = "include:\n  - ../common/base.yml\n  - path: [a/x.yml, b/y.yml]\n    env_file: e.env\n  \
                - {path: c.yml, project_directory: elsewhere}\n  - oci://registry.example/app:1\n\
                services:\n  a: {extends: {file: ../tmpl.yml, service: t}}\n  \
                b: {extends: {service: a}}\n  c: {extends: a}\n";
    let file = read(text.as_bytes()).unwrap();
    let of_kind = |kind: ReferenceKind| {
        let all = file.references.iter().filter(move |to| to.kind == kind);
        all.map(|to| (to.path.as_str(), to.project_directory.as_deref())).collect::<Vec<_>>()
    };
    assert_eq!(
        of_kind(Include),
        [
            ("../common/base.yml", Some("../common")),
            ("a/x.yml", Some("a")),
            ("b/y.yml", Some("a")),
            ("c.yml", Some("elsewhere")),
        ]
    );
    assert_eq!(of_kind(Extends), [("../tmpl.yml", None)]);
    let env = of_kind(EnvFile);
    assert!(env.contains(&("e.env", None)) && env.contains(&("../common/.env", None)), "{env:?}");
}

#[test]
fn a_path_with_a_variable_is_kept_and_marked() {
    let text = "services:\n  a: {env_file: ['${ENV}.env', 'a$$b.env'], \
                volumes: ['${DIR:-./x}/y:/z', '$HOME:/h']}\n";
    let file = read(text.as_bytes()).unwrap();
    let marked: Vec<_> =
        file.references.iter().map(|to| (to.path.as_str(), to.resolvable)).collect();
    assert_eq!(
        marked,
        [("${ENV}.env", false), ("a$b.env", true), ("${DIR:-./x}/y", false), ("$HOME", false)]
    );
}

#[test]
fn several_documents_are_one_file() {
    let file =
        read(b"services: {a: {image: x}}\n---\nservices: {b: {image: y}}\nname: n\n").unwrap();
    assert_eq!(file.services.len(), 2);
    assert_eq!(file.name.as_deref(), Some("n"));
    assert_eq!(read(b"").unwrap(), ComposeFile::default());
    assert_eq!(read(b"# nothing\n").unwrap(), ComposeFile::default());
}

#[test]
fn a_wrong_shape_is_refused_with_its_place() {
    for (text, place) in [
        ("[1]", "mapping"),
        ("services: []", "services"),
        ("services: {a: 1}", "services.a"),
        ("services: {a: {volumes: {x: y}}}", "services.a.volumes"),
        ("services: {a: {env_file: [{required: true}]}}", "services.a.env_file.path"),
        ("services: {a: {env_file: [{path: x, required: 1}]}}", "services.a.env_file.required"),
        ("services: {a: {build: {additional_contexts: 1}}}", "additional_contexts"),
        ("include: [{env_file: x}]", "include.path"),
        ("secrets: {a: {file: []}}", "secrets.a.file"),
        ("services: {a: {image: [", "line"),
    ] {
        let problem = read(text.as_bytes()).unwrap_err();
        assert_eq!(problem.code, code::COMPOSE_INVALID);
        assert!(problem.message.contains(place), "{text}: {}", problem.message);
    }
    let large = read(&vec![b'#'; COMPOSE_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(large.code, code::COMPOSE_TOO_LARGE);
}

#[test]
fn the_section_is_read_or_its_problems_are_named() {
    let file = read(b"x-hostler: {hosts: [web-1]}\nservices: {a: }\n").unwrap();
    assert_eq!(file.hostler.unwrap().hosts, ["web-1"]);
    let file = read(b"x-hostler: {host: web-1}\nservices: {a: }\n").unwrap();
    assert_eq!(file.hostler, None);
    assert_eq!(file.hostler_problems[0].0, "/host");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        match read(&bytes) {
            Ok(file) => proptest::prop_assert!(file.references.len() <= REFERENCES_MAX),
            Err(problem) => proptest::prop_assert_eq!(problem.code, code::COMPOSE_INVALID),
        }
    }

    #[test]
    fn any_text_of_yaml_is_read_or_refused(text in "[a-z:\\-\\[\\]{}&*<! \\n'\"$#|>,.]{0,200}") {
        match read(text.as_bytes()) {
            Ok(file) => proptest::prop_assert!(file.references.len() <= REFERENCES_MAX),
            Err(problem) => proptest::prop_assert_eq!(problem.code, code::COMPOSE_INVALID),
        }
    }
}
