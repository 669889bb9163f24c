//! Real playbooks that cannot be loaded, mean nobody, are cancelled, or lose their agent.

use std::path::Path;

use hostler_agent::host::ansible::Ansible;
use hostler_protocol::job::{
    CacheSet, JobSpec, OutcomeState, PurgeMode, PurgeScope, PurgeSpec, StepState,
};
use hostler_tests::servers::{command, wait_for};

use super::{by_playbook, copied_playbooks, programs, repository, switched_off};
use crate::stand::{Options, Stand, ansible, context, error, files};

/// Whether any process still belongs to a run of that stand.
fn running(stand: &Stand) -> bool {
    let mark = format!("HOSTLER_MARK={}/", stand.dir().join("state/runs").display());
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()))
    })
}

#[tokio::test]
async fn playbooks_that_cannot_be_run_are_told_by_code() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    let copy = copied_playbooks(stand.dir());
    let good = std::fs::read_to_string(copy.join("env-cache-toggle.yml")).unwrap();
    stand.use_ansible(Ansible { playbook_dir: copy.clone(), ..ansible(stand.dir()) });
    let cases = [
        (good.replace("  tasks:\n", "  tasks: {\n"), "PLAYBOOK_INVALID", "env-cache-toggle.yml"),
        (
            good.replace("hostler_look:\n", "community.nowhere.look:\n"),
            "PLAYBOOK_INVALID",
            "community.nowhere.look",
        ),
        (good.replace("hosts: all", "hosts: web"), "PLAYBOOK_INVALID", "no host"),
    ];
    for (text, code, words) in cases {
        std::fs::write(copy.join("env-cache-toggle.yml"), text).unwrap();
        let outcome = stand.run_doc(by_playbook(stand.toggle_spec(&shop, Some(true), None))).await;
        let (found, message) = error(&outcome);
        assert_eq!(found, code, "{outcome:#?}");
        assert!(message.contains(words), "{message}");
        assert_eq!(files(&shop), [None, None, None], "files were left behind");
    }
}

/// What a changed playbook does about its own failures counts as Ansible counts it.
#[tokio::test]
async fn a_failure_that_is_rescued_fails_nothing_and_a_rescue_that_fails_does() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    switched_off(&stand, &shop).await;
    let copy = copied_playbooks(stand.dir());
    let good = std::fs::read_to_string(copy.join("cache-purge.yml")).unwrap();
    stand.use_ansible(Ansible { playbook_dir: copy.clone(), ..ansible(stand.dir()) });
    let with = |rescue: &str| {
        let more = format!(
            "  tasks:\n    - block:\n        - ansible.builtin.command: /bin/false\n      rescue:\n        - ansible.builtin.command: {rescue}\n"
        );
        good.replace("  tasks:\n", &more)
    };
    for (rescue, failed) in [("/bin/true", false), ("/bin/false", true)] {
        std::fs::write(copy.join("cache-purge.yml"), with(rescue)).unwrap();
        let caches = CacheSet { fastcgi: true, redis: false };
        let (environment, mode) = (shop.clone(), PurgeMode::Hard);
        let scope = PurgeScope::All;
        let spec = PurgeSpec { environment, caches, scope, mode, dry_run: false };
        let outcome = stand.run_doc(by_playbook(JobSpec::CachePurge(spec))).await;
        let code = outcome.error.as_ref().map(|error| error.code.as_str());
        assert_eq!(code, failed.then_some("PLAYBOOK_FAILED"), "{outcome:#?}");
    }
}

#[tokio::test]
async fn a_cancelled_playbook_ends_with_its_workers_and_is_undone() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    switched_off(&stand, &shop).await;
    let before = files(&shop);
    // The workers of a current Ansible leave the group of the program that started them.
    let [_, current] = programs();
    stand.use_ansible(Ansible { command: vec![current], ..ansible(stand.dir()) });
    let doc = by_playbook(stand.toggle_spec(&shop, Some(true), None));
    let outcome = stand.cancel_at("generation", doc).await;
    assert_eq!(outcome.state, OutcomeState::Cancelled, "{outcome:#?}");
    assert_eq!(files(&shop), before);
    let last = outcome.steps.last().unwrap();
    assert_eq!((last.step.as_str(), last.state), ("rollback", StepState::RolledBack));
    assert_eq!(stand.status(&shop, "/"), "OFF");
    assert!(!running(&stand), "something of the run still runs");
}

#[tokio::test]
async fn a_playbook_whose_agent_was_killed_is_ended_and_undone_at_the_next_start() {
    let mut stand = Stand::start("");
    let shop = stand.site("shop", &Options::default());
    switched_off(&stand, &shop).await;
    let before = files(&shop);
    let (context, mut progress) = context();
    let doc = by_playbook(stand.toggle_spec(&shop, Some(true), None));
    let actions = stand.actions.clone();
    let mut attempt = Box::pin(async move { actions.run(doc, context).await });
    let reached =
        async { while progress.recv().await.is_some_and(|told| told.step != "nginx_test") {} };
    tokio::select! {
        outcome = &mut attempt => panic!("it never came so far: {outcome:#?}"),
        () = reached => {}
    }
    // A killed agent drops nothing, so nothing of it ends or tidies up.
    std::mem::forget(attempt);
    assert!(running(&stand));
    stand.restart();
    let reports = stand.actions.recover().await;
    assert!(!running(&stand), "something of the run still runs");
    assert_eq!(files(&shop), before, "{reports:#?}");
    assert_eq!(stand.status(&shop, "/"), "OFF", "{reports:#?}");
    assert!(stand.actions.recover().await.is_empty(), "the second recovery did more");
    assert_eq!(std::fs::read_dir(stand.dir().join("state/runs")).unwrap().count(), 0);
}

/// A run whose events nobody reads any more begins not one more task.
#[test]
fn a_playbook_without_an_agent_stops_at_its_next_task() {
    let home = tempfile::tempdir().unwrap();
    let events = home.path().join("events");
    let made = command("mkfifo").arg(&events).status().unwrap();
    assert!(made.success());
    let playbook = home.path().join("two.yml");
    let (first, second) = (home.path().join("first"), home.path().join("second"));
    let touch = |path: &Path| format!("    - ansible.builtin.command: touch {}\n", path.display());
    let wait =
        format!("    - ansible.builtin.wait_for: {{path: {}}}\n", home.path().join("go").display());
    let text = format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n{}{wait}{}",
        touch(&first),
        touch(&second)
    );
    std::fs::write(&playbook, text).unwrap();
    let [system, _] = programs();
    let mut run = command(system)
        .args(["--inventory", "localhost,", "--connection", "local"])
        .arg(&playbook)
        .env("ANSIBLE_STDOUT_CALLBACK", "hostler_events")
        .env("ANSIBLE_CALLBACK_PLUGINS", repository().join("ansible/callback_plugins"))
        .env("ANSIBLE_HOME", home.path())
        .env("HOSTLER_EVENTS", &events)
        .spawn()
        .unwrap();
    let reader = std::fs::OpenOptions::new().read(true).open(&events).unwrap();
    wait_for("the first task", 60, || first.exists().then_some(())).unwrap();
    drop(reader);
    std::fs::write(home.path().join("go"), "").unwrap();
    let status = run.wait().unwrap();
    assert_eq!(status.code(), Some(70));
    assert!(!second.exists(), "it went on");
}
