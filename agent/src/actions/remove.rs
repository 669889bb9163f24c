//! `env_delete`: take back everything Hostler put on the host for an environment. The site stays.
//!
//! The nginx files are emptied first and the configuration reloaded with proof; then each is
//! removed if nginx does without it (a vhost that names it would be broken, so there it stays,
//! empty). Until the environment is forgotten, any failure or cancellation brings them back.

use std::path::PathBuf;

use hostler_protocol::job::{
    Code, EnvironmentDoc, FastcgiDoc, RemoveResult, RemoveSpec, StepState,
};

use crate::host::fs::Look;
use crate::steps::leftover;
use crate::steps::live::Live;
use crate::steps::made;
use crate::steps::nginx;
use crate::steps::purge;
use crate::steps::redis_switch;
use crate::steps::render;
use crate::steps::run::{Failure, Run};
use crate::steps::state::{self, Applied};
use crate::steps::swap::Swap;
use crate::steps::tools::Tools;
use crate::steps::watch;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &RemoveSpec,
) -> Result<RemoveResult, Failure> {
    let environment = &spec.environment;
    let _alone = tools.nginx_lock.lock().await;
    leftover::clear(tools, run, &environment.id).await?;
    let applied = state::load(tools, &environment.id).await?;
    let mut swap = Swap::new(tools, &environment.id, spec.generation);
    let taken = Box::pin(take_back(tools, run, spec, applied.as_ref(), &mut swap)).await;
    let result = match taken {
        Ok(result) => result,
        Err(failure) => return Err(undo(tools, run, &mut swap, applied.as_ref(), failure).await),
    };
    let job = run.attempt().job.clone();
    run.settle("commit", StepState::Done, async {
        swap.finish().await?;
        watch::forget(tools, &environment.id);
        // From here on nothing is put back: the directories may go. They are remembered until they
        // have gone, so that an attempt that is cut off here can be repeated.
        let gone = match &applied {
            Some(applied) => made::take_away(tools, applied, &job).await,
            None => 0,
        };
        state::forget(tools, &environment.id).await?;
        Ok(((), format!("the environment is forgotten; {gone} empty directories removed")))
    })
    .await?;
    Ok(result)
}

async fn take_back(
    tools: &Tools,
    run: &mut Run,
    spec: &RemoveSpec,
    applied: Option<&Applied>,
    swap: &mut Swap,
) -> Result<RemoveResult, Failure> {
    let environment = &spec.environment;
    let mut result = RemoveResult { files: Vec::new(), purged: 0 };
    // Whatever could refuse comes before the first file is touched.
    let present = present(tools, environment, applied).await?;
    if !present.is_empty() {
        test_before(tools, run).await?;
    }
    if let Some(redis) = &environment.redis {
        let dropin = applied.and_then(|applied| applied.redis.clone()).and_then(|r| r.dropin);
        let mut plan = redis_switch::plan_removal(tools, environment, redis, dropin).await?;
        plan.switch = format!("{} files cleared of ours", plan.changes.len());
        redis_switch::put(run, swap, &plan).await?;
        result.files.extend(plan.changes.iter().map(|change| change.path.display().to_string()));
    }
    if present.is_empty() {
        run.skip("swap", "there are no nginx files");
    } else {
        empty_files(tools, run, applied, swap, &present).await?;
        result.files.extend(present.iter().map(|path| path.display().to_string()));
    }
    if let Some(applied) = applied {
        result.purged = purge_all(tools, run, environment, applied).await?;
    }
    if !present.is_empty() {
        remove_files(tools, run, &present, swap).await?;
    }
    Ok(result)
}

/// Our nginx files that are there: those the environment names, and those of before it named
/// others if no toggle has moved them yet.
async fn present(
    tools: &Tools,
    environment: &EnvironmentDoc,
    applied: Option<&Applied>,
) -> Result<Vec<PathBuf>, Failure> {
    let contents = nginx::read_files(tools, environment).await?;
    nginx::check_ours(environment, &contents)?;
    let paths = nginx::paths(environment).into_iter().zip(contents);
    let mut present: Vec<_> = paths.filter_map(|(path, content)| content.map(|_| path)).collect();
    if let Some(applied) = applied.filter(|applied| applied.nginx.is_some()) {
        let mark = render::mark(environment);
        let contents = nginx::read_files(tools, &applied.environment).await?;
        for (path, content) in nginx::paths(&applied.environment).into_iter().zip(contents) {
            let ours = content.is_some_and(|bytes| bytes.starts_with(mark.as_bytes()));
            if ours && !present.contains(&path) {
                present.push(path);
            }
        }
    }
    Ok(present)
}

