//! Opening: schemas, databases that cannot be used, and what errors show.

use std::path::Path;

use hostler_controller::domain::{Answered, Host, HostState, JobState, Revocation};
use hostler_controller::store::{DatabaseUrl, Store, StoreError};
use hostler_protocol::job::Code;
use hostler_tests::servers::{command, directory};

use super::world::{NOW, World, controller, failed, host, in_lanes, job_id, purge, settlement};

/// Statements by hand, as an operator or another controller would run them.
pub(crate) fn by_hand(world: &World, sql: &str) {
    match (world.server(), &world.url) {
        (Some((server, database)), _) => {
            server.psql(database, sql).unwrap_or_else(|error| panic!("{error}"));
        }
        (None, DatabaseUrl::Sqlite(path)) => sqlite(path, sql),
        (None, DatabaseUrl::Postgres(_)) => panic!("a PostgreSQL world without its server"),
    }
}

fn sqlite(path: &Path, sql: &str) {
    let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                   c.executescript(sys.argv[2]); c.commit()";
    let ended = command("python3").args(["-c", program]).arg(path).arg(sql).status().unwrap();
    assert!(ended.success(), "python3 could not run {sql}");
}

pub(crate) async fn opening_twice_changes_nothing(world: &World) {
    let (first, second) = tokio::join!(Store::open(&world.url), Store::open(&world.url));
    for store in [first.unwrap(), second.unwrap()] {
        assert_eq!(store.events_bounds().await.unwrap(), (1, 0));
        store.close().await;
    }
}

pub(crate) async fn a_newer_schema_is_refused(world: &World) {
    by_hand(world, "INSERT INTO schema_migrations (version) VALUES (9999)");
    match Store::open(&world.url).await {
        Err(error @ StoreError::SchemaNewer { found: 9999, .. }) => {
            assert!(error.to_string().contains("upgrade the controller"), "{error}");
        }
        other => panic!("a newer schema was opened: {other:?}"),
    }
}

pub(crate) async fn a_row_that_cannot_be_read_is_named(world: &World) {
    let hosts = world.hosts(1).await;
    by_hand(world, "UPDATE hosts SET state = 'asleep'");
    match world.store.host(&hosts[0].host).await {
        Err(StoreError::Unreadable { operation: "host", what }) => {
            assert!(what.contains("asleep"), "{what}");
        }
        other => panic!("a state nobody knows was read as {other:?}"),
    }
}

pub(crate) async fn a_damaged_document_keeps_nobody_elses_job(world: &World) {
    let hosts = world.hosts(3).await;
    let jobs: Vec<_> = (1..=3).zip(&hosts).map(|(n, host)| purge(n, host)).collect();
    world.enqueue(&jobs).await;
    by_hand(world, &format!("UPDATE jobs SET request = '{{' WHERE id = '{}'", jobs[0].job.id));
    let broken = &hosts[1].environment;
    by_hand(world, &format!("UPDATE environments SET doc = '{{}}' WHERE id = '{broken}'"));
    let slots: Vec<_> = hosts.iter().map(|host| host.with_slots(1)).collect();
    let mut claimed = world.store.claim(&slots, NOW, 10).await.unwrap();
    claimed.sort_by(|a, b| a.job.id.cmp(&b.job.id));
    let told: Vec<_> =
        claimed.iter().map(|one| (one.job.request.is_null(), one.unreadable)).collect();
    assert_eq!(told, [(true, false), (false, true), (false, false)]);
    // What its host says of it is taken all the same.
    let reports: Vec<_> =
        claimed.iter().map(|one| settlement(one, failed(Code::Undecodable))).collect();
    world.store.settle(&reports, NOW).await.unwrap();
    for job in &jobs {
        let job = world.store.job(&job.job.id).await.unwrap().unwrap();
        assert_eq!((job.state, job.reason.as_deref()), (JobState::Held, Some("QUARANTINED")));
    }
    // Who is set aside holds nobody up.
    let next = purge(4, &hosts[2]);
    world.enqueue(std::slice::from_ref(&next)).await;
    assert!(world.store.waiting_for(&next.job.id).await.unwrap().is_empty());
    let claimed = world.store.claim(&slots[2..], NOW, 10).await.unwrap();
    assert_eq!(claimed.len(), 1, "a quarantined job holds its lane up");
}

