//! Opening: schemas, databases that cannot be used, and what errors show.

use std::path::Path;

use hostler_controller::domain::{Host, HostState, Revocation};
use hostler_controller::store::{DatabaseUrl, Store, StoreError};
use hostler_tests::servers::{command, directory};

use super::world::{NOW, World, controller, host};

/// Statements by hand, as an operator or another controller would run them.
fn by_hand(world: &World, sql: &str) {
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
    let sql = |first: &str| format!("{first}{version}{}{}", row(&enrolled), row(&revoked));
    let dir = directory("first").unwrap();
    let (url, name): (DatabaseUrl, _) = match world.server() {
        Some((server, name)) => {
            let name = format!("{name}_1").chars().rev().take(63).collect::<String>();
            let name: String = name.chars().rev().collect();
            let url = server.create_database(&name).unwrap();
            let first = include_str!("../../../../controller/migrations/postgres/0001_initial.sql");
            server.psql(&name, &sql(first)).unwrap();
            (url.parse().unwrap(), Some(name))
        }
        None => {
            let path = dir.path().join("hostler.db");
            let first = include_str!("../../../../controller/migrations/sqlite/0001_initial.sql");
            sqlite(&path, &sql(first));
            (DatabaseUrl::Sqlite(path), None)
        }
    };
    let store = Store::open(&url).await.unwrap();
    assert_eq!(store.host(&enrolled.id).await.unwrap(), Some(enrolled.clone()));
    let evicted = Host { revoked_as: Some(Revocation::Evict), ..revoked.clone() };
    assert_eq!(store.host(&revoked.id).await.unwrap(), Some(evicted));
    let opening = hostler_tests::rows::opening(&enrolled, &controller(1), NOW);
    assert_eq!(store.session_open(opening).await.unwrap(), 8, "epochs go on");
    store.close().await;
    if let (Some((server, _)), Some(name)) = (world.server(), name) {
        server.drop_database(&name).unwrap();
    }
}