/// Removes the entries of every cache directory that was ever this environment's.
async fn purge_all(
    tools: &Tools,
    run: &mut Run,
    environment: &EnvironmentDoc,
    applied: &Applied,
) -> Result<u64, Failure> {
    let fastcgi = environment.fastcgi.as_ref().or(applied.environment.fastcgi.as_ref());
    let mut purged = 0;
    for cache_dir in &applied.cache_dirs {
        if let Some(fastcgi) = fastcgi {
            let fastcgi = FastcgiDoc { cache_dir: cache_dir.clone(), ..fastcgi.clone() };
            purged += purge::all_step(tools, run, &fastcgi, applied).await?;
        }
    }
    Ok(purged)
}

/// Whether nginx runs and its configuration is sound.
async fn test_before(tools: &Tools, run: &mut Run) -> Result<(), Failure> {
    let cancel = run.cancel().clone();
    run.step("nginx_test_before", async {
        tools.nginx.check_running()?;
        let tested = tools.nginx.test(&cancel).await?;
        if tested.ok {
            return Ok(((), "the configuration passes".to_owned()));
        }
        Err(nginx::refused(Code::NginxConfigBroken, &tested))
    })
    .await
}

/// Empties the files and makes nginx forget them.
async fn empty_files(
    tools: &Tools,
    run: &mut Run,
    applied: Option<&Applied>,
    swap: &mut Swap,
    present: &[PathBuf],
) -> Result<(), Failure> {
    run.step("swap", async {
        swap.watch(present).await?;
        for path in present {
            swap.put(path, Vec::new(), Look { mode: 0o644, owner: None }).await?;
        }
        Ok(((), format!("{} files emptied", present.len())))
    })
    .await?;
    nginx::test_after(tools, run).await?;
    let live = live(tools, applied);
    run.step("reload", async {
        nginx::reload_away(tools, live.as_ref()).await?;
        let gone = live.map_or_else(String::new, |live| {
            format!("; generation {} answers no more", live.generation)
        });
        Ok(((), format!("told the nginx master process{gone}")))
    })
    .await
}

fn live(tools: &Tools, applied: Option<&Applied>) -> Option<Live> {
    applied.and_then(|applied| Live::of(tools, &applied.environment, applied))
}

/// Removes the emptied files that nginx can do without.
async fn remove_files(
    tools: &Tools,
    run: &mut Run,
    present: &[PathBuf],
    swap: &Swap,
) -> Result<(), Failure> {
    let cancel = run.cancel().clone();
    run.step("remove", async {
        let mut kept = 0;
        for path in present {
            swap.take_away(path).await?;
            if !tools.nginx.test(&cancel).await.is_ok_and(|tested| tested.ok) {
                swap.put(path, Vec::new(), Look { mode: 0o644, owner: None }).await?;
                kept += 1;
            }
        }
        Ok(((), format!("{kept} files stay, empty, because a vhost names them")))
    })
    .await
}

async fn undo(
    tools: &Tools,
    run: &mut Run,
    swap: &mut Swap,
    applied: Option<&Applied>,
    failure: Failure,
) -> Failure {
    if swap.is_empty() {
        return failure;
    }
    let live = live(tools, applied);
    let undone = run.settle("rollback", StepState::RolledBack, async {
        let changed = swap.undo().await?;
        let proof = nginx::reload_old(tools, live.as_ref(), None).await?;
        swap.finish().await?;
        Ok(((), format!("{} files are as they were; {proof}", changed.len())))
    });
    match undone.await {
        Ok(()) => failure,
        Err(second) => {
            let message = second.message().to_owned();
            Failure::new(Code::NginxRollbackFailed, message).at_step("rollback").after(&failure)
        }
    }
}
