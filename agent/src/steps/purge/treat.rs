//! In which mode a purge is really done: what was asked for, or, where that cannot be done here,
//! the next one that leaves no old page behind; always said.

use hostler_protocol::job::PurgeMode;

use crate::steps::live::Live;
use crate::steps::soft::{self, Support};
use crate::steps::tools::Tools;

/// A mode and why it is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Treatment {
    pub asked: PurgeMode,
    pub mode: PurgeMode,
    pub notes: Vec<String>,
}

/// Decides; may try out soft purges with an entry of its own.
pub async fn decide(tools: &Tools, live: Option<&Live>, asked: PurgeMode) -> Treatment {
    let why = match (asked, live) {
        (PurgeMode::Hard, _) => None,
        (_, None) => Some("nginx is not set up for this environment".to_owned()),
        (_, Some(live)) if !live.enabled => Some("the cache is off".to_owned()),
        (_, Some(live)) if !live.current => Some(
            "the environment's nginx files were written by an older agent: reconcile it".to_owned(),
        ),
        (PurgeMode::Refresh, Some(_)) => None,
        (PurgeMode::Soft, Some(live)) => match soft::support(tools, live).await {
            Support::Works => None,
            Support::Broken(why) => Some(format!("soft purges do not work here: {why}")),
            Support::Untested(why) => Some(format!("soft purges could not be tried: {why}")),
        },
    };
    match why {
        None => Treatment { asked, mode: asked, notes: Vec::new() },
        Some(why) => {
            let notes = vec![format!("removed instead: {why}")];
            Treatment { asked, mode: PurgeMode::Hard, notes }
        }
    }
}
