//! The one door for commands: a snapshot in, a decision out, all in one atomic unit.

use super::db::{Dialect, Tx, Value, params};
use super::error::Failure;
use super::unit::{Done, Operation};
use super::{
    Store, TransactError, batches, change, environments, hosts, jobs, refreshes, sites, stacks,
    tokens,
};
use crate::domain::{Decision, Environment, Host, Refusal, Scope, Site, Snapshot};

/// A carried-out command: what to tell the caller, and the newest event as of its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<T> {
    pub reply: T,
    pub seq: i64,
}

impl Store {
    /// Loads `scope`, lets `decide` decide on it, writes its changes and events: one atomic unit.
    /// `decide` may be called again when the unit has to be repeated; it must be pure.
    ///
    /// # Errors
    /// [`TransactError::Refused`] with `decide`'s refusal, [`TransactError::Store`] otherwise;
    /// nothing is written then.
    pub async fn transact<T: Send + 'static>(
        &self,
        name: &'static str,
        scope: Scope,
        decide: impl Fn(&Snapshot) -> Result<Decision<T>, Refusal> + Send + Sync + 'static,
    ) -> Result<Committed<T>, TransactError> {
        // In a box: a snapshot has room for everything a scope can name.
        match Box::pin(self.unit(Transact { name, scope, decide })).await {
            Ok(committed) => Ok(committed),
            Err(Failure::Refused(refusal)) => Err(TransactError::Refused(refusal)),
            Err(failure) => Err(TransactError::Store(failure.named(name))),
        }
    }
}

struct Transact<F> {
    name: &'static str,
    scope: Scope,
    decide: F,
}

impl<T, F> Operation for Transact<F>
where
    T: Send + 'static,
    F: Fn(&Snapshot) -> Result<Decision<T>, Refusal> + Send + Sync + 'static,
{
    type Reply = Committed<T>;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Committed<T>>, Failure> {
        let snapshot = load(tx, &self.scope).await?;
        let decision = (self.decide)(&snapshot).map_err(Failure::Refused)?;
        let Decision { changes, events, reply } = decision;
        change::apply(tx, &changes).await?;
        let seq = i64::try_from(events.len()).unwrap_or(i64::MAX) - 1;
        Ok(Done { reply: Committed { reply, seq }, events })
    }

    fn wants_seq(&self) -> bool {
        true
    }

    fn seal(&self, reply: &mut Committed<T>, first_seq: i64) {
        // Until now it held how far the last event stands behind the first.
        reply.seq += first_seq;
    }
}

/// Loads what a scope names. What the decision may change is locked; so are names that must stay
/// free until the commit.
async fn load(tx: &mut Tx<'_>, scope: &Scope) -> Result<Snapshot, Failure> {
    reserve(tx, scope).await?;
    let mut snapshot = Snapshot::default();
    batches::load(tx, scope, &mut snapshot).await?;
    load_hosts(tx, scope, &mut snapshot).await?;
    load_environment(tx, scope, &mut snapshot).await?;
    load_site(tx, scope, &mut snapshot).await?;
    if let Some(server) = &scope.redis_server {
        snapshot.redis_environments = list(tx, "redis_server", server).await?;
    }
    if scope.host_jobs
        && let Some(host) = &scope.host
    {
        snapshot.host_jobs = jobs::load_active(tx, "host_id", host.as_str()).await?;
    }
    stacks::load(tx, scope, &mut snapshot).await?;
    refreshes::load(tx, scope, &mut snapshot).await?;
    load_records(tx, scope, &mut snapshot).await?;
    Ok(snapshot)
}

/// PostgreSQL: a row that does not exist cannot be locked, so names are, until the commit.
async fn reserve(tx: &mut Tx<'_>, scope: &Scope) -> Result<(), Failure> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let Scope { site_named, host_named, key, redis_server, idempotency, batch_keyed, .. } = scope;
    let looks = scope.refreshes.then(|| "refreshes".to_owned());
    let names = [
        site_named.as_ref().map(|name| format!("site:{name}")),
        host_named.as_ref().map(|name| format!("host:{name}")),
        key.as_ref().map(|key| format!("host_key:{key}")),
        redis_server.as_ref().map(|server| format!("redis:{server}")),
        idempotency.as_ref().map(|(who, key)| format!("key:{who}:{key}")),
        batch_keyed.as_ref().map(|(who, key)| format!("batch:{who}:{key}")),
        looks,
    ];
    for name in names.into_iter().flatten() {
        tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", params![name]).await?;
    }
    Ok(())
}

async fn load_hosts(
    tx: &mut Tx<'_>,
    scope: &Scope,
    snapshot: &mut Snapshot,
) -> Result<(), Failure> {
    let lock = tx.dialect().for_update();
    if let Some(id) = &scope.host {
        snapshot.host = host(tx, &format!("WHERE h.id = $1{lock}"), id.as_str()).await?;
        // Nobody is kept from shutting a host out, or from giving a job up, by an environment that
        // cannot be read: those that are meant are looked at for overlaps, here none are.
        snapshot.host_environments = if scope.host_jobs || scope.job.is_some() {
            readable(tx, "host_id", id.as_str()).await?
        } else {
            list(tx, "host_id", id.as_str()).await?
        };
    }
    if let Some(name) = &scope.host_named {
        let which = format!("WHERE h.name = $1 {}{lock}", hosts::ENROLLED_FIRST);
        snapshot.host_named = host(tx, &which, name).await?;
    }
    if let Some(key) = &scope.key {
        (snapshot.key_banned, snapshot.key_holder) = hosts::key_use(tx, key).await?;
    }
    Ok(())
}

