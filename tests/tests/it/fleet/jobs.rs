//! Jobs through a session, and what becomes of them when it breaks.

use hostler_controller::domain::job::reason;
use hostler_controller::domain::{Job, JobState};
use hostler_controller::store::EventFilter;
use hostler_protocol::job::{
    Code, JobError, JobSpec, JobType, Outcome, OutcomeState, Progress, PurgeScope, StepState,
};
use hostler_protocol::message::{AttemptRef, ToAgent, ToController, Verdict};
use hostler_protocol::{OUTCOME_BYTES_MAX, SPEC_BYTES_MAX};

use super::agent::{Identity, Session, Stream, hello, new_host, session};
use super::{Controller, directory};

/// A controller with one host and one environment on it.
pub(super) struct World {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    pub(super) controller: Controller,
    pub(super) identity: Identity,
    pub(super) environment: hostler_protocol::id::EnvironmentId,
}

impl World {
    pub(super) async fn new() -> Self {
        let (dir, path) = directory();
        let controller = Controller::start(&path).await;
        let identity = new_host(&controller, "web-1").await;
        let environment = controller.environment(&identity.enrolled.host).await;
        Self { _dir: dir, path, controller, identity, environment }
    }

    pub(super) async fn enqueue(&self, job_type: JobType) -> hostler_protocol::id::JobId {
        let host = &self.identity.enrolled.host;
        self.controller.enqueue(host, &self.environment, job_type).await
    }

    pub(super) async fn session(
        &self,
        running: &[AttemptRef],
        unacknowledged: &[AttemptRef],
    ) -> Session {
        session(&self.controller, &self.identity, hello(running, unacknowledged)).await
    }

    async fn restart(&mut self) {
        let fresh = Controller::start(&self.path).await;
        self.controller = fresh;
    }
}

/// Takes the next job: its stream, its attempt and its specification.
pub(super) async fn take(session: &Session) -> (Stream, AttemptRef, JobSpec) {
    let mut stream = Stream::accept(&session.connection).await;
    match stream.next().await {
        Some(ToAgent::Run { attempt, spec, timeout_secs }) => {
            assert!(timeout_secs > 0);
            let spec = serde_json::from_slice(&spec).unwrap();
            (stream, attempt, spec)
        }
        other => panic!("a job's stream begins with Run, got {other:?}"),
    }
}

pub(super) fn accepted(attempt: &AttemptRef) -> ToController {
    ToController::Accepted { attempt: attempt.clone() }
}

pub(super) fn finished(attempt: &AttemptRef, outcome: &Outcome) -> ToController {
    let outcome = serde_json::to_vec(outcome).unwrap();
    ToController::Finished { attempt: attempt.clone(), outcome }
}

pub(super) fn success() -> Outcome {
    Outcome {
        state: OutcomeState::Succeeded,
        result: Some(serde_json::json!({ "ok": true, "findings": [] })),
        error: None,
        steps: Vec::new(),
        started_at_us: 1,
        finished_at_us: 2,
    }
}

#[tokio::test]
async fn a_job_runs_reports_settles_and_is_acknowledged() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let job = world.enqueue(JobType::CachePurge).await;
    let (mut stream, attempt, spec) = take(&live).await;
    assert_eq!((&attempt.job, attempt.attempt), (&job, 1));
    assert_eq!(spec.environment().unwrap().id, world.environment);
    stream.send(&accepted(&attempt)).await;
    let line = Progress {
        step: "purge".to_owned(),
        state: StepState::Started,
        message: "begins".to_owned(),
        at_us: 1,
    };
    let document = serde_json::to_vec(&line).unwrap();
    stream.send(&ToController::Progress { attempt: attempt.clone(), sequence: 0, document }).await;
    world.controller.until(&job, "accepted", |job| job.accepted_at.is_some()).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    // Acknowledged means committed: no waiting here.
    assert_eq!(world.controller.job(&job).await.state, JobState::Succeeded);
    let filter = EventFilter { job: Some(job.clone()), ..EventFilter::default() };
    let progress_told = async {
        loop {
            let events = world.controller.app().store.events_after(0, 100, &filter).await.unwrap();
            if events.iter().any(|event| event.event.kind.as_str() == "job.progress") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    super::agent::soon("the progress event", progress_told).await;

    // Delivered again, it is acknowledged again and changes nothing.
    let before = world.controller.job(&job).await;
    let mut again = Stream::open(&live.connection).await;
    let failure = Outcome {
        state: OutcomeState::Failed,
        result: None,
        error: Some(JobError::new(Code::FileFailed, "no")),
        ..success()
    };
    again.send(&finished(&attempt, &failure)).await;
    again.acknowledged(&attempt).await;
    assert_eq!(world.controller.job(&job).await, before);
    world.controller.stop().await;
}

/// The windows of a session are small, and a whole frame passes through them in either direction.
#[tokio::test]
async fn the_largest_documents_pass_through_a_session() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let url = |number: usize| format!("http://shop.example/{number}/{}", "x".repeat(2_000));
    let urls: Vec<String> = (0..SPEC_BYTES_MAX / 2_100).map(url).collect();
    let request = serde_json::json!({ "caches": ["fastcgi"], "urls": urls });
    let host = &world.identity.enrolled.host;
    let job =
        world.controller.enqueue_as(host, &world.environment, JobType::CachePurge, request).await;
    let (mut stream, attempt, spec) = take(&live).await;
    let JobSpec::CachePurge(purge) = spec else { panic!("a purge was asked for, got {spec:?}") };
    assert_eq!(purge.scope, PurgeScope::Urls { urls });

    stream.send(&accepted(&attempt)).await;
    let findings = "y".repeat(OUTCOME_BYTES_MAX - 1024);
    let result = serde_json::json!({ "findings": findings });
    let outcome = Outcome { result: Some(result.clone()), ..success() };
    stream.send(&finished(&attempt, &outcome)).await;
    stream.acknowledged(&attempt).await;
    let settled = world.controller.job(&job).await;
    assert_eq!(settled.state, JobState::Succeeded);
    assert_eq!(settled.outcome.unwrap()["result"], result);
    world.controller.stop().await;
}

