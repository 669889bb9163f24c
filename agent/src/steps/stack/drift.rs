//! What of a stack's containers is not as it was left: a pure function of what was remembered and
//! what there is.

use std::collections::BTreeSet;

use hostler_protocol::observed::{Drift, DriftKind};

use super::decide::was_stopped;
use super::health::is_looping;
use super::observe::of;
use super::state::{Applied, Seen};
use super::stopped::Stopped;
use crate::host::docker::Container;

/// The services that are not as they were left, sorted. What somebody stopped since is as it should
/// be where it is `respected`.
#[must_use]
pub fn drift(
    applied: &Applied,
    containers: &[Container],
    respected: Option<&Stopped>,
    now_us: i64,
) -> Vec<Drift> {
    let told = |kind: DriftKind, service: &str| Drift { kind, subject: service.to_owned() };
    let strange: BTreeSet<&str> = containers
        .iter()
        .map(Container::service)
        .filter(|service| !applied.services.contains_key(*service))
        .collect();
    let unknown = strange.into_iter().map(|service| told(DriftKind::ServiceUnknown, service));
    let differing = applied.services.iter().filter_map(|(service, seen)| {
        Some(told(of_service(seen, &of(containers, service), respected, now_us)?, service))
    });
    let mut drift: Vec<_> = differing.chain(unknown).collect();
    drift.sort();
    drift
}

/// Whether a stack's containers are still as they were left; see [`drift`].
#[must_use]
pub fn is_as_wanted(
    applied: &Applied,
    containers: &[Container],
    respected: Option<&Stopped>,
    now_us: i64,
) -> bool {
    drift(applied, containers, respected, now_us).is_empty()
}

/// Whether time alone may change what is drift: a container that ends again and again runs just now.
#[must_use]
pub fn will_change(applied: &Applied, containers: &[Container], now_us: i64) -> bool {
    containers.iter().any(|own| {
        let seen = applied.services.get(own.service());
        seen.is_some_and(|seen| is_looping(own, seen.restarts, now_us))
    })
}

