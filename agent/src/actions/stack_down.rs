//! `stack_down`: stop a stack and remove what compose made for it. Its volumes stay unless asked.

use hostler_protocol::job::{Code, StackDownResult, StackDownSpec};

use crate::steps::bundle;
use crate::steps::run::{Failure, Run};
use crate::steps::stack::{Down, Site, State, keep_bundles};
use crate::steps::tools::Tools;

/// Runs the job.
pub(super) async fn run(
    tools: &Tools,
    run: &mut Run,
    spec: &StackDownSpec,
) -> Result<StackDownResult, Failure> {
    let cancel = run.cancel().clone();
    let down = run
        .step("stack_look", async {
            let site = Site::open(tools, &spec.stack, &cancel).await?;
            let down = Down::look(site, &spec.stack).await?;
            let message = match &down {
                Some(down) => format!("{} containers", down.containers.len()),
                None => "the project is not this stack's".to_owned(),
            };
            Ok((down, message))
        })
        .await?;
    let Some(down) = down else {
        // Whoever has the project now keeps it: there is nothing left of this stack.
        return Ok(StackDownResult {
            containers: 0,
            volumes_kept: Vec::new(),
            volumes_removed: Vec::new(),
            files_removed: false,
        });
    };
    run.step("stack_down", async {
        let by = down.run(spec.volumes).await?;
        Ok(((), by))
    })
    .await?;
    let left = down.site.engine.volumes(down.site.home.project()).await?;
    let volumes_removed: Vec<_> =
        down.volumes.iter().filter(|volume| !left.contains(volume)).cloned().collect();
    if spec.volumes && !left.is_empty() {
        let message = format!("these volumes are still there: {}", left.join(", "));
        return Err(Failure::new(Code::ComposeFailed, message).at_step("stack_down"));
    }
    let files_removed = run
        .step("stack_files", async {
            let home = &down.site.home;
            let cleared = bundle::clear(None, &home.files()).await?;
            // An attempt that was cut off may have left there what it looked at.
            bundle::clear(None, &home.check()).await?;
            State::forget(home).await?;
            let message = format!("{} files removed", cleared.changes.len());
            Ok((!home.files().exists(), message))
        })
        .await?;
    keep_bundles(tools).await?;
    Ok(StackDownResult {
        containers: u32::try_from(down.containers.len()).unwrap_or(u32::MAX),
        volumes_kept: left,
        volumes_removed,
        files_removed,
    })
}
