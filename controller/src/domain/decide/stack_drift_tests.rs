use super::*;
use crate::domain::desired::{REVERTS_MAX, REVERTS_SECS};

/// The host says that the service is no longer as it was synced.
fn drifts(world: &mut World) {
    let row = world.overview.rows.first_mut().unwrap();
    row.watch.drift = vec![hostler_protocol::observed::Drift {
        kind: hostler_protocol::observed::DriftKind::ServiceStopped,
        subject: "web".to_owned(),
    }];
}

#[test]
fn drift_is_shown_unless_the_stack_says_that_it_is_put_right() {
    let mut world = synced();
    drifts(&mut world);
    assert_eq!(world.settle(), 0, "it is reported and that is all");
    world.overview.stacks[0].facts.settings.drift = DriftPolicy::Revert;
    world.settle();
    let job = world.job(&host(1));
    assert_eq!(job.job_type, JobType::StackSync);
    assert_eq!(job.request["why"], "it was changed on the host: web");
    let accepted = {
        let mut world = synced();
        world.overview.stacks[0].facts.settings.drift = DriftPolicy::Revert;
        drifts(&mut world);
        let watch = &mut world.overview.rows[0].watch;
        watch.accepted.clone_from(&watch.drift);
        world.settle()
    };
    assert_eq!(accepted, 0, "a person accepted it");
}

#[test]
fn drift_that_comes_back_again_and_again_is_left_to_a_person() {
    let mut world = synced();
    world.overview.stacks[0].facts.settings.drift = DriftPolicy::Revert;
    for _ in 0..REVERTS_MAX {
        drifts(&mut world);
        world.settle();
        assert_eq!(world.row(&host(1)).status, Syncing);
        world.succeed(&host(1));
        world.settle();
        world.now = world.now.plus_secs(60);
    }
    drifts(&mut world);
    world.settle();
    let row = world.row(&host(1));
    assert!(row.watch.tripped_us.is_some() && row.job.is_none(), "{row:?}");
    world.now = world.now.plus_secs(2 * REVERTS_SECS);
    assert_eq!(world.settle(), 0, "time alone does not mend it");
    world.overview.stacks[0].facts.bundle_digest = Some("d9".to_owned());
    world.settle();
    assert_eq!(world.row(&host(1)).status, Syncing, "something new is synced");
    assert_eq!(world.row(&host(1)).watch.tripped_us, None);
}
