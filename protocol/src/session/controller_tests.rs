use super::*;
use crate::id::{BootId, JobId};

fn attempt(number: u8) -> AttemptRef {
    AttemptRef { job: JobId::from_parts(1, [number; 10]), attempt: 1 }
}

fn hello(versions: (u16, u16)) -> Hello {
    Hello {
        version_min: versions.0,
        version_max: versions.1,
        build: "0.1.0".to_owned(),
        boot: BootId::from_parts(1, [0; 10]),
        clock_us: 0,
        running: vec![attempt(1)],
        unacknowledged: Vec::new(),
        facts: b"{}".to_vec(),
    }
}

fn received(channel: u64, message: ToController) -> Input {
    Input::Received { channel: ChannelId(channel), message }
}

fn live() -> Core {
    live_in(1)
}

/// A session with an agent whose newest version this is.
fn live_in(version: u16) -> Core {
    let mut core = Core::new(0);
    let effects = core.handle(received(0, ToController::Hello(hello((1, version)))), 0);
    assert_eq!(effects, [Effect::Reconcile { hello: hello((1, version)) }]);
    let controller = ControllerId::from_parts(1, [3; 10]);
    let verdicts = vec![(attempt(1), Verdict::Continue)];
    let effects = core.handle(
        Input::Admitted { controller: controller.clone(), epoch: 9, verdicts: verdicts.clone() },
        0,
    );
    let welcome = Welcome { version, controller, epoch: 9, verdicts };
    let message = ToAgent::Welcome(welcome);
    assert_eq!(effects, [Effect::Send { channel: CONTROL, message }]);
    core
}

fn closed_with(effects: &[Effect]) -> Option<u32> {
    effects
        .iter()
        .find_map(|effect| if let Effect::Close { code, .. } = effect { Some(*code) } else { None })
}

#[test]
fn a_version_that_does_not_meet_ours_is_told_which_side_to_upgrade() {
    for (offered, side) in [((0, 0), "upgrade the agent"), ((9, 12), "upgrade the controller")] {
        let mut core = Core::new(0);
        let effects = core.handle(received(0, ToController::Hello(hello(offered))), 0);
        let Effect::Send { message: ToAgent::Refused { message, .. }, .. } = &effects[0] else {
            panic!("expected a Refused first, got {effects:?}");
        };
        assert!(message.ends_with(side), "{message}");
        assert_eq!(closed_with(&effects), Some(close::VERSION));
    }
}

#[test]
fn a_job_runs_and_is_acknowledged_only_after_it_is_settled() {
    let mut core = live();
    let run = Input::Run { attempt: attempt(2), timeout_secs: 5, spec: vec![1] };
    let effects = core.handle(run, 0);
    assert_eq!(effects[0], Effect::Open { channel: ChannelId(2) });
    assert!(matches!(effects[1], Effect::Send { channel: ChannelId(2), .. }));
    let accepted = received(2, ToController::Accepted { attempt: attempt(2) });
    assert_eq!(core.handle(accepted, 0), [Effect::Accepted { attempt: attempt(2) }]);
    let finished = ToController::Finished { attempt: attempt(2), outcome: vec![7] };
    let effects = core.handle(received(2, finished), 0);
    assert_eq!(effects, [Effect::Finished { attempt: attempt(2), outcome: vec![7] }]);
    let effects = core.handle(Input::Settled { attempt: attempt(2) }, 0);
    let ack = ToAgent::Ack { attempt: attempt(2) };
    assert_eq!(
        effects,
        [
            Effect::Send { channel: ChannelId(2), message: ack },
            Effect::Finish { channel: ChannelId(2) }
        ]
    );
}

#[test]
fn an_attempt_is_cancelled_once_and_on_its_own_stream() {
    let mut core = live();
    core.handle(received(1, ToController::Accepted { attempt: attempt(1) }), 0);
    let effects = core.handle(Input::Cancel { attempt: attempt(1) }, 0);
    let message = ToAgent::Cancel { attempt: attempt(1) };
    assert_eq!(effects, [Effect::Send { channel: ChannelId(1), message }]);
    assert_eq!(core.handle(Input::Cancel { attempt: attempt(1) }, 0), []);
}

