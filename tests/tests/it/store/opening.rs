//! Opening: schemas, databases that cannot be used, and what errors show.

use hostler_controller::store::{DatabaseUrl, Store, StoreError};
use hostler_tests::servers::{command, directory};

use super::world::World;

/// A statement by hand, as an operator or a newer controller would run it.
fn by_hand(world: &World, sql: &str) {
    match (world.server(), &world.url) {
        (Some((server, database)), _) => {
            server.psql(database, sql).unwrap_or_else(|error| panic!("{error}"));
        }
        (None, DatabaseUrl::Sqlite(path)) => {
            let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                           c.execute(sys.argv[2]); c.commit()";
            let ended =
                command("python3").args(["-c", program]).arg(path).arg(sql).status().unwrap();
            assert!(ended.success(), "python3 could not run {sql}");
        }
        (None, DatabaseUrl::Postgres(_)) => panic!("a PostgreSQL world without its server"),
    }
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
