//! The two databases as one: a connection inside a transaction, values, rows.
//!
//! Every column is BIGINT or TEXT and both databases take `$1` parameters, so one statement
//! serves both wherever their SQL agrees. Where it does not, [`Dialect`] says which is spoken.

use std::borrow::Cow;

use serde::Serializer as _;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr, SqlStr};

use super::cells::{self, Cells};
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

    /// [`Dialect::for_update`], rows being locked in the order of `key`.
    pub(super) fn ordered_for_update(self, key: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" ORDER BY {key} FOR UPDATE"),
        }
    }

    /// `FOR SHARE`, as [`Dialect::for_update`].
    pub(super) fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// That the JSON object in a column says `true` under a name.
    pub(super) fn says(self, column: &str, name: &str) -> String {
        match self {
            Self::Sqlite => format!("{column} ->> '{name}' = 1"),
            Self::Postgres => format!("{column}::jsonb -> '{name}' = 'true'"),
        }
    }

    /// The columns of a `SELECT` of many rows, for [`Tx::fetch_packed`]. SQLite's driver hands
    /// rows over one by one between two threads, each cell in an allocation of its own; so there
    /// all rows come as one JSON text.
    pub(super) fn packed(self, columns: &str) -> String {
        match self {
            Self::Sqlite => format!("json_group_array(json_array({columns}))"),
            Self::Postgres => columns.to_owned(),
        }
    }

    /// As [`Dialect::packed`], for a `RETURNING`, which cannot aggregate.
    pub(super) fn packed_row(self, columns: &str) -> String {
        match self {
            Self::Sqlite => format!("json_array(json_array({columns}))"),
            Self::Postgres => columns.to_owned(),
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
            Self::Sqlite => format!(" FROM jsonb_each(${param}) AS e) AS v"),
            Self::Postgres => format!(
                " FROM jsonb_array_elements(${param}::text::jsonb) \
                 WITH ORDINALITY AS e(value, ordinality)) AS v"
            ),
        };
        sql
    }
}

/// A parameter, or a cell of [`json_rows`].
#[derive(Debug, Clone)]
pub(super) enum Value<'v> {
    Int(Option<i64>),
    Text(Option<Cow<'v, str>>),
}

macro_rules! values {
    ($($ty:ty => |$it:ident| $value:expr;)*) => {$(
        impl<'v> From<$ty> for Value<'v> {
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
    &'v str => |it| Self::Text(Some(it.into()));
    Option<&'v str> => |it| Self::Text(it.map(Cow::from));
    String => |it| Self::Text(Some(it.into()));
    Option<String> => |it| Self::Text(it.map(Cow::from));
    &serde_json::Value => |it| Self::Text(Some(serde_json::to_string(it).unwrap_or_default().into()));
}

impl serde::Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(Some(number)) => serializer.serialize_i64(*number),
            Self::Text(Some(text)) => serializer.serialize_str(text),
            Self::Int(None) | Self::Text(None) => serializer.serialize_unit(),
        }
    }
}

/// What a cell of [`json_rows`] takes, more or less: room is made in advance.
const CELL_BYTES: usize = 24;

/// The parameter of [`Dialect::source`]: rows as a JSON array of arrays.
pub(super) fn json_rows<'v, const N: usize>(
    rows: impl IntoIterator<Item = [Value<'v>; N]>,
) -> Value<'static>
where
    [Value<'v>; N]: serde::Serialize,
{
    let rows = rows.into_iter();
    let mut text = Vec::with_capacity(rows.size_hint().0 * N * CELL_BYTES);
    // Numbers, texts and nulls in arrays: nothing here can fail to be written.
    serde_json::Serializer::new(&mut text).collect_seq(rows).unwrap_or_default();
    String::from_utf8(text).unwrap_or_default().into()
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
                Value::Text(text) => query.bind(text.as_deref()),
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
        params: &[Value<'_>],
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

    /// Runs a statement that answers at most one row, and reads it.
    pub(super) async fn fetch_one<T>(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value<'_>],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        Ok(self.fetch_as(sql, params, read).await?.into_iter().next())
    }

    /// Runs a statement that answers rows, and reads each.
    pub(super) async fn fetch_as<T>(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value<'_>],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let sql = sql.into();
        match self {
            Self::Sqlite(connection) => {
                let rows = connection.fetch_all(bound!(sql, params)).await?;
                rows.iter().map(|row| read(&mut row.into())).collect()
            }
            Self::Postgres(connection) => {
                let rows = connection.fetch_all(bound!(sql, params)).await?;
                rows.iter().map(|row| read(&mut row.into())).collect()
            }
        }
    }

    /// As [`Tx::fetch_as`], of a statement whose columns are [`Dialect::packed`].
    pub(super) async fn fetch_packed<T>(
        &mut self,
        sql: impl Into<Sql> + Send,
        params: &[Value<'_>],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        match self.dialect() {
            Dialect::Sqlite => {
                let mut found = Vec::new();
                for text in self.fetch_as(sql, params, |row| row.text()).await? {
                    for mut row in cells::unpacked(&text)? {
                        found.push(read(&mut row)?);
                    }
                }
                Ok(found)
            }
            Dialect::Postgres => self.fetch_as(sql, params, read).await,
        }
    }
}
