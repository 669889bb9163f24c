//! An attempt whose host does not come back, settled by a person.

use hostler_controller::app::AppError;
use hostler_controller::domain::job::reason;
use hostler_controller::domain::{EventKind, JobState};
use hostler_controller::store::EventFilter;
use hostler_protocol::id::JobId;
use hostler_protocol::job::JobType;
use hostler_protocol::message::{AttemptRef, ToAgent, ToController, Verdict};

use super::agent::{Session, Stream, dial, hello, soon};
use super::jobs::{World, accepted, finished, success, take};

/// The attempt runs on the host, and the host is gone.
async fn unknown(world: &World, job: &JobId, live: Session) -> AttemptRef {
    let (mut stream, attempt, _) = take(&live).await;
    assert_eq!(attempt.job, *job);
    stream.send(&accepted(&attempt)).await;
    world.controller.until(job, "accepted", |job| job.accepted_at.is_some()).await;
    live.connection.close(quinn::VarInt::from_u32(0), b"gone");
    let lost =
        |job: &hostler_controller::domain::Job| job.reason.as_deref() == Some(reason::UNKNOWN);
    world.controller.until(job, "unknown", lost).await;
    attempt
}

/// `hostler job cancel ID --force` against the controller.
async fn cancel_with_force(world: &World, job: &JobId) -> crate::cli::Ran {
    let (port, id) = (world.controller.ready.api.port(), job.to_string());
    let run = tokio::task::spawn_blocking(move || {
        crate::cli::run(port, &["job", "cancel", &id, "--force", "--wait"])
    });
    soon("hostler to end", run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gives_up_a_job_whose_host_does_not_return() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let job = world.enqueue(JobType::EnvCacheToggle).await;
    let next = world.enqueue(JobType::CachePurge).await;
    world.controller.until(&job, "running", |job| job.state == JobState::Running).await;
    let early = cancel_with_force(&world, &job).await.expect(5);
    assert!(early.stderr.contains("JOB_NOT_UNKNOWN"), "{}", early.stderr);
    assert!(early.stderr.contains("without force"), "{}", early.stderr);
    let attempt = unknown(&world, &job, live).await;
    let told = cancel_with_force(&world, &job).await.expect(0);
    assert!(told.stdout.contains("ABANDONED"), "{}", told.stdout);
    let given_up = world.controller.job(&job).await;
    assert_eq!(given_up.state, JobState::Cancelled);
    let state = world.controller.app().show_caches(&world.environment).await.unwrap();
    let flag = state.fastcgi.unwrap();
    assert_eq!((flag.applied, flag.last_error.unwrap().code), (None, "ABANDONED".to_owned()));

    // The host returns after all, still at it: it is told to stop, and what it says changes
    // nothing. The next job of the lane runs.
    let back = world.session(std::slice::from_ref(&attempt), &[]).await;
    assert_eq!(back.welcome.verdicts, [(attempt.clone(), Verdict::Stale)]);
    let mut late = Stream::open(&back.connection).await;
    late.send(&finished(&attempt, &success())).await;
    late.acknowledged(&attempt).await;
    assert_eq!(world.controller.job(&job).await, given_up);
    let filter = EventFilter { job: Some(job.clone()), ..EventFilter::default() };
    let events = world.controller.app().store.events_after(0, 100, &filter).await.unwrap();
    let kept = events.iter().any(|event| event.event.kind == EventKind::JobLateOutcome);
    assert!(kept, "the late outcome is kept");
    let (mut stream, attempt, _) = take(&back).await;
    assert_eq!(attempt.job, next);
    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    world.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_returns_while_its_job_is_given_up_is_told_what_became_of_it() {
    let world = World::new().await;
    for round in 0..20_u32 {
        let live = world.session(&[], &[]).await;
        let job = world.enqueue(JobType::CachePurge).await;
        let attempt = unknown(&world, &job, live).await;
        // Connected, but nothing is said yet: the Hello and the person come together.
        let connection = dial(&world.controller, &world.identity).await;
        let mut control = Stream::open(&connection).await;
        let coming = async {
            let hello = hello(std::slice::from_ref(&attempt), &[]);
            control.send(&ToController::Hello(hello)).await;
            control.next().await
        };
        let giving_up = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            world.controller.app().abandon_job(job.clone()).await
        };
        let (answer, welcome) = tokio::join!(giving_up, coming);
        let Some(ToAgent::Welcome(welcome)) = welcome else { panic!("{welcome:?}") };
        let verdict = match answer {
            Ok(_) => Verdict::Stale,
            Err(AppError::Refused(refusal)) if refusal.code == "JOB_NOT_UNKNOWN" => {
                Verdict::Continue
            }
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(welcome.verdicts, [(attempt.clone(), verdict)], "round {round}");
        let mut stream = Stream::open(&connection).await;
        stream.send(&finished(&attempt, &success())).await;
        stream.acknowledged(&attempt).await;
        connection.close(quinn::VarInt::from_u32(0), b"next round");
    }
    world.controller.stop().await;
}
