//! The Ansible executor beside the native one, on real servers and by real playbooks; and the playbooks
//! by hand. A run takes seconds of processor time, so each of these asks for many things at once.

mod alike;
mod by_hand;
mod fakes;
mod faults;
mod odd;
mod render;
mod standards;

use std::path::{Path, PathBuf};

use hostler_protocol::job::{EnvironmentDoc, Executor, JobDoc, JobSpec, ToggleResult};

use crate::stand::{Stand, result};

/// The same job by a playbook.
fn by_playbook(spec: JobSpec) -> JobDoc {
    JobDoc { executor: Executor::Ansible, probe: false, spec }
}

/// Sets a site up and leaves its page cache off.
async fn switched_off(stand: &Stand, site: &EnvironmentDoc) {
    for on in [true, false] {
        result::<ToggleResult>(&stand.toggle(site, on).await);
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The system's `ansible-playbook`, and a current one.
fn programs() -> [String; 2] {
    let current = repository().join("target/ansible/bin/ansible-playbook");
    assert!(current.is_file(), "{} is missing: run tests/setup/ansible.sh", current.display());
    ["ansible-playbook".to_owned(), current.to_str().unwrap().to_owned()]
}

/// Runs an `ansible-playbook` as a person would, in a home of its own; what it printed and its status.
fn by_hand(program: &str, home: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let out = hostler_tests::servers::command(program)
        .args(["--inventory", "localhost,", "--connection", "local"])
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", home)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let both = [out.stdout, out.stderr].concat();
    (String::from_utf8_lossy(&both).into_owned(), out.status.code())
}

/// A copy of the playbooks that may be broken.
fn copied_playbooks(to: &Path) -> PathBuf {
    let copy = to.join("ansible");
    let from = repository().join("ansible");
    let done = hostler_tests::servers::command("cp").arg("-r").arg(&from).arg(&copy).status();
    assert!(done.unwrap().success());
    copy
}
