//! The one door for commands: what is loaded, what is written, and what a refusal leaves.

use hostler_controller::domain::{
    Answered, ApiScope, ApiToken, BannedKey, Candidate, Change, Decision, EnrolmentToken,
    EventKind, Host, HostState, IdempotencyRecord, JobState, NewEvent, Refusal, RefusalKind,
    Revocation, Scope, Snapshot, StackJob, Subject,
};
use hostler_controller::store::{
    EnvironmentFilter, EventFilter, Opening, Page, StoreError, TransactError,
};
use hostler_protocol::id::{ApiTokenId, EnrolmentTokenId, RefreshId, StackId};
use hostler_protocol::job::Code;
use hostler_tests::rows;
use serde_json::json;

use super::world::{
    NOW, World, controller, environment, environment_id, failed, host, host_id, job_id, purge, site,
};

fn told(kind: EventKind) -> NewEvent {
    NewEvent { at: NOW, kind, subject: Subject::default(), document: json!({}) }
}

/// Loads a scope and hands the snapshot out.
async fn look(world: &World, scope: Scope) -> Snapshot {
    let decide = |snapshot: &Snapshot| {
        Ok(Decision { changes: Vec::new(), events: Vec::new(), reply: snapshot.clone() })
    };
    world.store.transact("look", scope, decide).await.unwrap().reply
}

pub(crate) async fn a_scope_loads_all_it_names(world: &World) {
    let hosts = world.hosts(2).await;
    let second = environment(3, &site(1), &host(1).id);
    world.write(vec![Change::InsertEnvironment(Box::new(second))]).await;
    world.enqueue(&[purge(1, &hosts[0]), purge(2, &hosts[0]), purge(3, &hosts[1])]).await;

    let seen = look(
        world,
        Scope {
            environment: Some(environment_id(1)),
            site_named: Some("site-1".to_owned()),
            site_environments: true,
            ..Scope::default()
        },
    )
    .await;
    assert_eq!(seen.environment, Some(environment(1, &site(1), &host(1).id)));
    assert_eq!(seen.site, Some(site(1)));
    assert_eq!(seen.site_named, Some(site(1)));
    assert_eq!(seen.host.map(|host| (host.id, host.connected)), Some((host_id(1), true)));
    let jobs: Vec<_> = seen.environment_jobs.iter().map(|job| job.id.clone()).collect();
    assert_eq!(jobs, [job_id(1), job_id(2)]);
    assert_eq!(seen.site_environments.len(), 3);

    let seen = look(
        world,
        Scope {
            host: Some(host_id(1)),
            host_jobs: true,
            host_named: Some("host-2.test".to_owned()),
            redis_server: Some("cache.test:6379".to_owned()),
            job: Some(job_id(3)),
            ..Scope::default()
        },
    )
    .await;
    assert_eq!(seen.host.as_ref().map(|host| &host.id), Some(&host_id(1)));
    assert_eq!(seen.host_named.as_ref().map(|host| &host.id), Some(&host_id(2)));
    let on: Vec<_> = seen.host_environments.iter().map(|one| one.id.clone()).collect();
    assert_eq!(on, [environment_id(1), environment_id(3)]);
    assert_eq!(seen.redis_environments.len(), 3);
    assert_eq!(seen.host_jobs.len(), 2);
    assert_eq!(seen.job.as_ref().map(|job| &job.id), Some(&job_id(3)));
    assert_eq!(seen.environment.as_ref().map(|one| &one.id), Some(&environment_id(2)));

    let nothing = look(
        world,
        Scope {
            environment: Some(environment_id(9)),
            host: Some(host_id(9)),
            site_named: Some("nowhere".to_owned()),
            redis_server: Some("elsewhere:1".to_owned()),
            job: Some(job_id(9)),
            idempotency: Some(("local".to_owned(), "k".to_owned())),
            ..Scope::default()
        },
    )
    .await;
    assert!(nothing.environment.is_none() && nothing.host.is_none() && nothing.job.is_none());
    assert!(nothing.site_named.is_none() && nothing.idempotency.is_none());
    assert_eq!(nothing.redis_environments, []);
}

pub(crate) async fn a_refusal_writes_nothing(world: &World) {
    world.hosts(1).await;
    let before = world.store.events_bounds().await.unwrap();
    let refuse = |_: &Snapshot| -> Result<Decision<()>, Refusal> {
        Err(Refusal::new(RefusalKind::Conflict, "ENVIRONMENT_DELETING", "wait until it is gone"))
    };
    match world.store.transact("refuse", Scope::default(), refuse).await {
        Err(TransactError::Refused(refusal)) => assert_eq!(refusal.code, "ENVIRONMENT_DELETING"),
        other => panic!("a refusal came back as {other:?}"),
    }
    assert_eq!(world.store.events_bounds().await.unwrap(), before);
}

