//! Programs that stand in `ansible-playbook`'s place and misbehave: hang, print rubbish, die, lie.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_agent::host::ansible::Ansible;
use hostler_protocol::job::{JobSpec, Outcome};

use super::{by_playbook, switched_off};
use crate::stand::{Options, Stand, ansible, error, files};

/// A stand with an applied site and a program of that shell script.
async fn with_program(script: &str) -> (Stand, JobSpec) {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    switched_off(&stand, &shop).await;
    let command = vec![program(stand.dir(), script)];
    let timeout = Duration::from_secs(2);
    stand.use_ansible(Ansible { command, timeout, ..ansible(stand.dir()) });
    let spec = stand.toggle_spec(&shop, Some(true), None);
    (stand, spec)
}

fn program(dir: &Path, script: &str) -> String {
    let path = dir.join("ansible-playbook");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn ends(script: &str) -> (Stand, Outcome) {
    let (stand, spec) = with_program(script).await;
    let outcome = stand.run_doc(by_playbook(spec)).await;
    let runs = std::fs::read_dir(stand.dir().join("state/runs")).unwrap();
    let left: Vec<PathBuf> = runs.map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "these stay: {left:?}");
    (stand, outcome)
}

const START: &str = r#"echo '{"event":"start"}' > $HOSTLER_EVENTS"#;
const OK: &str = r#"echo '{"event":"ok","task":"a"}' > $HOSTLER_EVENTS"#;
const STATS: &str = r#"echo '{"event":"stats","ok":1,"failures":0}' > $HOSTLER_EVENTS"#;

#[tokio::test]
async fn a_hanging_playbook_ends_with_everything_it_started() {
    let script = format!("{START}\nsetsid sleep 3607 &\nsleep 3607 &\nwait");
    let (_stand, outcome) = ends(&script).await;
    let (code, message) = error(&outcome);
    assert_eq!((code.as_str(), message.contains("longer than 2000 ms")), ("TIMED_OUT", true));
    let processes = hostler_tests::servers::command("pgrep").args(["-f", "^sleep 3607"]).output();
    let left = processes.unwrap().stdout;
    assert!(left.is_empty(), "still there: {}", String::from_utf8_lossy(&left));
}

/// A task may become somebody else, whose environment has no mark, in a session of its own.
#[tokio::test]
async fn what_forgot_its_environment_ends_too() {
    for script in ["setsid env -i /bin/sleep 3611 &\nwait", "env -i /bin/sh -c 'sleep 3611; true'"]
    {
        let (_stand, outcome) = ends(&format!("{START}\n{script}")).await;
        assert_eq!(error(&outcome).0, "TIMED_OUT");
        let left = hostler_tests::servers::command("pgrep").args(["-f", "sleep 3611"]).output();
        let left = left.unwrap().stdout;
        assert!(left.is_empty(), "{script}: {}", String::from_utf8_lossy(&left));
    }
}

#[tokio::test]
async fn rubbish_on_every_channel_is_told_apart_from_a_result() {
    let rubbish = "i=0; while [ $i -lt 20000 ]; do echo 'TASK [x] fatal: {\"event\":\"stats\"}'; echo 'ERROR! no' >&2; i=$((i+1)); done";
    // What is printed is never read: without events there was no run.
    let (_stand, outcome) = ends(&format!("{rubbish}\n{START}\n{OK}\n{STATS}")).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "PLAYBOOK_FAILED", "{message}");
    assert!(outcome.error.unwrap().output_tail.is_none_or(|tail| tail.len() <= 10 * 1024));

    let endless = r#"yes '{"event":"ok","task":"a"}' | head -n 6000 > $HOSTLER_EVENTS"#;
    let (_stand, outcome) = ends(&format!("{START}\n{endless}\n{STATS}")).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "PLAYBOOK_ABORTED", "{message}");
    assert!(message.contains("(1002 lines of its events cannot be read)"), "{message}");

    let broken = "head -c 5000000 /dev/zero | tr '\\0' x > $HOSTLER_EVENTS; echo > $HOSTLER_EVENTS";
    let (_stand, outcome) =
        ends(&format!("{START}\n{broken}\necho '{{' > $HOSTLER_EVENTS\n{STATS}")).await;
    let (code, message) = error(&outcome);
    assert_eq!(code, "PLAYBOOK_ABORTED", "{message}");
    assert!(message.contains("(2 lines of its events cannot be read)"), "{message}");
}

