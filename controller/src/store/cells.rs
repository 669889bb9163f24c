//! Rows that a statement answered, read cell by cell.

use std::vec;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::error::Failure;
use crate::domain::Micros;

/// The cells of a row, read from left to right in the order of the statement's columns.
pub(super) struct Cells<'r> {
    row: Row<'r>,
    at: usize,
}

enum Row<'r> {
    Sqlite(&'r SqliteRow),
    Postgres(&'r PgRow),
    Packed(vec::IntoIter<Cell>),
}

/// A cell of a packed row ([`super::db::Dialect::packed`]).
enum Cell {
    Null,
    Int(i64),
    Text(String),
}

impl<'r> From<&'r SqliteRow> for Cells<'r> {
    fn from(row: &'r SqliteRow) -> Self {
        Self { row: Row::Sqlite(row), at: 0 }
    }
}

impl<'r> From<&'r PgRow> for Cells<'r> {
    fn from(row: &'r PgRow) -> Self {
        Self { row: Row::Postgres(row), at: 0 }
    }
}

/// The rows in a packed answer.
pub(super) fn unpacked(text: &str) -> Result<Vec<Cells<'static>>, Failure> {
    let rows: Vec<Packed> =
        serde_json::from_str(text).map_err(|_| Failure::unreadable("broken packed rows"))?;
    Ok(rows.into_iter().map(|row| Cells { row: Row::Packed(row.0.into_iter()), at: 0 }).collect())
}

/// As many cells as the widest row has, more or less: room is made in advance.
const PACKED_CELLS: usize = 32;

struct Packed(Vec<Cell>);

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PackedVisitor)
    }
}

struct PackedVisitor;

impl<'de> Visitor<'de> for PackedVisitor {
    type Value = Packed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cells of a row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Packed, A::Error> {
        let mut cells = Vec::with_capacity(PACKED_CELLS);
        while let Some(cell) = access.next_element()? {
            cells.push(cell);
        }
        Ok(Packed(cells))
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl Visitor<'_> for CellVisitor {
    type Value = Cell;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, a text or null")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Cell, E> {
        Ok(Cell::Int(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Cell, E> {
        i64::try_from(number).map(Cell::Int).map_err(E::custom)
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell, E> {
        Ok(Cell::Text(text.to_owned()))
    }
}

impl Cells<'_> {
    pub(super) fn opt_int(&mut self) -> Result<Option<i64>, Failure> {
        let at = self.at;
        self.at += 1;
        Ok(match &mut self.row {
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
            Row::Packed(cells) => match cells.next() {
                Some(Cell::Int(number)) => Some(number),
                Some(Cell::Null) => None,
                Some(Cell::Text(_)) | None => return Err(Failure::unreadable("a cell's type")),
            },
        })
    }

    pub(super) fn opt_text(&mut self) -> Result<Option<String>, Failure> {
        let at = self.at;
        self.at += 1;
        Ok(match &mut self.row {
            Row::Sqlite(row) => row.try_get(at)?,
            Row::Postgres(row) => row.try_get(at)?,
            Row::Packed(cells) => match cells.next() {
                Some(Cell::Text(text)) => Some(text),
                Some(Cell::Null) => None,
                Some(Cell::Int(_)) | None => return Err(Failure::unreadable("a cell's type")),
            },
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

    /// An id.
    pub(super) fn parsed<T: TryFrom<String>>(&mut self) -> Result<T, Failure> {
        id(self.text()?)
    }

    pub(super) fn opt_parsed<T: TryFrom<String>>(&mut self) -> Result<Option<T>, Failure> {
        self.opt_text()?.map(id).transpose()
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

    /// A document that is only handed on; null where it is broken, which no document is.
    pub(super) fn json_or_null(&mut self) -> Result<serde_json::Value, Failure> {
        Ok(serde_json::from_str(&self.text()?).unwrap_or_default())
    }

    /// The same, where there may be none.
    pub(super) fn opt_json_or_none(&mut self) -> Result<Option<serde_json::Value>, Failure> {
        Ok(self.opt_text()?.and_then(|text| serde_json::from_str(&text).ok()))
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

fn id<T: TryFrom<String>>(text: String) -> Result<T, Failure> {
    T::try_from(text).map_err(|_| Failure::unreadable("a text that is no id"))
}
