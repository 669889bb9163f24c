//! A change that was begun and neither committed nor undone: its agent was killed, or its future
//! dropped.

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{Code, StepState};

use super::live::Live;
use super::nginx;
use super::run::{Failure, Run};
use super::state::{self, Applied};
use super::swap::Swap;
use super::tools::Tools;

/// Puts an environment's half-made change right before another one begins, as the step
/// `rollback`. The caller holds the nginx lock.
///
/// # Errors
/// `NGINX_ROLLBACK_FAILED`, those of files.
pub async fn clear(tools: &Tools, run: &mut Run, id: &EnvironmentId) -> Result<(), Failure> {
    if Swap::left_over(tools, id).await?.is_none() {
        return Ok(());
    }
    run.settle("rollback", StepState::RolledBack, async {
        let told = put_back(tools, id).await?;
        Ok(((), told.unwrap_or_default()))
    })
    .await
}

/// Puts an environment's half-made change right; says what was done, `None` when there was
/// nothing. The caller holds the nginx lock.
///
/// # Errors
/// `NGINX_ROLLBACK_FAILED`, those of files.
pub async fn put_back(tools: &Tools, id: &EnvironmentId) -> Result<Option<String>, Failure> {
    let Some(mut swap) = Swap::left_over(tools, id).await? else { return Ok(None) };
    let applied = state::load(tools, id).await?;
    if applied.as_ref().is_some_and(|applied| applied.committed == swap.generation()) {
        swap.finish().await?;
        return Ok(Some(format!("{id}: generation {} was committed already", swap.generation())));
    }
    let changed = swap.undo().await?;
    let before = applied.as_ref().and_then(|old| Live::of(tools, &old.environment, old));
    let attempt = applied.as_ref().and_then(|applied| brought_in(tools, applied, &swap));
    // The killed agent may have told nginx of the files it swapped.
    let reloaded = nginx::reload_old(tools, before.as_ref(), attempt.as_ref()).await;
    swap.finish().await?;
    match reloaded {
        Ok(proof) => Ok(Some(format!("{id}: {} files put back; {proof}", changed.len()))),
        Err(failure) => {
            let message = format!("{id}: files put back; {}", failure.message());
            Err(Failure::new(Code::NginxRollbackFailed, message))
        }
    }
}

/// The configuration the swap was to bring in. Without anything remembered of the environment
/// nginx was never told of it.
fn brought_in(tools: &Tools, applied: &Applied, swap: &Swap) -> Option<Live> {
    let origin = tools.origin(&applied.environment).ok()?;
    Some(Live::coming(&applied.environment, origin, swap.generation(), swap.secret()?.to_owned()))
}
