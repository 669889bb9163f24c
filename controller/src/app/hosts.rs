//! Hosts: listed, changed, revoked, deleted.

use hostler_protocol::id::HostId;

use super::{App, AppError, view};
use crate::domain::decide::{enqueue::missing, host};
use crate::domain::{Decision, Host, Revocation, Scope};
use crate::store::Page;
use crate::views;

impl App {
    /// One page of hosts.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_hosts(&self, page: &Page) -> Result<views::HostPage, AppError> {
        let (items, next) = self.store.hosts(page).await?;
        Ok(views::HostPage { items: items.into_iter().map(view::host).collect(), next })
    }

    /// One host.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_host(&self, id: &HostId) -> Result<views::Host, AppError> {
        Ok(view::host(self.store.host(id).await?.ok_or_else(|| missing("host", id))?))
    }

    /// The host a request names by its id or its name; `None` if there is none.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub(super) async fn named_host(&self, id_or_name: &str) -> Result<Option<Host>, AppError> {
        if let Ok(id) = id_or_name.parse::<HostId>() {
            return Ok(self.store.host(&id).await?);
        }
        let scope = Scope { host_named: Some(id_or_name.to_owned()), ..Scope::default() };
        let found = self.store.transact("named_host", scope, |snapshot| {
            let reply = snapshot.host_named.clone();
            Ok(Decision { changes: Vec::new(), events: Vec::new(), reply })
        });
        Ok(found.await?.reply)
    }

    /// Another name for a host, other labels.
    ///
    /// # Errors
    /// As [`host::change`].
    pub async fn change_host(
        &self,
        id: HostId,
        asked: views::ChangeHost,
    ) -> Result<views::Host, AppError> {
        let now = self.clock.now();
        let scope =
            Scope { host: Some(id.clone()), host_named: asked.name.clone(), ..Scope::default() };
        let decide = move |snapshot: &_| {
            let labels = asked.labels.clone().unwrap_or_default().0;
            host::change(snapshot, &id, asked.name.as_deref(), &labels, now)
        };
        Ok(view::host(self.store.transact("change_host", scope, decide).await?.reply))
    }

    /// Shuts a host out; its live session ends with the event this writes.
    ///
    /// # Errors
    /// As [`host::revoke`].
    pub async fn revoke_host(
        &self,
        id: HostId,
        asked: views::RevokeHost,
    ) -> Result<views::Host, AppError> {
        let kind = match asked.kind {
            views::Revocation::Evict => Revocation::Evict,
            views::Revocation::Ban => Revocation::Ban,
        };
        let now = self.clock.now();
        let scope = Scope { host: Some(id.clone()), host_jobs: true, ..Scope::default() };
        let decide = move |snapshot: &_| host::revoke(snapshot, &id, kind, now);
        Ok(view::host(self.store.transact("revoke_host", scope, decide).await?.reply))
    }

    /// Forgets a revoked host without environments.
    ///
    /// # Errors
    /// As [`host::delete`].
    pub async fn delete_host(&self, id: HostId) -> Result<(), AppError> {
        let now = self.clock.now();
        let scope = Scope { host: Some(id.clone()), ..Scope::default() };
        let decide = move |snapshot: &_| host::delete(snapshot, &id, now);
        self.store.transact("delete_host", scope, decide).await?;
        Ok(())
    }
}
