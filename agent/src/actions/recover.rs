//! What the agent does at its start: put back what a kill left half-changed, clear away what it
//! left lying about.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{EnvironmentDoc, StepReport, StepState};

use crate::host::ansible::Ansible;
use crate::host::fastcgi::empty_trash;
use crate::host::fs::{FsError, Roots, clear_staged};
use crate::host::links;
use crate::steps::leftover;
use crate::steps::live::Live;
use crate::steps::nginx;
use crate::steps::run::{Failure, blocking};
use crate::steps::soft;
use crate::steps::state;
use crate::steps::tools::Tools;

/// Recovers; every report is one thing that was done or could not be.
pub(super) async fn recover(tools: &Tools, ansible: &Ansible) -> Vec<StepReport> {
    let mut reports = Vec::new();
    let started_us = tools.clock.monotonic_us();
    // A playbook that still runs would go on changing what is put back now.
    let ended = ansible.clear();
    if ended > 0 {
        let told = Ok(format!("{ended} processes of a playbook that was cut off ended"));
        reports.push(report(tools, "clear", started_us, told));
    }
    for id in swaps(tools) {
        let started_us = tools.clock.monotonic_us();
        let told = put_back(tools, &id).await;
        reports.push(report(tools, "rollback", started_us, told));
    }
    let started_us = tools.clock.monotonic_us();
    match clear(tools).await {
        Ok(0) => {}
        Ok(count) => {
            let told = Ok(format!("{count} files left by an earlier run removed"));
            reports.push(report(tools, "clear", started_us, told));
        }
        Err(failure) => reports.push(report(tools, "clear", started_us, Err(failure))),
    }
    reports
}

/// Tries out soft purges with the first environment whose cache is on.
pub(super) async fn try_out(tools: &Tools) {
    let known = state::all(tools).await.unwrap_or_default();
    let live = known.iter().filter_map(|applied| Live::of(tools, &applied.environment, applied));
    if let Some(live) = live.into_iter().find(|live| live.enabled && live.current) {
        soft::support(tools, &live).await;
    }
}

/// Puts one environment right; nothing is reported when nothing was left.
pub(super) async fn put_right(tools: &Tools, id: &EnvironmentId) -> Vec<StepReport> {
    let started_us = tools.clock.monotonic_us();
    let _alone = tools.nginx_lock.lock().await;
    let told = leftover::put_back(tools, id).await.transpose();
    told.map(|told| report(tools, "rollback", started_us, told)).into_iter().collect()
}

fn report(tools: &Tools, step: &str, started_us: u64, told: Result<String, Failure>) -> StepReport {
    let (state, message) = match told {
        Ok(message) => (StepState::RolledBack, message),
        Err(failure) => {
            tracing::warn!(step, code = failure.code(), "recovery: {}", failure.message());
            (StepState::Failed, failure.message().to_owned())
        }
    };
    let took_us = tools.clock.monotonic_us().saturating_sub(started_us);
    StepReport { step: step.to_owned(), state, message, took_us }
}

/// Environments a swap was begun for and not finished.
fn swaps(tools: &Tools) -> Vec<EnvironmentId> {
    let listing = std::fs::read_dir(tools.state_dir.join("swaps"));
    let mut ids: Vec<EnvironmentId> = listing
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            entry.path().file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok())
        })
        .collect();
    ids.sort();
    ids
}

async fn put_back(tools: &Tools, id: &EnvironmentId) -> Result<String, Failure> {
    let _alone = tools.nginx_lock.lock().await;
    let told = leftover::put_back(tools, id).await?;
    Ok(told.unwrap_or_else(|| "nothing was left".to_owned()))
}

/// Removes staged files and trash of every environment this host remembers. What one site's user
/// put in the way keeps nobody else's from going.
async fn clear(tools: &Tools) -> Result<u64, Failure> {
    let known = state::all(tools).await?;
    let roots = tools.roots.clone();
    blocking(move || -> Result<_, FsError> {
        let mut count = 0;
        let mut first = None;
        let mut note = |cleared: Result<u64, FsError>| match cleared {
            Ok(cleared) => count += cleared,
            Err(error) => {
                first.get_or_insert(error);
            }
        };
        for applied in &known {
            for parent in parents(&roots, &applied.environment) {
                // What is not there, or not ours to look at any more, holds nothing of ours.
                if let Ok(dir) = roots.dir(&parent) {
                    note(clear_staged(&dir).map(|cleared| cleared as u64));
                }
            }
            for cache in &applied.cache_dirs {
                if let Some(parent) = Path::new(cache).parent()
                    && let Ok(dir) = roots.dir(parent)
                {
                    note(empty_trash(&dir));
                }
            }
        }
        first.map_or(Ok(count), Err)
    })
    .await
}

/// The directories files of an environment are staged in.
fn parents(roots: &Roots, environment: &EnvironmentDoc) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let mut parents: BTreeSet<PathBuf> =
        nginx::paths(environment).iter().filter_map(|path| parent(path)).collect();
    let docroot = PathBuf::from(&environment.docroot);
    let docroot = links::resolve(roots, &docroot).unwrap_or(docroot);
    let switch = environment.redis.as_ref().and_then(|redis| redis.switch_file.as_ref());
    parents.extend(switch.and_then(|path| parent(path.as_ref())));
    // `wp-config.php` may stand above the docroot.
    parents.extend(parent(&docroot));
    parents.extend([docroot.join("wp-content"), docroot]);
    parents
}
