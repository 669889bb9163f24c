//! What this controller's own disk still has of the snapshot: enough to go on with while the repository
//! is away.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{Looks, SLACK_SECS, no_source};
use crate::app::AppError;
use crate::app::desired::{Current, Desired};
use crate::domain::stack::{Discovery, discover};
use crate::git::{GitError, Mirror, RepoTree};

impl Looks {
    /// Reads the commit of the snapshot from the mirror as the last start left it, once and before the
    /// first look: bundles can be made then, however that look ends. Nothing here says that anything
    /// is wrong: the look does.
    pub(super) async fn remember(&mut self) {
        if self.remembered {
            return;
        }
        match self.read_on_disk().await {
            Ok(()) => self.remembered = true,
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "it is not known which commit the stacks are of"
            ),
        }
    }

    async fn read_on_disk(&self) -> Result<(), AppError> {
        let app = &self.app;
        let Some(held) = app.store.desired_state().await? else { return Ok(()) };
        let ours = app.desired.source().is_some_and(|source| source.shown == held.source);
        if !ours || app.desired.current().is_some() {
            return Ok(());
        }
        let (mirror, desired) = (Arc::clone(&self.looking.mirror), app.desired.clone());
        let most = Duration::from_secs(self.looking.limits.walk_secs + SLACK_SECS);
        let revision = held.revision.clone();
        match self.within(most, move |stop| read(&desired, &mirror, &revision, stop)).await {
            Ok(current) => {
                tracing::info!(
                    revision = held.revision,
                    "the desired state was read from the disk as it was found last"
                );
                app.desired.put_current(current);
            }
            Err(error) => tracing::info!(
                code = error.code(), %error, revision = held.revision,
                "the desired state is not on the disk as it was found last: a refresh reads it"
            ),
        }
        Ok(())
    }
}

fn read(
    desired: &Desired,
    mirror: &Mirror,
    revision: &str,
    stop: &Arc<AtomicBool>,
) -> Result<Current, GitError> {
    let source = desired.source().ok_or_else(no_source)?;
    let tree = mirror.accepted_tree(revision, &source.deploy_dir, stop)?;
    let discovery = Arc::new(stacks_of(desired, &tree, stop)?);
    Ok(Current { revision: revision.to_owned(), tree, discovery })
}

/// The stacks of a commit; what has not changed since the one that was read last is taken from there.
pub(super) fn stacks_of(
    desired: &Desired,
    tree: &RepoTree,
    stop: &Arc<AtomicBool>,
) -> Result<Discovery, GitError> {
    let source = desired.source().ok_or_else(no_source)?;
    let before = desired.current().map(|current| current.discovery);
    let place = discover::Source {
        deploy_dir: source.deploy_dir.path().to_owned(),
        repository: source.repository.clone(),
    };
    let bounded = tree.bounded(Arc::clone(stop));
    Ok(discover::discover(&bounded, &place, &desired.limits(), before.as_deref())?)
}
