//! What playbooks and modules are held to without running anything on a host.

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