/// Setting a job aside is of use only if a person can do something with it.
pub(crate) async fn a_job_of_a_damaged_environment_can_be_let_go_and_ended(world: &World) {
    let hosts = world.hosts(1).await;
    let app = super::batches::app(world.store.clone());
    let job = purge(1, &hosts[0]);
    world.enqueue(std::slice::from_ref(&job)).await;
    by_hand(world, "UPDATE environments SET doc = '{}'");
    let claimed = world.claim(&[&hosts[0]], NOW).await.remove(0);
    world.settle(&claimed, failed(Code::Undecodable)).await;
    let shown = app.release_job(job.job.id.clone()).await.unwrap();
    assert_eq!(shown.state, hostler_controller::views::JobState::Queued);
    let shown = app.show_job(&job.job.id).await.unwrap();
    assert_eq!(shown.state, hostler_controller::views::JobState::Queued);
    let shown = app.cancel_job(job.job.id.clone()).await.unwrap();
    assert_eq!(shown.state, hostler_controller::views::JobState::Cancelled);
}

/// Shutting a host out, and giving up what it never reported, must not wait for a repair.
pub(crate) async fn a_host_with_a_damaged_environment_can_be_shut_out(world: &World) {
    let hosts = world.hosts(1).await;
    let app = super::batches::app(world.store.clone());
    let jobs = [purge(1, &hosts[0]), purge(2, &hosts[0])];
    world.enqueue(&jobs).await;
    let claimed = world.claim(&[&hosts[0]], NOW).await.remove(0);
    by_hand(world, "UPDATE environments SET doc = '{}'");
    app.disconnected(&hosts[0].host, hosts[0].epoch).await.unwrap();
    let given_up = app.abandon_job(claimed.job.id).await.unwrap();
    assert_eq!(given_up.reason.as_deref(), Some("ABANDONED"));
    let evict = hostler_controller::views::RevokeHost::default();
    let host = app.revoke_host(hosts[0].host.clone(), evict).await.unwrap();
    assert_eq!(host.state, hostler_controller::views::HostState::Revoked);
    let job = world.job(&jobs[1].job.id).await;
    assert_eq!(job.reason.as_deref(), Some("HOST_REVOKED"));
}

/// Of a newer build, beside this one on the same database.
pub(crate) async fn jobs_of_a_type_nobody_here_knows_are_left_alone(world: &World) {
    let hosts = world.hosts(1).await;
    let jobs = [purge(1, &hosts[0]), in_lanes(purge(2, &hosts[0]), &[])];
    world.enqueue(&jobs).await;
    by_hand(world, &format!("UPDATE jobs SET job_type = 'later' WHERE id = '{}'", jobs[0].job.id));
    let claimed = world.store.claim(&[hosts[0].with_slots(4)], NOW, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.id, jobs[1].job.id);
    // Nor does it keep this build from what it has to do for the others.
    let late = NOW.plus_secs(7200);
    let other = in_lanes(purge(3, &hosts[0]), &[]);
    world.enqueue(std::slice::from_ref(&other)).await;
    assert_eq!(world.store.expire_queued(late, 10).await.unwrap(), 1);
    assert_eq!(world.job(&other.job.id).await.state, JobState::Failed);
    let run = format!("UPDATE jobs SET state = 'running' WHERE id = '{}'", jobs[0].job.id);
    by_hand(world, &run);
    let running = world.store.running_all().await.unwrap();
    assert_eq!(running.iter().map(|job| &job.id).collect::<Vec<_>>(), [&jobs[1].job.id]);
}

pub(crate) async fn a_database_that_is_not_there_says_so(world: &World) {
    let url: DatabaseUrl = match world.server() {
        Some(_) => "postgres://hostler:hunter2@127.0.0.1:1/hostler".parse().unwrap(),
        None => {
            let dir = directory("nothing").unwrap();
            DatabaseUrl::Sqlite(dir.path().join("missing").join("hostler.db"))
        }
    };
    match Store::open(&url).await {
        Err(error @ StoreError::Open { .. }) => {
            assert!(error.is_temporary());
            let shown = format!("{error} {error:?} {url} {url:?}");
            assert!(!shown.contains("hunter2"), "a password is shown: {shown}");
        }
        other => panic!("a database that is not there was opened: {other:?}"),
    }
}

