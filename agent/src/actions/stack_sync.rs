//! `stack_sync`: make a stack run as a bundle says, or leave it as it was.

use std::collections::BTreeSet;

use hostler_protocol::job::{
    Code, FileChange, NAMED_FILES_MAX, PullPolicy, ServiceAction, ServiceChange, StackSyncResult,
    StackSyncSpec, StepState, UserStopped,
};

use crate::host::docker::Container;
use crate::steps::bundle::{self, Opened};
use crate::steps::run::{Failure, Run};
use crate::steps::stack::{
    self, Applied, Applying, Attempt, Baseline, Begun, Resolved, Site, State, Stopped, keep_bundles,
};
use crate::steps::tools::Tools;

/// Characters of a bundle's name that people are shown.
const SHORT_CHARS: usize = 12;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &StackSyncSpec,
) -> Result<StackSyncResult, Failure> {
    let cancel = run.cancel().clone();
    let (begun, same) = run
        .step("stack_look", async {
            let begun = Begun::of(tools, spec, &cancel).await?;
            let same = begun.is_same(spec).await?;
            let message = if same { "all is as wanted" } else { "there is something to do" };
            Ok(((begun, same), message.to_owned()))
        })
        .await?;
    let respect = spec.user_stopped == UserStopped::Respect;
    if same {
        let state = State { respect, ..begun.state.clone() };
        if begun.saved != state {
            state.save(&begun.site.home).await?;
        }
        return Ok(unchanged(&begun, spec));
    }
    let Begun { site, mut state, containers, .. } = begun;
    let was = state.clone();
    let attempt = Attempt::of(spec, tools.clock.now_us());
    let unseen = was.attempt.as_ref().map(|attempt| attempt.changed.clone()).unwrap_or_default();
    state.stack = Some(spec.stack.clone());
    state.respect = respect;
    state.attempt = Some(Attempt { changed: unseen.clone(), ..attempt });
    // Written first: what an attempt needs must not be tidied away under it.
    state.save(&site.home).await?;
    let checked = check(&site, run, spec).await;
    let (opened, resolved) = match checked {
        Ok(checked) => checked,
        Err(failure) => {
            forget_attempt(&site, &was).await?;
            return Err(failure);
        }
    };
    let baseline = baseline(&was, spec, &containers);
    let what = Applying {
        desired: &spec.desired,
        bundle: &spec.bundle,
        opened: &opened,
        directory: &spec.directory,
        compose_files: &spec.compose_files,
        before: was.good.as_ref(),
        changed: unseen,
        containers: &containers,
        baseline: &baseline,
        pull: spec.pull,
        health_secs: spec.health_secs,
        respected: was.stopped.respected(spec.user_stopped),
    };
    let files = match note(&site, &mut state, &what).await {
        Ok(files) => files,
        Err(failure) => {
            forget_attempt(&site, &was).await?;
            return Err(failure);
        }
    };
    match stack::apply(&site, run, &what, &resolved).await {
        Ok(done) => {
            let result = told(&site, spec, done.services, files, &done.containers);
            state.good = Some(done.applied);
            state.attempt = None;
            state.result = Some(result.clone());
            state.save(&site.home).await?;
            keep_bundles(tools).await?;
            Ok(result)
        }
        Err(failure) => Err(go_back(&site, run, spec, state, &baseline, failure).await),
    }
}

/// What is taken for proven of how containers were: nothing, unless a sync had found them well and
/// no other has begun since, nor where somebody asks for a proof that what ran is well.
fn baseline(was: &State, spec: &StackSyncSpec, containers: &[Container]) -> Baseline {
    let is_asked = |good: &Applied| spec.force && is_of(good, spec);
    match &was.good {
        Some(good) if was.attempt.is_none() && !is_asked(good) => Baseline::proven(containers),
        Some(_) | None => Baseline::unproven(containers),
    }
}

/// Whether that was applied from what a spec names.
fn is_of(good: &Applied, spec: &StackSyncSpec) -> bool {
    good.bundle == spec.bundle
        && good.directory == spec.directory
        && good.compose_files == spec.compose_files
}

/// Everything that could refuse before anything is touched: the bundle, what is encrypted in it, and
/// what compose makes of its files.
async fn check(
    site: &Site,
    run: &mut Run,
    spec: &StackSyncSpec,
) -> Result<(Opened, Resolved), Failure> {
    let opened = run
        .step("stack_bundle", async {
            let opened = site.ensure(&spec.bundle).await?;
            let files = opened.manifest().files.len();
            let message = format!("bundle {}: {files} files", short(&spec.bundle));
            Ok((opened, message))
        })
        .await?;
    let resolved = run
        .step("stack_check", async {
            let resolved = site.look_into(&opened, &spec.directory, &spec.compose_files).await?;
            let message = format!("compose knows {} services", resolved.services.len());
            Ok((resolved, message))
        })
        .await?;
    Ok((opened, resolved))
}

