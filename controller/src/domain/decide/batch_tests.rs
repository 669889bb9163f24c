use hostler_protocol::id::{EnvironmentId, HostId, JobId};

use super::*;
use crate::domain::batch::{AWAY_SECS, SeenJob};

const NOW: Micros = Micros(1_000_000);

fn batch(options: BatchOptions) -> Batch {
    Batch {
        id: BatchId::from_parts(1, [1; 10]),
        state: BatchState::Running,
        reason: None,
        action: BatchAction::Check,
        options,
        principal: "local".to_owned(),
        idempotency: None,
        request_id: None,
        created_at: Micros(0),
        stopped_at: None,
        finished_at: None,
    }
}

const PLAIN: BatchOptions = BatchOptions {
    concurrency: 2,
    batch_size: None,
    canary: 0,
    failures_max: None,
    answer_within_secs: None,
};

/// What is seen of five targets: `.` pending, `q` queued, `r` running, `h` held, `s` succeeded, `f`
/// failed; in upper case the host is away.
fn seen(text: &str) -> Vec<Seen> {
    let one = |(place, mark): (usize, char)| {
        let byte = u8::try_from(place).unwrap();
        let job = |state, begun| {
            let (failure, found_wrong) = (None, None);
            Some(SeenJob { state, reason: None, begun, stopping: false, failure, found_wrong })
        };
        let (state, job) = match mark.to_ascii_lowercase() {
            '.' | ',' => (TargetState::Pending, None),
            'q' => (TargetState::Started, job(JobState::Queued, false)),
            'r' => (TargetState::Started, job(JobState::Running, true)),
            'h' => (TargetState::Started, job(JobState::Held, true)),
            's' => (TargetState::Started, job(JobState::Succeeded, true)),
            'f' => (TargetState::Started, job(JobState::Failed, true)),
            _other => (TargetState::Started, None),
        };
        let target = Target {
            place: u32::try_from(place).unwrap(),
            environment: EnvironmentId::from_parts(1, [byte; 10]),
            host: HostId::from_parts(1, [byte; 10]),
            name: format!("s/{place}"),
            host_name: "h".to_owned(),
            state,
            reason: None,
            message: None,
            job: job.is_some().then(|| JobId::from_parts(1, [byte; 10])),
        };
        // A comma is a pending target whose host is away.
        let connected = !mark.is_uppercase() && mark != ',';
        Seen { target, job, connected, last_seen_at: None }
    };
    text.chars().enumerate().map(one).collect()
}

/// Which are to be started, and the batch afterwards.
fn looked(options: BatchOptions, text: &str) -> (Vec<u32>, Batch) {
    let before = batch(options);
    let decided = advance(&before, &seen(text), NOW);
    let after = decided.changes.iter().find_map(|change| {
        if let Change::UpdateBatch(after) = change { Some((**after).clone()) } else { None }
    });
    let start = decided.reply.start.iter().map(|target| target.place).collect();
    (start, after.unwrap_or(before))
}

fn starts(options: BatchOptions, text: &str) -> Vec<u32> {
    looked(options, text).0
}

#[test]
fn only_so_many_are_open_at_once() {
    assert_eq!(starts(PLAIN, "....."), [0, 1]);
    assert_eq!(starts(PLAIN, "q...."), [1]);
    assert_eq!(starts(PLAIN, "qr..."), [0; 0]);
    assert_eq!(starts(PLAIN, "sf..."), [2, 3], "what failed does not stop it unless asked to");
}

#[test]
fn who_does_not_answer_takes_up_no_room() {
    assert_eq!(starts(PLAIN, "QR..."), [2, 3]);
    assert_eq!(starts(PLAIN, "qh..."), [2], "a held job waits for a person");
    assert_eq!(starts(PLAIN, "qq,.,"), [2, 4], "their jobs wait for them in the queue");
}

#[test]
fn waves_follow_each_other() {
    let waves = BatchOptions { batch_size: Some(2), concurrency: 9, ..PLAIN };
    assert_eq!(starts(waves, "....."), [0, 1]);
    assert_eq!(starts(waves, "sr..."), [0; 0]);
    assert_eq!(starts(waves, "sf..."), [2, 3]);
    assert_eq!(starts(waves, "sQ..."), [2, 3], "a host that is away holds nobody up");
}

#[test]
fn canaries_go_first_and_must_succeed() {
    let canary = BatchOptions { canary: 1, concurrency: 9, ..PLAIN };
    assert_eq!(starts(canary, "....."), [0]);
    assert_eq!(starts(canary, "r...."), [0; 0]);
    assert_eq!(starts(canary, "R...."), [0; 0], "a canary that does not answer is waited for");
    assert_eq!(starts(canary, "s...."), [1, 2, 3, 4]);
    for bad in ["f....", "h...."] {
        let (start, after) = looked(canary, bad);
        assert!(start.is_empty(), "{bad}");
        assert_eq!(after.reason.as_deref(), Some(stop::CANARY_FAILED), "{bad}");
    }
}

