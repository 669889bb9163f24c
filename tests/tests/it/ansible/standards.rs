//! What playbooks and modules are held to without running anything on a host.

use hostler_protocol::job::EnvironmentDoc;
use hostler_tests::servers::command;

use super::{by_hand, programs, repository};

#[test]
fn playbooks_pass_the_syntax_check_of_bare_ansible_old_and_new() {
    let home = tempfile::tempdir().unwrap();
    let playbooks = ["env-cache-toggle.yml", "cache-purge.yml", "cache-warm.yml"];
    let paths = playbooks.map(|name| repository().join("ansible").join(name));
    for program in programs() {
        let mut arguments = vec!["--syntax-check"];
        arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
        let (printed, status) = by_hand(&program, home.path(), &arguments);
        assert_eq!(status, Some(0), "{program}: {printed}");
    }
}

#[test]
fn modules_pass_their_own_tests() {
    let out = command("/usr/bin/python3")
        .args(["-B", "-m", "unittest", "discover", "-s", "ansible/tests", "-t", "ansible/tests"])
        .current_dir(repository())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && told.contains("\nOK"), "{told}");
}

#[test]
fn the_documented_example_is_an_environment() {
    let text = std::fs::read_to_string(repository().join("docs/ANSIBLE.md")).unwrap();
    let example = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let told: serde_json::Value = serde_json::from_str(example).unwrap();
    let environment: EnvironmentDoc =
        serde_json::from_value(told["hostler_environment"].clone()).unwrap();
    let again = serde_json::to_value(&environment).unwrap();
    assert_eq!(again, told["hostler_environment"], "the example says what nobody reads");
    // Every variable the page lists is read by a playbook, and the other way round.
    let mut read = std::collections::BTreeSet::new();
    for name in ["env-cache-toggle.yml", "cache-purge.yml", "cache-warm.yml"] {
        let playbook = std::fs::read_to_string(repository().join("ansible").join(name)).unwrap();
        for word in playbook.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let own = [
                "common",
                "render",
                "contents",
                "was_well",
                "look",
                "placed",
                "reload",
                "compared",
                "redis_changes",
                "page",
                "health_was",
                "health_before",
                "redis_left",
                "purge_fastcgi",
                "purge_redis",
                "nginx",
                "redis",
                "switch",
                "files",
                "probe",
                "cache",
                "warm",
                // Told by the agent alone.
                "applied_generation",
                "generation",
                "secret_file",
                "secret",
            ];
            if let Some(name) = word.strip_prefix("hostler_")
                && (!own.contains(&name) || ["nginx", "redis"].contains(&name))
            {
                read.insert(word.to_owned());
            }
        }
    }
    let listed = |name: &str| text.contains(&format!("`{name}`"));
    let silent: Vec<_> = read.iter().filter(|name| !listed(name)).collect();
    assert!(silent.is_empty(), "docs/ANSIBLE.md does not tell of {silent:?}");
}
