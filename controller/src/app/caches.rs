//! Caches: switched, reconciled, purged, shown.

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{CacheSet, JobType};

use super::asked::Asked;
use super::environments::job_scope;
use super::{App, AppError, view};
use crate::domain::decide::cache::{self, Purge, SetFlags};
use crate::domain::decide::enqueue::Made;
use crate::domain::{Refusal, RefusalKind};
use crate::views;

impl App {
    /// What should be and what is.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_caches(&self, id: &EnvironmentId) -> Result<views::CacheState, AppError> {
        Ok(view::cache(&self.environment(id).await?))
    }

    /// Sets what should be and queues the job that makes it so.
    ///
    /// # Errors
    /// As [`cache::set`].
    pub async fn set_caches(
        &self,
        id: EnvironmentId,
        asked: &Asked,
        flags: views::SetCaches,
    ) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::EnvCacheToggle)?;
        let flags =
            SetFlags { fastcgi: flags.fastcgi_cache_enabled, redis: flags.redis_cache_enabled };
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| cache::set(snapshot, &id, flags, &making);
        Ok(self.store.transact("set_caches", scope, decide).await?.reply)
    }

    /// Queues a job that applies again what should be.
    ///
    /// # Errors
    /// As [`cache::reconcile`].
    pub async fn reconcile_caches(
        &self,
        id: EnvironmentId,
        asked: &Asked,
    ) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::EnvCacheToggle)?;
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| cache::reconcile(snapshot, &id, &making);
        Ok(self.store.transact("reconcile_caches", scope, decide).await?.reply)
    }

    /// Queues a purge.
    ///
    /// # Errors
    /// As [`cache::purge`]; `NOT_SUPPORTED_YET` for what is known but not built yet.
    pub async fn purge_caches(
        &self,
        id: EnvironmentId,
        asked: &Asked,
        what: views::PurgeCaches,
    ) -> Result<Made, AppError> {
        not_yet(&what)?;
        let making = self.making(asked, JobType::CachePurge)?;
        let purge = Purge {
            caches: what.caches.map(|named| CacheSet {
                fastcgi: named.contains(&views::CacheName::Fastcgi),
                redis: named.contains(&views::CacheName::Redis),
            }),
            urls: what.urls,
            dry_run: what.dry_run.unwrap_or(false),
        };
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| cache::purge(snapshot, &id, &purge, &making);
        Ok(self.store.transact("purge_caches", scope, decide).await?.reply)
    }
}

fn not_yet(what: &views::PurgeCaches) -> Result<(), Refusal> {
    let fields = [
        ("/prefixes", what.prefixes.is_some()),
        ("/tags", what.tags.is_some()),
        ("/mode", what.mode.is_some()),
        ("/warm", what.warm.is_some()),
    ];
    let asked: Vec<_> = fields.into_iter().filter(|(_, asked)| *asked).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let message = "this version purges everything or by URL; the fields in `errors` come later";
    let mut refusal = Refusal::new(RefusalKind::Invalid, "NOT_SUPPORTED_YET", message);
    let named = |(pointer, _): (&str, bool)| (pointer.to_owned(), "not supported yet".to_owned());
    refusal.fields = asked.into_iter().map(named).collect();
    Err(refusal)
}
