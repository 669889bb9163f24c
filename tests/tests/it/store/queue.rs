//! The life of jobs: queued, claimed, settled; lanes, order, fences.

use std::sync::Arc;

use hostler_controller::domain::decide::job as decide;
use hostler_controller::domain::job::reason;
use hostler_controller::domain::{EventKind, Host, JobState, Micros, Scope};
use hostler_controller::store::{
    AttemptRef, EnqueueAnswer, EventFilter, ProgressLine, SettleAnswer, Settlement, WaitsFor,
};
use hostler_protocol::job::{Code, Progress, StepState};
use hostler_tests::rows;

use super::world::{
    NOW, World, attempt, failed, host, ids, in_lanes, job_id, purge, settlement, succeeded,
    template, with_template,
};

async fn kinds(world: &World) -> Vec<EventKind> {
    let events = world.store.events_after(0, 1000, &EventFilter::default()).await.unwrap();
    let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
    let dense: Vec<i64> = (1..=i64::try_from(events.len()).unwrap()).collect();
    assert_eq!(seqs, dense, "the log's numbers have a gap or a wrong order");
    events.into_iter().map(|event| event.event.kind).collect()
}

pub(crate) async fn a_job_goes_from_queued_to_succeeded(world: &World) {
    let hosts = world.hosts(1).await;
    let mut committed = world.store.committed();
    let new = purge(1, &hosts[0]);
    world.enqueue(std::slice::from_ref(&new)).await;
    assert_eq!(*committed.borrow_and_update(), 2, "the commit was not told");

    let claimed = world.claim(&[&hosts[0]], NOW).await;
    assert_eq!(ids(&claimed), [job_id(1)]);
    let one = &claimed[0];
    assert_eq!((one.job.state, one.job.attempt, one.job.lease), (JobState::Running, 1, 1));
    assert_eq!(one.job.request, new.job.request);
    assert_eq!(one.environment.as_ref().unwrap().id, hosts[0].environment);
    assert_eq!(one.site.as_ref().unwrap().name, "site-1");
    assert_eq!(one.generation, 3, "the generation is the number of the job.started event");
    assert!(world.claim(&[&hosts[0]], NOW).await.is_empty(), "a running job was claimed again");

    assert_eq!(world.store.accept(&[attempt(one)], NOW).await.unwrap(), [true]);
    assert_eq!(world.store.accept(&[attempt(one)], NOW).await.unwrap(), [true], "twice is once");
    assert_eq!(world.store.renew(&[attempt(one)]).await.unwrap(), [true]);
    assert_eq!(world.job(&job_id(1)).await.lease, 2);
    assert_eq!(world.store.running_on(&hosts[0].host).await.unwrap().len(), 1);
    let answer = world.settle(one, succeeded()).await;
    assert_eq!(answer, SettleAnswer::Settled(JobState::Succeeded));

    let job = world.job(&job_id(1)).await;
    assert_eq!(job.state, JobState::Succeeded);
    assert_eq!(job.finished_at, Some(NOW));
    assert_eq!(job.outcome.unwrap()["state"], "succeeded");
    assert_eq!(
        kinds(world).await,
        [
            EventKind::HostConnected,
            EventKind::JobQueued,
            EventKind::JobStarted,
            EventKind::JobAccepted,
            EventKind::JobSucceeded,
        ]
    );
    assert_eq!(world.store.running_all().await.unwrap(), []);
}

