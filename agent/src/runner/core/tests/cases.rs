//! One test for each rule.

use hostler_protocol::job::{Progress, StepReport, StepState};

use super::*;
use crate::journal::Kept;
use crate::journal::{JournalFault, Unfinished};
use crate::runner::core::{
    DELIVERIES_MAX, REDELIVER_MS, UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_MAX,
};

#[test]
fn accepted_follows_the_disk_and_so_does_finished() {
    let (mut core, a) = (ready(), attempt(1, 1));
    assert!(matches!(&core.handle(run(&a), at(0))[..], [Effect::JournalAccept { .. }]));
    let effects = core.handle(Input::Accepted { attempt: a.clone(), done: Ok(()) }, at(0));
    assert_eq!(effects[0], Effect::Send(ToController::Accepted { attempt: a.clone() }));
    assert!(matches!(effects[1], Effect::Start { .. }));
    let ended = Input::Ended { attempt: a.clone(), outcome: outcome(OutcomeState::Succeeded) };
    journalled(&core.handle(ended, at(1)));
    let effects = core.handle(Input::Stored { attempt: a.clone(), done: Ok(()) }, at(2));
    assert_eq!(effects, [Effect::Deliver { attempt: a.clone() }]);
    assert_eq!(core.handle(ack(&a), at(3)), [Effect::JournalForget { attempt: a }]);
    assert_eq!(core.load().unsettled, 0);
}

#[test]
fn a_duplicate_is_answered_and_never_started_again() {
    let (mut core, a) = (ready(), attempt(1, 1));
    core.handle(run(&a), at(0));
    assert_eq!(core.handle(run(&a), at(0)), [], "said when it is on disk");
    core.handle(Input::Accepted { attempt: a.clone(), done: Ok(()) }, at(0));
    let accepted = [Effect::Send(ToController::Accepted { attempt: a.clone() })];
    assert_eq!(core.handle(run(&a), at(0)), accepted);
    core.handle(Input::Ended { attempt: a.clone(), outcome: outcome(OutcomeState::Failed) }, at(0));
    assert_eq!(core.handle(run(&a), at(0)), accepted);
    core.handle(Input::Stored { attempt: a.clone(), done: Ok(()) }, at(0));
    let again = core.handle(run(&a), at(0));
    assert_eq!(again, [Effect::Deliver { attempt: a.clone() }], "the outcome is the answer");
    core.handle(ack(&a), at(0));
    assert_eq!(rejection(&core.handle(run(&a), at(0))), "ATTEMPT_SETTLED");
    assert_eq!(rejection(&core.handle(run(&attempt(1, 0)), at(0))), "ATTEMPT_STALE");
    let next = core.handle(run(&attempt(1, 2)), at(0));
    assert!(matches!(&next[..], [Effect::JournalAccept { .. }]), "a later attempt is new");
}

#[test]
fn two_attempts_of_a_job_never_run_together() {
    let mut core = running(&attempt(1, 2));
    assert_eq!(rejection(&core.handle(run(&attempt(1, 1)), at(0))), "ATTEMPT_STALE");
    assert_eq!(rejection(&core.handle(run(&attempt(1, 3)), at(0))), "AGENT_BUSY");
}

