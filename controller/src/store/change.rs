//! Writing what was decided.

use hostler_protocol::id::BatchId;

use super::db::Tx;
use super::error::Failure;
use super::{batches, environments, hosts, jobs, refreshes, sites, stacks, tokens};
use crate::domain::{Change, Target};

/// Writes changes in their order, runs of job updates, of new jobs and of
/// targets as one statement each.
pub(super) async fn apply(tx: &mut Tx<'_>, changes: &[Change]) -> Result<(), Failure> {
    let mut rest = changes;
    while let Some((first, others)) = rest.split_first() {
        let updates: Vec<jobs::Update<'_>> = rest.iter().map_while(update).collect();
        let queued: Vec<_> = rest.iter().map_while(enqueue).collect();
        let targets: Vec<_> = rest.iter().map_while(target).collect();
        if !updates.is_empty() {
            jobs::update(tx, &updates).await?;
            rest = &rest[updates.len()..];
        } else if !queued.is_empty() {
            jobs::insert(tx, &queued).await?;
            rest = &rest[queued.len()..];
        } else if !targets.is_empty() {
            batches::update_targets(tx, &targets).await?;
            rest = &rest[targets.len()..];
        } else {
            one(tx, first).await?;
            rest = others;
        }
    }
    Ok(())
}

fn update(change: &Change) -> Option<jobs::Update<'_>> {
    if let Change::UpdateJob { job, was } = change {
        Some(jobs::Update { job, was: *was })
    } else {
        None
    }
}

fn enqueue(change: &Change) -> Option<&crate::domain::NewJob> {
    if let Change::EnqueueJob(new) = change { Some(new) } else { None }
}

fn target(change: &Change) -> Option<(&BatchId, &Target)> {
    if let Change::UpdateTarget(batch, target) = change { Some((batch, target)) } else { None }
}

async fn one(tx: &mut Tx<'_>, change: &Change) -> Result<(), Failure> {
    match change {
        Change::InsertSite(site) => sites::insert(tx, site).await,
        Change::UpdateSite(site) => sites::update(tx, site).await,
        Change::DeleteSite(id) => sites::delete(tx, id).await,
        Change::InsertEnvironment(environment) => environments::insert(tx, environment).await,
        Change::UpdateEnvironment(environment) => environments::update(tx, environment).await,
        Change::DeleteEnvironment(id) => environments::delete(tx, id).await,
        Change::InsertHost(host) => hosts::insert(tx, host).await,
        Change::UpdateHost(host) => hosts::update(tx, host).await,
        Change::DeleteHost(id) => hosts::delete(tx, id).await,
        Change::BanKey(key) => hosts::ban(tx, key).await,
        Change::InsertEnrolmentToken(token) => tokens::insert_enrolment(tx, token).await,
        Change::UpdateEnrolmentToken(token) => tokens::update_enrolment(tx, token).await,
        Change::DeleteEnrolmentToken(id) => tokens::delete_enrolment(tx, id).await,
        Change::InsertApiToken(token) => tokens::insert_api(tx, token).await,
        Change::UpdateApiToken(token) => tokens::update_api(tx, token).await,
        Change::RecordIdempotency(record) => tokens::record(tx, record).await,
        Change::InsertBatch(batch, targets) => batches::insert(tx, batch, targets).await,
        Change::UpdateBatch(batch) => batches::update(tx, batch).await,
        Change::UpdateTarget(batch, target) => {
            batches::update_targets(tx, &[(batch, target)]).await
        }
        Change::InsertRefresh(refresh) => refreshes::insert(tx, refresh).await,
        Change::UpdateRefresh(refresh) => refreshes::update(tx, refresh).await,
        Change::PutDesiredState(state) => refreshes::put_state(tx, state).await,
        Change::PutStacks(put) => stacks::put(tx, put).await,
        Change::DeleteStack(id) => stacks::delete(tx, id).await,
        Change::PutStackHosts(rows) => stacks::put_hosts(tx, rows).await,
        Change::DeleteStackHost(stack, host) => stacks::delete_host(tx, stack, host).await,
        Change::EnqueueJob(new) => jobs::insert(tx, &[new]).await.map(|_| ()),
        Change::UpdateJob { job, was } => {
            jobs::update(tx, &[jobs::Update { job, was: *was }]).await
        }
    }
}