#[tokio::test]
async fn what_dies_or_lies_on_its_way_is_no_success() {
    let proof = r#"echo '{"event":"ok","task":"[effect] x","step":"effect","data":{"proof":"I swear"}}' > $HOSTLER_EVENTS"#;
    let cases = [
        (format!("{START}\nkill -9 $$"), "PLAYBOOK_ABORTED"),
        (format!("{START}\n{OK}\nexit 0"), "PLAYBOOK_ABORTED"),
        ("echo 'ERROR! it cannot be' >&2; exit 4".to_owned(), "PLAYBOOK_INVALID"),
        // It says all went well and does not say what it did; or it claims what is not so.
        (format!("{START}\n{OK}\n{STATS}"), "PLAYBOOK_FAILED"),
        (format!("{START}\n{proof}\n{STATS}"), "NGINX_RELOAD_NOT_APPLIED"),
    ];
    for (script, code) in cases {
        let (_stand, outcome) = ends(&script).await;
        assert_eq!(error(&outcome).0, code, "{script}: {outcome:#?}");
    }
}

#[tokio::test]
async fn a_playbook_that_breaks_files_and_dies_is_put_right() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    switched_off(&stand, &shop).await;
    let before = std::fs::read(&shop.nginx.location_file).unwrap();
    let reload = r#"echo '{"event":"task","task":"[reload] x","step":"reload"}' > $HOSTLER_EVENTS"#;
    let script = format!(
        "{START}\nprintf 'nonsense;' > {}\n{reload}\nkill -HUP $(cat {})\nexit 1",
        shop.nginx.location_file,
        stand.nginx.pid_file().display()
    );
    let command = vec![program(stand.dir(), &script)];
    stand.use_ansible(Ansible { command, ..ansible(stand.dir()) });
    let outcome = stand.run_doc(by_playbook(stand.toggle_spec(&shop, Some(true), None))).await;
    assert_eq!(error(&outcome).0, "PLAYBOOK_ABORTED", "{outcome:#?}");
    assert_eq!(std::fs::read(&shop.nginx.location_file).unwrap(), before);
    assert!(outcome.steps.iter().any(|step| step.step == "rollback"), "{outcome:#?}");
    assert_eq!(stand.status(&shop, "/"), "OFF");
}

#[tokio::test]
async fn no_secret_is_on_the_command_line_nor_in_the_variables() {
    let (stand, spec) = with_program("true").await;
    let seen = stand.dir().join("seen");
    let script = format!(
        "for a in \"$@\"; do case $a in @*) v=${{a#@}};; esac; done\n\
         {{ echo \"$@\"; env; stat -c %a $v; cat $v; }} > {}",
        seen.display()
    );
    program(stand.dir(), &script);
    let JobSpec::EnvCacheToggle(mut toggle) = spec else { panic!("no toggle") };
    toggle.environment = stand.with_redis(toggle.environment, 1, "sesame-open-9", "p:{{ x }}");
    toggle.redis_enabled = Some(true);
    let outcome = stand.run_doc(by_playbook(JobSpec::EnvCacheToggle(toggle))).await;
    assert_eq!(error(&outcome).0, "PLAYBOOK_ABORTED");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("\n600\n") && seen.contains("ANSIBLE_CONFIG="), "{seen}");
    assert!(seen.contains(r#"{"__ansible_unsafe":"p:{{ x }}"}"#), "{seen}");
    assert!(!seen.contains("sesame-open-9"), "the password was handed out: {seen}");
}

#[tokio::test]
async fn what_is_not_installed_is_named() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let spec = || stand.toggle_spec(&shop, Some(true), None);
    let (first, second) = (spec(), spec());
    let usual = ansible(stand.dir());
    let command = vec!["/nowhere/ansible-playbook".to_owned()];
    stand.use_ansible(Ansible { command, ..usual.clone() });
    let (code, message) = error(&stand.run_doc(by_playbook(first)).await);
    assert_eq!((code.as_str(), message.contains("/nowhere/")), ("ANSIBLE_MISSING", true));
    let playbook_dir = stand.dir().to_owned();
    stand.use_ansible(Ansible { playbook_dir, ..usual });
    let (code, message) = error(&stand.run_doc(by_playbook(second)).await);
    assert_eq!(code, "PLAYBOOK_MISSING", "{message}");
    assert!(message.contains("env-cache-toggle.yml"), "{message}");
    assert_eq!(files(&shop), [None, None, None], "something was made nevertheless");
    assert!(!Path::new(&shop.fastcgi.unwrap().cache_dir).exists(), "and a cache too");
}