#[test]
fn whoever_changes_an_environment_is_alone_with_it() {
    let accepted = |a: &AttemptRef| Input::Accepted { attempt: a.clone(), done: Ok(()) };
    let started = |effects: &[Effect]| {
        let started = |effect: &Effect| {
            if let Effect::Start { attempt, .. } = effect { Some(attempt.clone()) } else { None }
        };
        effects.iter().filter_map(started).collect::<Vec<_>>()
    };
    let limits = Limits { jobs_max: 5, stop_ms_max: 5000 };
    let mut core = Core::new(limits, BootId::from_parts(0, [0; 10]), Contents::default());
    core.handle(Input::Recovered { steps: Vec::new(), proven: Vec::new() }, at(0));
    let [old, next, look, last] = [1, 2, 3, 4].map(|job| attempt(job, 1));
    for a in [&old, &next, &last] {
        core.handle(run_with(a, purge_spec()), at(0));
    }
    core.handle(run(&look), at(0));
    assert_eq!(started(&core.handle(accepted(&old), at(0))), std::slice::from_ref(&old));
    let waits = core.handle(accepted(&next), at(0));
    assert_eq!(waits, [Effect::Send(ToController::Accepted { attempt: next.clone() })]);
    assert_eq!(started(&core.handle(accepted(&last), at(0))), []);
    let looks = core.handle(accepted(&look), at(0));
    assert_eq!(started(&looks), [look], "who only looks waits for nobody");

    // The controller no longer wants the first: it stops, and only then the next one starts.
    assert_eq!(core.handle(cancel(&old), at(10)), [Effect::Cancel { attempt: old.clone() }]);
    // One that was cancelled while it waited ends at once.
    let ended = core.handle(cancel(&last), at(10));
    assert_eq!(journalled(&ended).state, OutcomeState::Cancelled);
    let stopped = Input::Ended { attempt: old, outcome: outcome(OutcomeState::Cancelled) };
    assert_eq!(started(&core.handle(stopped, at(90_000))), std::slice::from_ref(&next));
    let deadline = core.next_timeout();
    assert_eq!(deadline, Some(60_000), "the check's; the next one's time begins with its start");
    core.handle(Input::Timeout, at(90_000));
    assert_eq!(core.next_timeout(), Some(95_000));
    core.handle(Input::Timeout, at(95_000));
    assert_eq!(core.next_timeout(), Some(150_000));
}

#[test]
fn there_is_a_limit_to_what_runs_and_to_what_waits() {
    let mut core = running(&attempt(1, 1));
    core.handle(run(&attempt(2, 1)), at(0));
    assert_eq!(rejection(&core.handle(run(&attempt(3, 1)), at(0))), "AGENT_BUSY");

    for (count, bytes) in [(UNACKNOWLEDGED_MAX, 1), (2, UNACKNOWLEDGED_BYTES_MAX / 2)] {
        let many = (0..count).map(|n| Kept {
            attempt: AttemptRef { job: JobId::from_parts(n as u64, [1; 10]), attempt: 1 },
            bytes,
        });
        let mut full = super::core(Contents { finished: many.collect(), ..Contents::default() });
        full.handle(Input::Recovered { steps: Vec::new(), proven: Vec::new() }, at(0));
        assert_eq!(rejection(&full.handle(run(&attempt(255, 1)), at(0))), "NO_SPACE");
        let first = AttemptRef { job: JobId::from_parts(0, [1; 10]), attempt: 1 };
        full.handle(ack(&first), at(0));
        let room = full.handle(run(&attempt(255, 1)), at(0));
        assert!(matches!(room[..], [Effect::JournalAccept { .. }]), "{room:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_says_why() {
    let mut core = ready();
    for (spec, expected) in [
        (&b"{\"type\":\"make_coffee\"}"[..], "UNKNOWN_JOB_TYPE"),
        (b"{\"type\":\"env_check\"}", "SPEC_INVALID"),
        (b"{", "SPEC_INVALID"),
        (b"", "SPEC_INVALID"),
    ] {
        let spec = spec.to_vec();
        let run = ToAgent::Run { attempt: attempt(1, 1), timeout_secs: 1, spec };
        assert_eq!(rejection(&core.handle(Input::Message(run), at(0))), expected);
    }
}

#[test]
fn a_journal_that_takes_nothing_refuses_the_job() {
    for (fault, expected) in
        [(JournalFault::NoSpace, "NO_SPACE"), (JournalFault::Failed, "JOURNAL_FAILED")]
    {
        let (mut core, a) = (ready(), attempt(1, 1));
        core.handle(run(&a), at(0));
        let effects = core.handle(Input::Accepted { attempt: a.clone(), done: Err(fault) }, at(0));
        assert_eq!(rejection(&effects), expected);
        assert_eq!(core.load().unsettled, 0);
        assert!(matches!(&core.handle(run(&a), at(0))[..], [Effect::JournalAccept { .. }]));
    }
}

#[test]
fn an_outcome_the_journal_refuses_is_tried_again_with_growing_waits() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    core.handle(
        Input::Ended { attempt: a.clone(), outcome: outcome(OutcomeState::Succeeded) },
        at(0),
    );
    let mut now = 0;
    for wait in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        let done = Err(JournalFault::NoSpace);
        assert_eq!(core.handle(Input::Stored { attempt: a.clone(), done }, at(now)), []);
        assert_eq!(core.next_timeout(), Some(now + wait));
        assert_eq!(core.handle(Input::Timeout, at(now + wait - 1)), []);
        now += wait;
        journalled(&core.handle(Input::Timeout, at(now)));
    }
    let effects = core.handle(Input::Stored { attempt: a.clone(), done: Ok(()) }, at(now));
    assert_eq!(effects, [Effect::Deliver { attempt: a }]);
}

