use proptest::prelude::*;

use super::*;

const DAY_MS: u64 = 86_400_000;
const LIFE: Life = Life { issued_us: 1_000_000_000, ms: 7 * DAY_MS };

/// So long after the certificate was issued, by both clocks.
fn at(age_ms: u64) -> Now {
    let wall_us = LIFE.issued_us + i64::try_from(age_ms).unwrap() * 1000;
    Now { wall_us, monotonic_ms: age_ms, random: 50 }
}

fn fresh() -> Renewal {
    Renewal::new(LIFE, false, at(0))
}

#[test]
fn a_certificate_is_replaced_at_half_its_life_a_tenth_earlier_or_later() {
    for (random, per_mille) in [(0, 450), (50, 500), (100, 550), (101, 450)] {
        let renewal = Renewal::new(LIFE, false, Now { random, ..at(0) });
        assert_eq!(renewal.due(at(0)), (Due::Ask, LIFE.ms / 1000 * per_mille));
    }
    assert_eq!(fresh().due(at(6 * DAY_MS)), (Due::Ask, 0));
}

#[test]
fn the_age_is_that_of_the_clock_that_says_more() {
    let renewal = fresh();
    let set_back = Now { wall_us: 0, ..at(4 * DAY_MS) };
    assert_eq!(renewal.due(set_back), (Due::Ask, 0), "a wall clock that was set back");
    let slept = Now { monotonic_ms: 0, ..at(4 * DAY_MS) };
    assert_eq!(renewal.due(slept), (Due::Ask, 0), "a monotonic clock that stood still");
    // After a start the age comes from the wall clock, and one that is behind counts from there.
    let started = Renewal::new(LIFE, false, Now { monotonic_ms: 0, ..at(3 * DAY_MS) });
    assert_eq!(started.due(Now { monotonic_ms: 0, ..at(3 * DAY_MS) }), (Due::Ask, DAY_MS / 2));
    let behind = Renewal::new(LIFE, false, Now { wall_us: 0, monotonic_ms: 0, random: 50 });
    let later = Now { wall_us: 0, monotonic_ms: 4 * DAY_MS, random: 50 };
    assert_eq!(behind.due(later), (Due::Ask, 0));
}

#[test]
fn what_fails_is_tried_again_within_the_hour() {
    let mut renewal = fresh();
    let now = at(4 * DAY_MS);
    for random in [0, 100, 200] {
        renewal.not_granted(Now { random, ..now });
        let (due, wait_ms) = renewal.due(now);
        assert_eq!(due, Due::Ask);
        assert!((3_240_000..=3_960_000).contains(&wait_ms), "{wait_ms} ms");
    }
    let mut short = Renewal::new(Life { ms: 4000, ..LIFE }, false, at(0));
    short.not_granted(Now { random: 100, ..at(3000) });
    assert_eq!(short.due(at(3000)), (Due::Ask, RETRY_MS_MIN));
    assert_eq!(short.answer_ms(), ANSWER_MS_MIN);
    assert_eq!(fresh().answer_ms(), ANSWER_MS_MAX);
}

#[test]
fn a_candidate_is_shown_at_once_and_not_again_soon_after_a_failure() {
    let mut renewal = fresh();
    let now = at(4 * DAY_MS);
    assert_eq!(renewal.shown(now), Shown::Committed);
    renewal.granted(now);
    assert_eq!(renewal.shown(now), Shown::Candidate);
    assert!(!renewal.lost(Shown::Candidate, Loss::Other, now), "the network may be down");
    assert_eq!(renewal.shown(now), Shown::Committed);
    assert!(!renewal.lost(Shown::Committed, Loss::Other, now));
    assert!(!renewal.welcomed(now), "it was not refused: it is kept");
    let (due, wait_ms) = renewal.due(now);
    assert_eq!(due, Due::Try);
    assert!((3_240_000..=3_960_000).contains(&wait_ms), "{wait_ms} ms");
    assert_eq!(renewal.shown(at(4 * DAY_MS + wait_ms)), Shown::Candidate);
}

