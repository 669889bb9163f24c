//! The beginning of all work on a stack: it is held, known, and may be worked on.

use std::path::Path;

use hostler_protocol::job::{Code, StackDoc, StackSyncSpec};
use tokio_util::sync::CancellationToken;

use super::drift::is_as_wanted;
use super::home::check_paths;
use super::site::Site;
use super::state::State;
use crate::host::docker::Container;
use crate::steps::bundle;
use crate::steps::run::Failure;
use crate::steps::tools::Tools;

/// A stack that is held, and how it is.
#[derive(Debug)]
pub struct Begun {
    pub site: Site,
    /// What is known of it; nothing of another stack whose project is taken over.
    pub state: State,
    /// The same as it is written down: less what was seen only now.
    pub saved: State,
    pub containers: Vec<Container>,
}

impl Begun {
    /// Begins with what a spec wants.
    ///
    /// # Errors
    /// `SPEC_INVALID`, `DOCKER_UNAVAILABLE`, `COMPOSE_MISSING`, `CANCELLED`; `PROJECT_TAKEN` when
    /// another stack has the project, or when it runs and Hostler knows nothing of it.
    pub async fn of(
        tools: &Tools,
        spec: &StackSyncSpec,
        cancel: &CancellationToken,
    ) -> Result<Self, Failure> {
        check_paths(spec)?;
        let site = Site::open(tools, &spec.stack, cancel).await?;
        let state = State::load(&site.home).await?;
        let containers = site.containers().await?;
        if !spec.adopt
            && let Some(why) = taken(&site, &spec.stack, &state, &containers)
        {
            return Err(Failure::new(Code::ProjectTaken, why));
        }
        let is_ours = state.stack.as_ref().is_none_or(|owner| owner.id == spec.stack.id);
        let mut state = if is_ours { state } else { State::default() };
        let saved = state.clone();
        state.stopped = state.stopped.look(&site.engine, &containers).await?;
        Ok(Self { site, state, saved, containers })
    }

    /// Whether the host runs just what the spec wants, files and containers.
    ///
    /// # Errors
    /// Those of bundles; `FILE_FAILED` and its like.
    pub async fn is_same(&self, spec: &StackSyncSpec) -> Result<bool, Failure> {
        let Self { site, state, containers, .. } = self;
        let Some(good) = state.good.as_ref().filter(|_| state.attempt.is_none()) else {
            return Ok(false);
        };
        let respected = state.stopped.respected(spec.user_stopped);
        let now_us = site.tools.clock.now_us();
        let is_same = good.desired == spec.desired
            && good.bundle == spec.bundle
            && good.directory == spec.directory
            && good.compose_files == spec.compose_files
            && good.host_env == site.host_env_digest().await?
            && is_as_wanted(good, containers, respected, now_us);
        if !is_same || spec.force {
            return Ok(false);
        }
        let opened = site.ensure(&spec.bundle).await?;
        Ok(bundle::preview(&opened, None, &site.home.files()).await?.changes.is_empty())
    }
}

/// Why the project cannot be this stack's; `None` if it can.
pub(super) fn taken(
    site: &Site,
    stack: &StackDoc,
    state: &State,
    containers: &[Container],
) -> Option<String> {
    let project = site.home.project();
    match &state.stack {
        Some(owner) if owner.id == stack.id => None,
        Some(owner) => Some(format!("the project {project} is that of the stack {}", owner.path)),
        None => {
            let files = site.home.files();
            let started_from = |own: &Container| own.project_directory().to_owned();
            let mut elsewhere = containers.iter().map(started_from);
            let foreign = elsewhere.find(|dir| !Path::new(dir).starts_with(&files))?;
            Some(format!("a project {project} is on the host already, started from {foreign:?}"))
        }
    }
}
