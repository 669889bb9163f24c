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
    #[error("the database {database} cannot be opened ({advice})")]
    Open {
        database: String,
        /// What a person can do about it.
        advice: &'static str,
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
    /// The database was written by an older controller, and others may still be at work on it.
    #[error(
        "the database has schema version {found}, this controller needs {known}: stop every \
         controller of the older build, then run `hostler-controller migrate` once with this build"
    )]
    SchemaOlder { found: i64, known: i64 },
    /// The schema is not changed under them.
    #[error("controllers of an older build still serve this database ({names}): stop them first")]
    OldersServe { names: String },
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
    /// The disk or its file system failed.
    #[error("{operation}: the database's disk cannot be read or written")]
    Disk {
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
    /// Two agents show the host's identity: neither is let in until a person has revoked it.
    #[error("{operation}: the host is held, since two agents show its identity")]
    HostHeld { operation: &'static str },
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
            | Self::Disk { .. }
            | Self::Overtaken { .. }
            | Self::Closed { .. } => true,
            Self::Migrate { .. }
            | Self::SchemaNewer { .. }
            | Self::SchemaOlder { .. }
            | Self::OldersServe { .. }
            | Self::Unreadable { .. }
            | Self::Taken { .. }
            | Self::NoHost { .. }
            | Self::HostHeld { .. }
            | Self::Defect { .. }
            | Self::Database { .. } => false,
        }
    }

    /// Why a temporary error came, and what ends it, in a sentence for whoever asked.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Full { .. } => {
                "the database has no room left: free disk space where it is kept, then try again"
            }
            Self::ReadOnly { .. } => {
                "the database is read-only: make it writable again, then try again"
            }
            Self::Disk { .. } => {
                "the database's disk cannot be read or written: look at it, then try again"
            }
            Self::Busy { .. } | Self::Overtaken { .. } => "the database is busy; try again",
            Self::Open { .. }
            | Self::Unreachable { .. }
            | Self::Closed { .. }
            | Self::Migrate { .. }
            | Self::SchemaNewer { .. }
            | Self::SchemaOlder { .. }
            | Self::OldersServe { .. }
            | Self::Unreadable { .. }
            | Self::Taken { .. }
            | Self::NoHost { .. }
            | Self::HostHeld { .. }
            | Self::Defect { .. }
            | Self::Database { .. } => "the database cannot be reached now; try again",
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
    HostHeld,
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
    Disk,
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
            | Self::HostHeld
            | Self::Refused(_)
            | Self::Closed
            | Self::Panicked => false,
        }
    }

    /// Whether the database takes no writes.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Sql(source) if trouble(source) == Trouble::ReadOnly)
    }

    /// The error the caller gets.
    pub(super) fn named(self, operation: &'static str) -> StoreError {
        match self {
            Self::Sql(source) => with_trouble(trouble(&source), operation, source),
            Self::Overtaken => StoreError::Overtaken { operation, attempts: 1 },
            Self::Unreadable(what) => StoreError::Unreadable { operation, what },
            Self::NoHost => StoreError::NoHost { operation },
            Self::HostHeld => StoreError::HostHeld { operation },
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
        Trouble::Disk => StoreError::Disk { operation, source },
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
            // Whatever the file system says but "no space": a quota, a disk that fails, one that
            // was mounted read-only while files were open.
            10 => Trouble::Disk,
            13 => Trouble::Full,
            14 => Trouble::Unreachable,
            _other => Trouble::Other,
        },
        Ok(_) | Err(_) => match code {
            "25006" => Trouble::ReadOnly,
            "53100" => Trouble::Full,
            "58030" => Trouble::Disk,
            // A password that was changed, a database that was renamed: others are at it.
            "28P01" | "28000" | "3D000" => Trouble::Unreachable,
            "53300" | "55P03" | "57014" => Trouble::Busy,
            lost if lost.starts_with("08") || lost.starts_with("57P") => Trouble::Unreachable,
            _other => Trouble::Other,
        },
    }
}

/// What a person can do about a database that cannot be opened.
pub(super) fn open_advice(error: &sqlx::Error) -> &'static str {
    use std::io::ErrorKind;
    if let sqlx::Error::Io(error) = error {
        return if error.kind() == ErrorKind::ConnectionRefused {
            "nobody listens there: start the server, or correct the database URL"
        } else if error.kind() == ErrorKind::TimedOut {
            "it does not answer: look at the network and the server"
        } else {
            "it cannot be reached: look at the database URL and the network"
        };
    }
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    match code.as_ref() {
        "28P01" | "28000" => "the server refuses this user or its password",
        "3D000" => "there is no such database: create it, or correct the database URL",
        "26" => "the file is something else than an SQLite database",
        other => match trouble_of_code(other) {
            Trouble::Busy => "others have it locked, or take up all its connections",
            Trouble::ReadOnly => "this user may not write to it",
            Trouble::Full => "no room is left on its disk",
            Trouble::Disk => "its disk cannot be read or written",
            Trouble::Unreachable if other.len() < 5 => {
                "its directory must exist, and this user must be allowed to write there"
            }
            Trouble::Unreachable => "the server is starting, or going down",
            Trouble::Taken | Trouble::Other => "look at the reason behind",
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
            ("778", Trouble::Disk),
            ("14", Trouble::Unreachable),
            ("1", Trouble::Other),
            ("25006", Trouble::ReadOnly),
            ("53100", Trouble::Full),
            ("58030", Trouble::Disk),
            ("28P01", Trouble::Unreachable),
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
