//! One stack of this host, held by one attempt, and all it is worked on with.

use std::sync::Arc;

use hostler_protocol::job::{Code, StackDoc};
use tokio_util::sync::CancellationToken;

use super::home::{Held, Home};
use crate::host::docker::{Compose, Container, Engine};
use crate::host::process;
use crate::steps::bundle::{self, BundleSource, Opened};
use crate::steps::run::{Failure, blocking};
use crate::steps::tools::Tools;

/// A held stack; whoever else wants it waits until the last clone is gone.
#[derive(Debug, Clone)]
pub struct Site {
    pub tools: Tools,
    pub engine: Engine,
    pub compose: Compose,
    pub home: Home,
    pub cancel: CancellationToken,
    bundles: Arc<dyn BundleSource>,
    _held: Arc<Held>,
}

impl Site {
    /// Waits for the stack, finds the engine and compose, and ends what a killed agent's compose
    /// may still be doing to it.
    ///
    /// # Errors
    /// `SPEC_INVALID`, `DOCKER_UNAVAILABLE`, `COMPOSE_MISSING`, `CANCELLED`.
    pub async fn open(
        tools: &Tools,
        stack: &StackDoc,
        cancel: &CancellationToken,
    ) -> Result<Self, Failure> {
        let home = Home::of(&tools.policy.docker.stacks_dir, stack)?;
        let bundles = tools.bundles.clone().ok_or_else(|| {
            Failure::new(Code::ModeNotSupported, "this agent has no source of bundles")
                .with_hint("It has to be connected to a controller that serves them.")
        })?;
        let held = tokio::select! {
            held = tools.stacks.hold(home.project()) => Arc::new(held),
            () = cancel.cancelled() => {
                return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
            }
        };
        let engine = tools.docker.engine();
        engine.ping().await?;
        let compose = tools.docker.find_compose(cancel).await?;
        let site = Self {
            tools: tools.clone(),
            engine,
            compose,
            home,
            cancel: cancel.clone(),
            bundles,
            _held: held,
        };
        let mark = site.mark();
        blocking(move || Ok::<_, Failure>(process::end_marked(&mark))).await?;
        Ok(site)
    }

    /// The same for work that a cancelled job has to bring to its end.
    #[must_use]
    pub fn settling(&self) -> Self {
        Self { cancel: CancellationToken::new(), ..self.clone() }
    }

    /// Where bundles come from.
    #[must_use]
    pub fn bundles(&self) -> &dyn BundleSource {
        self.bundles.as_ref()
    }

    /// Has a bundle on this host, and what is encrypted in it decrypted.
    ///
    /// # Errors
    /// Those of bundles; `CANCELLED`.
    pub async fn ensure(&self, bundle: &str) -> Result<Opened, Failure> {
        let manifest = tokio::select! {
            manifest = self.bundles.ensure(bundle) => manifest?,
            () = self.cancel.cancelled() => {
                return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
            }
        };
        Ok(bundle::open(self.bundles(), manifest, &self.tools.age_key).await?)
    }

    /// The project's containers.
    ///
    /// # Errors
    /// `DOCKER_UNAVAILABLE`.
    pub async fn containers(&self) -> Result<Vec<Container>, Failure> {
        Ok(self.engine.containers(self.home.project()).await?)
    }

    /// What this project's compose processes are known by.
    pub(super) fn mark(&self) -> String {
        // Marks are told by how they begin: one project's name may be the beginning of another's.
        format!("hostler-stack {}/.", self.home.root().display())
    }
}
