//! What the host says of an attempt that was cut off: does it do now what was wanted?
//!
//! Asked after everything half-done has been put back. A toggle and a removal have a last step that
//! says they are done, and their effect can be looked at; of a purge nothing can be told afterwards,
//! since visitors fill the cache again: it is run once more. A stack's state says what was applied.

use hostler_protocol::job::{
    FlagResult, JobSpec, RemoveResult, RemoveSpec, StackDownResult, StackDownSpec, StackSyncResult,
    StackSyncSpec, ToggleResult, ToggleSpec,
};
use serde_json::Value;

use crate::steps::effect;
use crate::steps::live::Live;
use crate::steps::nginx;
use crate::steps::stack::{self, Home, State};
use crate::steps::state::{self, Applied};
use crate::steps::tools::Tools;

/// The result of an attempt that is done, as far as the host can prove it.
pub(super) async fn probe(tools: &Tools, spec: &JobSpec) -> Option<Value> {
    match spec {
        JobSpec::EnvCacheToggle(spec) => {
            serde_json::to_value(Box::pin(toggled(tools, spec)).await?).ok()
        }
        JobSpec::EnvDelete(spec) => serde_json::to_value(removed(tools, spec).await?).ok(),
        JobSpec::StackSync(spec) => serde_json::to_value(synced(tools, spec).await?).ok(),
        JobSpec::StackDown(spec) => serde_json::to_value(taken_down(tools, spec).await?).ok(),
        JobSpec::CachePurge(_)
        | JobSpec::EnvCheck(_)
        | JobSpec::CacheWarm(_)
        | JobSpec::CacheFacts(_)
        | JobSpec::CacheExplain(_)
        | JobSpec::StackPlan(_) => None,
    }
}

/// A toggle that was committed: what it remembered is what was asked, and it still answers.
async fn toggled(tools: &Tools, spec: &ToggleSpec) -> Option<ToggleResult> {
    let applied = state::load(tools, &spec.environment.id).await.ok()??;
    if applied.committed != spec.generation {
        return None;
    }
    let fastcgi = match spec.fastcgi_enabled {
        Some(enabled) => Some(page_cache(tools, spec, &applied, enabled).await?),
        None => None,
    };
    let redis = match (spec.redis_enabled, &applied.redis) {
        (Some(enabled), Some(switch)) if switch.enabled == enabled => {
            Some(flag(enabled, true, "the switch was put before the agent was cut off".to_owned()))
        }
        (Some(_), _) => return None,
        (None, _) => None,
    };
    let generation = applied.nginx.as_ref().map_or(spec.generation, |nginx| nginx.generation);
    Some(ToggleResult { generation, fastcgi, redis })
}

async fn page_cache(
    tools: &Tools,
    spec: &ToggleSpec,
    applied: &Applied,
    enabled: bool,
) -> Option<FlagResult> {
    let environment = &spec.environment;
    let Some(known) = &applied.nginx else {
        let off = !enabled && nginx::untouched(tools, environment).await.ok()?;
        return off.then(|| flag(false, false, "it was never on".to_owned()));
    };
    let live = Live::of(tools, environment, applied)?;
    let answered = effect::generation(&live).await.ok()??;
    if known.enabled != enabled || answered != known.generation {
        return None;
    }
    let changed = known.generation == spec.generation;
    Some(flag(enabled, changed, format!("generation {answered} answers")))
}

fn flag(enabled: bool, changed: bool, proof: String) -> FlagResult {
    FlagResult { enabled, changed, proof, purged: 0 }
}

/// A removal whose last step was done: the environment is forgotten, and nothing of ours is there.
async fn removed(tools: &Tools, spec: &RemoveSpec) -> Option<RemoveResult> {
    let environment = &spec.environment;
    let forgotten = state::load(tools, &environment.id).await.ok()?.is_none();
    let gone = forgotten && nginx::untouched(tools, environment).await.ok()?;
    gone.then(|| RemoveResult { files: Vec::new(), purged: 0 })
}

/// A sync that was written down as done, and whose containers still are as it left them.
async fn synced(tools: &Tools, spec: &StackSyncSpec) -> Option<StackSyncResult> {
    let home = Home::of(&tools.policy.docker.stacks_dir, &spec.stack).ok()?;
    let state = State::load(&home).await.ok()?;
    let (good, result) = (state.good?, state.result?);
    if state.attempt.is_some() || good.desired != spec.desired || result.desired != spec.desired {
        return None;
    }
    let engine = tools.docker.engine();
    let containers = engine.containers(home.project()).await.ok()?;
    let stopped = state.stopped.look(&engine, &containers).await.ok()?;
    let (respected, now_us) = (stopped.respected(spec.user_stopped), tools.clock.now_us());
    stack::is_as_wanted(&good, &containers, respected, now_us).then_some(result)
}

/// A stack that was taken down and forgotten.
async fn taken_down(tools: &Tools, spec: &StackDownSpec) -> Option<StackDownResult> {
    let home = Home::of(&tools.policy.docker.stacks_dir, &spec.stack).ok()?;
    let state = State::load(&home).await.ok()?;
    let engine = tools.docker.engine();
    let containers = engine.containers(home.project()).await.ok()?;
    if state != State::default() || !containers.is_empty() {
        return None;
    }
    let volumes = engine.volumes(home.project()).await.ok()?;
    (volumes.is_empty() || !spec.volumes).then(|| StackDownResult {
        containers: 0,
        volumes_kept: volumes,
        volumes_removed: Vec::new(),
        files_removed: !home.files().exists(),
    })
}
