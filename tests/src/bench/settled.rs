//! A controller's database in which every stack runs as it should: rows as a host's report leaves
//! them, without thousands of syncs.

use std::path::Path;

use hostler_controller::domain::decide::stack::{Overview, wanted};
use hostler_controller::domain::desired::{Applied, Attempted, Stack, StackHost};
use hostler_controller::domain::stack::StackStatus;
use hostler_controller::domain::{Change, Decision, Micros, Scope};
use hostler_controller::store::{DatabaseUrl, Store};
use hostler_protocol::id::{HostId, JobId};
use hostler_protocol::job::{ContainerDoc, ServiceAction, ServiceChange};

use super::Res;
use super::stacks::{HOSTS, SERVICES, host_name};
use crate::rows;

const NOW: Micros = Micros(1_700_000_000_000_000);
/// Rows written as one.
const BATCH: usize = 1_000;

/// Enrols the hosts the stacks name, which stay away, and notes every stack as synced on its host:
/// how many there are. Nobody else may have the database open.
///
/// # Errors
/// When the database refuses, or a stack has no host.
pub async fn settle(database: &Path) -> Res<usize> {
    let store = Store::open(&DatabaseUrl::Sqlite(database.to_owned())).await?;
    let hosts = (0..HOSTS).map(|number| {
        let key = format!("{number:064x}");
        Change::InsertHost(Box::new(rows::host(host_id(number), &host_name(number), &key, NOW)))
    });
    write(&store, hosts.collect()).await?;
    let overview = store.stack_overview().await?;
    let synced: Vec<StackHost> = overview
        .stacks
        .iter()
        .enumerate()
        .map(|(number, stack)| synced(&overview, stack, number))
        .collect::<Res<_>>()?;
    for batch in synced.chunks(BATCH) {
        write(&store, vec![Change::PutStackHosts(batch.to_vec())]).await?;
    }
    store.close().await;
    Ok(synced.len())
}

async fn write(store: &Store, changes: Vec<Change>) -> Res<()> {
    let decide =
        move |_: &_| Ok(Decision { changes: changes.clone(), events: Vec::new(), reply: () });
    store.transact("bench_settle", Scope::default(), decide).await?;
    Ok(())
}

fn host_id(number: usize) -> HostId {
    HostId::from_parts(1, [u8::try_from(number).unwrap_or(u8::MAX); 10])
}

/// A stack as its host confirmed it.
fn synced(overview: &Overview, stack: &Stack, number: usize) -> Res<StackHost> {
    let meant = wanted(stack, &overview.places);
    let (host, desired) = meant.into_iter().next().ok_or("a stack has no host")?;
    let desired = desired.ok_or("a stack has a problem")?;
    let facts = &stack.facts;
    let mut row = StackHost::new(stack.id.clone(), host);
    row.status = StackStatus::Synced;
    row.wanted = Some(desired.clone());
    row.applied = Some(Applied {
        desired: desired.clone(),
        project: Some(facts.project.clone()),
        bundle: facts.bundle_digest.clone().unwrap_or_default(),
        revision: stack.revision.clone(),
        at_us: NOW.0,
        compose_hash: facts.compose_hash.clone(),
        directory: facts.directory.clone(),
        compose_files: vec![format!("{}/{}", facts.directory, facts.compose_file)],
    });
    row.outcome = Some(Attempted {
        job: JobId::from_parts(u64::try_from(number)? + 1, [0; 10]),
        desired: Some(desired),
        succeeded: true,
        at_us: NOW.0,
        error: None,
        services: SERVICES.map(created).to_vec(),
        reason: "it has not run there yet".to_owned(),
    });
    row.containers = SERVICES.map(|service| container(facts.project.as_str(), service)).to_vec();
    row.watch.seen_at_us = Some(NOW.0);
    row.version = 1;
    Ok(row)
}

fn created(service: &str) -> ServiceChange {
    ServiceChange {
        service: service.to_owned(),
        action: ServiceAction::Created,
        reasons: vec!["it had no container".to_owned()],
    }
}

fn container(project: &str, service: &str) -> ContainerDoc {
    ContainerDoc {
        name: format!("{project}-{service}-1"),
        id: "0123456789ab".to_owned(),
        service: service.to_owned(),
        image: format!("registry.example/{service}:1"),
        image_id: format!("sha256:{:064x}", 1),
        state: "running".to_owned(),
        health: None,
        exit_code: None,
        restarts: 0,
    }
}
