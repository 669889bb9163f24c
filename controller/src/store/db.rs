//! The two databases as one: a connection inside a transaction, values, rows.
//!
//! Every column is BIGINT or TEXT and both databases take `$1` parameters, so one statement
//! serves both wherever their SQL agrees. Where it does not, [`Dialect`] says which is spoken.

use std::borrow::Cow;
use std::str::FromStr;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Executor, Row as _, SqlSafeStr, SqlStr};

use super::error::Failure;
use crate::domain::Micros;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// `FOR UPDATE` where rows are locked one by one; SQLite has one writer at a time anyway.
    pub(super) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// `FOR SHARE`, as [`Dialect::for_update`].
    pub(super) fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// A table expression named `v` over a JSON array of arrays in parameter `$param`, with a
    /// column per name (`name:i` is a number) and `ordinal`, from 1.
    pub(super) fn source(self, param: u32, columns: &[&str]) -> String {
        let mut sql = match self {
            Self::Sqlite => "(SELECT e.key + 1 AS ordinal".to_owned(),
            Self::Postgres => "(SELECT e.ordinality AS ordinal".to_owned(),
        };
        for (place, column) in columns.iter().enumerate() {
            let (name, number) = match column.strip_suffix(":i") {
                Some(name) => (name, true),
                None => (*column, false),
            };
            sql += &match (self, number) {
                (Self::Sqlite, _) => format!(", e.value ->> {place} AS {name}"),
                (Self::Postgres, false) => format!(", e.value ->> {place} AS {name}"),
                (Self::Postgres, true) => format!(", (e.value ->> {place})::bigint AS {name}"),
            };
        }
        sql += &match self {
            Self::Sqlite => format!(" FROM json_each(${param}) AS e) AS v"),
            Self::Postgres => format!(
                " FROM jsonb_array_elements(${param}::text::jsonb) \
                 WITH ORDINALITY AS e(value, ordinality)) AS v"
            ),
        };
        sql
    }
}

/// A parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
}

macro_rules! values {
    ($($ty:ty => |$it:ident| $value:expr;)*) => {$(
        impl From<$ty> for Value {
            fn from($it: $ty) -> Self {
                $value
            }
        }
    )*};
}

values! {
    i64 => |it| Self::Int(Some(it));
    Option<i64> => |it| Self::Int(it);
    i32 => |it| Self::Int(Some(i64::from(it)));
    u32 => |it| Self::Int(Some(i64::from(it)));
    bool => |it| Self::Int(Some(i64::from(it)));
    Option<bool> => |it| Self::Int(it.map(i64::from));
    Micros => |it| Self::Int(Some(it.0));
    Option<Micros> => |it| Self::Int(it.map(|at| at.0));
    &str => |it| Self::Text(Some(it.to_owned()));
    Option<&str> => |it| Self::Text(it.map(str::to_owned));
    String => |it| Self::Text(Some(it));
    Option<String> => |it| Self::Text(it);
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(Some(number)) => serializer.serialize_i64(*number),
            Self::Text(Some(text)) => serializer.serialize_str(text),
            Self::Int(None) | Self::Text(None) => serializer.serialize_unit(),
        }
    }
}

/// The parameter of [`Dialect::source`]: rows as a JSON array of arrays.
pub(super) fn json_rows(rows: &[Vec<Value>]) -> Value {
    // Numbers, texts and nulls in arrays: nothing here can fail to be written.
    Value::Text(Some(serde_json::to_string(rows).unwrap_or_default()))
}

/// Makes a parameter list.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::db::Value::from($value)),*] };
}
pub(super) use params;

/// A connection, inside a transaction or reading by itself.
pub(super) enum Tx<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// Statement text: fixed, or put together here from fixed parts only (values are parameters).
pub(super) type Sql = Cow<'static, str>;

fn safe(sql: Sql) -> SqlStr {
    match sql {
        Cow::Borrowed(text) => text.into_sql_str(),
        Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
    }
}

macro_rules! bound {
    ($sql:expr, $params:expr) => {{
        let mut query = sqlx::query(safe($sql));
        for value in $params {
            query = match value {
                Value::Int(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.clone()),
            };
        }
        query
    }};
}