#[test]
fn too_many_failures_stop_it() {
    let careful = BatchOptions { failures_max: Some(1), ..PLAIN };
    assert_eq!(looked(careful, "fs...").1.reason, None);
    let (start, after) = looked(careful, "ff...");
    assert!(start.is_empty());
    assert_eq!(after.reason.as_deref(), Some(stop::TOO_MANY_FAILURES));
    assert_eq!(after.state, BatchState::Failed, "nothing is open and the rest is skipped");
    assert_eq!(looked(careful, "ffr..").1.state, BatchState::Running, "what runs goes on");
}

#[test]
fn a_stopped_batch_takes_back_what_nobody_began() {
    let stopped =
        Batch { stopped_at: Some(NOW), reason: Some(stop::CANCELLED.to_owned()), ..batch(PLAIN) };
    let places = |targets: &[Target]| targets.iter().map(|one| one.place).collect::<Vec<_>>();
    let failed = Batch { reason: Some(stop::TOO_MANY_FAILURES.to_owned()), ..stopped.clone() };
    let next = advance(&failed, &seen("qQrs."), NOW).reply;
    assert_eq!((places(&next.take_back), places(&next.cancel)), (vec![0, 1], Vec::new()));
    // Cancelled by a person it ends what runs as well.
    let decided = advance(&stopped, &seen("qQrs."), NOW);
    let next = &decided.reply;
    assert_eq!((places(&next.take_back), places(&next.cancel)), (Vec::new(), vec![0, 1, 2]));
    assert!(next.start.is_empty());
    let skipped = decided.changes.iter().filter(|change| {
        matches!(change, Change::UpdateTarget(_, target) if target.state == TargetState::Skipped)
    });
    assert_eq!(skipped.count(), 1);
    let decided = advance(&stopped, &seen("ffsss"), NOW);
    let ended = |change: &Change| matches!(change, Change::UpdateBatch(after) if after.state == BatchState::Cancelled);
    assert!(decided.changes.iter().any(ended));
}

#[test]
fn it_succeeds_only_if_every_target_did() {
    for (text, state) in [
        ("sssss", BatchState::Succeeded),
        ("ssssf", BatchState::Failed),
        // Its job is gone without a word: nobody knows how it went.
        ("ssss?", BatchState::Failed),
        ("ssssQ", BatchState::Running),
        ("ssssh", BatchState::Running),
        ("", BatchState::Succeeded),
    ] {
        assert_eq!(looked(PLAIN, text).1.state, state, "{text:?}");
    }
}

#[test]
fn an_ended_batch_is_left_alone() {
    let ended = Batch { state: BatchState::Failed, finished_at: Some(NOW), ..batch(PLAIN) };
    let decided = advance(&ended, &seen("....."), NOW);
    assert_eq!((decided.changes, decided.events, decided.reply), (vec![], vec![], Next::default()));
}

#[test]
fn options_have_limits() {
    let mut problems = Problems::default();
    let wrong =
        BatchOptions { concurrency: 0, batch_size: Some(0), answer_within_secs: Some(0), ..PLAIN };
    check_options(&wrong, TARGETS_MAX + 1, &mut problems);
    let places = |problems: &Problems| -> Vec<String> {
        problems.found().iter().map(|(place, _)| place.clone()).collect()
    };
    let all = ["/concurrency", "/batch_size", "/answer_within_secs", "/targets"];
    assert_eq!(places(&problems), all);
    check_options(&PLAIN, 0, &mut problems);
    assert_eq!(places(&problems), all, "a name that is none is said once");
    let mut none = Problems::default();
    check_options(&PLAIN, 0, &mut none);
    assert_eq!(places(&none), ["/targets"]);
}

#[test]
fn a_host_between_two_sessions_is_waited_for() {
    let options =
        BatchOptions { batch_size: Some(1), concurrency: 1, failures_max: Some(0), ..PLAIN };
    let batch = batch(options);
    // Its controller was started anew: no host has a session, and the first target's job runs.
    let mut all = seen("R,,,,");
    let left_at = Micros(1_000_000);
    all.iter_mut().for_each(|one| one.last_seen_at = Some(left_at));
    let soon = left_at.plus_secs(AWAY_SECS - 1);
    assert_eq!(advance(&batch, &all, soon).reply.start.len(), 0, "its wave has not ended");
    let later = left_at.plus_secs(AWAY_SECS);
    assert_eq!(advance(&batch, &all, later).reply.start.len(), 1, "nobody waits for it any more");
}
