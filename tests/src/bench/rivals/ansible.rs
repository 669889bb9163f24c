//! The same purge by `ansible-playbook`, by hand and on this machine: no SSH, no inventory to
//! read, no facts to gather, so that only its own cost is counted.

use std::path::Path;

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::process::run;
use crate::servers::command;

const PLAYBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/purge-url.yml");

/// Removes the entry of `key` from `cache`; says how many seconds it took.
///
/// # Errors
/// If Ansible fails, or the entry is still there.
pub fn purge_one(cache: &Path, key: &str, scratch: &Path) -> Res<f64> {
    let entry = crate::bench::cache_files::path(cache, key);
    if !entry.exists() {
        return Err(format!("{} was not there to be removed", entry.display()).into());
    }
    let vars = serde_json::json!({ "cache_dir": cache, "cache_key": key }).to_string();
    let watch = Watch::start();
    run(command("ansible-playbook")
        .args(["--inventory", "localhost,", "--connection", "local", "--extra-vars", &vars])
        .arg(PLAYBOOK)
        .env("ANSIBLE_LOCAL_TEMP", scratch.join("ansible-local"))
        .env("ANSIBLE_REMOTE_TEMP", scratch.join("ansible-remote"))
        .env("ANSIBLE_HOME", scratch.join("ansible-home"))
        .env("ANSIBLE_RETRY_FILES_ENABLED", "0"))?;
    let secs = watch.secs();
    if entry.exists() {
        return Err("the playbook left the entry in place".into());
    }
    Ok(secs)
}
