//! Encrypted files, made by the `age` program: they reach their services, and nobody else.

use std::path::Path;
use std::sync::Arc;

use hostler_protocol::job::{FileAction, JobSpec, OutcomeState, ServiceAction, StackPlanSpec};
use hostler_tests::servers::age;
use hostler_tests::servers::docker::DockerServer;
use hostler_tests::system::StackSystem;
use serde_json::{Value, json};

use super::{Host, done, hosts, why};
use crate::stand::error;

use ServiceAction::{Created, Recreated, Unchanged};

/// What must never be seen outside of its file and its container.
const SECRET: &str = "correct-horse-battery-staple";
const NEXT: &str = "another-horse-and-its-battery";

const COMPOSE: &str = "services:\n  web:\n    image: hostler-test/web:1\n    env_file: web.env\n    \
    secrets: [key]\n  other:\n    image: hostler-test/sleeper:1\nsecrets:\n  key:\n    \
    file: ./conf/key\n";

/// The stack with these two secrets, encrypted for that recipient.
fn files(recipient: &str, env: &str, key: &str) -> Vec<(&'static str, String)> {
    vec![
        ("docker-compose.yml", COMPOSE.to_owned()),
        ("web.env.age", age::encrypt(&[recipient], &format!("PASSWORD={env}\n")).unwrap()),
        ("conf/key.age", age::encrypt(&[recipient], key).unwrap()),
    ]
}

fn borrowed<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    files.iter().map(|(path, content)| (*path, content.as_str())).collect()
}

/// Everything of the host but the placed plaintexts, searched for what must not be there.
fn assert_kept(host: &Host, said: &str) {
    use sha2::{Digest as _, Sha256};
    for secret in [SECRET, NEXT] {
        assert!(!said.contains(secret), "{said}");
        let digest = hex::encode(Sha256::digest(secret));
        assert!(!said.contains(&digest), "{said}");
    }
    assert_nowhere(&host.dir(), &[SECRET, NEXT], &host.home().join("files"));
}

/// No file below a directory holds any of these, but for one directory of it.
fn assert_nowhere(dir: &Path, secrets: &[&str], but: &Path) {
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && path != but {
                waiting.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let has =
                    |secret: &&&str| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                assert_eq!(secrets.iter().find(has), None, "{}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn an_encrypted_file_reaches_its_service_and_only_its_change_makes_it_anew() {
    for host in hosts() {
        let ours = host.age_key();
        let first = files(&ours, SECRET, SECRET);
        let spec = host.spec(&borrowed(&first));
        let outcome = host.sync(&spec).await;
        assert_kept(&host, &format!("{outcome:?}"));
        let synced = host.synced(&spec).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Unchanged)]);
        assert!(host.inside("web", &["env"]).contains(&format!("PASSWORD={SECRET}\n")));
        assert_eq!(host.inside("web", &["cat", "/run/secrets/key"]), SECRET);
        assert!(!host.home().join("files/conf/key.age").exists());
        let before = host.running();

        // For another recipient as well: other bytes, and nothing to do.
        let (_, theirs) = age::keygen().unwrap();
        let again = [
            ("docker-compose.yml", COMPOSE.to_owned()),
            (
                "web.env.age",
                age::encrypt(&[&theirs, &ours], &format!("PASSWORD={SECRET}\n")).unwrap(),
            ),
            ("conf/key.age", age::encrypt(&[&theirs, &ours], SECRET).unwrap()),
        ];
        let spec = host.spec(&borrowed(&again));
        for told in [host.planned(&spec).await, host.synced(&spec).await] {
            assert_eq!(done(&told), [("other", Unchanged), ("web", Unchanged)]);
            assert_eq!(told.files, []);
        }
        assert_eq!(host.running(), before, "{:?}: something was done", host.compose);

        for (env, key, path, reason) in [
            (NEXT, SECRET, "web.env", "its `environment` changed"),
            (NEXT, NEXT, "conf/key", "its mounted file conf/key changed"),
        ] {
            let next = files(&ours, env, key);
            let spec = host.spec(&borrowed(&next));
            let planned = host.planned(&spec).await;
            let outcome = host.sync(&spec).await;
            assert_kept(&host, &format!("{planned:?} {outcome:?}"));
            let synced = crate::stand::result(&outcome);
            for told in [&planned, &synced] {
                assert_eq!(done(told), [("other", Unchanged), ("web", Recreated)], "{path}");
                assert_eq!(why(told, "web"), [reason]);
                let [file] = told.files.as_slice() else { panic!("{told:#?}") };
                assert_eq!((file.path.as_str(), file.action), (path, FileAction::Changed));
            }
            assert_eq!(host.running()[0], before[0], "the neighbour was touched");
        }
        assert!(host.inside("web", &["env"]).contains(&format!("PASSWORD={NEXT}\n")));
        assert_eq!(host.inside("web", &["cat", "/run/secrets/key"]), NEXT);

        // What was edited by hand is put right, as any other file.
        std::fs::write(host.home().join("files/conf/key"), "by hand").unwrap();
        let spec = host.spec(&borrowed(&files(&ours, NEXT, NEXT)));
        assert_eq!(done(&host.synced(&spec).await), [("other", Unchanged), ("web", Recreated)]);
        assert_eq!(host.inside("web", &["cat", "/run/secrets/key"]), NEXT);

        host.down(false).await;
        assert!(!host.home().exists(), "something was left behind");
    }
}

