//! Brings a database to the schema this controller knows, one transaction per step.

use super::StoreError;
use super::db::{Dialect, Tx, params};
use super::error::Failure;

/// The steps, oldest first: a step's version is its place, counted from 1. Append only.
const STEPS: &[Step] = &[
    Step {
        sqlite: include_str!("../../migrations/sqlite/0001_initial.sql"),
        postgres: include_str!("../../migrations/postgres/0001_initial.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0002_identity.sql"),
        postgres: include_str!("../../migrations/postgres/0002_identity.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0003_parents.sql"),
        postgres: include_str!("../../migrations/postgres/0003_parents.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0004_cluster.sql"),
        postgres: include_str!("../../migrations/postgres/0004_cluster.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0005_batches.sql"),
        postgres: include_str!("../../migrations/postgres/0005_batches.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0006_lineage.sql"),
        postgres: include_str!("../../migrations/postgres/0006_lineage.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0007_stacks.sql"),
        postgres: include_str!("../../migrations/postgres/0007_stacks.sql"),
    },
    Step {
        sqlite: include_str!("../../migrations/sqlite/0008_stack_lookups.sql"),
        postgres: include_str!("../../migrations/postgres/0008_stack_lookups.sql"),
    },
];

/// The schema this controller speaks.
#[expect(clippy::cast_possible_wrap, reason = "a handful of steps")]
pub(super) const KNOWN: i64 = STEPS.len() as i64;

struct Step {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Step {
    fn sql(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }
}

/// Two controllers that start together must not both migrate: an advisory lock's key.
const MIGRATION_LOCK: i64 = 0x686f_7374_6c65_7201;

/// Seconds controllers of an older build are watched for signs of life before the schema changes under
/// them: three times the period of those and a bit.
const WATCH_SECS: u64 = 7;

/// What may be done to a database of an older schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Older {
    /// Every step that is missing is taken.
    Migrate,
    /// Others may be at work on it: only an empty database is set up.
    Refuse,
}

/// Takes every step that is missing; answers the version it found.
///
/// On PostgreSQL the connection keeps an advisory lock from here on: it must not go back to a pool.
///
/// # Errors
/// [`StoreError::Migrate`] with the step that failed (what came before it stays),
/// [`StoreError::SchemaNewer`], [`StoreError::SchemaOlder`] and [`StoreError::OldersServe`] for a
/// database that is left alone.
pub(super) async fn migrate(tx: &mut Tx<'_>, older: Older) -> Result<i64, StoreError> {
    let found = found(tx).await.map_err(|failure| failure.named("migrate"))?;
    if found > KNOWN {
        return Err(StoreError::SchemaNewer { found, known: KNOWN });
    }
    if older == Older::Refuse && found > 0 && found < KNOWN {
        return Err(StoreError::SchemaOlder { found, known: KNOWN });
    }
    if older == Older::Migrate && found > 0 && found < KNOWN {
        let living = living(tx).await.map_err(|failure| failure.named("migrate"))?;
        if !living.is_empty() {
            return Err(StoreError::OldersServe { names: living.join(", ") });
        }
    }
    for target in found + 1..=KNOWN {
        match step(tx, target).await {
            Ok(()) => {}
            Err(Stop::Newer(found)) => return Err(StoreError::SchemaNewer { found, known: KNOWN }),
            Err(Stop::Failed(failure)) => {
                // The error that matters is the step's own.
                tx.execute("ROLLBACK", &[]).await.ok();
                return Err(if let Failure::Sql(source) = failure {
                    StoreError::Migrate { version: target, source }
                } else {
                    failure.named("migrate")
                });
            }
        }
    }
    Ok(found)
}

/// The version of the database, 0 for an empty one. Writes nothing, so that a database that is up to
/// date may be read-only. On PostgreSQL it is asked while nobody else migrates.
async fn found(tx: &mut Tx<'_>) -> Result<i64, Failure> {
    let there = match tx.dialect() {
        Dialect::Sqlite => "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'",
        Dialect::Postgres => {
            tx.execute("SELECT pg_advisory_lock($1)", params![MIGRATION_LOCK]).await?;
            "SELECT count(*) FROM pg_class WHERE oid = to_regclass('schema_migrations')"
        }
    };
    if tx.fetch_one(there, &[], |row| row.int()).await? == Some(0) {
        return Ok(0);
    }
    let newest = "SELECT max(version) FROM schema_migrations";
    Ok(tx.fetch_one(newest, &[], |row| row.opt_int()).await?.flatten().unwrap_or(0))
}

/// The names of controllers of an older build that give signs of life while they are watched: they
/// would go on with a schema they do not know.
async fn living(tx: &mut Tx<'_>) -> Result<Vec<String>, Failure> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(Vec::new());
    }
    let there = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('controllers')";
    if tx.fetch_one(there, &[], |row| row.int()).await? == Some(0) {
        return Ok(Vec::new());
    }
    let sql = "SELECT name, beats FROM controllers WHERE state = 'serving' AND schema_version < $1 \
        ORDER BY name, id";
    let read = |row: &mut super::cells::Cells<'_>| Ok((row.text()?, row.int()?));
    let before: Vec<(String, i64)> = tx.fetch_as(sql, params![KNOWN], read).await?;
    if before.is_empty() {
        return Ok(Vec::new());
    }
    tokio::time::sleep(std::time::Duration::from_secs(WATCH_SECS)).await;
    let after = tx.fetch_as(sql, params![KNOWN], read).await?;
    let moved = after.into_iter().filter(|now| !before.contains(now));
    Ok(moved.map(|(name, _)| name).collect())
}

enum Stop {
    Newer(i64),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

async fn step(tx: &mut Tx<'_>, target: i64) -> Result<(), Stop> {
    match tx.dialect() {
        Dialect::Sqlite => tx.execute("BEGIN IMMEDIATE", &[]).await?,
        Dialect::Postgres => tx.execute("BEGIN", &[]).await?,
    };
    tx.execute("CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY)", &[])
        .await?;
    // Asked again: another process may have been faster on the same SQLite file.
    let found = tx
        .fetch_one("SELECT max(version) FROM schema_migrations", &[], |row| row.opt_int())
        .await?
        .flatten()
        .unwrap_or(0);
    if found > KNOWN {
        tx.execute("ROLLBACK", &[]).await?;
        return Err(Stop::Newer(found));
    }
    let place = usize::try_from(target - 1).unwrap_or(usize::MAX);
    if let (true, Some(step)) = (found < target, STEPS.get(place)) {
        tx.execute_script(step.sql(tx.dialect())).await?;
        tx.execute("INSERT INTO schema_migrations (version) VALUES ($1)", params![target]).await?;
    }
    tx.execute("COMMIT", &[]).await?;
    Ok(())
}
