//! The playbooks without controller and agent, as docs/ANSIBLE.md shows: a check changes nothing, a run
//! does what it says, a second run changes nothing more.

use hostler_tests::servers::nginx::Nginx;
use serde_json::json;

use super::{by_hand, programs, repository};
use crate::stand::{Options, Stand, entries};

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