#[tokio::test]
async fn what_cannot_be_decrypted_refuses_the_sync_and_what_ran_runs_on() {
    for host in hosts() {
        // Without a key, then with one that is not the file's, then with one others may read.
        let (_, theirs) = age::keygen().unwrap();
        let foreign = files(&theirs, SECRET, SECRET);
        let spec = host.spec(&borrowed(&foreign));
        let (code, message) = error(&host.sync(&spec).await);
        assert_eq!(code, "AGE_KEY_MISSING");
        assert!(message.contains("`conf/key.age`"), "{message}");
        assert!(!host.home().exists(), "something was written");

        let ours = host.age_key();
        let good = files(&ours, SECRET, SECRET);
        host.synced(&host.spec(&borrowed(&good))).await;
        let before = host.running();
        for outcome in [
            host.sync(&spec).await,
            host.run(JobSpec::StackPlan(Box::new(StackPlanSpec(spec.clone())))).await,
        ] {
            let (code, message) = error(&outcome);
            assert_eq!(code, "DECRYPT_FAILED");
            assert!(message.contains("`conf/key.age`"), "{message}");
            assert!(outcome.error.as_ref().unwrap().hint.as_ref().unwrap().contains(&ours));
            assert_kept(&host, &format!("{outcome:?}"));
        }
        let broken = good[1].1.replacen("\nY", "\nZ", 1);
        let damaged = [good[0].clone(), (good[1].0, broken), good[2].clone()];
        let outcome = host.sync(&host.spec(&borrowed(&damaged))).await;
        assert_eq!(error(&outcome).0, "DECRYPT_FAILED");
        assert_eq!(host.running(), before);
        assert!(host.inside("web", &["env"]).contains(SECRET));

        // Removed from the repository, its plaintext goes as well.
        let without = "services:\n  web:\n    image: hostler-test/web:1\n  other:\n    \
            image: hostler-test/sleeper:1\n";
        let synced = host.synced(&host.spec(&[("docker-compose.yml", without)])).await;
        assert_eq!(done(&synced), [("other", Unchanged), ("web", Recreated)]);
        assert!(!host.home().join("files/web.env").exists());
        assert!(!host.home().join("files/conf").exists());
    }
}

#[tokio::test]
async fn an_unhealthy_stack_says_what_it_said_without_its_secrets_and_goes_back() {
    let fails = "services:\n  web:\n    image: hostler-test/sleeper:1\n    env_file: web.env\n    \
        command: ['sh', '-c', 'echo it is $$ODD; echo cannot start >&2; exit 3']\n";
    let runs = "services:\n  web:\n    image: hostler-test/sleeper:1\n    env_file: web.env\n";
    for host in hosts() {
        let ours = host.age_key();
        // Not a name that sounds like a secret: that it was encrypted is enough.
        let sealed = |value: &str| age::encrypt(&[&ours], &format!("ODD={value}\n")).unwrap();
        let good = host.spec(&[("docker-compose.yml", runs), ("web.env.age", &sealed(SECRET))]);
        assert_eq!(done(&host.synced(&good).await), [("web", Created)]);
        let bad = host.spec(&[("docker-compose.yml", fails), ("web.env.age", &sealed(NEXT))]);
        let outcome = host.sync(&bad).await;
        assert_eq!(outcome.state, OutcomeState::Failed);
        assert_eq!(error(&outcome).0, "STACK_UNHEALTHY");
        let said = outcome.error.as_ref().unwrap().output_tail.clone().unwrap();
        assert!(said.contains("it is [redacted]") && said.contains("cannot start"), "{said}");
        assert_kept(&host, &format!("{outcome:?}"));
        assert!(host.inside("web", &["env"]).contains(SECRET), "it did not go back");
        assert!(!host.synced(&good).await.changed);
    }
}

