//! How each database is opened.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};

use super::bells::Bells;
use super::db::Tx;
use super::doorbell::Doorbell;
use super::error::open_advice;
use super::migrate::{self, Older};
use super::writer::Writer;
use super::{Backend, DatabaseUrl, Store, StoreError};

/// Connections that read SQLite.
const SQLITE_READERS_MAX: u32 = 4;
/// KiB of pages the writer keeps: what a group changes should fit, or SQLite writes it to the log
/// before the commit and once more with it.
const SQLITE_WRITER_CACHE_KIB: u32 = 8 * 1024;
/// Pages of 4 KiB in the log before they are folded into the file, which takes two more syncs.
const SQLITE_LOG_PAGES: u32 = 4_000;
/// Rows that wait on the way from SQLite's own thread before it has to pause.
const SQLITE_ROWS_WAITING: usize = 1_024;
/// KiB of pages each reader keeps: little, since a commit makes them forget all, and the pages
/// stand in the system's memory anyway.
const SQLITE_READER_CACHE_KIB: u32 = 512;
/// Connections to PostgreSQL.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// Statements each connection keeps prepared.
const STATEMENTS_MAX: usize = 256;
/// How long a locked SQLite file is waited for.
const BUSY_SECS: u64 = 5;
/// How long a free connection is waited for, and a server that does not take new ones.
pub(super) const ACQUIRE_SECS: u64 = 5;
/// How long a server may take to answer at the start.
const CONNECT_SECS: u64 = 10;
/// Bounds PostgreSQL keeps itself, so that a lost controller holds no locks.
const STATEMENT_SECS: u64 = 30;
const IDLE_IN_TRANSACTION_SECS: u64 = 30;

impl Store {
    /// Connects. An empty database is set up; an SQLite file, which has one controller, is brought up
    /// to date, a PostgreSQL database only by [`Store::migrate`].
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Migrate`], [`StoreError::SchemaNewer`],
    /// [`StoreError::SchemaOlder`].
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open {
            database: url.to_string(),
            advice: open_advice(&source),
            source,
        };
        let bells = Arc::new(Bells::new());
        let backend = match url {
            DatabaseUrl::Sqlite(path) => {
                let options = sqlite_options(path);
                let writing = options
                    .clone()
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    // SQLite reads a negative number as KiB.
                    .pragma("cache_size", format!("-{SQLITE_WRITER_CACHE_KIB}"))
                    .pragma("temp_store", "MEMORY")
                    .pragma("wal_autocheckpoint", SQLITE_LOG_PAGES.to_string())
                    .row_buffer_size(SQLITE_ROWS_WAITING);
                let mut connection =
                    SqliteConnection::connect_with(&writing).await.map_err(failed)?;
                migrate::migrate(&mut Tx::Sqlite(&mut connection), Older::Migrate).await?;
                let reading = options
                    .pragma("query_only", "ON")
                    .pragma("cache_size", format!("-{SQLITE_READER_CACHE_KIB}"));
                let readers = SqlitePoolOptions::new()
                    .max_connections(SQLITE_READERS_MAX)
                    // A file does not hang up, and each test is a trip to another thread.
                    .test_before_acquire(false)
                    .acquire_timeout(Duration::from_secs(ACQUIRE_SECS))
                    .connect_with(reading)
                    .await
                    .map_err(failed)?;
                Backend::Sqlite { writer: Writer::start(connection, bells.clone()), readers }
            }
            DatabaseUrl::Postgres(text) => {
                let options = postgres_options(text).map_err(failed)?;
                migrate_postgres(&options, Older::Refuse, failed).await?;
                let pool = PgPoolOptions::new()
                    .max_connections(POSTGRES_CONNECTIONS_MAX)
                    .acquire_timeout(Duration::from_secs(ACQUIRE_SECS))
                    .connect_with(options.clone())
                    .await
                    .map_err(failed)?;
                let doorbell = Doorbell::start(&pool, options, Arc::clone(&bells));
                Backend::Postgres { pool, doorbell }
            }
        };
        Self::told(backend, bells).await
    }

    /// A store whose bells know how far the log has come.
    pub(super) async fn told(backend: Backend, bells: Arc<Bells>) -> Result<Self, StoreError> {
        let store = Self { backend, bells };
        let (_, newest) = store.events_bounds().await?;
        store.bells.tell(newest, true);
        Ok(store)
    }

    /// Brings a database's schema up to date. On PostgreSQL no controller of an older build may run
    /// meanwhile. Answers the version it found and the one it has now.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Migrate`], [`StoreError::SchemaNewer`],
    /// [`StoreError::OldersServe`].
    pub async fn migrate(url: &DatabaseUrl) -> Result<(i64, i64), StoreError> {
        let failed = |source| StoreError::Open {
            database: url.to_string(),
            advice: open_advice(&source),
            source,
        };
        let found = match url {
            DatabaseUrl::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .busy_timeout(Duration::from_secs(BUSY_SECS))
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full);
                let mut connection =
                    SqliteConnection::connect_with(&options).await.map_err(failed)?;
                let found =
                    migrate::migrate(&mut Tx::Sqlite(&mut connection), Older::Migrate).await?;
                connection.close().await.map_err(failed)?;
                found
            }
            DatabaseUrl::Postgres(text) => {
                let options = postgres_options(text).map_err(failed)?;
                migrate_postgres(&options, Older::Migrate, failed).await?
            }
        };
        Ok((found, migrate::KNOWN))
    }
}

fn postgres_options(text: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(text)?
        .application_name("hostler-controller")
        .statement_cache_capacity(STATEMENTS_MAX)
        .options([
            ("statement_timeout", format!("{STATEMENT_SECS}s")),
            ("idle_in_transaction_session_timeout", format!("{IDLE_IN_TRANSACTION_SECS}s")),
            // A queue's statistics are out of date before they are taken, and every statement
            // here has its index: plans must not depend on guesses.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
            ("enable_seqscan", "off".to_owned()),
            ("enable_hashjoin", "off".to_owned()),
            ("enable_mergejoin", "off".to_owned()),
            // What is off only looks dear, and dear statements would be compiled before they
            // run: a second of work to count a few rows.
            ("jit", "off".to_owned()),
        ])
        .disable_statement_logging())
}

/// On a connection by itself: a pool waits for a server that is not there and then says no more than
/// that it has waited, and the lock that is taken must not go back to one.
async fn migrate_postgres(
    options: &PgConnectOptions,
    older: Older,
    failed: impl Fn(sqlx::Error) -> StoreError,
) -> Result<i64, StoreError> {
    let mut connection = first_connection(options).await.map_err(&failed)?;
    let found = migrate::migrate(&mut Tx::Postgres(&mut connection), older).await;
    let closed = connection.close().await;
    let found = found?;
    closed.map_err(failed)?;
    Ok(found)
}

/// What every connection to SQLite has in common.
pub(super) fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(BUSY_SECS))
        .statement_cache_capacity(STATEMENTS_MAX)
        .disable_statement_logging()
}

async fn first_connection(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let limit = Duration::from_secs(CONNECT_SECS);
    match tokio::time::timeout(limit, PgConnection::connect_with(options)).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