#[tokio::test]
async fn one_job_of_an_environment_runs_at_a_time() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let first = world.enqueue(JobType::CachePurge).await;
    let second = world.enqueue(JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    assert_eq!(attempt.job, first);
    assert_eq!(world.controller.job(&second).await.state, JobState::Queued);
    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    let (_, attempt, _) = take(&live).await;
    assert_eq!(attempt.job, second);
    world.controller.stop().await;
}

#[tokio::test]
async fn a_broken_session_leaves_the_attempt_unknown_until_the_agent_says_more() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let job = world.enqueue(JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    world.controller.until(&job, "accepted", |job| job.accepted_at.is_some()).await;
    live.connection.close(quinn::VarInt::from_u32(0), b"gone");
    let unknown = world
        .controller
        .until(&job, "unknown", |job| job.reason.as_deref() == Some(reason::UNKNOWN));
    assert_eq!(unknown.await.state, JobState::Running, "a lost agent does not requeue");

    let back = world.session(std::slice::from_ref(&attempt), &[]).await;
    assert_eq!(back.welcome.verdicts, [(attempt.clone(), Verdict::Continue)]);
    assert_eq!(world.controller.job(&job).await.reason, None);
    let mut stream = Stream::open(&back.connection).await;
    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    let settled = world.controller.job(&job).await;
    assert_eq!((settled.state, settled.attempt), (JobState::Succeeded, 1));
    world.controller.stop().await;
}

#[tokio::test]
async fn an_attempt_the_agent_never_saw_begins_anew() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let job = world.enqueue(JobType::CachePurge).await;
    let (_, first, _) = take(&live).await;
    live.connection.close(quinn::VarInt::from_u32(0), b"crashed before the journal");
    world.controller.until(&job, "unknown", |job| job.reason.is_some()).await;
    let back = world.session(&[], &[]).await;
    let (mut stream, second, _) = take(&back).await;
    assert_eq!((&second.job, second.attempt), (&job, first.attempt + 1));

    // The first attempt's word comes late: acknowledged, kept, not applied.
    let mut late = Stream::open(&back.connection).await;
    late.send(&finished(&first, &success())).await;
    late.acknowledged(&first).await;
    assert_eq!(world.controller.job(&job).await.state, JobState::Running);
    stream.send(&accepted(&second)).await;
    stream.send(&finished(&second, &success())).await;
    stream.acknowledged(&second).await;
    assert_eq!(world.controller.job(&job).await.attempt, 2);
    world.controller.stop().await;
}