#[test]
fn a_cancelled_job_stops_and_its_own_end_counts() {
    for state in [OutcomeState::Cancelled, OutcomeState::Succeeded, OutcomeState::Failed] {
        let a = attempt(1, 1);
        let mut core = running(&a);
        assert_eq!(core.handle(cancel(&a), at(0)), [Effect::Cancel { attempt: a.clone() }]);
        assert_eq!(core.handle(cancel(&a), at(0)), [], "once is enough");
        let ended = Input::Ended { attempt: a, outcome: outcome(state) };
        assert_eq!(journalled(&core.handle(ended, at(1))), outcome(state));
    }
}

#[test]
fn a_job_cancelled_before_it_started_never_starts() {
    let (mut core, a) = (ready(), attempt(1, 1));
    core.handle(run(&a), at(0));
    core.handle(cancel(&a), at(0));
    let effects = core.handle(Input::Accepted { attempt: a, done: Ok(()) }, at(0));
    assert!(matches!(effects[0], Effect::Send(ToController::Accepted { .. })));
    assert_eq!(code(&journalled(&effects[1..])), "CANCELLED");
}

#[test]
fn a_completion_on_disk_beats_a_cancel() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    core.handle(
        Input::Ended { attempt: a.clone(), outcome: outcome(OutcomeState::Succeeded) },
        at(0),
    );
    assert_eq!(core.handle(cancel(&a), at(0)), []);
    core.handle(Input::Stored { attempt: a.clone(), done: Ok(()) }, at(0));
    assert_eq!(core.handle(cancel(&a), at(0)), [Effect::Deliver { attempt: a }]);
}

#[test]
fn time_runs_out_politely_first() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    assert_eq!(core.next_timeout(), Some(60_000));
    assert_eq!(core.handle(Input::Timeout, at(59_999)), []);
    assert_eq!(core.handle(Input::Timeout, at(60_000)), [Effect::Cancel { attempt: a.clone() }]);
    assert_eq!(core.next_timeout(), Some(65_000));
    assert_eq!(core.handle(Input::Timeout, at(65_000)), [Effect::Abort { attempt: a.clone() }]);
    assert_eq!(core.handle(Input::Timeout, at(99_000)), [], "once is enough");
    let ended =
        journalled(&core.handle(Input::Vanished { attempt: a, steps: Vec::new() }, at(65_001)));
    assert_eq!((ended.state, code(&ended)), (OutcomeState::Failed, "TIMED_OUT"));
}

