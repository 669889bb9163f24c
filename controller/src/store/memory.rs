//! A database in this process's memory, for tests that open thousands: the same SQLite, schema and
//! statements, on a file system that is a few allocations. Nothing of it outlives the process.
//!
//! It has no write-ahead log, since its file system cannot have one; a commit is as atomic, and a
//! reader that comes while it is written waits instead of reading what stood before.

use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Mutex;

use super::bells::Bells;
use super::db::Tx;
use super::open::{ACQUIRE_SECS, sqlite_options};
use super::writer::Writer;
use super::{Backend, Store, StoreError, migrate};

/// Connections that read: who tests by steps reads one thing at a time.
const READERS_MAX: u32 = 1;

/// A database that stays, whoever opens and closes it, until this is dropped.
#[derive(Debug, Clone)]
pub struct MemoryDatabase {
    name: String,
    /// SQLite forgets the bytes when nobody has them open.
    keeper: Arc<Mutex<SqliteConnection>>,
}

impl MemoryDatabase {
    /// An empty database. `name` must be nobody else's in this process: letters, digits, hyphens.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn create(name: &str) -> Result<Self, StoreError> {
        let keeper = options(name).connect().await.map_err(|source| failed(name, source))?;
        Ok(Self { name: name.to_owned(), keeper: Arc::new(Mutex::new(keeper)) })
    }

    /// Opens it as [`Store::open`] opens a file.
    ///
    /// # Errors
    /// As there.
    pub async fn open(&self) -> Result<Store, StoreError> {
        let wrong = |source| failed(&self.name, source);
        let mut connection =
            SqliteConnection::connect_with(&options(&self.name)).await.map_err(wrong)?;
        migrate::migrate(&mut Tx::Sqlite(&mut connection), migrate::Older::Migrate).await?;
        let readers = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .test_before_acquire(false)
            .acquire_timeout(std::time::Duration::from_secs(ACQUIRE_SECS))
            .connect_with(options(&self.name).pragma("query_only", "ON"))
            .await
            .map_err(wrong)?;
        let bells = Arc::new(Bells::new());
        let backend =
            Backend::Sqlite { writer: Writer::start(connection, Arc::clone(&bells)), readers };
        Store::told(backend, bells).await
    }

    /// Another database with what this one holds now: a backup, or what one is restored from.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn copy(&self, name: &str) -> Result<Self, StoreError> {
        let copy = Self::create(name).await?;
        let sql = format!("VACUUM INTO 'file:/{name}?vfs=memdb'");
        let mut keeper = self.keeper.lock().await;
        keeper.execute(sqlx::AssertSqlSafe(sql)).await.map_err(|source| failed(name, source))?;
        Ok(copy)
    }
}

fn options(name: &str) -> SqliteConnectOptions {
    // A name that begins with a slash is shared by all connections of the process.
    sqlite_options(format!("/{name}").as_ref())
        .vfs("memdb")
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Memory)
        .synchronous(SqliteSynchronous::Off)
        .pragma("temp_store", "MEMORY")
}

fn failed(name: &str, source: sqlx::Error) -> StoreError {
    StoreError::Open { database: format!("memory:{name}"), advice: "", source }
}
