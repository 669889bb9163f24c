//! `stack_plan`: what a sync would do to a stack; changes nothing.

use hostler_protocol::job::{
    NAMED_FILES_MAX, ServiceAction, ServiceChange, StackPlanSpec, StackSyncResult,
};

use crate::steps::bundle;
use crate::steps::run::{Failure, Run};
use crate::steps::stack::{Applying, Baseline, Begun, Intents};
use crate::steps::tools::Tools;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &StackPlanSpec,
) -> Result<StackSyncResult, Failure> {
    let spec = &spec.0;
    let cancel = run.cancel().clone();
    let (begun, same) = run
        .step("stack_look", async {
            let begun = Begun::of(tools, spec, &cancel).await?;
            let same = begun.is_same(spec).await?;
            Ok(((begun, same), if same { "all is as wanted" } else { "" }.to_owned()))
        })
        .await?;
    let mut result = StackSyncResult {
        desired: spec.desired.clone(),
        bundle: spec.bundle.clone(),
        changed: false,
        services: Vec::new(),
        files: Vec::new(),
        files_more: 0,
        containers: Vec::new(),
        compose: begun.site.compose.name(),
    };
    if same {
        let services = begun.state.good.iter().flat_map(|good| good.services.keys());
        result.services = services.map(|service| bare(service)).collect();
        return Ok(result);
    }
    let Begun { site, state, containers, .. } = begun;
    run.step("stack_plan", async {
        let opened = site.ensure(&spec.bundle).await?;
        let resolved = site.look_into(&opened, &spec.directory, &spec.compose_files).await?;
        let mut files = bundle::preview(&opened, None, &site.home.files()).await?.changes;
        let begun = state.attempt.as_ref();
        let unseen = begun.map(|attempt| attempt.changed.clone()).unwrap_or_default();
        let baseline = Baseline::unproven(&containers);
        let what = Applying {
            desired: &spec.desired,
            bundle: &spec.bundle,
            opened: &opened,
            directory: &spec.directory,
            compose_files: &spec.compose_files,
            before: state.good.as_ref(),
            changed: unseen,
            containers: &containers,
            baseline: &baseline,
            pull: spec.pull,
            health_secs: spec.health_secs,
            respected: state.stopped.respected(spec.user_stopped),
        };
        let intents = what.intents(&site, &resolved, &what.unseen(&files)).await?;
        result.services = told(intents);
        let is_changed = |own: &ServiceChange| own.action != ServiceAction::Unchanged;
        result.changed = !files.is_empty() || result.services.iter().any(is_changed);
        result.files_more = files.len().saturating_sub(NAMED_FILES_MAX) as u64;
        files.truncate(NAMED_FILES_MAX);
        result.files = files;
        let message = format!("{} services, {} files", result.services.len(), result.files.len());
        Ok((result, message))
    })
    .await
}

fn bare(service: &str) -> ServiceChange {
    let (action, reasons) = (ServiceAction::Unchanged, Vec::new());
    ServiceChange { service: service.to_owned(), action, reasons }
}

fn told(intents: Intents) -> Vec<ServiceChange> {
    intents
        .into_iter()
        .map(|(service, intent)| ServiceChange {
            service,
            action: intent.action,
            reasons: intent.reasons,
        })
        .collect()
}