pub(crate) async fn jobs_of_a_lane_run_one_by_one_in_their_order(world: &World) {
    let hosts = world.hosts(2).await;
    let (a, b) = (&hosts[0], &hosts[1]);
    world
        .enqueue(&[
            purge(1, a),
            purge(2, a),
            // Needs the lanes of both environments, so it keeps 4 waiting as well.
            in_lanes(purge(3, b), &[a.environment.as_str(), b.environment.as_str()]),
            purge(4, b),
            in_lanes(purge(5, b), &[]),
        ])
        .await;
    let first = world.claim(&[a, b], NOW).await;
    assert_eq!(ids(&first), [job_id(1), job_id(5)], "one job of a lane, and the one without any");
    let waits = world.store.waiting_for(&job_id(3)).await.unwrap();
    let lane = a.environment.as_str().to_owned();
    assert_eq!(
        waits,
        [
            WaitsFor { job: job_id(1), state: JobState::Running, lane: lane.clone() },
            WaitsFor { job: job_id(2), state: JobState::Queued, lane },
        ]
    );
    for expected in [2, 3, 4] {
        let running = world.store.running_all().await.unwrap();
        for job in running {
            let outcome = succeeded();
            let settlement = hostler_controller::store::Settlement {
                attempt: AttemptRef { job: job.id, attempt: job.attempt },
                host: job.host_id,
                outcome,
                template: Arc::new(template()),
                warm_template: None,
            };
            let answers = world.store.settle(&[settlement], NOW).await.unwrap();
            assert_eq!(answers, [SettleAnswer::Settled(JobState::Succeeded)]);
        }
        let next = world.claim(&[a, b], NOW).await;
        assert_eq!(ids(&next), [job_id(expected)], "the lane's next job is the oldest one");
    }
}

pub(crate) async fn a_purge_may_pass_a_job_in_back_off_and_nothing_else(world: &World) {
    let hosts = world.hosts(1).await;
    let host = &hosts[0];
    let mut passing = template();
    passing.may_pass_waiting = true;
    world.enqueue(&[purge(1, host), purge(2, host), with_template(3, host, &passing)]).await;
    let first = world.claim(&[host], NOW).await;
    assert_eq!(
        world.settle(&first[0], failed(Code::RedisTimeout)).await,
        SettleAnswer::Settled(JobState::Queued)
    );
    assert!(
        world.claim(&[host], NOW).await.is_empty(),
        "2 waits for 1; 3 may pass 1, which is in back-off, but not 2, which is not"
    );
    world.store.transact("cancel", scope_job(2), cancel).await.unwrap();
    let next = world.claim(&[host], NOW).await;
    assert_eq!(ids(&next), [job_id(3)], "3 passes 1");
    assert!(
        world.claim(&[host], NOW.plus_secs(61)).await.is_empty(),
        "1 may run again, but 3 has the lane"
    );
    world.settle(&next[0], succeeded()).await;
    assert_eq!(ids(&world.claim(&[host], NOW.plus_secs(61)).await), [job_id(1)]);
}

fn scope_job(n: u64) -> hostler_controller::domain::Scope {
    hostler_controller::domain::Scope { job: Some(job_id(n)), ..Default::default() }
}

fn cancel(
    snapshot: &hostler_controller::domain::Snapshot,
) -> Result<
    hostler_controller::domain::Decision<hostler_controller::domain::Job>,
    hostler_controller::domain::Refusal,
> {
    hostler_controller::domain::decide::job::cancel(snapshot.job.as_ref().unwrap(), NOW)
}

pub(crate) async fn urgent_jobs_go_first_and_hosts_have_slots(world: &World) {
    let hosts = world.hosts(2).await;
    let mut urgent = template();
    urgent.priority = 10;
    let free = |n, host, template: &_| in_lanes(with_template(n, host, template), &[]);
    world
        .enqueue(&[
            free(1, &hosts[0], &template()),
            free(2, &hosts[0], &template()),
            free(3, &hosts[0], &urgent),
            free(4, &hosts[1], &template()),
            free(5, &hosts[1], &template()),
        ])
        .await;
    let claim = [hosts[0].with_slots(2), hosts[1].with_slots(1)];
    let claimed = world.store.claim(&claim, NOW, 100).await.unwrap();
    assert_eq!(ids(&claimed), [job_id(3), job_id(1), job_id(4)]);
    let claimed = world.store.claim(&claim, NOW, 1).await.unwrap();
    assert_eq!(ids(&claimed), [job_id(2)], "no more than asked for");
    let none = [hosts[1].with_slots(0)];
    assert_eq!(world.store.claim(&none, NOW, 100).await.unwrap(), []);
}

