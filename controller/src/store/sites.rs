//! Sites.

use hostler_protocol::id::SiteId;

use super::cells::Cells;
use super::db::{Tx, params};
use super::error::Failure;
use super::read::List;
use super::types::{Page, Paged};
use super::{Store, StoreError};
use crate::domain::Site;

pub(super) const COLUMNS: &str = "s.id, s.name, s.created_at";

pub(super) fn read(row: &mut Cells<'_>) -> Result<Site, Failure> {
    Ok(Site { id: row.parsed()?, name: row.text()?, created_at: row.at()? })
}

pub(super) async fn insert(tx: &mut Tx<'_>, site: &Site) -> Result<(), Failure> {
    tx.execute(
        "INSERT INTO sites (id, name, created_at) VALUES ($1, $2, $3)",
        params![site.id.as_str(), site.name.as_str(), site.created_at],
    )
    .await?;
    Ok(())
}

pub(super) async fn update(tx: &mut Tx<'_>, site: &Site) -> Result<(), Failure> {
    let sql = "UPDATE sites SET name = $2 WHERE id = $1";
    match tx.execute(sql, params![site.id.as_str(), site.name.as_str()]).await? {
        1 => Ok(()),
        _gone => Err(Failure::Overtaken),
    }
}

pub(super) async fn delete(tx: &mut Tx<'_>, id: &SiteId) -> Result<(), Failure> {
    match tx.execute("DELETE FROM sites WHERE id = $1", params![id.as_str()]).await? {
        1 => Ok(()),
        _gone => Err(Failure::Overtaken),
    }
}

impl Store {
    /// The site of that id.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn site(&self, id: &SiteId) -> Result<Option<Site>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sites s WHERE s.id = $1");
        self.read_one("site", sql, params![id.as_str()], read).await
    }

    /// Sites by id, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn sites(&self, page: &Page) -> Result<Paged<Site>, StoreError> {
        let list = List::new(format!("SELECT {COLUMNS} FROM sites s"), "s.id");
        self.read_page("sites", list, page, read, |site| site.id.as_str().to_owned()).await
    }
}