/// Writes down which files are about to change; answers what is about to become of each.
async fn note(
    site: &Site,
    state: &mut State,
    what: &Applying<'_>,
) -> Result<Vec<FileChange>, Failure> {
    let files = bundle::preview(what.opened, None, &site.home.files()).await?.changes;
    if let Some(attempt) = &mut state.attempt {
        attempt.changed = what.unseen(&files);
    }
    state.save(&site.home).await?;
    Ok(files)
}

/// Nothing was touched: what was known before holds.
async fn forget_attempt(site: &Site, was: &State) -> Result<(), Failure> {
    match was.stack {
        Some(_) => was.save(&site.home).await,
        None => State::forget(&site.home).await,
    }
}

/// Puts back what ran before, also when the job was cancelled; answers the failure with how that
/// went.
async fn go_back(
    site: &Site,
    run: &mut Run,
    spec: &StackSyncSpec,
    mut state: State,
    baseline: &Baseline,
    failure: Failure,
) -> Failure {
    if failure.code() == Code::DockerUnavailable.as_str() {
        // There is nobody who could; the attempt is written down, and the next one goes on.
        return failure;
    }
    let Some(good) = state.good.clone() else {
        return failure.and("nothing ran well before it, so it is left as it is");
    };
    if is_of(&good, spec) {
        return failure.and("it is what ran before, so it is left as it is");
    }
    let name = short(&good.bundle).to_owned();
    let unseen = state.attempt.as_ref().map(|attempt| attempt.changed.clone()).unwrap_or_default();
    let (settling, mut beside) = (site.settling(), run.settling());
    let respected = state.stopped.respected(spec.user_stopped);
    let back = run
        .settle("stack_rollback", StepState::RolledBack, async {
            let back = Back { good: &good, changed: unseen, baseline, respected };
            let applied = put_back(&settling, &mut beside, spec, back).await?;
            Ok((applied, format!("bundle {name} was put back")))
        })
        .await;
    match back {
        Ok(applied) => {
            state.good = Some(applied);
            state.attempt = None;
            match state.save(&site.home).await {
                Ok(()) => failure.and(&format!("bundle {name}, which ran before, was put back")),
                Err(error) => {
                    failure.and(&format!("that was not written down: {}", error.message()))
                }
            }
        }
        Err(error) => failure.and(&format!(
            "putting bundle {name} back failed, too: {}: {}",
            error.code(),
            error.message()
        )),
    }
}

/// What is put back, and what is known of how it was.
struct Back<'a> {
    good: &'a Applied,
    changed: BTreeSet<String>,
    baseline: &'a Baseline,
    respected: Option<&'a Stopped>,
}

async fn put_back(
    site: &Site,
    run: &mut Run,
    spec: &StackSyncSpec,
    back: Back<'_>,
) -> Result<Applied, Failure> {
    let Back { good, changed, baseline, respected } = back;
    let opened = site.ensure(&good.bundle).await?;
    let resolved = site.look_into(&opened, &good.directory, &good.compose_files).await?;
    let containers = site.containers().await?;
    let what = Applying {
        desired: &good.desired,
        bundle: &good.bundle,
        opened: &opened,
        directory: &good.directory,
        compose_files: &good.compose_files,
        before: Some(good),
        changed,
        containers: &containers,
        baseline,
        // It ran, so the host has its images.
        pull: PullPolicy::Missing,
        health_secs: spec.health_secs,
        respected,
    };
    Ok(stack::apply(site, run, &what, &resolved).await?.applied)
}

/// The result where nothing had to be done.
pub(super) fn unchanged(begun: &Begun, spec: &StackSyncSpec) -> StackSyncResult {
    let services = begun.state.good.iter().flat_map(|good| good.services.keys());
    let services = services.map(|service| ServiceChange {
        service: service.clone(),
        action: ServiceAction::Unchanged,
        reasons: Vec::new(),
    });
    told(&begun.site, spec, services.collect(), Vec::new(), &begun.containers)
}

fn told(
    site: &Site,
    spec: &StackSyncSpec,
    services: Vec<ServiceChange>,
    mut files: Vec<FileChange>,
    containers: &[Container],
) -> StackSyncResult {
    let is_changed = |own: &ServiceChange| own.action != ServiceAction::Unchanged;
    let changed = services.iter().any(is_changed) || !files.is_empty();
    let files_more = files.len().saturating_sub(NAMED_FILES_MAX) as u64;
    files.truncate(NAMED_FILES_MAX);
    StackSyncResult {
        desired: spec.desired.clone(),
        bundle: spec.bundle.clone(),
        changed,
        services,
        files,
        files_more,
        containers: stack::containers(containers),
        compose: site.compose.name(),
    }
}

fn short(bundle: &str) -> &str {
    bundle.get(..SHORT_CHARS).unwrap_or(bundle)
}