#[test]
fn work_done_in_time_s_grace_is_done_and_other_ends_are_timeouts() {
    for (state, expected) in [
        (OutcomeState::Succeeded, ""),
        (OutcomeState::Cancelled, "TIMED_OUT"),
        (OutcomeState::Failed, "TIMED_OUT"),
    ] {
        let a = attempt(1, 1);
        let mut core = running(&a);
        core.handle(Input::Timeout, at(60_000));
        let ended = Input::Ended { attempt: a, outcome: outcome(state) };
        let ended = journalled(&core.handle(ended, at(61_000)));
        assert_eq!(code(&ended), expected);
        let step = ended.error.and_then(|error| error.step);
        assert_eq!(step.as_deref(), (state == OutcomeState::Failed).then_some("test"));
    }
}

#[test]
fn a_rollback_that_failed_is_told_even_when_time_was_up() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    core.handle(Input::Timeout, at(60_000));
    let mut failed = outcome(OutcomeState::Failed);
    failed.error = Some(JobError::new(Code::NginxRollbackFailed, "look at nginx"));
    let ended = journalled(&core.handle(Input::Ended { attempt: a, outcome: failed }, at(61_000)));
    assert_eq!(code(&ended), "NGINX_ROLLBACK_FAILED");
}

#[test]
fn an_action_that_breaks_off_is_a_defect_and_an_outcome() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    let ended = journalled(&core.handle(Input::Vanished { attempt: a, steps: Vec::new() }, at(1)));
    assert_eq!(code(&ended), "INTERNAL_ERROR");
}

#[test]
fn what_a_crash_cut_off_waits_for_recovery_and_ends_as_interrupted() {
    let (a, b) = (attempt(1, 1), attempt(2, 1));
    let unfinished = [(a.clone(), 1), (b, 3)].map(|(attempt, crashes)| Unfinished {
        spec: Vec::new(),
        attempt,
        accepted_at_us: 77,
        crashes,
    });
    let mut core = super::core(Contents { unfinished: unfinished.to_vec(), ..Contents::default() });
    let introduction = core.handle(Input::Introduce, at(0));
    assert!(
        matches!(&introduction[..], [Effect::Introduce(said)] if said.running.len() == 2),
        "{introduction:?}"
    );
    let accepted = [Effect::Send(ToController::Accepted { attempt: a.clone() })];
    assert_eq!(core.handle(run(&a), at(0)), accepted, "never started again");
    // New work is accepted meanwhile, but does not start.
    let new = attempt(3, 1);
    core.handle(run(&new), at(0));
    let effects = core.handle(Input::Accepted { attempt: new.clone(), done: Ok(()) }, at(0));
    assert_eq!(effects, [Effect::Send(ToController::Accepted { attempt: new })]);

    let step = "put_back".to_owned();
    let steps =
        vec![StepReport { step, state: StepState::Done, message: String::new(), took_us: 1 }];
    let effects = core.handle(Input::Recovered { steps: steps.clone(), proven: Vec::new() }, at(0));
    let first = journalled(&effects[..1]);
    assert_eq!((code(&first), &first.steps, first.started_at_us), ("INTERRUPTED", &steps, 77));
    let message = journalled(&effects[1..2]).error.unwrap().message;
    assert!(message.contains("3 times"), "{message}");
    assert!(matches!(effects[2], Effect::Start { .. }));
}

#[test]
fn what_the_host_proves_is_done_is_not_called_interrupted() {
    let (done, cut, never) = (attempt(1, 1), attempt(2, 1), attempt(3, 1));
    let cut_off = |attempt: &AttemptRef| Unfinished {
        spec: Vec::new(),
        attempt: attempt.clone(),
        accepted_at_us: 77,
        crashes: 1,
    };
    let unfinished = vec![cut_off(&done), cut_off(&cut)];
    let mut core = super::core(Contents { unfinished, ..Contents::default() });
    let outcome = super::outcome(OutcomeState::Succeeded);
    let proven = vec![(done.clone(), outcome.clone()), (never, outcome.clone())];
    let effects = core.handle(Input::Recovered { steps: Vec::new(), proven }, at(0));
    assert_eq!(effects.len(), 2, "one of nobody's is ignored: {effects:?}");
    assert_eq!(journalled(&effects[..1]), outcome);
    assert_eq!(code(&journalled(&effects[1..])), "INTERRUPTED");
}