async fn host(tx: &mut Tx<'_>, which: &str, value: &str) -> Result<Option<Host>, Failure> {
    let sql = format!("SELECT {} FROM hosts h {which}", hosts::COLUMNS);
    tx.fetch_one(sql, params![value], hosts::read).await
}

/// The environment with its site, host and jobs; and the job asked for, whose environment counts
/// as asked for too. Environments are locked before jobs, as everywhere.
async fn load_environment(
    tx: &mut Tx<'_>,
    scope: &Scope,
    snapshot: &mut Snapshot,
) -> Result<(), Failure> {
    let dialect = tx.dialect();
    let mut id = scope.environment.as_ref().map(|id| id.as_str().to_owned());
    if let (Some(job), None) = (&scope.job, &id) {
        let sql = "SELECT environment_id FROM jobs WHERE id = $1 \
             UNION ALL SELECT environment_id FROM jobs_history WHERE id = $1";
        id = tx.fetch_one(sql, params![job.as_str()], |row| row.opt_text()).await?.flatten();
    }
    if let Some(id) = id {
        let sql = format!(
            "SELECT {} FROM environments e WHERE e.id = $1{}",
            environments::COLUMNS,
            dialect.for_update()
        );
        snapshot.environment = match &scope.environment {
            Some(_) => tx.fetch_one(sql, params![id], environments::read).await?,
            // A job can be let go or cancelled also where its environment cannot be read.
            None => {
                let found = tx.fetch_one(sql, params![id], environments::read_or_id).await?;
                found.and_then(|(_, environment)| environment)
            }
        };
    }
    if let (Some(environment), Some(_)) = (&snapshot.environment, &scope.environment) {
        if snapshot.host.is_none() {
            let which = format!("WHERE h.id = $1{}", dialect.for_share());
            snapshot.host = host(tx, &which, environment.host_id.as_str()).await?;
        }
        snapshot.environment_jobs =
            jobs::load_active(tx, "environment_id", environment.id.as_str()).await?;
    }
    if let Some(id) = &scope.job {
        let mut found = jobs::load(tx, jobs::json_ids([id])).await?;
        if found.is_empty() {
            found = jobs::load_history(tx, jobs::json_ids([id])).await?;
        }
        snapshot.job = found.into_values().next().map(|row| row.job);
    }
    Ok(())
}

async fn load_site(tx: &mut Tx<'_>, scope: &Scope, snapshot: &mut Snapshot) -> Result<(), Failure> {
    let dialect = tx.dialect();
    if let Some(id) = &scope.site {
        snapshot.site = site(tx, "id", id.as_str(), dialect.for_update()).await?;
    } else if let (Some(environment), Some(_)) = (&snapshot.environment, &scope.environment) {
        let id = environment.site_id.as_str().to_owned();
        snapshot.site = site(tx, "id", &id, dialect.for_share()).await?;
    }
    if let Some(name) = &scope.site_named {
        snapshot.site_named = site(tx, "name", name, dialect.for_update()).await?;
    }
    let which = snapshot.site.as_ref().or(snapshot.site_named.as_ref());
    if let (true, Some(site)) = (scope.site_environments, which) {
        snapshot.site_environments = list(tx, "site_id", site.id.as_str()).await?;
    }
    Ok(())
}

async fn site(
    tx: &mut Tx<'_>,
    column: &'static str,
    value: &str,
    lock: &'static str,
) -> Result<Option<Site>, Failure> {
    let sql = format!("SELECT {} FROM sites s WHERE s.{column} = $1{lock}", sites::COLUMNS);
    tx.fetch_one(sql, params![value], sites::read).await
}

/// Not locked: whoever changes one of these is guarded by its version.
async fn list(
    tx: &mut Tx<'_>,
    column: &'static str,
    value: &str,
) -> Result<Vec<Environment>, Failure> {
    tx.fetch_as(listing(column), params![value], environments::read).await
}

/// As [`list`], without those that cannot be read.
async fn readable(
    tx: &mut Tx<'_>,
    column: &'static str,
    value: &str,
) -> Result<Vec<Environment>, Failure> {
    let found = tx.fetch_as(listing(column), params![value], environments::read_or_id).await?;
    Ok(found.into_iter().filter_map(|(_, environment)| environment).collect())
}

fn listing(column: &'static str) -> String {
    let columns = environments::COLUMNS;
    format!("SELECT {columns} FROM environments e WHERE e.{column} = $1 ORDER BY e.id")
}

async fn load_records(
    tx: &mut Tx<'_>,
    scope: &Scope,
    snapshot: &mut Snapshot,
) -> Result<(), Failure> {
    let lock = tx.dialect().for_update();
    if let Some(id) = &scope.enrolment_token {
        let sql = format!("{} WHERE t.id = $1{lock}", tokens::ENROLMENT);
        snapshot.enrolment_token =
            tx.fetch_one(sql, params![id.as_str()], tokens::read_enrolment).await?;
    }
    if let Some(id) = &scope.api_token {
        let sql = format!("{} WHERE t.id = $1{lock}", tokens::API);
        snapshot.api_token = tx.fetch_one(sql, params![id.as_str()], tokens::read_api).await?;
    }
    if let Some((principal, key)) = &scope.idempotency {
        let sql = format!("{} WHERE i.principal = $1 AND i.key = $2{lock}", tokens::IDEMPOTENCY);
        let params = [Value::from(principal.as_str()), Value::from(key.as_str())];
        snapshot.idempotency = tx.fetch_one(sql, &params, tokens::read_idempotency).await?;
    }
    Ok(())
}
