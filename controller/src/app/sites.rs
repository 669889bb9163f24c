//! Sites: made, listed, renamed, deleted.

use hostler_protocol::id::SiteId;

use super::{App, AppError, view};
use crate::domain::Scope;
use crate::domain::decide::{enqueue::missing, site};
use crate::store::Page;
use crate::views;

impl App {
    /// A new site.
    ///
    /// # Errors
    /// [`AppError::Refused`] with `INVALID_REQUEST` or `NAME_TAKEN`.
    pub async fn create_site(&self, asked: views::CreateSite) -> Result<views::Site, AppError> {
        let (id, now) = (self.clock.new_site_id()?, self.clock.now());
        let scope = Scope { site_named: Some(asked.name.clone()), ..Scope::default() };
        let decide = move |snapshot: &_| site::create(snapshot, id.clone(), &asked.name, now);
        Ok(view::site(self.store.transact("create_site", scope, decide).await?.reply))
    }

    /// One page of sites.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_sites(&self, page: &Page) -> Result<views::SitePage, AppError> {
        let (items, next) = self.store.sites(page).await?;
        Ok(views::SitePage { items: items.into_iter().map(view::site).collect(), next })
    }

    /// One site.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_site(&self, id: &SiteId) -> Result<views::Site, AppError> {
        Ok(view::site(self.store.site(id).await?.ok_or_else(|| missing("site", id))?))
    }

    /// Another name for a site.
    ///
    /// # Errors
    /// As [`site::rename`].
    pub async fn rename_site(
        &self,
        id: SiteId,
        asked: views::RenameSite,
    ) -> Result<views::Site, AppError> {
        let now = self.clock.now();
        let scope = Scope {
            site: Some(id.clone()),
            site_named: Some(asked.name.clone()),
            site_environments: true,
            ..Scope::default()
        };
        let decide = move |snapshot: &_| site::rename(snapshot, &id, &asked.name, now);
        Ok(view::site(self.store.transact("rename_site", scope, decide).await?.reply))
    }

    /// Deletes a site without environments.
    ///
    /// # Errors
    /// As [`site::delete`].
    pub async fn delete_site(&self, id: SiteId) -> Result<(), AppError> {
        let now = self.clock.now();
        let scope = Scope { site: Some(id.clone()), site_environments: true, ..Scope::default() };
        let decide = move |snapshot: &_| site::delete(snapshot, &id, now);
        self.store.transact("delete_site", scope, decide).await?;
        Ok(())
    }
}