pub(crate) async fn a_unit_that_fails_half_way_writes_nothing(world: &World) {
    world.hosts(1).await;
    let before = world.store.events_bounds().await.unwrap();
    let decide = |_: &Snapshot| {
        let mut stale = environment(1, &site(1), &host(1).id);
        stale.version = 7;
        Ok(Decision {
            changes: vec![
                Change::InsertSite(site(2)),
                // The row has version 1, so 7 was decided on something else.
                Change::UpdateEnvironment(Box::new(stale)),
            ],
            events: vec![told(EventKind::SiteCreated)],
            reply: (),
        })
    };
    match world.store.transact("stale", Scope::default(), decide).await {
        Err(TransactError::Store(error @ StoreError::Overtaken { .. })) => {
            assert!(error.is_temporary());
        }
        other => panic!("a version that did not match came back as {other:?}"),
    }
    assert_eq!(world.store.site(&site(2).id).await.unwrap(), None);
    assert_eq!(world.store.events_bounds().await.unwrap(), before);

    let twice = |_: &Snapshot| {
        let mut other = site(3);
        other.name = site(1).name;
        let changes = vec![Change::InsertSite(site(4)), Change::InsertSite(other)];
        Ok(Decision { changes, events: Vec::new(), reply: () })
    };
    match world.store.transact("twice", Scope::default(), twice).await {
        Err(TransactError::Store(StoreError::Taken { .. })) => {}
        other => panic!("a name that was taken came back as {other:?}"),
    }
    assert_eq!(world.store.site(&site(4).id).await.unwrap(), None);
}

pub(crate) async fn every_row_comes_back_as_it_was_written(world: &World) {
    world.hosts(1).await;
    let mut changed = environment(1, &site(1), &host(1).id);
    changed.version = 2;
    changed.fastcgi = changed.redis.take();
    changed.doc.redis = None;
    let scope = Scope { environment: Some(changed.id.clone()), ..Scope::default() };
    let after = changed.clone();
    let decide = move |_: &Snapshot| {
        Ok(Decision {
            changes: vec![Change::UpdateEnvironment(Box::new(after.clone()))],
            events: vec![told(EventKind::EnvironmentChanged)],
            reply: "done",
        })
    };
    let committed = world.store.transact("change", scope, decide).await.unwrap();
    assert_eq!(committed.reply, "done");
    assert_eq!(committed.seq, world.store.events_bounds().await.unwrap().1);
    assert_eq!(world.store.environment(&changed.id).await.unwrap(), Some(changed.clone()));
    let none =
        look(world, Scope { redis_server: Some("cache.test:6379".to_owned()), ..Scope::default() })
            .await;
    assert_eq!(none.redis_environments, [], "the environment has left that Redis");

    let mut revoked = host(1);
    revoked.state = HostState::Revoked;
    revoked.revoked_at = Some(NOW);
    revoked.revoked_as = Some(Revocation::Evict);
    revoked.candidate = Some(candidate("c1"));
    revoked.certificate_renewed_at = Some(NOW.plus_secs(1));
    revoked.recoveries = 3;
    revoked.recovered_at = Some(NOW.plus_secs(2));
    revoked.clock_skew_ms = Some(-5);
    revoked.facts = json!({"os": "debian"});
    let mut heir = host(2);
    heir.name.clone_from(&revoked.name);
    heir.key_sha256.clone_from(&revoked.key_sha256);
    world
        .write(vec![
            Change::UpdateHost(Box::new(revoked.clone())),
            Change::InsertHost(Box::new(heir.clone())),
        ])
        .await;
    let read = world.store.host(&revoked.id).await.unwrap().unwrap();
    let seen = Host { last_seen_at: None, agent_build: None, connected: false, ..read.clone() };
    assert_eq!(seen, revoked);
    let by_key = world.store.host_by_key(&heir.key_sha256).await.unwrap();
    assert_eq!(by_key, Some(heir.clone()), "the host that is enrolled has the key");
    let named =
        look(world, Scope { host_named: Some(heir.name.clone()), ..Scope::default() }).await;
    assert_eq!(named.host_named, Some(heir.clone()));

    let mut renamed = site(1);
    renamed.name = "renamed".to_owned();
    world
        .write(vec![
            Change::UpdateSite(renamed.clone()),
            Change::DeleteEnvironment(changed.id.clone()),
            Change::DeleteHost(revoked.id.clone()),
        ])
        .await;
    assert_eq!(world.store.site(&renamed.id).await.unwrap(), Some(renamed.clone()));
    assert_eq!(world.store.environment(&changed.id).await.unwrap(), None);
    assert_eq!(world.store.host(&revoked.id).await.unwrap(), None);
    world.write(vec![Change::DeleteSite(renamed.id.clone())]).await;
    assert_eq!(world.store.sites(&Page::first(10)).await.unwrap(), (Vec::new(), None));
}