#[tokio::test]
async fn a_controller_may_restart_during_a_job() {
    let mut world = World::new().await;
    let live = world.session(&[], &[]).await;
    let running = world.enqueue(JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    world.controller.until(&running, "accepted", |job| job.accepted_at.is_some()).await;
    world.controller.shutdown.cancel();
    let stopped = std::mem::replace(&mut world.controller.task, tokio::spawn(async { Ok(()) }));
    super::agent::soon("the controller's end", stopped).await.unwrap().unwrap();

    world.restart().await;
    // The work ended while nobody listened: its outcome is delivered now.
    let back = world.session(&[], std::slice::from_ref(&attempt)).await;
    let mut stream = Stream::open(&back.connection).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    assert_eq!(world.controller.job(&running).await.state, JobState::Succeeded);
    world.controller.stop().await;
}

#[tokio::test]
async fn an_attempt_the_database_does_not_run_is_stale() {
    let world = World::new().await;
    let foreign =
        AttemptRef { job: world.controller.app().clock.new_job_id().unwrap(), attempt: 3 };
    let live = world.session(std::slice::from_ref(&foreign), &[]).await;
    assert_eq!(live.welcome.verdicts, [(foreign.clone(), Verdict::Stale)]);
    let mut stream = Stream::open(&live.connection).await;
    stream.send(&finished(&foreign, &success())).await;
    stream.acknowledged(&foreign).await;
    world.controller.stop().await;
}

#[tokio::test]
async fn a_refused_job_fails_with_a_code_and_what_cannot_be_read_is_held() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let refused = world.enqueue(JobType::EnvCheck).await;
    let (mut stream, attempt, _) = take(&live).await;
    let error = JobError::new(Code::PolicyRefused, "not here");
    let error = serde_json::to_vec(&error).unwrap();
    stream.send(&ToController::Rejected { attempt, error }).await;
    let job = world.controller.until(&refused, "failed", |job| job.state.is_ended()).await;
    assert_eq!(job.outcome.unwrap()["error"]["code"], "POLICY_REFUSED");

    let garbled = world.enqueue(JobType::EnvCheck).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    let outcome = b"not JSON".to_vec();
    stream.send(&ToController::Finished { attempt: attempt.clone(), outcome }).await;
    stream.acknowledged(&attempt).await;
    let held = |job: &Job| job.state == JobState::Held;
    let job = world.controller.job(&garbled).await;
    assert!(held(&job), "nobody knows how it went: {job:?}");
    assert_eq!(job.reason.as_deref(), Some("QUARANTINED"));
    assert_eq!(job.outcome.unwrap()["error"]["code"], "UNDECODABLE");

    // Nor does what no database takes keep anything from being settled.
    let odd = world.enqueue(JobType::EnvCheck).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    let error = JobError { code: "A\u{0}B".to_owned(), ..JobError::new(Code::FileFailed, "odd") };
    let outcome = serde_json::json!({
        "state": "failed", "error": error, "started_at_us": 1, "finished_at_us": 2,
    });
    let outcome = serde_json::to_vec(&outcome).unwrap();
    stream.send(&ToController::Finished { attempt: attempt.clone(), outcome }).await;
    stream.acknowledged(&attempt).await;
    let job = world.controller.job(&odd).await;
    assert_eq!((held(&job), job.reason.as_deref()), (true, Some("QUARANTINED")));

    // An agent that cannot read the job says so before it begins.
    for code in [Code::SpecInvalid, Code::UnknownJobType] {
        let unread = world.enqueue(JobType::EnvCheck).await;
        let (mut stream, attempt, _) = take(&live).await;
        let error = serde_json::to_vec(&JobError::new(code, "what is this?")).unwrap();
        stream.send(&ToController::Rejected { attempt, error }).await;
        let job = world.controller.until(&unread, "held", held).await;
        assert_eq!(job.reason.as_deref(), Some("QUARANTINED"));
    }
    world.controller.stop().await;
}

#[tokio::test]
async fn a_cancellation_reaches_the_running_attempt() {
    let world = World::new().await;
    let live = world.session(&[], &[]).await;
    let job = world.enqueue(JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;
    stream.send(&accepted(&attempt)).await;
    world.controller.until(&job, "accepted", |job| job.accepted_at.is_some()).await;
    let scope = hostler_controller::domain::Scope { job: Some(job.clone()), ..Default::default() };
    let now = world.controller.app().clock.now();
    let asked = world.controller.app().store.transact("cancel", scope, move |snapshot| {
        let job = snapshot.job.as_ref().expect("the job is there");
        hostler_controller::domain::decide::job::cancel(job, now)
    });
    asked.await.unwrap();
    assert_eq!(stream.next().await, Some(ToAgent::Cancel { attempt: attempt.clone() }));
    let outcome = Outcome {
        state: OutcomeState::Cancelled,
        result: None,
        error: Some(JobError::new(Code::Cancelled, "stopped")),
        ..success()
    };
    stream.send(&finished(&attempt, &outcome)).await;
    stream.acknowledged(&attempt).await;
    assert_eq!(world.controller.job(&job).await.state, JobState::Cancelled);
    world.controller.stop().await;
}

#[tokio::test]
async fn a_host_speaks_for_itself_only() {
    let world = World::new().await;
    let other = new_host(&world.controller, "web-2").await;
    let live = world.session(&[], &[]).await;
    let job = world.enqueue(JobType::CachePurge).await;
    let (mut stream, attempt, _) = take(&live).await;

    // The other host claims to run, to have accepted and to have finished it.
    let hello = hello(std::slice::from_ref(&attempt), &[]);
    let foreign = session(&world.controller, &other, hello).await;
    assert_eq!(foreign.welcome.verdicts, [(attempt.clone(), Verdict::Stale)]);
    let mut lie = Stream::open(&foreign.connection).await;
    lie.send(&accepted(&attempt)).await;
    lie.send(&finished(&attempt, &success())).await;
    lie.acknowledged(&attempt).await;
    let untouched = world.controller.job(&job).await;
    assert_eq!((untouched.state, untouched.accepted_at), (JobState::Running, None));

    stream.send(&accepted(&attempt)).await;
    stream.send(&finished(&attempt, &success())).await;
    stream.acknowledged(&attempt).await;
    assert_eq!(world.controller.job(&job).await.state, JobState::Succeeded);
    world.controller.stop().await;
}
