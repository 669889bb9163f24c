//! The playbooks without controller and agent, as docs/ANSIBLE.md shows: a check changes nothing, a run
//! does what it says, a second run changes nothing more.

use hostler_protocol::job::ToggleResult;
use hostler_tests::servers::nginx::Nginx;
use hostler_tests::servers::redis::Redis;
use serde_json::json;

use super::{by_hand, programs, repository};
use crate::stand::{Options, Stand, entries, result};

fn variables(nginx: &Nginx, environment: &serde_json::Value) -> serde_json::Value {
    json!({
        "hostler_environment": environment,
        "hostler_nginx": {
            "command": nginx.command_line().unwrap(),
            "pid_file": nginx.pid_file(),
            "error_log": nginx.dir().join("error.log"),
        },
        "hostler_fastcgi_enabled": true,
        "ansible_python_interpreter": "/usr/bin/python3",
    })
}

#[test]
fn by_hand_a_check_changes_nothing_and_neither_does_a_second_run() {
    let stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let home = tempfile::tempdir().unwrap();
    let mut told = variables(&stand.nginx, &serde_json::to_value(&shop).unwrap());
    told["hostler_state_dir"] = json!(home.path().join("state"));
    let file = home.path().join("shop.json");
    std::fs::write(&file, told.to_string()).unwrap();
    let [_, current] = programs();
    let playbook = repository().join("ansible/env-cache-toggle.yml");
    let variables = format!("@{}", file.display());
    let run = |more: &[&str]| {
        let mut arguments = vec!["--extra-vars", &variables, playbook.to_str().unwrap()];
        arguments.extend(more);
        by_hand(&current, home.path(), &arguments)
    };

    let (printed, status) = run(&["--check", "--diff"]);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("+fastcgi_cache_path ") && printed.contains("changed=2"), "{printed}");
    assert!(printed.contains("effect:{hostler_secret}") || printed.contains("effect:[redacted]"));
    let written = entries(stand.dir().join("shop/nginx").to_str().unwrap());
    assert!(written.is_empty(), "a check wrote {written:?}");
    assert_eq!(stand.status(&shop, "/"), "none");

    let (printed, status) = run(&[]);
    assert_eq!(status, Some(0), "{printed}");
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);

    let (printed, status) = run(&[]);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("changed=0"), "{printed}");
    assert_eq!(stand.status(&shop, "/"), "HIT", "an idle run lost the cache");
    let left = entries(home.path().join("state").to_str().unwrap());
    assert!(left.is_empty(), "the record of a committed change stays: {left:?}");
}

/// However much Ansible is asked to tell, it tells no secret; and a check removes and fetches nothing.
#[tokio::test]
async fn by_hand_nothing_tells_a_secret_and_checks_leave_both_caches_alone() {
    const PASSWORD: &str = "sesame-open-9";
    let stand = Stand::start("");
    let redis = Redis::start(Some(PASSWORD), "").unwrap();
    let site = stand.site("shop", &Options::default());
    let shop = stand.with_redis(site, redis.port, PASSWORD, "shop:");
    result::<ToggleResult>(&stand.toggle(&shop, true).await);
    let mut connection = redis.connect().unwrap();
    redis::cmd("SET").arg("shop:1").arg("x").exec(&mut connection).unwrap();
    assert_eq!([stand.status(&shop, "/"), stand.status(&shop, "/")], ["MISS", "HIT"]);
    let text = std::fs::read_to_string(&shop.nginx.http_file).unwrap();
    let secret = text.split("\"effect:").nth(1).unwrap().split('"').next().unwrap();

    let home = tempfile::tempdir().unwrap();
    let mut told = variables(&stand.nginx, &serde_json::to_value(&shop).unwrap());
    told["hostler_state_dir"] = json!(home.path().join("state"));
    told["hostler_urls"] = json!(["http://shop.test/", "http://shop.test/new"]);
    let file = home.path().join("shop.json");
    let told = |more: serde_json::Value| {
        let mut told = told.clone();
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        std::fs::write(&file, told.to_string()).unwrap();
    };
    let variables = format!("@{}", file.display());
    for program in programs() {
        let run = |playbook: &str, more: &[&str]| {
            let playbook = repository().join("ansible").join(playbook);
            let mut arguments = vec!["-vvv", "--diff", "--extra-vars", &variables];
            arguments.extend(more);
            arguments.push(playbook.to_str().unwrap());
            let (printed, status) = by_hand(&program, home.path(), &arguments);
            assert_eq!(status, Some(0), "{playbook:?} {printed}");
            for hidden in [secret, PASSWORD] {
                assert!(!printed.contains(hidden), "{playbook:?} tells {hidden}: {printed}");
            }
            printed
        };
        told(json!({ "hostler_redis_enabled": true }));
        run("env-cache-toggle.yml", &["--check"]);
        told(json!({ "hostler_fastcgi_enabled": false, "hostler_redis_enabled": false }));
        run("env-cache-toggle.yml", &["--check"]);
        told(json!({}));
        let printed = run("cache-purge.yml", &["--check"]);
        assert!(printed.contains("changed=2"), "{printed}");
        run("cache-warm.yml", &["--check"]);
        assert_eq!(entries(&shop.fastcgi.as_ref().unwrap().cache_dir).len(), 1);
        let key: Option<String> = redis::cmd("GET").arg("shop:1").query(&mut connection).unwrap();
        assert_eq!(key.as_deref(), Some("x"), "a check removed a key");
        assert_eq!(stand.status(&shop, "/"), "HIT");
        assert!(!stand.dir().join("redis-switch.json").exists(), "a check switched Redis");
    }
}