pub(crate) async fn tokens_and_idempotent_requests_are_kept(world: &World) {
    let enrolment = EnrolmentToken {
        id: EnrolmentTokenId::from_parts(1, [1; 10]),
        secret_sha256: "ab".repeat(32),
        host_name: Some("web-1".to_owned()),
        created_at: NOW,
        expires_at: NOW.plus_secs(900),
        used_at: None,
        used_by_key_sha256: None,
        host_id: None,
    };
    let api = ApiToken {
        id: ApiTokenId::from_parts(1, [1; 10]),
        name: "ci".to_owned(),
        secret_sha256: "cd".repeat(32),
        scope: ApiScope::Operate,
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    };
    let record = IdempotencyRecord {
        principal: "local".to_owned(),
        key: "k-1".to_owned(),
        request_sha256: "ef".repeat(32),
        answered: Answered::Job(job_id(1)),
        created_at: NOW,
    };
    world
        .write(vec![
            Change::InsertEnrolmentToken(enrolment.clone()),
            Change::InsertApiToken(api.clone()),
            Change::RecordIdempotency(record.clone()),
        ])
        .await;
    let used = EnrolmentToken {
        used_at: Some(NOW),
        used_by_key_sha256: Some("12".repeat(32)),
        host_id: Some(host_id(1)),
        ..enrolment.clone()
    };
    let revoked = ApiToken { revoked_at: Some(NOW), ..api.clone() };
    world
        .write(vec![
            Change::UpdateEnrolmentToken(used.clone()),
            Change::UpdateApiToken(revoked.clone()),
        ])
        .await;
    let scope = Scope {
        enrolment_token: Some(enrolment.id.clone()),
        api_token: Some(api.id.clone()),
        idempotency: Some(("local".to_owned(), "k-1".to_owned())),
        ..Scope::default()
    };
    let seen = look(world, scope.clone()).await;
    assert_eq!(seen.enrolment_token, Some(used.clone()));
    assert_eq!(seen.api_token, Some(revoked.clone()));
    assert_eq!(seen.idempotency.as_ref(), Some(&record));
    let stack_job = StackJob { host: host_id(1), name: "web-1".to_owned(), job: job_id(2) };
    for answered in [
        Answered::StackJobs(vec![stack_job]),
        Answered::Stack(StackId::from_parts(1, [1; 10])),
        Answered::Refresh(RefreshId::from_parts(1, [1; 10])),
    ] {
        let newer = IdempotencyRecord { answered, ..record.clone() };
        world.write(vec![Change::RecordIdempotency(newer.clone())]).await;
        let read = world.store.idempotent_request("local", "k-1").await.unwrap();
        assert_eq!(read, Some(newer), "over the one before");
    }
    assert_eq!(world.store.idempotent_request("another", "k-1").await.unwrap(), None);
    assert_eq!(world.store.api_token(&api.id).await.unwrap(), Some(revoked.clone()));
    let page = Page::first(10);
    assert_eq!(world.store.api_tokens(&page).await.unwrap(), (vec![revoked], None));
    assert_eq!(world.store.enrolment_tokens(&page).await.unwrap(), (vec![used], None));

    let later = NOW.plus_secs(86_400);
    assert_eq!(world.store.prune_tokens(NOW).await.unwrap(), 0);
    assert_eq!(world.store.prune_tokens(later).await.unwrap(), 2);
    assert_eq!(world.store.prune_idempotency(NOW).await.unwrap(), 0);
    assert_eq!(world.store.prune_idempotency(later).await.unwrap(), 1);
    let seen = look(world, scope).await;
    assert!(seen.enrolment_token.is_none() && seen.api_token.is_none());
    assert!(seen.idempotency.is_none());
}

pub(crate) async fn a_toggle_moves_its_environment_with_its_job(world: &World) {
    let hosts = world.hosts(1).await;
    let mut toggle = super::world::template();
    toggle.job_type = hostler_protocol::job::JobType::EnvCacheToggle;
    let new = super::world::with_template(1, &hosts[0], &toggle);
    world.enqueue(&[new]).await;
    let claimed = world.claim(&[&hosts[0]], NOW).await.remove(0);
    world.settle(&claimed, failed(Code::RedisDenied)).await;
    let after = world.store.environment(&environment_id(1)).await.unwrap().unwrap();
    assert_eq!(after.version, 2);
    let error = after.redis.unwrap().last_error.unwrap();
    assert_eq!(error["code"], "REDIS_DENIED");
    let filter = EventFilter { environment: Some(environment_id(1)), ..EventFilter::default() };
    let events = world.store.events_after(0, 100, &filter).await.unwrap();
    let kinds: Vec<EventKind> = events.iter().map(|event| event.event.kind).collect();
    let expected = [
        EventKind::JobQueued,
        EventKind::JobStarted,
        EventKind::JobFailed,
        EventKind::EnvironmentChanged,
    ];
    assert_eq!(kinds, expected);
    let all = EnvironmentFilter { site: Some(site(1).id), host: Some(host_id(1)) };
    let page = Page::first(1);
    assert_eq!(world.store.environments(&all, &page).await.unwrap().0.len(), 1);
    let none = EnvironmentFilter { host: Some(host_id(2)), ..EnvironmentFilter::default() };
    assert_eq!(world.store.environments(&none, &page).await.unwrap(), (Vec::new(), None));
    assert_eq!(world.job(&job_id(1)).await.state, JobState::Failed);
}