impl Tx<'_> {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value],
    ) -> Result<u64, Failure> {
        let sql = sql.into();
        Ok(match self {
            Self::Sqlite(connection) => {
                connection.execute(bound!(sql, params)).await?.rows_affected()
            }
            Self::Postgres(connection) => {
                connection.execute(bound!(sql, params)).await?.rows_affected()
            }
        })
    }

    /// Runs several statements without parameters.
    pub(super) async fn execute_script(&mut self, sql: &'static str) -> Result<(), Failure> {
        match self {
            Self::Sqlite(connection) => {
                connection.execute(sqlx::raw_sql(sql)).await?;
            }
            Self::Postgres(connection) => {
                connection.execute(sqlx::raw_sql(sql)).await?;
            }
        }
        Ok(())
    }

    /// Runs a statement that answers rows.
    pub(super) async fn fetch(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value],
    ) -> Result<Vec<Row>, Failure> {
        let sql = sql.into();
        Ok(match self {
            Self::Sqlite(connection) => {
                let rows = connection.fetch_all(bound!(sql, params)).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(connection) => {
                let rows = connection.fetch_all(bound!(sql, params)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Runs a statement that answers at most one row, and reads it.
    pub(super) async fn fetch_one<T>(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        Ok(self.fetch_as(sql, params, read).await?.into_iter().next())
    }

    /// Runs a statement that answers rows, and reads each.
    pub(super) async fn fetch_as<T>(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let rows = self.fetch(sql, params).await?;
        rows.iter().map(|row| read(&mut row.cells())).collect()
    }
}

/// A row as it came.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// Reads the row's cells from the first on.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells { row: self, at: 0 }
    }
}

/// The cells of a row, read from left to right in the order of the statement's columns.
pub(super) struct Cells<'r> {
    row: &'r Row,
    at: usize,
}

impl Cells<'_> {
    pub(super) fn opt_int(&mut self) -> Result<Option<i64>, Failure> {
        let at = self.at;
        self.at += 1;
        Ok(match self.row {
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
        })
    }

    pub(super) fn opt_text(&mut self) -> Result<Option<String>, Failure> {
        let at = self.at;
        self.at += 1;
        Ok(match self.row {
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
        })
    }

    pub(super) fn int(&mut self) -> Result<i64, Failure> {
        self.opt_int()?.ok_or_else(|| Failure::unreadable("an empty cell"))
    }

    pub(super) fn text(&mut self) -> Result<String, Failure> {
        self.opt_text()?.ok_or_else(|| Failure::unreadable("an empty cell"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Failure> {
        u32::try_from(self.int()?).map_err(|_| Failure::unreadable("a number out of range"))
    }

    pub(super) fn bool(&mut self) -> Result<bool, Failure> {
        Ok(self.int()? != 0)
    }

    pub(super) fn at(&mut self) -> Result<Micros, Failure> {
        self.int().map(Micros)
    }

    pub(super) fn opt_at(&mut self) -> Result<Option<Micros>, Failure> {
        Ok(self.opt_int()?.map(Micros))
    }

    /// An id, or anything else that is parsed from text.
    pub(super) fn parsed<T: FromStr>(&mut self) -> Result<T, Failure> {
        let text = self.text()?;
        text.parse().map_err(|_| Failure::unreadable(format!("an id like {text:?}")))
    }

    pub(super) fn opt_parsed<T: FromStr>(&mut self) -> Result<Option<T>, Failure> {
        match self.opt_text()? {
            Some(text) => match text.parse() {
                Ok(id) => Ok(Some(id)),
                Err(_) => Err(Failure::unreadable(format!("an id like {text:?}"))),
            },
            None => Ok(None),
        }
    }

    /// One of a set of names.
    pub(super) fn named<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Failure> {
        self.opt_named(what, parse)?.ok_or_else(|| Failure::unreadable("an empty cell"))
    }

    pub(super) fn opt_named<T>(
        &mut self,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.opt_text()? else { return Ok(None) };
        let named = parse(&text);
        named.map(Some).ok_or_else(|| Failure::unreadable(format!("the {what} {text:?}")))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        serde_json::from_str(&self.text()?).map_err(|_| Failure::unreadable("a broken document"))
    }

    pub(super) fn opt_json<T: serde::de::DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, Failure> {
        match self.opt_text()? {
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| Failure::unreadable("a broken document")),
            None => Ok(None),
        }
    }
}
