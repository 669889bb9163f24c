//! Which containers somebody told to end, as against those that ended with the engine or the host.
//!
//! A container's state does not tell the two apart: either way its program was sent a signal. When it
//! ended does: what ended while the engine was up, and is still so, was told to; what ended before
//! the engine came up may have gone down with it. So the first is written down as soon as it is
//! seen, and is known when the engine has been restarted since; whatever was not is to run.

use std::collections::BTreeMap;

use hostler_protocol::job::UserStopped;
use serde::{Deserialize, Serialize};

use crate::host::docker::{Container, Engine, EngineError};

/// Statuses of programs that were told to end (none, `SIGINT`, `SIGKILL`, `SIGTERM`).
const STOPPED: &[i64] = &[0, 130, 137, 143];

/// Containers that were told to end, by id, with when they ended as the engine writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stopped(BTreeMap<String, String>);

impl Stopped {
    /// What is known once these are all the containers there are.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn look(
        &self,
        engine: &Engine,
        containers: &[Container],
    ) -> Result<Self, EngineError> {
        let is_new = |own: &Container| looks_stopped(own) && !self.has(own);
        let up_since_us = match containers.iter().any(is_new) {
            true => engine.up_since_us().await?,
            false => None,
        };
        Ok(self.seen(containers, up_since_us))
    }

    /// The same, of an engine that has been up since then; `None`: it cannot be told.
    #[must_use]
    pub(super) fn seen(&self, containers: &[Container], up_since_us: Option<i64>) -> Self {
        let ended_since = |own: &Container| match (own.state.finished_at_us(), up_since_us) {
            (Some(ended_us), Some(up_since_us)) => ended_us >= up_since_us,
            (_, _) => true,
        };
        let told = |own: &&Container| looks_stopped(own) && (self.has(own) || ended_since(own));
        let entry = |own: &Container| (own.id.clone(), own.state.finished_at.clone());
        Self(containers.iter().filter(told).map(entry).collect())
    }

    /// Whether it was told to end, and has not been started since.
    #[must_use]
    pub(super) fn has(&self, container: &Container) -> bool {
        looks_stopped(container) && self.0.get(&container.id) == Some(&container.state.finished_at)
    }

    /// Those that are to stay as they are; `None` where nobody's stop is respected.
    #[must_use]
    pub fn respected(&self, user_stopped: UserStopped) -> Option<&Self> {
        match user_stopped {
            UserStopped::Respect => Some(self),
            UserStopped::Start => None,
        }
    }
}

/// Whether a container ended as one that was told to.
pub(super) fn looks_stopped(container: &Container) -> bool {
    let state = &container.state;
    state.status == "exited" && !state.oom_killed && STOPPED.contains(&state.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::stack::tests::{container, ended};

    #[test]
    fn what_ended_while_the_engine_was_up_was_told_to() {
        let own = ended("web", 143, "2026-01-02T00:00:00Z");
        let (before, after) = (1_767_225_600_000_000, 1_767_398_400_000_000);
        let none = Stopped::default();
        assert!(none.seen(std::slice::from_ref(&own), Some(before)).has(&own));
        assert!(none.seen(std::slice::from_ref(&own), None).has(&own), "it cannot be told");
        assert!(!none.seen(std::slice::from_ref(&own), Some(after)).has(&own));
    }

    #[test]
    fn what_was_told_to_end_stays_known_until_it_is_started() {
        let own = ended("web", 0, "2026-01-02T00:00:00Z");
        let known = Stopped::default().seen(std::slice::from_ref(&own), Some(0));
        // The engine was restarted since.
        let known = known.seen(std::slice::from_ref(&own), Some(i64::MAX));
        assert!(known.has(&own));
        // It was started, and ended with the engine.
        let again = ended("web", 0, "2026-01-03T00:00:00Z");
        assert!(!known.has(&again));
        assert!(!known.seen(std::slice::from_ref(&again), Some(i64::MAX)).has(&again));
        // One that runs, or is gone, is forgotten.
        assert_eq!(known.seen(&[container("web", "running", 0)], Some(0)), Stopped::default());
        assert_eq!(known.seen(&[], Some(0)), Stopped::default());
    }

    #[test]
    fn what_fell_over_was_not_told_to() {
        for code in [1, 3, 139, 255] {
            let own = ended("web", code, "2026-01-02T00:00:00Z");
            assert!(!Stopped::default().seen(std::slice::from_ref(&own), Some(0)).has(&own));
        }
    }
}
