//! The agent's session rules, case by case and over random histories.

use proptest::prelude::*;

use super::*;
use crate::id::{BootId, JobId};
use crate::message::Challenge;

fn attempt(job: u8, number: u32) -> AttemptRef {
    AttemptRef { job: JobId::from_parts(u64::from(job), [job; 10]), attempt: number }
}

fn hello(running: Vec<AttemptRef>) -> Hello {
    Hello {
        version_min: 1,
        version_max: 2,
        build: "0".to_owned(),
        boot: BootId::from_parts(0, [0; 10]),
        clock_us: 0,
        running,
        unacknowledged: Vec::new(),
        facts: b"{}".to_vec(),
    }
}

fn welcome(verdicts: Vec<(AttemptRef, Verdict)>) -> ToAgent {
    welcome_in(1, verdicts)
}

fn welcome_in(version: u16, verdicts: Vec<(AttemptRef, Verdict)>) -> ToAgent {
    let controller = ControllerId::from_parts(0, [0; 10]);
    ToAgent::Welcome(Welcome { version, controller, epoch: 1, verdicts })
}

fn received(channel: u64, message: ToAgent) -> Input {
    Input::Received { channel: ChannelId(channel), message }
}

fn run(attempt: AttemptRef) -> ToAgent {
    ToAgent::Run { attempt, timeout_secs: 60, spec: b"{}".to_vec() }
}

fn live(running: Vec<AttemptRef>) -> Core {
    let mut core = Core::new();
    core.handle(Input::Connected { hello: hello(running) }, 0);
    core.handle(received(0, welcome(Vec::new())), 0);
    core
}

#[test]
fn hello_comes_first_and_an_unanswered_one_ends_the_session() {
    let mut core = Core::new();
    let effects = core.handle(Input::Connected { hello: hello(Vec::new()) }, 5);
    assert!(matches!(
        &effects[..],
        [Effect::Send { channel: CONTROL, message: ToController::Hello(_) }]
    ));
    assert_eq!(core.next_timeout(), Some(5 + WELCOME_MS_MAX));
    let effects = core.handle(Input::Timeout, 5 + WELCOME_MS_MAX);
    assert!(matches!(&effects[..], [Effect::Close { code: close::UNAVAILABLE, .. }]));
    assert_eq!(core.next_timeout(), None);
}

#[test]
fn a_job_travels_over_the_channel_it_came_on_until_it_is_acknowledged() {
    let mut core = live(Vec::new());
    let (a, channel) = (attempt(1, 1), ChannelId(2));
    assert_eq!(core.handle(received(2, run(a.clone())), 0), [Effect::ToRunner(run(a.clone()))]);
    let accepted = ToController::Accepted { attempt: a.clone() };
    assert_eq!(
        core.handle(Input::FromRunner(accepted.clone()), 0),
        [Effect::Send { channel, message: accepted }]
    );
    let finished = ToController::Finished { attempt: a.clone(), outcome: Vec::new() };
    assert_eq!(
        core.handle(Input::FromRunner(finished.clone()), 0),
        [Effect::Send { channel, message: finished }]
    );
    let ack = ToAgent::Ack { attempt: a };
    assert_eq!(
        core.handle(received(2, ack.clone()), 0),
        [Effect::Finish { channel }, Effect::ToRunner(ack)]
    );
}

#[test]
fn heartbeats_name_what_runs_and_silence_ends_the_session() {
    let mut core = live(vec![attempt(1, 1)]);
    core.handle(received(2, run(attempt(2, 1))), 0);
    core.handle(Input::FromRunner(ToController::Accepted { attempt: attempt(2, 1) }), 0);
    let beat = core.handle(Input::Timeout, 15_000);
    let running = vec![attempt(1, 1), attempt(2, 1)];
    let message = ToController::Heartbeat { sequence: 1, running };
    assert_eq!(beat, [Effect::Send { channel: CONTROL, message }]);
    core.handle(received(0, ToAgent::HeartbeatAck { sequence: 1 }), 20_000);
    assert!(!core.handle(Input::Timeout, 64_000).iter().any(is_close));
    assert!(core.handle(Input::Timeout, 65_000).iter().any(is_close));
}

fn is_close(effect: &Effect) -> bool {
    matches!(effect, Effect::Close { .. })
}

#[test]
fn verdicts_reopen_cancel_or_drop_what_was_running() {
    let mut core = Core::new();
    let all = vec![attempt(1, 1), attempt(2, 1), attempt(3, 1), attempt(4, 1)];
    core.handle(Input::Connected { hello: hello(all) }, 0);
    let verdicts = vec![
        (attempt(1, 1), Verdict::Continue),
        (attempt(2, 1), Verdict::Cancel),
        (attempt(3, 1), Verdict::Stale),
    ];
    let effects = core.handle(received(0, welcome(verdicts)), 0);
    let opened = effects.iter().filter(|effect| matches!(effect, Effect::Open { .. })).count();
    assert_eq!(opened, 3, "{effects:?}");
    for cancelled in [attempt(2, 1), attempt(3, 1)] {
        assert!(effects.contains(&Effect::ToRunner(ToAgent::Cancel { attempt: cancelled })));
    }
    assert!(!effects.contains(&Effect::ToRunner(ToAgent::Cancel { attempt: attempt(4, 1) })));
    assert!(matches!(effects.last(), Some(Effect::Established { epoch: 1, .. })));
}

