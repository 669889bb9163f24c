//! Where the database is; a password in it is never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::DatabaseUrlError;

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file; made if it is missing.
    Sqlite(PathBuf),
    /// A `postgres://` URL, which may hold a password: shown only through `Display`.
    Postgres(String),
}

impl DatabaseUrl {
    /// Which database it is, in one word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if let Some(rest) = text.strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() || path == ":memory:" || path.contains('?') {
                return Err(DatabaseUrlError::NoPath);
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return match sqlx::postgres::PgConnectOptions::from_str(text) {
                Ok(_) => Ok(Self::Postgres(text.to_owned())),
                Err(_) => Err(DatabaseUrlError::Postgres),
            };
        }
        Err(DatabaseUrlError::Scheme)
    }
}

/// The address without user information or parameters.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let rest = rest.split(['?', '#']).next().unwrap_or("");
                let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
                write!(f, "postgres://{place}")
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(
            "sqlite:/var/lib/h.db".parse(),
            Ok(DatabaseUrl::Sqlite(PathBuf::from("/var/lib/h.db")))
        );
        assert_eq!("sqlite://h.db".parse(), Ok(DatabaseUrl::Sqlite(PathBuf::from("h.db"))));
        for bad in ["", "mysql://x", "sqlite:", "sqlite::memory:", "/var/lib/h.db"] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad:?} was taken for a database URL");
        }
    }

    #[test]
    fn no_password_is_shown() {
        for text in [
            "postgres://hostler:hunter2@db:5432/hostler?sslmode=disable",
            "postgres://hostler:hunt@er2@db/hostler",
            "postgres://db/hostler?password=hunter2",
        ] {
            let Ok(url) = text.parse::<DatabaseUrl>() else { continue };
            for shown in [format!("{url}"), format!("{url:?}")] {
                assert!(!shown.contains("hunt"), "{shown} shows a password");
                assert!(shown.contains("db"), "{shown} does not say where the database is");
            }
        }
    }
}
