//! Environments: made, listed, changed, checked, deleted.

use hostler_protocol::id::{EnvironmentId, SiteId};
use hostler_protocol::job::{AppKind, Executor, JobType};

use super::asked::Asked;
use super::{App, AppError, view};
use crate::domain::decide::draft::{
    self, Draft, FastcgiDraft, HealthDraft, NginxDraft, Part, RedisDraft,
};
use crate::domain::decide::enqueue::{Made, missing};
use crate::domain::decide::environment::{self, Deletion};
use crate::domain::{Environment, HostState, LabelChanges, Scope};
use crate::store::{EnvironmentFilter, Page};
use crate::views;

impl App {
    /// A new environment of a site.
    ///
    /// # Errors
    /// As [`environment::create`].
    pub async fn create_environment(
        &self,
        site: SiteId,
        asked: views::CreateEnvironment,
    ) -> Result<views::Environment, AppError> {
        let (id, now) = (self.clock.new_environment_id()?, self.clock.now());
        let host = self.named_host(&asked.host).await?;
        let draft = created(asked);
        // Only where Redis is matters here, and no default changes that.
        let redis_at = draft::apply(&draft, draft::defaults(id.clone(), "", ""));
        let scope = Scope {
            site: Some(site.clone()),
            site_environments: true,
            host: host.map(|host| host.id),
            redis_server: environment::redis_scope(&redis_at),
            ..Scope::default()
        };
        let decide =
            move |snapshot: &_| environment::create(snapshot, &site, id.clone(), &draft, now);
        let made = self.store.transact("create_environment", scope, decide).await?;
        Ok(view::environment(made.reply))
    }

    /// One page of environments.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn list_environments(
        &self,
        filter: &EnvironmentFilter,
        page: &Page,
    ) -> Result<views::EnvironmentPage, AppError> {
        let (items, next) = self.store.environments(filter, page).await?;
        let items = items.into_iter().map(view::environment).collect();
        Ok(views::EnvironmentPage { items, next })
    }

    /// One environment.
    ///
    /// # Errors
    /// `NOT_FOUND`, [`AppError::Store`].
    pub async fn show_environment(
        &self,
        id: &EnvironmentId,
    ) -> Result<views::Environment, AppError> {
        Ok(view::environment(self.environment(id).await?))
    }

    pub(super) async fn environment(&self, id: &EnvironmentId) -> Result<Environment, AppError> {
        Ok(self.store.environment(id).await?.ok_or_else(|| missing("environment", id))?)
    }

    /// Changes an environment.
    ///
    /// # Errors
    /// As [`environment::change`].
    pub async fn change_environment(
        &self,
        id: EnvironmentId,
        asked: views::ChangeEnvironment,
    ) -> Result<views::Environment, AppError> {
        let now = self.clock.now();
        let before = self.environment(&id).await?;
        let host = match &asked.host {
            None => Some(before.host_id.clone()),
            Some(named) => self.named_host(named).await?.map(|host| host.id),
        };
        let gone = match &host {
            Some(host) if *host != before.host_id => {
                let left = self.store.host(&before.host_id).await?;
                left.filter(|left| left.state == HostState::Revoked).map(|left| left.id)
            }
            Some(_) | None => None,
        };
        let draft = changed(asked);
        let after = draft::apply(&draft, before.doc);
        let scope = Scope {
            environment: Some(id.clone()),
            site: Some(before.site_id),
            site_environments: true,
            host: host.clone(),
            redis_server: environment::redis_scope(&after),
            ..Scope::default()
        };
        let decide = move |snapshot: &_| {
            environment::change(snapshot, &id, &draft, host.as_ref(), gone.as_ref(), now)
        };
        let made = self.store.transact("change_environment", scope, decide).await?;
        Ok(view::environment(made.reply))
    }

    /// Queues a look at the host.
    ///
    /// # Errors
    /// As [`environment::check_job`].
    pub async fn check_environment(
        &self,
        id: EnvironmentId,
        asked: &Asked,
    ) -> Result<Made, AppError> {
        let making = self.making(asked, JobType::EnvCheck)?;
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| environment::check_job(snapshot, &id, &making);
        Ok(self.store.transact("check_environment", scope, decide).await?.reply)
    }

    /// Deletes an environment.
    ///
    /// # Errors
    /// As [`environment::delete`].
    pub async fn delete_environment(
        &self,
        id: EnvironmentId,
        asked: &Asked,
    ) -> Result<Deletion, AppError> {
        let making = self.making(asked, JobType::EnvDelete)?;
        let scope = job_scope(&id, asked);
        let decide = move |snapshot: &_| environment::delete(snapshot, &id, &making);
        Ok(self.store.transact("delete_environment", scope, decide).await?.reply)
    }
}