#[test]
fn outcomes_go_out_a_few_at_a_time_and_again_on_each_session() {
    let finished: Vec<_> = (0..30).map(|job| attempt(job, 1)).collect();
    let kept = |attempt: &AttemptRef| Kept { attempt: attempt.clone(), bytes: 1 };
    let kept = finished.iter().map(kept).collect();
    let mut core = super::core(Contents { finished: kept, ..Contents::default() });
    core.handle(Input::Recovered { steps: Vec::new(), proven: Vec::new() }, at(0));
    assert_eq!(core.handle(Input::Timeout, at(0)), [], "nobody listens yet");
    core.handle(Input::Introduce, at(0));
    let first = core.handle(Input::Online, at(0));
    assert_eq!(first.len(), DELIVERIES_MAX);
    let effects = core.handle(ack(&finished[0]), at(0));
    assert_eq!(effects[1], Effect::Deliver { attempt: finished[DELIVERIES_MAX].clone() });
    assert_eq!(core.next_timeout(), Some(REDELIVER_MS));
    let again = core.handle(Input::Timeout, at(REDELIVER_MS));
    assert_eq!(again.len(), DELIVERIES_MAX, "what nobody acknowledged is sent again");

    let said = core.handle(Input::Introduce, at(REDELIVER_MS));
    assert!(matches!(&said[..], [Effect::Introduce(said)] if said.unacknowledged.len() == 29));
    assert_eq!(core.handle(Input::Online, at(REDELIVER_MS)).len(), DELIVERIES_MAX);
}

#[test]
fn progress_is_numbered_and_told_only_to_listeners() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    let line = |message: &str| Input::Progress {
        attempt: attempt(1, 1),
        progress: Progress {
            step: "test".to_owned(),
            state: StepState::Started,
            message: message.to_owned(),
            at_us: 1,
        },
    };
    let sequence = |effects: &[Effect]| match effects {
        [Effect::Send(ToController::Progress { sequence, .. })] => Some(*sequence),
        _ => None,
    };
    assert_eq!(sequence(&core.handle(line("a"), at(0))), Some(0));
    core.handle(Input::Introduce, at(0));
    assert_eq!(core.handle(line("b"), at(0)), []);
    core.handle(Input::Online, at(0));
    assert_eq!(sequence(&core.handle(line("c"), at(0))), Some(2), "a gap shows what was missed");
    assert_eq!(core.handle(line(&"x".repeat(20_000)), at(0)), [], "too long to be told");
}

#[test]
fn a_draining_runner_takes_no_new_work_and_finishes_the_old() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    core.handle(Input::Drain, at(0));
    assert_eq!(rejection(&core.handle(run(&attempt(2, 1)), at(0))), "AGENT_BUSY");
    assert_eq!(core.load().unfinished, 1);
    core.handle(
        Input::Ended { attempt: a.clone(), outcome: outcome(OutcomeState::Succeeded) },
        at(0),
    );
    core.handle(Input::Stored { attempt: a.clone(), done: Ok(()) }, at(0));
    assert_eq!((core.load().unfinished, core.load().unsettled), (0, 1));
    core.handle(ack(&a), at(0));
    assert_eq!(core.load().unsettled, 0);
}

#[test]
fn acknowledgements_of_anything_else_change_nothing() {
    let a = attempt(1, 1);
    let mut core = running(&a);
    assert_eq!(core.handle(ack(&a), at(0)), [], "it still runs");
    assert_eq!(core.handle(ack(&attempt(9, 9)), at(0)), []);
    assert_eq!(core.handle(cancel(&attempt(9, 9)), at(0)), []);
    assert_eq!(core.load().unfinished, 1);
}
