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
    /// A name or id is another row's already.
    #[error("{operation}: another row has this name or id already")]
    Taken {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The host is not there, or is revoked.
    #[error("{operation}: no such host is enrolled")]
    NoHost { operation: &'static str },
    /// A defect of the controller; its log has the panic. Nothing was written.
    #[error("{operation}: the controller failed; its log has more")]
    Defect { operation: &'static str },
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
            | Self::Taken { .. }
            | Self::NoHost { .. }
            | Self::Defect { .. }
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

/// What stops a unit while it runs, before the operation's name is known to it.
#[derive(Debug)]
pub(super) enum Failure {
    Sql(sqlx::Error),
    /// A guarded row was not as it was decided on.
    Overtaken,
    Unreadable(String),
    NoHost,
    /// The decision said no, before anything was written.
    Refused(Refusal),
    Closed,
    /// The unit panicked: a defect, and nobody else's.
    Panicked,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// What a database error means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Unreachable,
    Busy,
    ReadOnly,
    Full,
    Taken,
    Other,
}

impl Failure {
    pub(super) fn unreadable(what: impl Into<String>) -> Self {
        Self::Unreadable(what.into())
    }

    /// Whether another writer was in the way, so that the unit should run again at once.
    pub(super) fn is_overtaken(&self) -> bool {
        match self {
            Self::Overtaken => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                // serialization_failure, deadlock_detected; unique and foreign key: the row came
                // or went after it was looked for.
                matches!(error.code().as_deref(), Some("40001" | "40P01" | "23505" | "23503"))
            }
            Self::Sql(_)
            | Self::Unreadable(_)
            | Self::NoHost
            | Self::Refused(_)
            | Self::Closed
            | Self::Panicked => false,
        }
    }

    /// The error the caller gets.
    pub(super) fn named(self, operation: &'static str) -> StoreError {
        match self {
            Self::Sql(source) => with_trouble(trouble(&source), operation, source),
            Self::Overtaken => StoreError::Overtaken { operation, attempts: 1 },
            Self::Unreadable(what) => StoreError::Unreadable { operation, what },
            Self::NoHost => StoreError::NoHost { operation },
            // Only `transact` has refusals, and it takes them out before.
            Self::Refused(refusal) => StoreError::Unreadable { operation, what: refusal.message },
            Self::Closed => StoreError::Closed { operation },
            Self::Panicked => StoreError::Defect { operation },
        }
    }
}

fn with_trouble(trouble: Trouble, operation: &'static str, source: sqlx::Error) -> StoreError {
    match trouble {
        Trouble::Unreachable => StoreError::Unreachable { operation, source },
        Trouble::Busy => StoreError::Busy { operation, source },
        Trouble::ReadOnly => StoreError::ReadOnly { operation, source },
        Trouble::Full => StoreError::Full { operation, source },
        Trouble::Taken => StoreError::Taken { operation, source },
        Trouble::Other => StoreError::Database { operation, source },
    }
}

/// Sorts a database error by what can be done about it.
fn trouble(error: &sqlx::Error) -> Trouble {
    if let Some(database) = error.as_database_error() {
        if database.is_unique_violation() {
            return Trouble::Taken;
        }
        return trouble_of_code(&database.code().unwrap_or_default());
    }
    let lost = matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    );
    if lost { Trouble::Unreachable } else { Trouble::Other }
}

/// SQLite's result codes are numbers (<https://sqlite.org/rescode.html>), PostgreSQL's have five
/// characters (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn trouble_of_code(code: &str) -> Trouble {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => match number & 0xff {
            5 | 6 => Trouble::Busy,
            8 => Trouble::ReadOnly,
            13 => Trouble::Full,
            14 => Trouble::Unreachable,
            _other => Trouble::Other,
        },
        Ok(_) | Err(_) => match code {
            "25006" => Trouble::ReadOnly,
            "53100" => Trouble::Full,
            "53300" | "55P03" | "57014" => Trouble::Busy,
            lost if lost.starts_with("08") || lost.starts_with("57P") => Trouble::Unreachable,
            _other => Trouble::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_by_its_code() {
        for (code, trouble) in [
            ("5", Trouble::Busy),
            // SQLITE_BUSY_SNAPSHOT: an extended code keeps the plain one in its low byte.
            ("517", Trouble::Busy),
            ("1032", Trouble::ReadOnly),
            ("13", Trouble::Full),
            ("14", Trouble::Unreachable),
            ("1", Trouble::Other),
            ("25006", Trouble::ReadOnly),
            ("53100", Trouble::Full),
            ("57014", Trouble::Busy),
            ("57P01", Trouble::Unreachable),
            ("08006", Trouble::Unreachable),
            ("42601", Trouble::Other),
        ] {
            assert_eq!(trouble_of_code(code), trouble, "code {code}");
        }
    }

    #[test]
    fn a_full_disk_is_named_and_worth_another_try() {
        let error = with_trouble(Trouble::Full, "enqueue", sqlx::Error::PoolClosed);
        assert!(error.is_temporary());
        assert!(error.to_string().contains("free disk space"), "{error}");
    }
}