pub(crate) async fn only_the_session_of_the_epoch_claims(world: &World) {
    let hosts = world.hosts(1).await;
    world.enqueue(&[purge(1, &hosts[0])]).await;
    let again = world.connect(1).await;
    assert!(again.epoch > hosts[0].epoch, "an epoch came twice");
    assert!(world.claim(&[&hosts[0]], NOW).await.is_empty(), "an old session claimed");
    assert!(!world.store.session_close(&again.host, hosts[0].epoch, NOW).await.unwrap());
    assert!(world.store.host(&again.host).await.unwrap().unwrap().connected);
    assert!(world.store.session_close(&again.host, again.epoch, NOW).await.unwrap());
    assert!(!world.store.host(&again.host).await.unwrap().unwrap().connected);
    assert!(world.claim(&[&again], NOW).await.is_empty(), "a closed session claimed");
    let third = world.connect(1).await;
    assert!(third.epoch > again.epoch, "an epoch came twice");
    assert_eq!(ids(&world.claim(&[&third], NOW).await), [job_id(1)]);
    assert_eq!(world.store.sessions_clear(None, NOW).await.unwrap(), 1);
    let here = super::world::controller(1);
    let unknown = world.store.session_open(rows::opening(&host(99), &here, NOW));
    assert!(unknown.await.is_err(), "a host nobody enrolled has a session");
    let another = Host { key_sha256: "ff".repeat(32), ..host(1) };
    let unknown = world.store.session_open(rows::opening(&another, &here, NOW));
    assert!(unknown.await.is_err(), "a key nobody certified has a session");
}

pub(crate) async fn a_retry_keeps_its_place(world: &World) {
    let hosts = world.hosts(1).await;
    let host = &hosts[0];
    world.enqueue(&[purge(1, host), purge(2, host)]).await;
    let mut now = NOW;
    for (attempts, wait) in [(1, 60), (2, 300), (3, 900)] {
        let claimed = world.claim(&[host], now).await;
        assert_eq!(ids(&claimed), [job_id(1)], "the retry lost its place to a later job");
        assert_eq!(claimed[0].job.attempt, attempts);
        let one = settlement(&claimed[0], failed(Code::RedisTimeout));
        let answers = world.store.settle(&[one], now).await.unwrap();
        assert_eq!(answers, [SettleAnswer::Settled(JobState::Queued)]);
        let job = world.job(&job_id(1)).await;
        assert_eq!(job.run_after, now.plus_secs(wait));
        assert_eq!(job.reason.as_deref(), Some(reason::RETRY));
        assert!(world.claim(&[host], now).await.is_empty(), "back-off was not waited out");
        now = Micros(now.plus_secs(wait).0);
    }
    let last = world.claim(&[host], now).await;
    let one = settlement(&last[0], failed(Code::RedisTimeout));
    let answers = world.store.settle(&[one], now).await.unwrap();
    assert_eq!(answers, [SettleAnswer::Settled(JobState::Failed)], "four attempts are all");
    assert_eq!(ids(&world.claim(&[host], now).await), [job_id(2)]);
}

