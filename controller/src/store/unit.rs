//! An operation as one atomic unit: what it does inside a transaction, and how PostgreSQL runs
//! it. SQLite's units go through [`super::writer`].

use std::future::Future;
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};

use super::bells::ring_for_work;
use super::db::{Dialect, Tx};
use super::error::Failure;
use super::events;
use crate::domain::NewEvent;

/// How often a unit is tried that other writers overtake.
pub(super) const ATTEMPTS_MAX: u32 = 12;

/// How many connections that may not write a unit gives up before it says so: more than a pool has.
const DISCARDED_MAX: u32 = 32;

/// What a unit did: its answer, and the events it appends at its end.
pub(super) struct Done<R> {
    pub(super) reply: R,
    pub(super) events: Vec<NewEvent>,
}

impl<R> Done<R> {
    pub(super) fn silent(reply: R) -> Self {
        Self { reply, events: Vec::new() }
    }
}

/// One atomic unit. It may run several times; only one run is committed. A run that refuses must
/// not have written anything.
pub(super) trait Operation: Send + Sync + 'static {
    type Reply: Send + 'static;

    /// Its name in errors and metrics.
    fn name(&self) -> &'static str;

    /// Reads and writes; its events are appended, after all else, by who runs it.
    fn run(
        &self,
        tx: &mut Tx<'_>,
    ) -> impl Future<Output = Result<Done<Self::Reply>, Failure>> + Send;

    /// Whether `seal` needs the log's newest `seq` although the run appended nothing.
    fn wants_seq(&self) -> bool {
        false
    }

    /// Tells the reply where its events stand in the log: the first one's `seq` (one past the
    /// newest event if it has none).
    fn seal(&self, _reply: &mut Self::Reply, _first_seq: i64) {}
}

/// Runs an operation in a transaction of its own, again when another writer was in the way.
/// Answers the reply, the newest event's `seq` as of the commit and whether there may be work.
pub(super) async fn run_on_postgres<O: Operation>(
    pool: &PgPool,
    operation: &O,
) -> Result<(O::Reply, i64, bool), Failure> {
    let (mut attempt, mut discarded) = (1, 0);
    loop {
        let may_be_old = pool.num_idle() > 0;
        match once(pool, operation).await {
            Err(failure) if failure.is_read_only() && may_be_old && discarded < DISCARDED_MAX => {
                discarded += 1;
            }
            Err(failure) if failure.is_overtaken() && attempt < ATTEMPTS_MAX => {
                // Who lost a deadlock lets the other one finish first.
                tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 2)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn once<O: Operation>(
    pool: &PgPool,
    operation: &O,
) -> Result<(O::Reply, i64, bool), Failure> {
    let mut connection = pool.acquire().await?;
    let done = within(&mut connection, operation).await;
    if done.as_ref().is_err_and(Failure::is_read_only) {
        // Whether it may write was settled when it was opened: the database may say otherwise by now,
        // or another server may be the one that is written to.
        connection.close_on_drop();
    }
    done
}

async fn within<O: Operation>(
    connection: &mut PgConnection,
    operation: &O,
) -> Result<(O::Reply, i64, bool), Failure> {
    let mut transaction = connection.begin().await?;
    let mut tx = Tx::Postgres(&mut transaction);
    let done = operation.run(&mut tx).await?;
    let last = if done.events.is_empty() && !operation.wants_seq() {
        0
    } else {
        events::append(&mut tx, &done.events).await?
    };
    transaction.commit().await?;
    let mut reply = done.reply;
    operation.seal(&mut reply, last + 1 - i64::try_from(done.events.len()).unwrap_or(0));
    Ok((reply, last, ring_for_work(&done.events)))
}

/// How a unit begins on this database when nobody manages transactions for it.
pub(super) fn begin(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "BEGIN IMMEDIATE",
        Dialect::Postgres => "BEGIN",
    }
}