pub(crate) async fn a_moved_environment_is_on_its_new_host(world: &World) {
    world.hosts(2).await;
    let mut moved = environment(1, &site(1), &host(1).id);
    moved.host_id = host_id(2);
    moved.version += 1;
    world.write(vec![Change::UpdateEnvironment(Box::new(moved.clone()))]).await;
    assert_eq!(world.store.environment(&environment_id(1)).await.unwrap(), Some(moved));
    let seen = look(world, Scope { host: Some(host_id(2)), ..Scope::default() }).await;
    assert_eq!(seen.host_environments.len(), 2, "the new host does not know of it");
}

fn candidate(key: &str) -> Candidate {
    Candidate { key_sha256: key.to_owned(), certificate_expires_at: NOW.plus_secs(500) }
}

pub(crate) async fn a_candidate_key_is_committed_by_its_first_session(world: &World) {
    world.hosts(1).await;
    let waiting = Host { candidate: Some(candidate("c1")), ..host(1) };
    world.write(vec![Change::UpdateHost(Box::new(waiting.clone()))]).await;
    let open = |key: &str| {
        let shown = Host { key_sha256: key.to_owned(), ..waiting.clone() };
        let opening = rows::opening(&shown, &controller(1), NOW.plus_secs(9));
        world.store.session_open(Opening {
            certificate_expires_at: NOW.plus_secs(499),
            clock_skew_ms: -1_500,
            ..opening
        })
    };
    let row = async || world.store.host(&waiting.id).await.unwrap().unwrap();
    open(&waiting.key_sha256).await.unwrap();
    assert_eq!(row().await.candidate, waiting.candidate, "the committed key leaves it alone");
    assert!(open("c2").await.is_err(), "a key nobody certified");
    let before = world.store.events_bounds().await.unwrap().1;
    open("c1").await.unwrap();
    let after = row().await;
    assert_eq!((after.key_sha256.as_str(), &after.candidate), ("c1", &None));
    assert_eq!(after.certificate_renewed_at, Some(NOW.plus_secs(9)));
    assert_eq!(after.certificate_expires_at, NOW.plus_secs(499), "of what was shown");
    assert_eq!(after.clock_skew_ms, Some(-1_500));
    let events = world.store.events_after(before, 10, &EventFilter::default()).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.event.kind).collect();
    assert_eq!(kinds, [EventKind::HostCertificateRenewed, EventKind::HostConnected]);
    assert!(open(&waiting.key_sha256).await.is_err(), "the key before is worth nothing");
    open("c1").await.unwrap();
    assert_eq!(row().await, after, "it is committed once");
    let stats = world.store.stats().await.unwrap();
    assert_eq!(stats.certificate_ends_first_at, Some(NOW.plus_secs(499)));
    assert_eq!(stats.hosts_clock_skewed, 0);
}

pub(crate) async fn banned_keys_outlive_their_host(world: &World) {
    let keys = [host(1).key_sha256, "c1".to_owned(), "free".to_owned()];
    let uses = async || {
        let mut found = Vec::new();
        for key in &keys {
            let seen = look(world, Scope { key: Some(key.clone()), ..Scope::default() }).await;
            found.push((seen.key_holder, seen.key_banned));
        }
        found
    };
    let waiting = Host { candidate: Some(candidate("c1")), ..host(1) };
    world.write(vec![Change::InsertHost(Box::new(waiting.clone()))]).await;
    let held = (Some(waiting.id.clone()), false);
    assert_eq!(uses().await, [held.clone(), held, (None, false)]);
    let ban = |key: &str| {
        Change::BanKey(BannedKey {
            key_sha256: key.to_owned(),
            host_id: waiting.id.clone(),
            host_name: waiting.name.clone(),
            banned_at: NOW,
        })
    };
    let revoked = Host { state: HostState::Revoked, ..waiting.clone() };
    world.write(vec![Change::UpdateHost(Box::new(revoked)), ban(&keys[0]), ban("c1")]).await;
    world.write(vec![ban("c1"), Change::DeleteHost(waiting.id.clone())]).await;
    assert_eq!(uses().await, [(None, true), (None, true), (None, false)]);
}
