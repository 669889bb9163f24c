//! What can go wrong between a command and the database. No variant carries a password.

use crate::domain::Refusal;

/// A database address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("a database URL begins with `sqlite:` and a file path, or with `postgres://`")]
    Scheme,
    #[error("name a file in the database URL: `sqlite:/var/lib/hostler/hostler.db`")]
    NoPath,
    #[error("the PostgreSQL URL cannot be read: postgres://user:password@host:port/database")]
    Postgres,
}

/// An operation the database did not carry out; nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {database} cannot be opened")]
    Open {
        database: String,
        #[source]
        source: sqlx::Error,
    },
    #[error("schema migration {version} failed")]
    Migrate {
        version: i64,
        #[source]
        source: sqlx::Error,
    },
    /// The database was written by a newer controller.
    #[error(
        "the database has schema version {found}, this controller knows {known}: upgrade the controller"
    )]
    SchemaNewer { found: i64, known: i64 },
    /// No connection, or none free in time.
    #[error("{operation}: the database cannot be reached")]
    Unreachable {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// Locked by others for longer than the time allowed.
    #[error("{operation}: the database is busy")]
    Busy {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The file system or the server permits no writing.
    #[error("{operation}: the database is read-only")]
    ReadOnly {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The disk is full.
    #[error("{operation}: the database has no room left: free disk space")]
    Full {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// Other writers were faster each time.
    #[error("{operation}: gave up after {attempts} attempts, each overtaken by another writer")]
    Overtaken { operation: &'static str, attempts: u32 },
    /// A row holds what this controller cannot read.
    #[error("{operation}: the database holds {what}, which this controller cannot read")]
    Unreadable { operation: &'static str, what: String },
    /// The store was closed.
    #[error("{operation}: the database is closed")]
    Closed { operation: &'static str },
    #[error("{operation}: the database refused a statement")]
    Database {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Whether the same operation may succeed later with nothing changed here: the caller can be
    /// told to try again.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::ReadOnly { .. }
            | Self::Full { .. }
            | Self::Overtaken { .. }
            | Self::Closed { .. } => true,
            Self::Migrate { .. }
            | Self::SchemaNewer { .. }
            | Self::Unreadable { .. }
            | Self::Database { .. } => false,
        }
    }
}

/// Why a command was not committed.
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// The decision said no; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}