#[test]
fn a_job_that_overtakes_the_welcome_waits_for_it() {
    let mut core = Core::new();
    core.handle(Input::Connected { hello: hello(Vec::new()) }, 0);
    assert_eq!(core.handle(received(2, run(attempt(1, 1))), 0), []);
    let effects = core.handle(received(0, welcome(Vec::new())), 0);
    assert!(matches!(effects[0], Effect::Established { .. }));
    assert_eq!(effects[1], Effect::ToRunner(run(attempt(1, 1))));
}

#[test]
fn what_is_refused_before_the_welcome_is_told_after_it_and_is_not_said_to_run() {
    let a = attempt(1, 1);
    let rejected = ToController::Rejected { attempt: a.clone(), error: b"{}".to_vec() };
    let mut core = Core::new();
    core.handle(Input::Connected { hello: hello(vec![a.clone()]) }, 0);
    assert_eq!(core.handle(Input::FromRunner(rejected.clone()), 0), []);
    let effects = core.handle(received(0, welcome(vec![(a.clone(), Verdict::Continue)])), 0);
    let channel = ChannelId(1);
    assert_eq!(
        effects[..3],
        [
            Effect::Open { channel },
            Effect::Send { channel, message: rejected },
            Effect::Finish { channel },
        ]
    );
    assert!(matches!(effects[3..], [Effect::Established { .. }]), "{effects:?}");
    let beat = core.handle(Input::Timeout, KEEP_ALIVE_SECS * 1000);
    let message = ToController::Heartbeat { sequence: 1, running: Vec::new() };
    assert_eq!(beat, [Effect::Send { channel: CONTROL, message }]);
}

#[test]
fn a_version_that_was_not_offered_is_refused() {
    let mut core = Core::new();
    core.handle(Input::Connected { hello: hello(Vec::new()) }, 0);
    let controller = ControllerId::from_parts(0, [0; 10]);
    let other = Welcome { version: 3, controller, epoch: 1, verdicts: Vec::new() };
    let effects = core.handle(received(0, ToAgent::Welcome(other)), 0);
    assert!(matches!(&effects[..], [Effect::Close { code: close::VERSION, .. }]));
}

#[test]
fn a_result_without_a_channel_opens_one_and_a_lost_channel_is_replaced() {
    let mut core = live(Vec::new());
    let finished = ToController::Finished { attempt: attempt(1, 1), outcome: Vec::new() };
    let effects = core.handle(Input::FromRunner(finished.clone()), 0);
    assert_eq!(effects[0], Effect::Open { channel: ChannelId(1) });
    core.handle(Input::Ended { channel: ChannelId(1) }, 0);
    let effects = core.handle(Input::FromRunner(finished), 0);
    assert_eq!(effects[0], Effect::Open { channel: ChannelId(3) });
}

#[test]
fn frames_in_the_wrong_place_end_the_session() {
    for (channel, message) in [
        (0, run(attempt(1, 1))),
        (0, welcome(Vec::new())),
        (2, ToAgent::HeartbeatAck { sequence: 0 }),
        (2, ToAgent::Drain { retry_after_ms: 1 }),
        (0, ToAgent::Challenge(Challenge { nonce: Vec::new(), clock_us: 0 })),
        (2, renewed()),
    ] {
        let effects = live(Vec::new()).handle(received(channel, message.clone()), 0);
        assert!(
            matches!(&effects[..], [Effect::Close { code: close::PROTOCOL, .. }]),
            "{message:?} on channel {channel} gave {effects:?}"
        );
    }
}

#[test]
fn an_oversized_job_is_refused_without_the_runner() {
    let spec = vec![b' '; SPEC_BYTES_MAX + 1];
    let run = ToAgent::Run { attempt: attempt(1, 1), timeout_secs: 1, spec };
    let effects = live(Vec::new()).handle(received(2, run), 0);
    assert!(matches!(
        &effects[..],
        [Effect::Send { message: ToController::Rejected { .. }, .. }, Effect::Finish { .. }]
    ));
}

#[test]
fn stopping_says_goodbye_and_nothing_follows() {
    let mut core = live(Vec::new());
    let effects = core.handle(Input::Stop { reason: "stopping".to_owned() }, 0);
    assert!(matches!(
        &effects[..],
        [Effect::Send { message: ToController::Goodbye { .. }, .. }, Effect::Close { .. }]
    ));
    assert_eq!(core.handle(received(2, run(attempt(1, 1))), 0), []);
}

fn renewed() -> ToAgent {
    ToAgent::Renewed(Renewed { chain: vec![vec![1]] })
}

fn renew() -> Input {
    Input::Renew { csr: vec![7], wait_ms: 1000 }
}