#[tokio::test]
async fn the_stack_s_own_variables_may_be_encrypted_and_compose_s_complaints_show_nothing() {
    let compose = "services:\n  web:\n    image: hostler-test/sleeper:1\n    \
        environment:\n      FROM: ${FROM:-nowhere}\n";
    for host in hosts() {
        let ours = host.age_key();
        let sealed = |text: &str| age::encrypt(&[&ours], text).unwrap();
        let from = sealed(&format!("FROM={SECRET}\n"));
        host.synced(&host.spec(&[("docker-compose.yml", compose), (".env.age", &from)])).await;
        assert!(host.inside("web", &["env"]).contains(SECRET));
        // The host's own layer lies over it; then neither is left.
        hostler_tests::servers::write(&host.home().join("host.env"), "MORE=1\n").unwrap();
        host.synced(&host.spec(&[("docker-compose.yml", compose), (".env.age", &from)])).await;
        assert!(host.inside("web", &["env"]).contains(SECRET));
        std::fs::remove_file(host.home().join("host.env")).unwrap();
        host.synced(&host.spec(&[("docker-compose.yml", compose)])).await;
        assert!(host.inside("web", &["env"]).contains("FROM=nowhere"));
        assert_kept(&host, "");
        // A file that compose does not understand is quoted in its complaint.
        let odd = sealed(&format!("A=1\nthis is \"{SECRET}\" and no variable\n"));
        let spec = host.spec(&[
            (
                "docker-compose.yml",
                &compose.replace("    environment", "    env_file: a.env\n    environment"),
            ),
            ("a.env.age", &odd),
        ]);
        let outcome = host.sync(&spec).await;
        assert_kept(&host, &format!("{outcome:?}"));
        if outcome.state == OutcomeState::Failed {
            assert_eq!(error(&outcome).0, "COMPOSE_INVALID", "{outcome:#?}");
        }
    }
}

#[test]
fn a_secret_goes_from_the_repository_to_its_service_and_the_controller_never_has_it() {
    let compose = "services:\n  web:\n    image: hostler-test/sleeper:1\n    \
        env_file: web.env\nx-hostler:\n  hosts: [web1]\n";
    let (key, first) = age::keygen().unwrap();
    let sealed = |recipient: &str, secret| {
        age::encrypt(&[recipient], &format!("PASSWORD={secret}\n")).unwrap()
    };
    let env = sealed(&first, SECRET);
    let files = [("shop/docker-compose.yml", compose), ("shop/web.env.age", env.as_str())];
    let engine = Arc::new(DockerServer::start().unwrap());
    let mut system = StackSystem::start(None, vec![engine], &files).unwrap();
    let failed = |code: &'static str| {
        move |stack: Option<&Value>| {
            stack.is_some_and(|stack| stack["on"][0]["last"]["error"]["code"] == code)
        }
    };
    let missing = failed("AGE_KEY_MISSING");
    let shop = system.wait_stack("shop", "without a key", missing).unwrap();
    // The key is put there, and somebody asks for a sync.
    hostler_tests::servers::write(&system.hosts[0].age_key_file(), &key).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(system.hosts[0].age_key_file(), mode).unwrap();
    assert_eq!(system.hosts[0].age_key().unwrap(), first);
    let path = format!("/api/stacks/{}/sync", shop["id"].as_str().unwrap());
    let reply = system.controller.call("POST", &path, Some(&json!({}))).unwrap();
    assert!(reply.status < 300, "{}", reply.text);
    let head = system.work.git(&["rev-parse", "HEAD"]).unwrap();
    system.wait_synced("shop", &head).unwrap();
    let seen = |system: &StackSystem| {
        let id = system.hosts[0].containers("shop").unwrap().remove(0).1;
        system.hosts[0].engine.docker(&["exec", &id, "env"]).unwrap()
    };
    assert!(seen(&system).contains(&format!("PASSWORD={SECRET}\n")));

    // A host without one makes its own, once, and says what to encrypt to.
    std::fs::remove_file(system.hosts[0].age_key_file()).unwrap();
    let ours = system.hosts[0].age_key().unwrap();
    assert!(ours != first && system.hosts[0].age_key().unwrap() == ours);
    let next = sealed(&ours, NEXT);
    let change = hostler_tests::servers::git::Change::File(next.as_bytes());
    system.work.set("shop/web.env.age", change).unwrap();
    system.push("Change a secret").unwrap();
    let head = system.work.git(&["rev-parse", "HEAD"]).unwrap();
    let shop = system.wait_synced("shop", &head).unwrap();
    let service = &shop["on"][0]["last"]["services"][0];
    assert_eq!(service["action"], "recreated", "{shop:#}");
    assert_eq!(service["reasons"], json!(["its `environment` changed"]));
    assert!(seen(&system).contains(&format!("PASSWORD={NEXT}\n")));
    let nowhere = Path::new("/nowhere");
    assert_nowhere(system.controller.dir(), &[SECRET, NEXT], nowhere);
    let placed = system.hosts[0].stacks_dir().join("shop/files");
    assert_nowhere(system.hosts[0].dir(), &[SECRET, NEXT], &placed);
}
