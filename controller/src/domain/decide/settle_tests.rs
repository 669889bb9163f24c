//! Every way an attempt can end, and all pairs of job state and event.

use hostler_protocol::id::{EnvironmentId, HostId, JobId, SiteId};
use hostler_protocol::job::{
    AppKind, Code, EnvironmentDoc, FastcgiDoc, FlagResult, HealthDoc, JobError, JobType,
    KEY_FORMAT_DEFAULT, NginxDoc, Outcome, OutcomeState, ToggleResult,
};
use serde_json::json;

use crate::domain::decide::job::{JobInput, abandon, cancel, new_job, release, retry};
use crate::domain::job::{JobEvent, JobState};
use crate::domain::template::{Executor, LaneKind, OnInterrupt};
use crate::domain::{
    CacheFlag, Change, Environment, EnvironmentState, Host, HostState, Job, Micros, NewJob,
    Template,
};

/// As with no newer job behind it.
fn settle(
    job: &Job,
    environment: Option<&Environment>,
    template: &Template,
    outcome: &Outcome,
    now: Micros,
) -> crate::domain::Decision<JobState> {
    super::settle(job, environment, false, template, outcome, now)
}

const NOW: Micros = Micros(1_000_000_000);

fn template(job_type: JobType) -> Template {
    Template {
        namespace: "hostler".to_owned(),
        name: job_type.as_str().to_owned(),
        version: "1".to_owned(),
        job_type,
        executor: Executor::Native,
        timeout_secs: 60,
        retry_after_secs: vec![60, 300, 900],
        lane: LaneKind::Environment,
        may_pass_waiting: false,
        supersedes_queued: false,
        on_interrupt: OnInterrupt::Rerun,
        crashes_max: 3,
        ttl_secs: 3600,
        priority: 0,
    }
}

fn queued(job_type: JobType) -> NewJob {
    let input = JobInput {
        id: JobId::from_parts(1, [1; 10]),
        host_id: HostId::from_parts(1, [1; 10]),
        site_id: None,
        environment_id: Some(EnvironmentId::from_parts(1, [1; 10])),
        stack_id: None,
        request: json!({}),
        request_id: None,
        retry_of: None,
        parent_id: None,
        executor: None,
    };
    new_job(input, &template(job_type), NOW)
}

fn running(job_type: JobType) -> Job {
    Job { state: JobState::Running, attempt: 1, started_at: Some(NOW), ..queued(job_type).job }
}

fn outcome(state: OutcomeState, error: Option<Code>) -> Outcome {
    Outcome {
        state,
        result: None,
        error: error.map(|code| JobError::new(code, "it went wrong")),
        steps: Vec::new(),
        started_at_us: 0,
        finished_at_us: 1,
    }
}

