//! The purge found in most snippets: `grep -rl KEY | xargs rm`.

use std::path::Path;

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::process::run;
use crate::servers::command;

/// Removes every entry with a line that matches; says how many seconds it took.
///
/// # Errors
/// If the shell fails.
pub fn purge_matching(cache: &Path, pattern: &str) -> Res<f64> {
    let watch = Watch::start();
    let script = r#"grep -rlaE -- "$1" "$2" | xargs rm --"#;
    run(command("sh").args(["-c", script, "sh", pattern]).arg(cache))?;
    Ok(watch.secs())
}

/// Removes the entry of `key` from `cache`; says how many seconds it took.
///
/// # Errors
/// If the shell fails, or the entry is still there.
pub fn purge_one(cache: &Path, key: &str) -> Res<f64> {
    let entry = crate::bench::cache_files::path(cache, key);
    if !entry.exists() {
        return Err(format!("{} was not there to be removed", entry.display()).into());
    }
    let watch = Watch::start();
    let script = r#"grep -rl -- "KEY: $1" "$2" | xargs rm --"#;
    run(command("sh").args(["-c", script, "sh", key]).arg(cache))?;
    let secs = watch.secs();
    if entry.exists() {
        return Err("grep and rm left the entry in place".into());
    }
    Ok(secs)
}
