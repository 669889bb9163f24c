//! The playbooks' templates render what the agent renders, byte for byte: who changes one changes both.

use std::path::Path;

use hostler_agent::steps::render::{self, HeaderLevel, Plan};
use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{
    AppKind, EnvironmentDoc, FastcgiDoc, HealthDoc, KEY_FORMAT_DEFAULT, NginxDoc,
};
use serde_json::json;

use super::{by_hand, programs, repository};

/// Between two texts in what the playbook writes.
const BETWEEN: &str = "=====\n";

fn environment(number: u8, kind: AppKind) -> EnvironmentDoc {
    let names = ["shop", "{{ 1 + 1 }}", "a\"b'c\nd", "{% raw %}ü", "{# x #} ${y}"];
    let name = names[usize::from(number) % names.len()].to_owned();
    let domains = ["shop.test", "a-b.c.test", "xn--d1acufc.test"];
    EnvironmentDoc {
        id: EnvironmentId::from_parts(7, [number; 10]),
        site: name.clone(),
        name,
        domain: domains[usize::from(number) % domains.len()].to_owned(),
        kind,
        docroot: "/srv/shop".to_owned(),
        user: "www-data".to_owned(),
        nginx: NginxDoc {
            http_file: "/etc/nginx/hostler/shop/http.conf".to_owned(),
            server_file: "/etc/nginx/hostler/shop/server.conf".to_owned(),
            location_file: "/etc/nginx/hostler/shop/location.conf".to_owned(),
            probe_origin: "http://127.0.0.1".to_owned(),
        },
        fastcgi: Some(FastcgiDoc {
            cache_dir: format!("/var/cache/nginx/shop-{number}+~@,_"),
            key_format: [KEY_FORMAT_DEFAULT, "v1:$host|$request_uri", "%$host$request_uri#`<x>"]
                [usize::from(number) % 3]
                .to_owned(),
            zone_mib: 1 + u32::from(number),
            size_mib_max: 256,
            inactive_secs: 3600,
            valid_secs: 600 + u32::from(number),
        }),
        redis: None,
        health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 1000 },
        executor: None,
    }
}

/// What the agent renders in each case, and the same cases as the playbook is told them.
fn cases() -> (Vec<String>, Vec<serde_json::Value>) {
    let (mut texts, mut cases) = (Vec::new(), Vec::new());
    let headers = [
        (HeaderLevel::Http, "http"),
        (HeaderLevel::Server, "server"),
        (HeaderLevel::Location, "location"),
    ];
    let mut number = 0;
    for kind in [AppKind::Php, AppKind::Wordpress] {
        for enabled in [true, false] {
            for (header, header_name) in headers {
                number += 1;
                let environment = environment(number, kind);
                let generation = 1_000_000 * u64::from(number) + 7;
                let secret = format!("{number:024x}");
                let rendered = render::render(&Plan {
                    environment: &environment,
                    fastcgi: environment.fastcgi.as_ref().unwrap(),
                    enabled,
                    generation,
                    secret: &secret,
                    header,
                });
                texts.extend([rendered.http, rendered.server, rendered.location]);
                let mut environment = serde_json::to_value(&environment).unwrap();
                for key in ["site", "name"] {
                    environment[key] = json!({ "__ansible_unsafe": environment[key] });
                }
                cases.push(json!({
                    "hostler_environment": environment,
                    "hostler_render": {
                        "generation": generation,
                        "secret": secret,
                        "enabled": enabled,
                        "header": header_name,
                    },
                }));
            }
        }
    }
    (texts, cases)
}

fn rendered(program: &str, home: &Path, cases: &[serde_json::Value]) -> Vec<String> {
    let (out, variables) = (home.join("out"), home.join("variables.json"));
    let templates = repository().join("ansible/templates");
    let told = json!({
        "cases": cases,
        "templates": templates,
        "out": out,
        "ansible_python_interpreter": "/usr/bin/python3",
    });
    std::fs::write(&variables, told.to_string()).unwrap();
    let playbook = repository().join("tests/ansible/render.yml");
    let variables = format!("@{}", variables.display());
    let (printed, status) =
        by_hand(program, home, &["--extra-vars", &variables, playbook.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{printed}");
    let text = std::fs::read_to_string(out).unwrap();
    text.split(BETWEEN).skip(1).map(str::to_owned).collect()
}

#[test]
fn templates_render_what_the_agent_renders() {
    let (expected, cases) = cases();
    for program in programs() {
        let home = tempfile::tempdir().unwrap();
        let rendered = rendered(&program, home.path(), &cases);
        assert_eq!(rendered.len(), expected.len(), "{program}");
        for (place, (rendered, expected)) in rendered.iter().zip(&expected).enumerate() {
            let case = &cases[place / 3];
            assert_eq!(rendered, expected, "{program}, file {} of {case:#}", place % 3);
        }
    }
}
