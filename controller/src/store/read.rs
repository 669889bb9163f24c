//! How the plain reads run: one row, some rows, a keyset page.

use super::cells::Cells;
use super::db::{Sql, Value};
use super::error::Failure;
use super::types::{PAGE_ROWS_MAX, Page, Paged};
use super::{Store, StoreError};

impl Store {
    pub(super) async fn read_all<T>(
        &self,
        operation: &'static str,
        sql: impl Into<Sql> + Send,
        params: &[Value<'_>],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Vec<T>, StoreError> {
        let mut reader = self.reader(operation).await?;
        let found = reader.tx().fetch_as(sql, params, read).await;
        found.map_err(|failure| failure.named(operation))
    }

    pub(super) async fn read_one<T>(
        &self,
        operation: &'static str,
        sql: impl Into<Sql> + Send,
        params: &[Value<'_>],
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.read_all(operation, sql, params, read).await?.into_iter().next())
    }

    /// A page in the order of `list.key`, which each row's id must be.
    pub(super) async fn read_page<T>(
        &self,
        operation: &'static str,
        list: List,
        page: &Page,
        read: fn(&mut Cells<'_>) -> Result<T, Failure>,
        id: impl Fn(&T) -> String,
    ) -> Result<Paged<T>, StoreError> {
        let limit = rows(page);
        let (sql, params) = list.page(page.after.as_deref(), limit + 1);
        let found = self.read_all(operation, sql, &params, read).await?;
        Ok(cut(found, limit, id))
    }
}

/// How many rows a page holds: at least one, or paging would never end.
pub(super) fn rows(page: &Page) -> u32 {
    page.limit.clamp(1, PAGE_ROWS_MAX)
}

/// Cuts rows to the page's limit; one row more than that says there is a next page.
pub(super) fn cut<T>(mut rows: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Paged<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(id) } else { None };
    (rows, next)
}

/// A statement that lists rows: conditions are added, then it is cut into pages.
pub(super) struct List {
    sql: String,
    params: Vec<Value<'static>>,
    key: &'static str,
    newest_first: bool,
}

impl List {
    /// `select` ends before its WHERE.
    pub(super) fn new(select: String, key: &'static str) -> Self {
        Self { sql: select + " WHERE 1 = 1", params: Vec::new(), key, newest_first: false }
    }

    /// Turns the order round.
    pub(super) fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Only rows with this value, if there is one.
    pub(super) fn with(mut self, column: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.params.push(value.to_owned().into());
            self.sql += &format!(" AND {column} = ${}", self.params.len());
        }
        self
    }

    /// Only rows of which this holds, a value standing for its one `?`, if there is a value.
    pub(super) fn within(mut self, holds: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.params.push(value.to_owned().into());
            let place = format!("${}", self.params.len());
            self.sql += &format!(" AND {}", holds.replacen('?', &place, 1));
        }
        self
    }

    /// The statement and the parameters of one page.
    pub(super) fn page(mut self, after: Option<&str>, limit: u32) -> (String, Vec<Value<'static>>) {
        let (past, order) = if self.newest_first { ("<", "DESC") } else { (">", "ASC") };
        let key = self.key;
        if let Some(after) = after {
            self.params.push(after.to_owned().into());
            self.sql += &format!(" AND {key} {past} ${}", self.params.len());
        }
        self.params.push(limit.into());
        self.sql += &format!(" ORDER BY {key} {order} LIMIT ${}", self.params.len());
        (self.sql, self.params)
    }
}