fn environment() -> Environment {
    let id = EnvironmentId::from_parts(1, [1; 10]);
    let flag =
        || CacheFlag { desired: true, applied: Some(false), applied_at: None, last_error: None };
    Environment {
        id: id.clone(),
        site_id: SiteId::from_parts(1, [1; 10]),
        host_id: HostId::from_parts(1, [1; 10]),
        state: EnvironmentState::Active,
        doc: EnvironmentDoc {
            id,
            site: "shop".to_owned(),
            name: "production".to_owned(),
            domain: "shop.test".to_owned(),
            kind: AppKind::Php,
            docroot: "/srv/shop".to_owned(),
            user: "www-data".to_owned(),
            nginx: NginxDoc {
                http_file: "/etc/nginx/hostler/shop/http.conf".to_owned(),
                server_file: "/etc/nginx/hostler/shop/server.conf".to_owned(),
                location_file: "/etc/nginx/hostler/shop/location.conf".to_owned(),
                probe_origin: "http://127.0.0.1:80".to_owned(),
            },
            fastcgi: Some(FastcgiDoc {
                cache_dir: "/var/cache/nginx/shop".to_owned(),
                key_format: KEY_FORMAT_DEFAULT.to_owned(),
                zone_mib: 10,
                size_mib_max: 512,
                inactive_secs: 3600,
                valid_secs: 3600,
            }),
            redis: None,
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 10_000 },
            executor: None,
        },
        fastcgi: Some(flag()),
        redis: None,
        labels: std::collections::BTreeMap::new(),
        version: 4,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn job_after(changes: &[Change]) -> &Job {
    match changes.first() {
        Some(Change::UpdateJob { job, .. }) => job,
        other => panic!("the first change is not the job's: {other:?}"),
    }
}

#[test]
fn all_pairs_of_state_and_event_are_decided_and_ended_states_are_final() {
    let mut allowed = 0;
    for state in JobState::ALL {
        for event in JobEvent::ALL {
            if let Some(after) = state.apply(event) {
                allowed += 1;
                assert!(!state.is_ended(), "{state:?} is final but took {event:?}");
                assert!(state != after, "{event:?} left {state:?} as it was");
            }
        }
    }
    assert_eq!(allowed, 11, "a transition was added or lost: say so in the architecture too");
}

#[test]
fn a_failure_that_may_pass_is_retried_after_one_five_and_fifteen_minutes_then_fails() {
    let template = template(JobType::CachePurge);
    let mut job = running(JobType::CachePurge);
    for (retries, secs) in [60, 300, 900].into_iter().enumerate() {
        let failed = outcome(OutcomeState::Failed, Some(Code::RedisUnreachable));
        let decision = settle(&job, None, &template, &failed, NOW);
        assert_eq!(decision.reply, JobState::Queued, "retry {retries}");
        job = job_after(&decision.changes).clone();
        assert_eq!(job.run_after, NOW.plus_secs(secs));
        assert_eq!(job.reason.as_deref(), Some("RETRY"));
        job.state = JobState::Running;
        job.attempt += 1;
    }
    let failed = outcome(OutcomeState::Failed, Some(Code::RedisUnreachable));
    let decision = settle(&job, None, &template, &failed, NOW);
    assert_eq!(decision.reply, JobState::Failed);
    assert_eq!(job_after(&decision.changes).failures, 4);
}

#[test]
fn an_agent_without_a_place_is_asked_again_soon_and_however_often_it_is_no_failure() {
    // A check is never tried again after a failure; an agent that is restarted is none.
    let looked = Template { retry_after_secs: vec![], ..template(JobType::EnvCheck) };
    for (job_type, template) in
        [(JobType::EnvCheck, looked), (JobType::EnvCacheToggle, template(JobType::EnvCacheToggle))]
    {
        let mut job = running(job_type);
        for attempt in 2..10 {
            let busy = outcome(OutcomeState::Failed, Some(Code::AgentBusy));
            let decision = settle(&job, Some(&environment()), &template, &busy, NOW);
            assert_eq!(decision.reply, JobState::Queued);
            assert_eq!(decision.changes.len(), 1, "of the environment nothing is known");
            job = job_after(&decision.changes).clone();
            assert_eq!((job.failures, job.crashes), (0, 0));
            assert_eq!(job.run_after, NOW.plus_secs(5));
            job = Job { state: JobState::Running, attempt, ..job };
        }
        let asked = Job { cancel_requested_at: Some(NOW), ..job };
        let busy = outcome(OutcomeState::Failed, Some(Code::AgentBusy));
        let decision = settle(&asked, Some(&environment()), &template, &busy, NOW);
        assert_eq!(decision.reply, JobState::Cancelled);
    }
}

#[test]
fn a_failure_only_a_person_can_cure_fails_at_once() {
    let failed = outcome(OutcomeState::Failed, Some(Code::NginxTestFailed));
    let template = template(JobType::CachePurge);
    let decision = settle(&running(JobType::CachePurge), None, &template, &failed, NOW);
    assert_eq!(decision.reply, JobState::Failed);
    assert_eq!(job_after(&decision.changes).reason.as_deref(), Some("NGINX_TEST_FAILED"));
}

#[test]
fn an_interrupted_attempt_runs_again_at_once_and_the_third_is_quarantined() {
    let template = template(JobType::CachePurge);
    let mut job = running(JobType::CachePurge);
    for crash in 1..=3 {
        let cut = outcome(OutcomeState::Failed, Some(Code::Interrupted));
        let decision = settle(&job, None, &template, &cut, NOW);
        job = job_after(&decision.changes).clone();
        assert_eq!((job.crashes, job.failures), (crash, 0));
        if crash < 3 {
            assert_eq!((job.state, job.run_after), (JobState::Queued, NOW));
            job.state = JobState::Running;
        }
    }
    assert_eq!((job.state, job.reason.as_deref()), (JobState::Held, Some("QUARANTINED")));
    let released = release(&job, NOW).unwrap().reply;
    assert_eq!((released.state, released.crashes), (JobState::Queued, 0));
}

#[test]
fn work_that_is_not_idempotent_waits_for_a_person_when_cut_off() {
    let template = Template { on_interrupt: OnInterrupt::Hold, ..template(JobType::EnvDelete) };
    let cut = outcome(OutcomeState::Failed, Some(Code::Interrupted));
    let decision = settle(&running(JobType::EnvDelete), None, &template, &cut, NOW);
    assert_eq!(decision.reply, JobState::Held);
}

#[test]
fn a_completion_that_raced_a_cancel_wins() {
    let template = template(JobType::CachePurge);
    let asked = cancel(&running(JobType::CachePurge), NOW).unwrap().reply;
    assert_eq!(asked.cancel_requested_at, Some(NOW));
    let won = settle(&asked, None, &template, &outcome(OutcomeState::Succeeded, None), NOW);
    assert_eq!(won.reply, JobState::Succeeded);
    let lost = outcome(OutcomeState::Failed, Some(Code::RedisTimeout));
    assert_eq!(settle(&asked, None, &template, &lost, NOW).reply, JobState::Cancelled);
}

#[test]
fn an_ended_job_is_never_settled_again() {
    for state in JobState::ALL.into_iter().filter(|state| *state != JobState::Running) {
        let job = Job { state, ..running(JobType::CachePurge) };
        let again = outcome(OutcomeState::Succeeded, None);
        let decision = settle(&job, None, &template(JobType::CachePurge), &again, NOW);
        assert_eq!((decision.reply, decision.changes.len()), (state, 0));
    }
}

#[test]
fn a_toggle_moves_the_applied_flag_only_on_proof() {
    let template = template(JobType::EnvCacheToggle);
    let job = running(JobType::EnvCacheToggle);
    let failed = outcome(OutcomeState::Failed, Some(Code::NginxReloadNotApplied));
    let decision = settle(&job, Some(&environment()), &template, &failed, NOW);
    let flag = flag_after(&decision.changes);
    assert_eq!(flag.applied, Some(false), "a failed toggle must not claim what is not so");
    assert_eq!(flag.last_error.unwrap()["code"], "NGINX_RELOAD_NOT_APPLIED");

    let proven = FlagResult { enabled: true, changed: true, proof: "HIT".to_owned(), purged: 0 };
    let result = ToggleResult { generation: 1, fastcgi: Some(proven), redis: None };
    let mut succeeded = outcome(OutcomeState::Succeeded, None);
    succeeded.result = serde_json::to_value(result).ok();
    let decision = settle(&job, Some(&environment()), &template, &succeeded, NOW);
    let flag = flag_after(&decision.changes);
    assert_eq!((flag.applied, flag.applied_at, flag.last_error), (Some(true), Some(NOW), None));
}

fn flag_after(changes: &[Change]) -> CacheFlag {
    match changes.get(1) {
        Some(Change::UpdateEnvironment(environment)) => {
            assert_eq!(environment.version, 5);
            environment.fastcgi.clone().unwrap()
        }
        other => panic!("the environment was not written: {other:?}"),
    }
}

#[test]
fn a_proven_removal_deletes_the_row() {
    let job = running(JobType::EnvDelete);
    let done = outcome(OutcomeState::Succeeded, None);
    let decision = settle(&job, Some(&environment()), &template(JobType::EnvDelete), &done, NOW);
    assert!(matches!(decision.changes.get(1), Some(Change::DeleteEnvironment(_))));
}

#[test]
fn only_ended_jobs_are_retried_and_only_held_ones_released() {
    let template = template(JobType::CachePurge);
    let id = JobId::from_parts(2, [2; 10]);
    for state in JobState::ALL {
        let job = Job { state, ..running(JobType::CachePurge) };
        assert_eq!(retry(&job, id.clone(), None, &template, NOW).is_ok(), state.is_ended());
        assert_eq!(release(&job, NOW).is_ok(), state == JobState::Held);
        assert_eq!(cancel(&job, NOW).is_ok(), !state.is_ended());
    }
}

fn host(connected: bool) -> Host {
    Host {
        id: HostId::from_parts(1, [1; 10]),
        name: "web-1".to_owned(),
        state: HostState::Enrolled,
        key_sha256: String::new(),
        certificate_expires_at: NOW,
        candidate: None,
        held_at: None,
        certificate_renewed_at: None,
        recoveries: 0,
        recovered_at: None,
        clock_skew_ms: None,
        facts: json!({}),
        labels: std::collections::BTreeMap::new(),
        agent_build: None,
        last_seen_at: None,
        connected,
        created_at: NOW,
        revoked_at: None,
        revoked_as: None,
    }
}

#[test]
fn only_an_attempt_nobody_can_tell_of_is_given_up() {
    let known = running(JobType::CachePurge);
    let unknown = Job { reason: Some("UNKNOWN".to_owned()), ..known.clone() };
    for (job, connected) in [(&known, false), (&known, true), (&unknown, true)] {
        let refusal = abandon(job, None, Some(&host(connected)), NOW).unwrap_err();
        assert_eq!(refusal.code, "JOB_NOT_UNKNOWN", "{:?}, connected: {connected}", job.reason);
    }
    // Its host is away, or is not even known any more.
    for host in [Some(&host(false)), None] {
        let given_up = abandon(&unknown, Some(&environment()), host, NOW).unwrap();
        assert_eq!(given_up.changes.len(), 1, "a purge says nothing of what is applied");
        let job = job_after(&given_up.changes);
        assert_eq!((job.state, job.reason.as_deref()), (JobState::Cancelled, Some("ABANDONED")));
        assert_eq!((job.finished_at, &job.outcome), (Some(NOW), &None));
        assert_eq!(&given_up.reply, job);
    }
    // What does not run needs no force; what has ended stays as it is.
    for state in JobState::ALL.into_iter().filter(|state| *state != JobState::Running) {
        let job = Job { state, ..known.clone() };
        let (forced, asked) = (abandon(&job, None, Some(&host(true)), NOW), cancel(&job, NOW));
        assert_eq!(forced, asked, "{state:?}");
    }
}

#[test]
fn nobody_knows_what_a_host_that_was_revoked_in_the_middle_has_applied() {
    let environment = environment();
    let id = Some(environment.id.clone());
    let revoked = |job: Job| {
        let snapshot = crate::domain::Snapshot {
            host: Some(host(true)),
            host_jobs: vec![Job { environment_id: id.clone(), ..job }],
            host_environments: vec![environment.clone()],
            ..crate::domain::Snapshot::default()
        };
        let decided = crate::domain::decide::host::revoke(
            &snapshot,
            &host(true).id,
            crate::domain::Revocation::Evict,
            NOW,
        );
        decided.unwrap().changes
    };
    let flag = flag_after(&revoked(running(JobType::EnvCacheToggle))[1..]);
    assert_eq!(flag.applied, None);
    assert_eq!(flag.last_error.unwrap()["code"], "ABANDONED");
    // What had not begun has changed nothing.
    for job in [running(JobType::CachePurge), queued(JobType::EnvCacheToggle).job] {
        let changes = revoked(job);
        let touched = changes.iter().any(|one| matches!(one, Change::UpdateEnvironment(_)));
        assert!(!touched, "{changes:?}");
    }
}

#[test]
fn after_a_toggle_given_up_nobody_claims_to_know_what_is_applied() {
    let unknown = Job { reason: Some("UNKNOWN".to_owned()), ..running(JobType::EnvCacheToggle) };
    let given_up = abandon(&unknown, Some(&environment()), Some(&host(false)), NOW).unwrap();
    let flag = flag_after(&given_up.changes);
    assert_eq!((flag.desired, flag.applied), (true, None));
    assert_eq!(flag.last_error.unwrap()["code"], "ABANDONED");
}

#[test]
fn a_job_of_an_environment_that_goes_is_not_tried_again() {
    let deleting = Environment { state: EnvironmentState::Deleting, ..environment() };
    for code in [Code::RedisTimeout, Code::Interrupted] {
        let job = Job { crashes: 2, ..running(JobType::EnvCacheToggle) };
        let failed = outcome(OutcomeState::Failed, Some(code));
        let decision =
            settle(&job, Some(&deleting), &template(JobType::EnvCacheToggle), &failed, NOW);
        let after = job_after(&decision.changes);
        assert_eq!(after.state, JobState::Cancelled, "{code:?}: the deletion would wait for it");
        assert_eq!(after.reason.as_deref(), Some("ENVIRONMENT_DELETED"));
        assert_eq!(after.finished_at, Some(NOW));
    }
    // The deletion itself is tried again.
    let job = running(JobType::EnvDelete);
    let failed = outcome(OutcomeState::Failed, Some(Code::RedisTimeout));
    let decision = settle(&job, Some(&deleting), &template(JobType::EnvDelete), &failed, NOW);
    assert_eq!(decision.reply, JobState::Queued);
}

#[test]
fn a_job_that_a_newer_one_covers_is_not_tried_again() {
    let job = running(JobType::EnvCacheToggle);
    let failed = outcome(OutcomeState::Failed, Some(Code::RedisTimeout));
    let covers = Template { supersedes_queued: true, ..template(JobType::EnvCacheToggle) };
    let decision = super::settle(&job, Some(&environment()), true, &covers, &failed, NOW);
    let after = job_after(&decision.changes);
    assert_eq!((after.state, after.reason.as_deref()), (JobState::Cancelled, Some("SUPERSEDED")));
    let other = template(JobType::EnvCacheToggle);
    let decision = super::settle(&job, Some(&environment()), true, &other, &failed, NOW);
    assert_eq!(decision.reply, JobState::Queued, "only where newer ones supersede");
}
