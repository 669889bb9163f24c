//! Whether a stack's containers do what they should: judged one at a time, then waited for.

use std::collections::BTreeMap;

use crate::host::docker::Container;

/// How long a container without a health check has to run on to be taken for well.
const SETTLE_MS: u64 = 2_000;
/// The same where the engine starts it again when it ends: such an end is soon out of sight. Swarm's
/// `update_config.monitor` is as long unless told otherwise.
const SETTLE_RESTARTED_MS: u64 = 5_000;
/// Restarts within one attempt after which a container is not waited for any longer.
const RESTARTS_MAX: u64 = 3;
/// Restarts by the engine since a stack was applied that make a container one that ends again and
/// again: what its policy has put right once is none.
const LOOPING_RESTARTS: u64 = 2;
/// How long such a one has to run on until it is none any more.
const LOOPING_US: i64 = 5 * 60 * 1_000_000;

/// What is to be thought of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Well,
    /// Not yet, and why.
    Wait(String),
    /// It will not become so.
    Failed(String),
}

/// How containers were before anything was done.
#[derive(Debug, Default)]
pub struct Baseline {
    containers: BTreeMap<String, Before>,
    /// Whether a sync had found them well, and nobody has begun another since. What an attempt that
    /// failed or was cut off has left is proven by nothing.
    proven: bool,
}

#[derive(Debug)]
struct Before {
    started_at: String,
    restarts: u64,
    ill: bool,
}

impl Baseline {
    /// Of containers whose stack was found well by a sync, and that no other has touched.
    #[must_use]
    pub fn proven(containers: &[Container]) -> Self {
        Self { proven: true, ..Self::unproven(containers) }
    }

    /// Of any others.
    #[must_use]
    pub fn unproven(containers: &[Container]) -> Self {
        let kept = |own: &Container| Before {
            started_at: own.state.started_at.clone(),
            restarts: own.restart_count,
            ill: is_ill(own),
        };
        let containers = containers.iter().map(|own| (own.id.clone(), kept(own))).collect();
        Self { containers, proven: false }
    }

    /// How it was, if it is the container that was there and was not started since.
    fn untouched(&self, container: &Container) -> Option<&Before> {
        let before = self.containers.get(&container.id)?;
        (before.started_at == container.state.started_at).then_some(before)
    }

    /// Whether it is the container that was there, and was not started since.
    pub(super) fn is_untouched(&self, container: &Container) -> bool {
        self.untouched(container).is_some()
    }

    /// Whether it fell ill after a sync had found it well, and was left alone since: that is no
    /// work of what is being applied, and putting something else back would not cure it.
    pub(super) fn is_left_ill(&self, container: &Container) -> bool {
        self.proven && self.untouched(container).is_some_and(|before| before.ill)
    }

    fn restarts(&self, container: &Container) -> u64 {
        let before = self.containers.get(&container.id).map_or(0, |before| before.restarts);
        container.restart_count.saturating_sub(before)
    }
}

/// Whether something is wrong with a container; one whose health is not known yet is waited for.
fn is_ill(container: &Container) -> bool {
    let is_starting = container.is_running()
        && container.health().is_some_and(|health| !matches!(health, "healthy" | "unhealthy"));
    !is_starting && judge(container, &Baseline::default(), u64::MAX) != Verdict::Well
}

/// Whether a container that runs just now ends again and again; `restarts` is how often the engine
/// had started it again when all was well.
pub(super) fn is_looping(container: &Container, restarts: u64, now_us: i64) -> bool {
    let since = container.restart_count.saturating_sub(restarts);
    let started_us = container.state.started_at_us();
    let ran_us = started_us.map_or(i64::MAX, |started_us| now_us.saturating_sub(started_us));
    container.is_running() && since >= LOOPING_RESTARTS && ran_us < LOOPING_US
}

/// For how long a container runs as it is, in milliseconds, by the engine's word.
pub(super) fn ran_ms(container: &Container, now_us: i64) -> u64 {
    let started_us = container.state.started_at_us();
    let ran_us = started_us.map_or(0, |started_us| now_us.saturating_sub(started_us));
    u64::try_from(ran_us / 1000).unwrap_or(0)
}

fn settle_ms(container: &Container) -> u64 {
    if container.has_restart_policy() { SETTLE_RESTARTED_MS } else { SETTLE_MS }
}