#[test]
fn frames_out_of_place_end_the_session() {
    let early = ToController::Accepted { attempt: attempt(1) };
    let mut core = Core::new(0);
    assert_eq!(closed_with(&core.handle(received(1, early), 0)), Some(close::PROTOCOL));

    let enrol_on_control = ToController::Heartbeat { sequence: 1, running: Vec::new() };
    let mut core = Core::new(0);
    let effects = core.handle(received(0, enrol_on_control), 0);
    assert_eq!(closed_with(&effects), Some(close::PROTOCOL));

    for (channel, message) in [
        (0, ToController::Hello(hello((1, 1)))),
        (0, ToController::Accepted { attempt: attempt(1) }),
        (1, ToController::Heartbeat { sequence: 1, running: Vec::new() }),
        (
            1,
            ToController::Finished { attempt: attempt(1), outcome: vec![0; OUTCOME_BYTES_MAX + 1] },
        ),
    ] {
        let effects = live().handle(received(channel, message), 0);
        assert_eq!(closed_with(&effects), Some(close::PROTOCOL), "{effects:?}");
    }
}

#[test]
fn one_stream_speaks_of_one_attempt() {
    let mut core = live();
    core.handle(received(1, ToController::Accepted { attempt: attempt(1) }), 0);
    let other = ToController::Accepted { attempt: attempt(2) };
    assert_eq!(closed_with(&core.handle(received(1, other), 0)), Some(close::PROTOCOL));
}

#[test]
fn a_heartbeat_is_answered_and_renews() {
    let beat = ToController::Heartbeat { sequence: 4, running: vec![attempt(1)] };
    let effects = live().handle(received(0, beat), 0);
    let message = ToAgent::HeartbeatAck { sequence: 4 };
    assert_eq!(
        effects,
        [Effect::Alive { running: vec![attempt(1)] }, Effect::Send { channel: CONTROL, message }]
    );
}

#[test]
fn a_silent_connection_is_closed() {
    let mut core = Core::new(5);
    assert_eq!(core.handle(Input::Timeout, 6), []);
    let due = core.next_timeout().unwrap();
    assert_eq!(closed_with(&core.handle(Input::Timeout, due)), Some(close::UNAVAILABLE));
    assert_eq!(core.next_timeout(), None);
}

#[test]
fn a_settled_attempt_without_a_stream_gets_one_for_its_ack() {
    let mut core = live();
    let finished = ToController::Finished { attempt: attempt(3), outcome: Vec::new() };
    core.handle(received(3, finished), 0);
    core.handle(Input::Ended { channel: ChannelId(3) }, 0);
    let effects = core.handle(Input::Settled { attempt: attempt(3) }, 0);
    assert_eq!(effects[0], Effect::Open { channel: ChannelId(2) });
    assert_eq!(effects.len(), 3);
}

fn renew() -> Input {
    received(0, ToController::Renew { csr: vec![7] })
}

fn sent(effects: &[Effect]) -> Option<&ToAgent> {
    if let [Effect::Send { channel: CONTROL, message }] = effects { Some(message) } else { None }
}

#[test]
fn a_certificate_is_asked_for_in_its_version_and_answered_once() {
    let effects = live_in(1).handle(renew(), 0);
    assert_eq!(closed_with(&effects), Some(close::PROTOCOL), "version 1 has no such message");
    let effects = Core::new(0).handle(renew(), 0);
    assert_eq!(closed_with(&effects), Some(close::PROTOCOL), "nothing comes before the Hello");

    let mut core = live_in(2);
    let answer = |chain| Input::Renewed { answer: Ok(chain) };
    assert_eq!(core.handle(answer(vec![vec![1]]), 0), [], "nobody asked");
    assert_eq!(core.handle(renew(), 0), [Effect::Renew { csr: vec![7] }]);
    assert_eq!(core.handle(renew(), 0), [], "asked again before the answer: it serves both");
    let effects = core.handle(answer(vec![vec![1]]), 0);
    assert_eq!(sent(&effects), Some(&ToAgent::Renewed(Renewed { chain: vec![vec![1]] })));
    assert_eq!(core.handle(answer(vec![vec![1]]), 0), []);
}

#[test]
fn a_session_gets_so_many_certificates_and_a_refusal_does_not_end_it() {
    let mut core = live_in(2);
    for _ in 0..RENEWALS_MAX {
        assert!(matches!(&core.handle(renew(), 0)[..], [Effect::Renew { .. }]));
        let refused = ("NO".to_owned(), "no".to_owned());
        let effects = core.handle(Input::Renewed { answer: Err(refused) }, 0);
        assert!(matches!(sent(&effects), Some(ToAgent::RenewRefused { .. })), "{effects:?}");
    }
    let effects = core.handle(renew(), 0);
    let Some(ToAgent::RenewRefused { code, .. }) = sent(&effects) else {
        panic!("more than {RENEWALS_MAX} certificates in one session: {effects:?}");
    };
    assert_eq!(code, "RATE_LIMITED");
    let oversized = ToController::Renew { csr: vec![0; CSR_BYTES_MAX + 1] };
    let effects = core.handle(received(0, oversized), 0);
    assert_eq!(closed_with(&effects), Some(close::PROTOCOL));
}