/// What the first controllers wrote, upgraded by opening it.
pub(crate) async fn a_database_of_the_first_schema_is_upgraded(world: &World) {
    let row = |host: &Host| {
        format!(
            "INSERT INTO hosts (id, name, state, key_sha256, certificate_expires_at, facts, \
             created_at, revoked_at, session_epoch) VALUES ('{}', '{}', '{}', '{}', {}, '{{}}', {}, \
             {}, 7);",
            host.id,
            host.name,
            host.state.as_str(),
            host.key_sha256,
            host.certificate_expires_at.0,
            host.created_at.0,
            host.revoked_at.map_or("NULL".to_owned(), |at| at.0.to_string()),
        )
    };
    let enrolled = host(1);
    let revoked = Host { state: HostState::Revoked, revoked_at: Some(NOW), ..host(2) };
    let version = "CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY); \
        INSERT INTO schema_migrations (version) VALUES (1);";
    let request = format!(
        "INSERT INTO idempotency (principal, key, request_sha256, job_id, created_at) \
         VALUES ('local', 'k', 'ab', '{}', 7);",
        job_id(1)
    );
    let old = Old::new(world, &format!("{version}{}{}{request}", row(&enrolled), row(&revoked)));
    let url = old.url.clone();
    if world.server().is_some() {
        // Others may be at work on it: only a person can know that none of them is of the old build.
        match Store::open(&url).await {
            Err(error @ StoreError::SchemaOlder { found: 1, .. }) => {
                assert!(error.to_string().contains("`hostler-controller migrate`"), "{error}");
            }
            other => panic!("an older schema was opened: {other:?}"),
        }
        let (found, now) = Store::migrate(&url).await.unwrap();
        assert_eq!(found, 1);
        assert_eq!(Store::migrate(&url).await.unwrap(), (now, now), "nothing is left to do");
    }
    let store = Store::open(&url).await.unwrap();
    assert_eq!(store.host(&enrolled.id).await.unwrap(), Some(enrolled.clone()));
    let evicted = Host { revoked_as: Some(Revocation::Evict), ..revoked.clone() };
    assert_eq!(store.host(&revoked.id).await.unwrap(), Some(evicted));
    let opening = hostler_tests::rows::opening(&enrolled, &controller(1), NOW);
    assert_eq!(store.session_open(opening).await.unwrap(), 8, "epochs go on");
    let known = store.idempotent_request("local", "k").await.unwrap().expect("it is remembered");
    assert_eq!(known.answered, Answered::Job(job_id(1)));
    store.close().await;
    old.end(world);
}

/// A database as the first controllers made it.
struct Old {
    url: DatabaseUrl,
    name: Option<String>,
    dir: tempfile::TempDir,
}

impl Old {
    /// With further statements.
    fn new(world: &World, more: &str) -> Self {
        let dir = directory("first").unwrap();
        let (url, name) = match world.server() {
            Some((server, name)) => {
                let name = format!("{name}_1").chars().rev().take(63).collect::<String>();
                let name: String = name.chars().rev().collect();
                let url = server.create_database(&name).unwrap();
                let first =
                    include_str!("../../../../controller/migrations/postgres/0001_initial.sql");
                server.psql(&name, &format!("{first}{more}")).unwrap();
                (url.parse().unwrap(), Some(name))
            }
            None => {
                let path = dir.path().join("hostler.db");
                let first =
                    include_str!("../../../../controller/migrations/sqlite/0001_initial.sql");
                sqlite(&path, &format!("{first}{more}"));
                (DatabaseUrl::Sqlite(path), None)
            }
        };
        Self { url, name, dir }
    }

    fn run(&self, world: &World, sql: &str) {
        match (world.server(), &self.name) {
            (Some((server, _)), Some(name)) => drop(server.psql(name, sql).unwrap()),
            _ => sqlite(&self.dir.path().join("hostler.db"), sql),
        }
    }

    fn end(self, world: &World) {
        if let (Some((server, _)), Some(name)) = (world.server(), &self.name) {
            server.drop_database(name).unwrap();
        }
    }
}

/// A step fails at its last statements; what it did before them is undone, and the database serves as
/// before, until the cause is gone.
pub(crate) async fn a_step_that_fails_leaves_the_version_before_it(world: &World) {
    let version = "CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY); \
        INSERT INTO schema_migrations (version) VALUES (1);";
    let old = Old::new(world, &format!("{version} CREATE TABLE banned_keys (mine BIGINT);"));
    for _ in 0..2 {
        match Store::migrate(&old.url).await {
            Err(StoreError::Migrate { version: 2, .. }) => {}
            other => panic!("a step that must fail did not: {other:?}"),
        }
        // Fails itself if the step's new columns or a newer version were there.
        old.run(world, "ALTER TABLE hosts ADD COLUMN revoked_as TEXT");
        old.run(world, "ALTER TABLE hosts DROP COLUMN revoked_as");
        old.run(world, "INSERT INTO schema_migrations (version) VALUES (2)");
        old.run(world, "DELETE FROM schema_migrations WHERE version = 2");
    }
    old.run(world, "DROP TABLE banned_keys");
    let (found, now) = Store::migrate(&old.url).await.unwrap();
    assert_eq!(found, 1);
    assert!(now >= 4);
    let store = Store::open(&old.url).await.unwrap();
    assert_eq!(store.root_pin().await.unwrap(), None);
    store.close().await;
    old.end(world);
}
