//! The database: SQLite (embedded default) or PostgreSQL behind one [`Store`].
//!
//! One operation is one atomic unit: a snapshot is loaded, a pure function decides, its changes
//! and events are written, all in one transaction. The hot verbs (enqueue, claim, accept, renew,
//! settle) take slices, run set-based and answer per id.
//!
//! Invariants:
//! * the only room that names sqlx;
//! * times are i64 microseconds UTC, ids text, documents JSON text;
//! * an event's `seq` is taken from one counter row as the last statement of its unit: dense and
//!   in commit order;
//! * what is decided on a state is written only if that state still holds.

mod amend;
mod batches;
mod bells;
mod bundles;
mod cells;
mod change;
mod claim;
mod controllers;
mod db;
mod doorbell;
mod environments;
mod error;
mod events;
mod hosts;
mod job_reads;
mod jobs;
mod maintenance;
mod memory;
mod metrics;
mod migrate;
mod open;
mod read;
mod refreshes;
mod sessions;
mod settle;
mod sites;
mod stack_reads;
mod stacks;
mod tokens;
mod transact;
mod types;
mod unit;
mod url;
mod writer;

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use tokio::sync::watch;

use bells::Bells;
use db::{Dialect, Tx};
use doorbell::Doorbell;
use error::Failure;
use unit::Operation;
use writer::Writer;

pub use controllers::{Ended, Entry, Peer};
pub use error::{DatabaseUrlError, StoreError, TransactError};
pub use memory::MemoryDatabase;
pub use sessions::Opening;
pub use stack_reads::StacksMark;
pub use transact::Committed;
pub use types::{
    AttemptRef, ClaimHost, Claimed, EnqueueAnswer, EnvironmentFilter, EventFilter, HostAttempt,
    JobFilter, PAGE_ROWS_MAX, Page, Paged, ProgressLine, QueueStats, SLICE_MAX, SettleAnswer,
    Settlement, WaitsFor,
};
pub use url::DatabaseUrl;

/// The database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    bells: Arc<Bells>,
}

#[derive(Clone)]
enum Backend {
    Sqlite { writer: Writer, readers: SqlitePool },
    Postgres { pool: PgPool, doorbell: Doorbell },
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.backend {
            Backend::Sqlite { .. } => "sqlite",
            Backend::Postgres { .. } => "postgres",
        };
        f.debug_tuple("Store").field(&kind).finish()
    }
}

/// A connection that reads; each statement sees what was committed before it.
enum Reader {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Reader {
    fn tx(&mut self) -> Tx<'_> {
        match self {
            Self::Sqlite(connection) => Tx::Sqlite(connection),
            Self::Postgres(connection) => Tx::Postgres(connection),
        }
    }
}

impl Store {
    /// Finishes what was begun, then closes every connection.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite { writer, readers } => {
                // Readers first: the last connection to close folds the log into the file.
                readers.close().await;
                writer.close().await;
            }
            Backend::Postgres { pool, doorbell } => {
                doorbell.close().await;
                pool.close().await;
            }
        }
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut reader = self.reader("ping").await?;
        let answer = reader.tx().fetch_as("SELECT value FROM counters", &[], |row| row.int()).await;
        answer.map(|_| ()).map_err(|failure| failure.named("ping"))
    }

    /// Tells the newest event's `seq` after each commit here that appended events, and soon after
    /// each commit of another controller, unless the doorbell between them fails: who has to know reads
    /// the log from time to time in any case.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.bells.committed()
    }

    /// The same after each commit that may have made a job runnable or asked for a cancellation;
    /// whatever does that appends an event that says so.
    #[must_use]
    pub fn work(&self) -> watch::Receiver<i64> {
        self.bells.work()
    }

    fn dialect(&self) -> Dialect {
        match &self.backend {
            Backend::Sqlite { .. } => Dialect::Sqlite,
            Backend::Postgres { .. } => Dialect::Postgres,
        }
    }

    async fn reader(&self, operation: &'static str) -> Result<Reader, StoreError> {
        let reader = match &self.backend {
            Backend::Sqlite { readers, .. } => readers.acquire().await.map(Reader::Sqlite),
            Backend::Postgres { pool, .. } => pool.acquire().await.map(Reader::Postgres),
        };
        reader.map_err(|error| {
            if matches!(error, sqlx::Error::PoolClosed) {
                StoreError::Closed { operation }
            } else {
                Failure::from(error).named(operation)
            }
        })
    }

    /// Commits an operation.
    async fn unit<O: Operation>(&self, operation: O) -> Result<O::Reply, Failure> {
        match &self.backend {
            Backend::Sqlite { writer, .. } => writer.run(operation).await,
            Backend::Postgres { pool, doorbell } => {
                let (reply, seq, work) = unit::run_on_postgres(pool, &operation).await?;
                self.bells.tell(seq, work);
                doorbell.ring(seq, work);
                Ok(reply)
            }
        }
    }

    /// Commits an operation that never refuses.
    async fn commit<O: Operation>(&self, operation: O) -> Result<O::Reply, StoreError> {
        let name = operation.name();
        self.unit(operation).await.map_err(|failure| failure.named(name))
    }
}