fn live_in(version: u16) -> Core {
    let mut core = Core::new();
    core.handle(Input::Connected { hello: hello(Vec::new()) }, 0);
    core.handle(received(0, welcome_in(version, Vec::new())), 0);
    core
}

#[test]
fn a_certificate_is_asked_for_only_where_the_version_knows_the_question() {
    let mut old = live_in(1);
    assert!(!old.may_renew());
    assert_eq!(old.handle(renew(), 0), [], "an older controller would end the session");
    assert!(!Core::new().may_renew(), "nothing is asked before the Welcome");

    let mut core = live_in(2);
    assert!(core.may_renew());
    let message = ToController::Renew { csr: vec![7] };
    assert_eq!(core.handle(renew(), 0), [Effect::Send { channel: CONTROL, message }]);
    assert!(!core.may_renew());
    assert_eq!(core.handle(renew(), 0), [], "one question at a time");
    let answer = Effect::Renewed { chain: vec![vec![1]] };
    assert_eq!(core.handle(received(0, renewed()), 5), [answer]);
    assert!(core.may_renew());
}

#[test]
fn an_answer_nobody_asked_for_ends_the_session() {
    let refused = ToAgent::RenewRefused { code: "NO".to_owned(), message: String::new() };
    for message in [renewed(), refused] {
        let effects = live_in(2).handle(received(0, message), 0);
        assert!(matches!(&effects[..], [Effect::Close { code: close::PROTOCOL, .. }]));
    }
}

#[test]
fn silence_is_noticed_once_and_a_late_answer_still_counts() {
    let mut core = live_in(2);
    core.handle(renew(), 0);
    assert_eq!(core.next_timeout(), Some(1000));
    assert_eq!(core.handle(Input::Timeout, 999), []);
    assert_eq!(core.handle(Input::Timeout, 1000), [Effect::RenewUnanswered]);
    assert_eq!(core.next_timeout(), Some(KEEP_ALIVE_SECS * 1000), "it is noticed once");
    assert!(core.may_renew(), "it may be asked again");
    let late = Effect::Renewed { chain: vec![vec![1]] };
    assert_eq!(core.handle(received(0, renewed()), 2000), [late]);
    assert!(core.handle(received(0, renewed()), 2000).iter().any(is_close), "one per question");
}

fn any_input() -> impl Strategy<Value = Input> {
    let a = || (0u8..3, 1u32..3).prop_map(|(job, number)| attempt(job, number));
    prop_oneof![
        Just(Input::Connected { hello: hello(vec![attempt(0, 1)]) }),
        Just(received(0, welcome(vec![(attempt(0, 1), Verdict::Continue)]))),
        Just(received(0, welcome_in(2, Vec::new()))),
        Just(received(0, renewed())),
        Just(renew()),
        (1u64..4, a()).prop_map(|(c, a)| received(2 * c, run(a))),
        (1u64..8, a()).prop_map(|(c, attempt)| received(c, ToAgent::Cancel { attempt })),
        (1u64..8, a()).prop_map(|(c, attempt)| received(c, ToAgent::Ack { attempt })),
        (1u64..8).prop_map(|c| Input::Ended { channel: ChannelId(c) }),
        a().prop_map(|attempt| Input::FromRunner(ToController::Accepted { attempt })),
        a().prop_map(|attempt| Input::FromRunner(ToController::Finished {
            attempt,
            outcome: Vec::new()
        })),
        a().prop_map(|attempt| Input::FromRunner(ToController::Rejected {
            attempt,
            error: Vec::new()
        })),
        Just(Input::Timeout),
    ]
}

proptest! {
    #[test]
    fn nothing_precedes_the_welcome_and_nothing_follows_a_close(
        inputs in proptest::collection::vec(any_input(), 0..60)
    ) {
        let mut core = Core::new();
        let (mut welcomed, mut closed) = (false, false);
        let mut opened = std::collections::BTreeSet::new();
        let mut asked = 0;
        for (step, input) in inputs.into_iter().enumerate() {
            if matches!(input, Input::Connected { .. }) && step > 0 {
                continue;
            }
            for effect in core.handle(input, step as u64 * 100) {
                prop_assert!(!closed, "{effect:?} after a close");
                match effect {
                    Effect::Open { channel } => prop_assert!(opened.insert(channel)),
                    Effect::Established { .. } => welcomed = true,
                    Effect::Close { .. } => closed = true,
                    // What was running is reported again just before the session counts as live.
                    Effect::Send { message: ToController::Renew { .. }, .. } => {
                        prop_assert!(welcomed, "a certificate is asked for before the Welcome");
                        asked += 1;
                    }
                    Effect::Send { channel, .. } => {
                        prop_assert!(channel == CONTROL || welcomed || opened.contains(&channel));
                    }
                    Effect::Renewed { .. } | Effect::RenewRefused { .. } => {
                        prop_assert!(asked > 0, "a certificate nobody asked for");
                        asked -= 1;
                    }
                    Effect::ToRunner(_) | Effect::Finish { .. } | Effect::RenewUnanswered => {}
                    Effect::RetryAfter { .. } | Effect::Refused { .. } => {}
                }
            }
        }
    }
}