pub(crate) async fn a_report_counts_once_and_only_from_the_host_of_the_attempt(world: &World) {
    let hosts = world.hosts(2).await;
    world.enqueue(&[purge(1, &hosts[0])]).await;
    let first = world.claim(&[&hosts[0]], NOW).await.remove(0);
    let mut foreign = settlement(&first, succeeded());
    foreign.host = hosts[1].host.clone();
    let mut nobody = settlement(&first, succeeded());
    nobody.attempt.job = job_id(77);
    let both = world.store.settle(&[foreign, nobody], NOW).await.unwrap();
    assert_eq!(both, [SettleAnswer::WrongHost, SettleAnswer::Unknown]);
    assert_eq!(world.job(&job_id(1)).await.state, JobState::Running);

    // The first attempt is cut off and another one begins.
    assert_eq!(
        world.settle(&first, failed(Code::Interrupted)).await,
        SettleAnswer::Settled(JobState::Queued)
    );
    assert_eq!(world.settle(&first, succeeded()).await, SettleAnswer::AlreadySettled);
    let second = world.claim(&[&hosts[0]], NOW).await.remove(0);
    assert_eq!(second.job.attempt, 2);
    assert!(second.generation > first.generation);
    assert_eq!(world.settle(&first, succeeded()).await, SettleAnswer::AlreadySettled);
    assert_eq!(world.store.accept(&[attempt(&first)], NOW).await.unwrap(), [false]);
    assert_eq!(world.store.renew(&[attempt(&first)]).await.unwrap(), [false]);
    let (a, b) = (settlement(&second, succeeded()), settlement(&second, failed(Code::NoSpace)));
    let twice = world.store.settle(&[a, b], NOW).await.unwrap();
    assert_eq!(
        twice,
        [SettleAnswer::Settled(JobState::Succeeded), SettleAnswer::AlreadySettled],
        "the same attempt twice in one slice"
    );
    let mut third = settlement(&second, succeeded());
    third.attempt.attempt = 3;
    assert_eq!(world.store.settle(&[third], NOW).await.unwrap(), [SettleAnswer::Stale]);
    let kinds = kinds(world).await;
    let late = kinds.iter().filter(|kind| **kind == EventKind::JobLateOutcome).count();
    assert_eq!(late, 1, "a late outcome is kept as an event: {kinds:?}");
    assert_eq!(world.job(&job_id(1)).await.state, JobState::Succeeded);
}

pub(crate) async fn what_was_never_seen_is_queued_again(world: &World) {
    let hosts = world.hosts(1).await;
    world.enqueue(&[purge(1, &hosts[0]), purge(2, &hosts[0])]).await;
    let first = world.claim(&[&hosts[0]], NOW).await.remove(0);
    assert_eq!(world.store.requeue_unseen(&[attempt(&first)], NOW).await.unwrap(), [true]);
    assert_eq!(world.store.requeue_unseen(&[attempt(&first)], NOW).await.unwrap(), [false]);
    let second = world.claim(&[&hosts[0]], NOW).await.remove(0);
    assert_eq!((second.job.id.clone(), second.job.attempt), (job_id(1), 2));
    assert_eq!(
        world.settle(&first, succeeded()).await,
        SettleAnswer::Stale,
        "the host had seen it after all: too late"
    );
    assert_eq!(world.store.accept(&[attempt(&second)], NOW).await.unwrap(), [true]);
    assert_eq!(
        world.store.requeue_unseen(&[attempt(&second)], NOW).await.unwrap(),
        [false],
        "an accepted attempt was seen"
    );
    world.settle(&second, failed(Code::Interrupted)).await;
    let third = world.claim(&[&hosts[0]], NOW).await.remove(0);
    world.store.transact("cancel", scope_job(1), cancel).await.unwrap();
    let wanted = world.store.cancel_requested(std::slice::from_ref(&hosts[0].host)).await.unwrap();
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].attempt, attempt(&third));
    assert_eq!(world.store.requeue_unseen(&[attempt(&third)], NOW).await.unwrap(), [true]);
    assert_eq!(world.job(&job_id(1)).await.state, JobState::Cancelled);
    assert_eq!(ids(&world.claim(&[&hosts[0]], NOW).await), [job_id(2)]);
}