/// What is to be thought of one that runs as it is for `running_ms` already.
pub(super) fn judge(container: &Container, baseline: &Baseline, running_ms: u64) -> Verdict {
    let name = container.service();
    let state = &container.state;
    if baseline.restarts(container) >= RESTARTS_MAX {
        let status = state.exit_code;
        return Verdict::Failed(format!("{name} ends again and again, with status {status}"));
    }
    match (state.status.as_str(), container.health()) {
        ("running", Some("healthy")) => Verdict::Well,
        ("running", Some("unhealthy")) => Verdict::Failed(format!("{name} is unhealthy")),
        ("running", Some(_)) => Verdict::Wait(format!("{name} is not healthy yet")),
        ("running", None) if running_ms >= settle_ms(container) => Verdict::Well,
        // It was well, and nobody touched it; where the engine has started it again, that may not have
        // been the last time.
        ("running", None)
            if baseline.proven
                && baseline.is_untouched(container)
                && container.restart_count == 0 =>
        {
            Verdict::Well
        }
        ("running", None) => Verdict::Wait(format!("{name} has only just been started")),
        ("exited", _) if state.exit_code == 0 => Verdict::Well,
        ("exited" | "dead", _) => {
            Verdict::Failed(format!("{name} ended with status {}", state.exit_code))
        }
        ("restarting", _) => {
            Verdict::Wait(format!("{name} is being restarted: status {}", state.exit_code))
        }
        (_, _) if !state.error.is_empty() => {
            Verdict::Failed(format!("{name} could not be started"))
        }
        (other, _) => Verdict::Wait(format!("{name} is {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::stack::tests::{container, restarted, with_health};

    #[test]
    fn each_state_has_its_verdict() {
        let none = Baseline::default();
        let judged = |own: &Container, ms| judge(own, &none, ms);
        assert_eq!(judged(&with_health("running", "healthy"), 0), Verdict::Well);
        let failed = [
            with_health("running", "unhealthy"),
            container("web", "exited", 3),
            container("web", "dead", 1),
        ];
        for own in failed {
            assert!(matches!(judged(&own, 60_000), Verdict::Failed(_)), "{own:?}");
        }
        assert_eq!(judged(&container("web", "exited", 0), 0), Verdict::Well);
        let waiting = [
            with_health("running", "starting"),
            container("web", "restarting", 1),
            container("web", "created", 0),
            container("web", "paused", 0),
        ];
        for own in waiting {
            assert!(matches!(judged(&own, 60_000), Verdict::Wait(_)), "{own:?}");
        }
    }

    #[test]
    fn without_a_health_check_it_has_to_run_on() {
        let own = container("web", "running", 0);
        let none = Baseline::default();
        assert!(matches!(judge(&own, &none, 0), Verdict::Wait(_)));
        assert_eq!(judge(&own, &none, SETTLE_MS), Verdict::Well);
        let known = Baseline::proven(std::slice::from_ref(&own));
        assert_eq!(judge(&own, &known, 0), Verdict::Well, "nobody had touched it");
        let left = Baseline::unproven(std::slice::from_ref(&own));
        assert!(matches!(judge(&own, &left, 0), Verdict::Wait(_)), "it may just have been started");
    }

    #[test]
    fn only_what_was_found_well_once_may_stay_ill() {
        let ill = [
            with_health("running", "unhealthy"),
            container("web", "restarting", 1),
            container("web", "exited", 3),
            container("web", "paused", 0),
        ];
        for own in ill {
            let all = std::slice::from_ref(&own);
            assert!(Baseline::proven(all).is_left_ill(&own), "{own:?}");
            assert!(!Baseline::unproven(all).is_left_ill(&own), "{own:?}");
            let mut started = own.clone();
            started.state.started_at = "2".to_owned();
            assert!(!Baseline::proven(all).is_left_ill(&started), "{own:?}");
        }
        let well = [with_health("running", "healthy"), with_health("running", "starting")];
        for own in well {
            assert!(!Baseline::proven(std::slice::from_ref(&own)).is_left_ill(&own), "{own:?}");
        }
    }

    #[test]
    fn what_the_engine_starts_again_has_to_run_on_for_longer() {
        let own = restarted("web", 0, "2026-01-01T00:00:00Z");
        let none = Baseline::default();
        assert!(matches!(judge(&own, &none, SETTLE_MS), Verdict::Wait(_)));
        assert_eq!(judge(&own, &none, SETTLE_RESTARTED_MS), Verdict::Well);
        let known = Baseline::proven(std::slice::from_ref(&own));
        assert_eq!(judge(&own, &known, 0), Verdict::Well, "it was never started again");
        let own = restarted("web", 1, "2026-01-01T00:00:00Z");
        let known = Baseline::proven(std::slice::from_ref(&own));
        assert!(matches!(judge(&own, &known, SETTLE_MS), Verdict::Wait(_)));
        assert_eq!(judge(&own, &known, ran_ms(&own, 1_767_225_610_000_000)), Verdict::Well);
    }

    #[test]
    fn restarting_without_end_is_a_failure() {
        let mut own = container("web", "running", 0);
        let known = Baseline::proven(std::slice::from_ref(&own));
        own.restart_count += RESTARTS_MAX;
        assert!(matches!(judge(&own, &known, 60_000), Verdict::Failed(_)));
    }
}
