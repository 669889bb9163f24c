//! Caches: switched, reconciled, purged, warmed, shown, explained.

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{CacheSet, JobType, PurgeMode};

use super::asked::Asked;
use super::environments::job_scope;
use super::{App, AppError, view};
use crate::domain::decide::cache::{self, SetFlags};
use crate::domain::decide::enqueue::Made;
use crate::domain::decide::purge::{self, Purge};
use crate::domain::decide::{look, warm};
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
        let flags = flags_asked(&flags);
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
    /// As [`purge::purge`].
    pub async fn purge_caches(
        &self,
        id: EnvironmentId,
        asked: &Asked,
        what: views::PurgeCaches,
    ) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::CachePurge)?;
        let what = purge_asked(what);
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| purge::purge(snapshot, &id, &what, &making);
        Ok(self.store.transact("purge_caches", scope, decide).await?.reply)
    }

    /// Queues a warm-up.
    ///
    /// # Errors
    /// As [`warm::warm`].
    pub async fn warm_cache(
        &self,
        id: EnvironmentId,
        asked: &Asked,
        what: views::WarmCache,
    ) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::CacheWarm)?;
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| warm::warm(snapshot, &id, &what.urls, &making);
        Ok(self.store.transact("warm_cache", scope, decide).await?.reply)
    }

    /// Queues a look at what is in the page cache.
    ///
    /// # Errors
    /// As [`look::facts`].
    pub async fn cache_facts(&self, id: EnvironmentId, asked: &Asked) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::CacheFacts)?;
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| look::facts(snapshot, &id, &making);
        Ok(self.store.transact("cache_facts", scope, decide).await?.reply)
    }

    /// Queues a look at what the cache does with one URL.
    ///
    /// # Errors
    /// As [`look::explain`].
    pub async fn explain_url(
        &self,
        id: EnvironmentId,
        asked: &Asked,
        what: views::ExplainUrl,
    ) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::CacheExplain)?;
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| look::explain(snapshot, &id, &what.url, &making);
        Ok(self.store.transact("explain_url", scope, decide).await?.reply)
    }
}

pub(super) fn flags_asked(flags: &views::SetCaches) -> SetFlags {
    SetFlags { fastcgi: flags.fastcgi_cache_enabled, redis: flags.redis_cache_enabled }
}

/// The request a purge came from.
pub(super) fn purge_shown(asked: &Purge) -> views::PurgeCaches {
    let flag = |flag: bool| flag.then_some(true);
    views::PurgeCaches {
        caches: asked.caches.map(|caches| {
            let both = [
                (caches.fastcgi, views::CacheName::Fastcgi),
                (caches.redis, views::CacheName::Redis),
            ];
            both.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
        }),
        urls: asked.urls.clone(),
        query_variants: flag(asked.query_variants),
        prefixes: asked.prefixes.clone(),
        tags: asked.tags.clone(),
        mode: match asked.mode {
            PurgeMode::Hard => None,
            PurgeMode::Soft => Some(views::PurgeMode::Soft),
            PurgeMode::Refresh => Some(views::PurgeMode::Refresh),
        },
        warm: flag(asked.warm),
        dry_run: flag(asked.dry_run),
    }
}

pub(super) fn purge_asked(what: views::PurgeCaches) -> Purge {
    Purge {
        caches: what.caches.map(|named| CacheSet {
            fastcgi: named.contains(&views::CacheName::Fastcgi),
            redis: named.contains(&views::CacheName::Redis),
        }),
        urls: what.urls,
        query_variants: what.query_variants.unwrap_or(false),
        prefixes: what.prefixes,
        tags: what.tags,
        mode: what.mode.map_or(PurgeMode::Hard, |mode| match mode {
            views::PurgeMode::Hard => PurgeMode::Hard,
            views::PurgeMode::Soft => PurgeMode::Soft,
            views::PurgeMode::Refresh => PurgeMode::Refresh,
        }),
        warm: what.warm.unwrap_or(false),
        dry_run: what.dry_run.unwrap_or(false),
    }
}