pub(crate) async fn unknown_attempts_stay_running_until_known(world: &World) {
    let hosts = world.hosts(1).await;
    world.enqueue(&[purge(1, &hosts[0]), purge(2, &hosts[0])]).await;
    let first = world.claim(&[&hosts[0]], NOW).await.remove(0);
    let this = [attempt(&first)];
    assert_eq!(world.store.mark_unknown(&this, NOW).await.unwrap(), [true]);
    let job = world.job(&job_id(1)).await;
    assert_eq!((job.state, job.reason.as_deref()), (JobState::Running, Some(reason::UNKNOWN)));
    assert!(world.claim(&[&hosts[0]], NOW).await.is_empty(), "an unknown job lost its lane");
    assert_eq!(world.store.mark_known(&this, NOW).await.unwrap(), [true]);
    assert_eq!(world.job(&job_id(1)).await.reason, None);
    assert_eq!(world.store.mark_unknown(&this, NOW).await.unwrap(), [true]);
    assert_eq!(world.settle(&first, succeeded()).await, SettleAnswer::Settled(JobState::Succeeded));
    assert_eq!(world.store.mark_unknown(&this, NOW).await.unwrap(), [false]);
    assert_eq!(world.store.mark_known(&this, NOW).await.unwrap(), [false]);
}

/// In one unit: between the two another controller may have taken the host in and heard that the
/// attempt goes on, and nobody would say so a second time.
pub(crate) async fn a_session_that_ends_leaves_its_attempts_unknown(world: &World) {
    let hosts = world.hosts(2).await;
    world.enqueue(&[purge(1, &hosts[0]), purge(2, &hosts[1])]).await;
    let claimed = world.claim(&[&hosts[0], &hosts[1]], NOW).await;
    assert_eq!(claimed.len(), 2);
    assert!(world.store.session_close(&hosts[0].host, hosts[0].epoch, NOW).await.unwrap());
    assert_eq!(world.job(&job_id(1)).await.reason.as_deref(), Some(reason::UNKNOWN));
    // The end of a session that was replaced says nothing.
    let moved = world.connect(2).await;
    assert!(!world.store.session_close(&moved.host, hosts[1].epoch, NOW).await.unwrap());
    assert_eq!(world.job(&job_id(2)).await.reason, None);
}

pub(crate) async fn a_job_given_up_is_over_and_its_host_is_not_believed(world: &World) {
    let hosts = world.hosts(1).await;
    let mut toggle = template();
    toggle.job_type = hostler_protocol::job::JobType::EnvCacheToggle;
    world.enqueue(&[with_template(1, &hosts[0], &toggle), purge(2, &hosts[0])]).await;
    let first = world.claim(&[&hosts[0]], NOW).await.remove(0);
    let this = [attempt(&first)];
    world.store.accept(&this, NOW).await.unwrap();
    let give_up = || {
        let scope = Scope { host: Some(hosts[0].host.clone()), ..scope_job(1) };
        world.store.transact("abandon", scope, |snapshot| {
            let job = snapshot.job.as_ref().unwrap();
            decide::abandon(job, snapshot.environment.as_ref(), snapshot.host.as_ref(), NOW)
        })
    };
    assert!(give_up().await.is_err(), "its host is connected");
    world.store.mark_unknown(&this, NOW).await.unwrap();
    assert!(give_up().await.is_err(), "its host is connected and will tell");
    world.store.session_close(&hosts[0].host, hosts[0].epoch, NOW).await.unwrap();
    assert!(world.claim(&[&hosts[0]], NOW).await.is_empty());
    give_up().await.unwrap();
    let job = world.job(&job_id(1)).await;
    assert_eq!((job.state, job.reason.as_deref()), (JobState::Cancelled, Some(reason::ABANDONED)));
    let environment = world.store.environment(&hosts[0].environment).await.unwrap().unwrap();
    let flag = environment.redis.unwrap();
    assert_eq!(
        (flag.applied, flag.last_error.unwrap()["code"].as_str()),
        (None, Some("ABANDONED"))
    );

    // The host is back: it runs nothing that counts, and the lane is free.
    let back = world.connect(1).await;
    assert_eq!(world.store.mark_known(&this, NOW).await.unwrap(), [false]);
    assert_eq!(world.store.accept(&this, NOW).await.unwrap(), [false]);
    assert_eq!(world.store.renew(&this).await.unwrap(), [false]);
    assert_eq!(world.store.requeue_unseen(&this, NOW).await.unwrap(), [false]);
    assert_eq!(world.settle(&first, succeeded()).await, SettleAnswer::Stale);
    assert_eq!(world.job(&job_id(1)).await.state, JobState::Cancelled);
    assert_eq!(ids(&world.claim(&[&back], NOW).await), [job_id(2)]);
    let kinds = kinds(world).await;
    assert!(kinds.contains(&EventKind::JobLateOutcome), "{kinds:?}");
}

