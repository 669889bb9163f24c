//! How each database is opened.

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
use super::error::open_advice;
use super::writer::Writer;
use super::{Backend, DatabaseUrl, Store, StoreError, migrate};

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
const ACQUIRE_SECS: u64 = 5;
/// How long a server may take to answer at the start.
const CONNECT_SECS: u64 = 10;
/// Bounds PostgreSQL keeps itself, so that a lost controller holds no locks.
const STATEMENT_SECS: u64 = 30;
const IDLE_IN_TRANSACTION_SECS: u64 = 30;

impl Store {
    /// Connects and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::Migrate`], [`StoreError::SchemaNewer`].
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open {
            database: url.to_string(),
            advice: open_advice(&source),
            source,
        };
        let bells = Arc::new(Bells::new());
        let backend = match url {
            DatabaseUrl::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .foreign_keys(true)
                    .busy_timeout(Duration::from_secs(BUSY_SECS))
                    .statement_cache_capacity(STATEMENTS_MAX)
                    .disable_statement_logging();
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
                migrate::migrate(&mut Tx::Sqlite(&mut connection)).await?;
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
                let options = PgConnectOptions::from_str(text)
                    .map_err(failed)?
                    .application_name("hostler-controller")
                    .statement_cache_capacity(STATEMENTS_MAX)
                    .options([
                        ("statement_timeout", format!("{STATEMENT_SECS}s")),
                        (
                            "idle_in_transaction_session_timeout",
                            format!("{IDLE_IN_TRANSACTION_SECS}s"),
                        ),
                        // A queue's statistics are out of date before they are taken, and every
                        // statement here has its index: plans must not depend on guesses.
                        ("plan_cache_mode", "force_generic_plan".to_owned()),
                        ("enable_seqscan", "off".to_owned()),
                        ("enable_hashjoin", "off".to_owned()),
                        ("enable_mergejoin", "off".to_owned()),
                        // What is off only looks dear, and dear statements would be compiled
                        // before they run: a second of work to count a few rows.
                        ("jit", "off".to_owned()),
                    ])
                    .disable_statement_logging();
                // By itself, since a pool waits for a server that is not there and then says no
                // more than that it has waited.
                let mut connection = first_connection(&options).await.map_err(failed)?;
                migrate::migrate(&mut Tx::Postgres(&mut connection)).await?;
                connection.close().await.map_err(failed)?;
                let pool = PgPoolOptions::new()
                    .max_connections(POSTGRES_CONNECTIONS_MAX)
                    .acquire_timeout(Duration::from_secs(ACQUIRE_SECS))
                    .connect_with(options)
                    .await
                    .map_err(failed)?;
                Backend::Postgres { pool }
            }
        };
        let store = Self { backend, bells };
        let (_, newest) = store.events_bounds().await?;
        store.bells.tell(newest, true);
        Ok(store)
    }
}

async fn first_connection(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let limit = Duration::from_secs(CONNECT_SECS);
    match tokio::time::timeout(limit, PgConnection::connect_with(options)).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