fn of_service(
    seen: &Seen,
    own: &[&Container],
    respected: Option<&Stopped>,
    now_us: i64,
) -> Option<DriftKind> {
    // States of earlier agents know no images.
    let is_other = |own: &&Container| {
        !seen.hashes.contains(own.config_hash())
            || !(seen.images.is_empty() || seen.images.contains(&own.image))
    };
    if own.iter().any(is_other) {
        return Some(DriftKind::ServiceChanged);
    }
    let by_hand = |stopped: &Stopped| own.iter().all(|own| was_stopped(own, seen, stopped));
    if !own.is_empty() && respected.is_some_and(by_hand) {
        return None;
    }
    // One that ends again and again is told as one that has ended, whenever it is looked at.
    let runs = |own: &&&Container| own.is_running() && !is_looping(own, seen.restarts, now_us);
    let running = own.iter().filter(runs).count();
    let done = own.iter().filter(|own| own.is_done()).count();
    let (had_running, had_ended) = (seen.running as usize, seen.ended as usize);
    if seen.left_out {
        // Somebody had stopped it: that it runs is no harm, and that it does not counts only as
        // long as such things are respected.
        let is_wanted = respected.is_none();
        return (running == 0 && is_wanted).then_some(DriftKind::ServiceStopped);
    }
    if own.is_empty() && had_running + had_ended > 0 {
        return Some(DriftKind::ServiceMissing);
    }
    // What had ended well may run again.
    if running > had_running + had_ended {
        return Some(DriftKind::ServiceChanged);
    }
    (running < had_running || running + done < had_running + had_ended)
        .then_some(DriftKind::ServiceStopped)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, ended, restarted};
    use super::*;

    fn left(containers: &[Container]) -> Applied {
        let mut applied = Applied {
            desired: "d".to_owned(),
            bundle: "b".to_owned(),
            directory: String::new(),
            compose_files: Vec::new(),
            host_env: None,
            services: Default::default(),
            at_us: 0,
        };
        for own in containers {
            let seen = applied.services.entry(own.service().to_owned()).or_default();
            super::super::observe::remember(seen, own.service(), containers, false);
        }
        applied
    }

    fn seen(
        applied: &Applied,
        containers: &[Container],
        respect: bool,
    ) -> Vec<(DriftKind, String)> {
        // All of them ended while the engine was up.
        let stopped = Stopped::default().seen(containers, None);
        let told = drift(applied, containers, respect.then_some(&stopped), NOW_US);
        told.into_iter().map(|drift| (drift.kind, drift.subject)).collect()
    }

    /// 2026-01-01.
    const NOW_US: i64 = 1_767_225_600_000_000;

    fn of_another_image(own: &Container) -> Container {
        let mut own = own.clone();
        own.image = "sha256:2".to_owned();
        own
    }

    fn one(kind: DriftKind, service: &str) -> Vec<(DriftKind, String)> {
        vec![(kind, service.to_owned())]
    }

    #[test]
    fn each_difference_has_its_name() {
        let (web, job) = (container("web", "running", 0), container("job", "exited", 0));
        let applied = left(&[web.clone(), job.clone()]);
        assert_eq!(seen(&applied, &[web.clone(), job.clone()], false), []);
        let stopped = container("web", "exited", 0);
        let now = [stopped.clone(), job.clone()];
        assert_eq!(seen(&applied, &now, false), one(DriftKind::ServiceStopped, "web"));
        assert_eq!(seen(&applied, &now, true), [], "somebody stopped it, and that is respected");
        let crashed = [container("web", "exited", 1), job.clone()];
        assert_eq!(seen(&applied, &crashed, true), one(DriftKind::ServiceStopped, "web"));
        let without = [web.clone()];
        assert_eq!(seen(&applied, &without, true), one(DriftKind::ServiceMissing, "job"));
        let strange = [web.clone(), job.clone(), container("new", "running", 0)];
        assert_eq!(seen(&applied, &strange, false), one(DriftKind::ServiceUnknown, "new"));
        let twice = [web.clone(), web.clone(), job.clone()];
        assert_eq!(seen(&applied, &twice, false), one(DriftKind::ServiceChanged, "web"));
        let renewed = [of_another_image(&web), job];
        assert_eq!(seen(&applied, &renewed, false), one(DriftKind::ServiceChanged, "web"));
    }

    #[test]
    fn what_had_ended_may_run_again_but_not_fail() {
        let applied = left(&[container("job", "exited", 0)]);
        for (status, code, kind) in [
            ("running", 0, None),
            ("exited", 0, None),
            ("exited", 3, Some(DriftKind::ServiceStopped)),
        ] {
            let expected: Vec<_> = kind.map(|kind| (kind, "job".to_owned())).into_iter().collect();
            assert_eq!(seen(&applied, &[container("job", status, code)], false), expected);
        }
    }

    #[test]
    fn what_was_left_stopped_may_run_and_may_stay_so() {
        let stopped = container("web", "exited", 137);
        let mut applied = left(std::slice::from_ref(&stopped));
        applied.services.get_mut("web").unwrap().left_out = true;
        assert_eq!(seen(&applied, std::slice::from_ref(&stopped), true), []);
        assert_eq!(seen(&applied, &[container("web", "running", 0)], true), []);
        assert_eq!(seen(&applied, &[stopped], false), one(DriftKind::ServiceStopped, "web"));
    }

    #[test]
    fn what_ended_with_the_engine_was_stopped_by_nobody() {
        let applied = left(&[container("web", "running", 0)]);
        for code in [0, 137, 143] {
            let down = [ended("web", code, "2025-12-31T23:00:00Z")];
            let none = Stopped::default();
            let by_hand = none.seen(&down, Some(NOW_US - 3_600_000_001));
            assert_eq!(drift(&applied, &down, Some(&by_hand), NOW_US), []);
            let with_it = none.seen(&down, Some(NOW_US));
            let told = drift(&applied, &down, Some(&with_it), NOW_US);
            assert_eq!((told.len(), told[0].kind), (1, DriftKind::ServiceStopped));
        }
    }

    #[test]
    fn a_job_that_ended_well_is_no_drift_after_the_engine_was_restarted() {
        let job = ended("job", 0, "2025-12-31T23:00:00Z");
        let applied = left(std::slice::from_ref(&job));
        assert_eq!(drift(&applied, &[job], Some(&Stopped::default()), NOW_US), []);
    }

    #[test]
    fn what_ends_again_and_again_is_told_as_stopped_all_the_time() {
        let mut web = restarted("web", 3, "2025-12-31T23:59:58Z");
        let applied = left(std::slice::from_ref(&web));
        assert_eq!(seen(&applied, std::slice::from_ref(&web), true), [], "as it was left");
        web.restart_count = 4;
        assert_eq!(seen(&applied, std::slice::from_ref(&web), true), [], "once is no loop");
        web.restart_count = 5;
        let stopped = one(DriftKind::ServiceStopped, "web");
        assert_eq!(seen(&applied, std::slice::from_ref(&web), true), stopped);
        assert!(will_change(&applied, std::slice::from_ref(&web), NOW_US));
        let mut between = web.clone();
        between.state.status = "restarting".to_owned();
        assert_eq!(seen(&applied, &[between], true), stopped);
        web.state.started_at = "2025-12-31T23:50:00Z".to_owned();
        assert_eq!(seen(&applied, std::slice::from_ref(&web), true), [], "it runs on");
        assert!(!will_change(&applied, &[web], NOW_US));
    }

    #[test]
    fn an_older_state_knows_no_images() {
        let web = container("web", "running", 0);
        let mut applied = left(std::slice::from_ref(&web));
        applied.services.get_mut("web").unwrap().images.clear();
        assert_eq!(seen(&applied, &[of_another_image(&web)], false), []);
    }
}