/// What a command about an environment that makes a job needs to see.
pub(super) fn job_scope(id: &EnvironmentId, asked: &Asked) -> Scope {
    Scope { environment: Some(id.clone()), idempotency: asked.scope(), ..Scope::default() }
}

fn kind(kind: views::AppKind) -> AppKind {
    match kind {
        views::AppKind::Php => AppKind::Php,
        views::AppKind::Wordpress => AppKind::Wordpress,
    }
}

fn executor(executor: views::Executor) -> Executor {
    match executor {
        views::Executor::Native => Executor::Native,
        views::Executor::Ansible => Executor::Ansible,
    }
}

fn created(asked: views::CreateEnvironment) -> Draft {
    let nginx = asked.nginx.unwrap_or_default();
    let health = asked.health.unwrap_or_default();
    Draft {
        name: Some(asked.name),
        domain: Some(asked.domain),
        kind: Some(kind(asked.kind)),
        docroot: Some(asked.docroot),
        user: Some(asked.user),
        nginx: NginxDraft {
            http_file: nginx.http_file,
            server_file: nginx.server_file,
            location_file: nginx.location_file,
            probe_origin: nginx.probe_origin,
        },
        fastcgi: asked.fastcgi.map_or(Part::Keep, |part| {
            Part::Set(FastcgiDraft {
                cache_dir: part.cache_dir,
                key_format: part.key_format,
                zone_mib: part.zone_mib,
                size_mib_max: part.size_mib_max,
                inactive_secs: part.inactive_secs,
                valid_secs: part.valid_secs,
            })
        }),
        redis: asked.redis.map_or(Part::Keep, |part| {
            Part::Set(RedisDraft {
                url: Some(part.url),
                password_file: part.password_file,
                prefix: Some(part.prefix),
                switch_file: part.switch_file,
            })
        }),
        health: HealthDraft {
            path: health.path,
            status: health.status,
            timeout_ms: health.timeout_ms,
        },
        executor: asked.executor.map_or(Part::Keep, |asked| Part::Set(executor(asked))),
        labels: set(asked.labels.unwrap_or_default()),
    }
}

fn set(labels: views::Labels) -> LabelChanges {
    labels.0.into_iter().map(|(key, value)| (key, Some(value))).collect()
}

fn part<T, D>(asked: Option<Option<T>>, draft: impl FnOnce(T) -> D) -> Part<D> {
    match asked {
        None => Part::Keep,
        Some(None) => Part::Remove,
        Some(Some(asked)) => Part::Set(draft(asked)),
    }
}

fn changed(asked: views::ChangeEnvironment) -> Draft {
    let nginx = asked.nginx.unwrap_or_default();
    let health = asked.health.unwrap_or_default();
    Draft {
        name: asked.name,
        domain: asked.domain,
        kind: asked.kind.map(kind),
        docroot: asked.docroot,
        user: asked.user,
        nginx: NginxDraft {
            http_file: nginx.http_file,
            server_file: nginx.server_file,
            location_file: nginx.location_file,
            probe_origin: nginx.probe_origin,
        },
        fastcgi: part(asked.fastcgi, |part| FastcgiDraft {
            cache_dir: part.cache_dir,
            key_format: part.key_format,
            zone_mib: part.zone_mib,
            size_mib_max: part.size_mib_max,
            inactive_secs: part.inactive_secs,
            valid_secs: part.valid_secs,
        }),
        redis: part(asked.redis, |part| RedisDraft {
            url: part.url,
            password_file: part.password_file,
            prefix: part.prefix,
            switch_file: part.switch_file,
        }),
        health: HealthDraft {
            path: health.path,
            status: health.status,
            timeout_ms: health.timeout_ms,
        },
        executor: part(asked.executor, executor),
        labels: asked.labels.unwrap_or_default().0,
    }
}