pub(crate) async fn progress_is_appended_once(world: &World) {
    let hosts = world.hosts(2).await;
    world.enqueue(&[purge(1, &hosts[0])]).await;
    let first = world.claim(&[&hosts[0]], NOW).await.remove(0);
    let line = |sequence| ProgressLine {
        attempt: attempt(&first),
        host: hosts[0].host.clone(),
        sequence,
        progress: Progress {
            step: "nginx_test".to_owned(),
            state: StepState::Done,
            message: format!("line {sequence}"),
            at_us: NOW.0,
        },
    };
    let mut foreign = line(9);
    foreign.host = hosts[1].host.clone();
    let mut old = line(9);
    old.attempt.attempt = 0;
    world.store.progress(&[line(1), foreign, old, line(2), line(2)]).await.unwrap();
    world.store.progress(&[line(1), line(2), line(4)]).await.unwrap();
    let filter = EventFilter { job: Some(job_id(1)), ..EventFilter::default() };
    let events = world.store.events_after(0, 100, &filter).await.unwrap();
    let told: Vec<&str> = events
        .iter()
        .filter(|event| event.event.kind == EventKind::JobProgress)
        .filter_map(|event| event.event.document["message"].as_str())
        .collect();
    assert_eq!(told, ["line 1", "line 2", "line 4"]);
}

pub(crate) async fn a_known_job_is_not_queued_twice(world: &World) {
    let hosts = world.hosts(1).await;
    let jobs = [purge(1, &hosts[0]), purge(1, &hosts[0]), purge(2, &hosts[0])];
    let answers = world.store.enqueue(&jobs, NOW).await.unwrap();
    assert!(
        matches!(
            answers[..],
            [
                EnqueueAnswer::Queued { position: a },
                EnqueueAnswer::Duplicate,
                EnqueueAnswer::Queued { position: b }
            ] if a < b
        ),
        "{answers:?}"
    );
    let again = world.store.enqueue(&jobs[..1], NOW).await.unwrap();
    assert_eq!(again, [EnqueueAnswer::Duplicate]);
    assert_eq!(world.store.stats().await.unwrap().queued, 2);
}

pub(crate) async fn a_newer_toggle_ends_the_retries_of_an_older_one(world: &World) {
    let hosts = world.hosts(1).await;
    let mut toggle = template();
    toggle.job_type = hostler_protocol::job::JobType::EnvCacheToggle;
    toggle.supersedes_queued = true;
    world.enqueue(&[with_template(1, &hosts[0], &toggle)]).await;
    let first = world.claim(&[&hosts[0]], NOW).await.remove(0);
    world.enqueue(&[with_template(2, &hosts[0], &toggle)]).await;
    let report =
        Settlement { template: Arc::new(toggle), ..settlement(&first, failed(Code::RedisTimeout)) };
    let answers = world.store.settle(&[report], NOW).await.unwrap();
    assert_eq!(answers, [SettleAnswer::Settled(JobState::Cancelled)]);
    assert_eq!(world.job(&job_id(1)).await.reason.as_deref(), Some(reason::SUPERSEDED));
    let next = world.claim(&[&hosts[0]], NOW).await;
    assert_eq!(ids(&next), [job_id(2)], "the newer one waits for the older one's retry");
}