#[test]
fn a_refused_candidate_is_given_up_when_the_committed_identity_is_welcomed() {
    let mut renewal = fresh();
    let now = at(4 * DAY_MS);
    renewal.granted(now);
    assert!(renewal.lost(Shown::Candidate, Loss::Unknown, now), "the committed one is tried now");
    assert_eq!(renewal.shown(at(6 * DAY_MS)), Shown::Committed);
    assert!(renewal.welcomed(now));
    let (due, wait_ms) = renewal.due(now);
    assert_eq!(due, Due::Ask);
    assert!(wait_ms > 0, "another is asked for later");
}

#[test]
fn a_committed_identity_that_is_refused_makes_way_for_the_candidate() {
    // The candidate was committed over there, and its Welcome was lost.
    for loss in [Loss::Unknown, Loss::Ended] {
        let mut renewal = fresh();
        let now = at(4 * DAY_MS);
        renewal.granted(now);
        renewal.lost(Shown::Candidate, Loss::Other, now);
        assert_eq!(renewal.shown(now), Shown::Committed);
        assert!(renewal.lost(Shown::Committed, loss, now));
        assert_eq!(renewal.shown(now), Shown::Candidate);
        assert!(!renewal.must_return(), "the candidate comes first");
    }
}

#[test]
fn an_ended_certificate_is_a_reason_to_come_back_by_its_key() {
    let mut renewal = fresh();
    let now = at(8 * DAY_MS);
    assert!(!renewal.must_return(), "the controller's clock decides");
    assert!(renewal.lost(Shown::Committed, Loss::Ended, now));
    assert!(renewal.must_return());
    renewal.not_returned();
    assert!(!renewal.must_return(), "an ordinary session has its turn again");
    renewal.lost(Shown::Committed, Loss::Ended, now);
    renewal.granted(now);
    assert!(!renewal.must_return());
    assert_eq!(renewal.shown(now), Shown::Candidate);
}

#[test]
fn two_identities_that_are_not_taken_do_not_chase_each_other() {
    let mut renewal = fresh();
    let now = at(8 * DAY_MS);
    renewal.granted(now);
    assert!(renewal.lost(Shown::Candidate, Loss::Unknown, now));
    assert!(!renewal.lost(Shown::Committed, Loss::Ended, now), "not without a wait");
    assert!(renewal.must_return());
    renewal.not_returned();
    let later = at(8 * DAY_MS + 2 * RETRY_MS_MAX);
    assert_eq!(renewal.shown(later), Shown::Candidate, "it has its turn again");
}

fn any_loss() -> impl Strategy<Value = Loss> {
    prop_oneof![Just(Loss::Ended), Just(Loss::Unknown), Just(Loss::Other)]
}

proptest! {
    /// Whatever happens in whatever order: no wait is longer than half a life and a bit, at most
    /// two identities are tried before there is a wait, and a candidate goes only as the module says.
    #[test]
    fn no_history_waits_for_ever_or_runs_hot(
        steps in proptest::collection::vec((0u8..5, any_loss(), 0u64..3 * 3_600_000, any::<u64>()), 1..80)
    ) {
        let mut renewal = fresh();
        let (mut age_ms, mut at_once) = (0, 0);
        for (kind, loss, wait_ms, random) in steps {
            let now = Now { random, ..at(age_ms) };
            let shown = renewal.shown(now);
            match kind {
                0 => renewal.granted(now),
                1 => renewal.not_granted(now),
                2 if shown == Shown::Committed => {
                    let had = renewal.candidate.as_ref().map(|trial| trial.refused);
                    prop_assert_eq!(renewal.welcomed(now), had == Some(true));
                }
                // No session is tried before the way back was: it leads to nothing here.
                _ if renewal.must_return() => renewal.not_returned(),
                _ if renewal.lost(shown, loss, now) => {
                    at_once += 1;
                    prop_assert!(at_once <= 3, "tried {at_once} times without a wait");
                    continue;
                }
                _ => {}
            }
            let (_, due_ms) = renewal.due(now);
            prop_assert!(due_ms <= LIFE.ms / 1000 * 550 + 2 * RETRY_MS_MAX);
            age_ms += wait_ms + 1;
            at_once = 0;
        }
    }
}
