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
];

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

/// Takes every step that is missing.
///
/// # Errors
/// [`StoreError::Migrate`] with the step that failed (what came before it stays),
/// [`StoreError::SchemaNewer`] for a database of a newer controller, which is left alone.
pub(super) async fn migrate(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    for target in 1..=known.max(1) {
        match step(tx, target, known).await {
            Ok(()) => {}
            Err(Stop::Newer(found)) => return Err(StoreError::SchemaNewer { found, known }),
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
    Ok(())
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

async fn step(tx: &mut Tx<'_>, target: i64, known: i64) -> Result<(), Stop> {
    match tx.dialect() {
        Dialect::Sqlite => tx.execute("BEGIN IMMEDIATE", &[]).await?,
        Dialect::Postgres => {
            tx.execute("BEGIN", &[]).await?;
            tx.execute("SELECT pg_advisory_xact_lock($1)", params![MIGRATION_LOCK]).await?
        }
    };
    tx.execute("CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY)", &[])
        .await?;
    let found = tx
        .fetch_one("SELECT max(version) FROM schema_migrations", &[], |row| row.opt_int())
        .await?
        .flatten()
        .unwrap_or(0);
    if found > known {
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
