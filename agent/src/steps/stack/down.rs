//! Taking a stack down: by compose and the files that were applied last, and by what the engine
//! says where those are gone or compose no longer takes them.

use hostler_protocol::job::{Code, StackDoc};

use super::begin::taken;
use super::ops::owned;
use super::site::Site;
use super::state::State;
use crate::host::docker::Container;
use crate::steps::run::Failure;

/// A stack that is about to go.
#[derive(Debug)]
pub struct Down {
    pub site: Site,
    /// Its containers and named volumes before anything was done.
    pub containers: Vec<Container>,
    pub volumes: Vec<String>,
    /// Directory and compose files, as they were applied or begun last.
    files: Option<(String, Vec<String>)>,
}

impl Down {
    /// Looks at what there is; `None` when the project is somebody else's.
    ///
    /// # Errors
    /// `DOCKER_UNAVAILABLE`; `FILE_FAILED` and its like.
    pub async fn look(site: Site, stack: &StackDoc) -> Result<Option<Self>, Failure> {
        let state = State::load(&site.home).await?;
        let containers = site.containers().await?;
        if taken(&site, stack, &state, &containers).is_some() {
            return Ok(None);
        }
        let volumes = site.engine.volumes(site.home.project()).await?;
        let begun = state.attempt.map(|attempt| (attempt.directory, attempt.compose_files));
        let files = begun.or(state.good.map(|good| (good.directory, good.compose_files)));
        Ok(Some(Self { site, containers, volumes, files }))
    }

    /// Removes containers and networks, and the volumes if asked; says by what.
    ///
    /// # Errors
    /// `DOCKER_UNAVAILABLE`, `COMMAND_FAILED`, `CANCELLED`, `TIMED_OUT`.
    pub async fn run(&self, volumes: bool) -> Result<String, Failure> {
        let by_files = self.by_files(volumes).await?;
        // Also what the files say nothing of.
        self.by_labels(volumes).await?;
        Ok(if by_files { self.site.compose.name() } else { "by its containers' labels".to_owned() })
    }

    /// False when there are no files to do it by, or compose does not take them.
    async fn by_files(&self, volumes: bool) -> Result<bool, Failure> {
        let Some((directory, compose_files)) = &self.files else { return Ok(false) };
        let ground = self.site.ground(&self.site.home.files(), directory, compose_files).await?;
        if !ground.project.files.iter().all(|file| file.is_file()) {
            return Ok(false);
        }
        let mut arguments = owned(&["down", "--remove-orphans"]);
        if volumes {
            arguments.extend(owned(&["--volumes"]));
        }
        match self.site.work(&ground, &ground.secrets, arguments).await {
            Ok(()) => Ok(true),
            Err(failure) if is_refusal(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn by_labels(&self, volumes: bool) -> Result<(), Failure> {
        let (engine, project) = (&self.site.engine, self.site.home.project());
        for container in engine.containers(project).await? {
            self.proceed()?;
            engine.remove_container(&container.id).await?;
        }
        for network in engine.networks(project).await? {
            engine.remove_network(&network).await?;
        }
        if volumes {
            for volume in engine.volumes(project).await? {
                self.proceed()?;
                engine.remove_volume(&volume).await?;
            }
        }
        Ok(())
    }

    fn proceed(&self) -> Result<(), Failure> {
        if self.site.cancel.is_cancelled() {
            return Err(Failure::new(Code::Cancelled, "the job was cancelled"));
        }
        Ok(())
    }
}

/// Whether compose does not take the files, or could not do it by them: there is another way.
fn is_refusal(failure: &Failure) -> bool {
    [Code::ComposeInvalid, Code::ComposeFailed].iter().any(|code| code.as_str() == failure.code())
}
