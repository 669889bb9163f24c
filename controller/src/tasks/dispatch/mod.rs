//! From the queue to the hosts: claims what is runnable for hosts connected here and hands it to
//! their sessions; passes on what is to be cancelled.

mod core;

use std::time::Duration;

use hostler_protocol::job::OutcomeState;
use hostler_protocol::message::AttemptRef;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::fleet::{Report, to_store, without_result};
use crate::fleet::{Agents, Order, Sessions};
use crate::store::{ClaimHost, Claimed, StoreError};

pub use self::core::{CLAIM_MAX, HOST_SLOTS};

/// Milliseconds after which the queue is looked at even if no bell rang: jobs become due by time.
pub const PERIOD_MS: u64 = 1000;
/// Milliseconds to wait after the database failed.
const AFTER_ERROR_MS: u64 = 500;

/// Dispatches until the shutdown.
pub async fn run(app: App, agents: Agents, shutdown: CancellationToken) {
    let mut work = app.store.work();
    while !shutdown.is_cancelled() {
        work.mark_unchanged();
        let changed = agents.changed();
        tokio::pin!(changed);
        let wait = match pass(&app, &agents).await {
            Ok(true) => continue,
            Ok(false) => PERIOD_MS,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "dispatch failed");
                tokio::time::sleep(Duration::from_millis(AFTER_ERROR_MS)).await;
                AFTER_ERROR_MS
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = work.changed() => {}
            () = &mut changed => {}
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
    }
}

/// One look at the queue; `true`: there may be more at once.
///
/// # Errors
/// [`StoreError`]; what was claimed and not handed over is unknown until its host's next Hello.
pub async fn pass(app: &App, agents: &impl Sessions) -> Result<bool, StoreError> {
    let connected = agents.connected();
    if connected.is_empty() {
        return Ok(false);
    }
    let hosts = core::hosts_with_room(connected);
    // Without a host with room this claims nothing and asks nobody.
    let claiming = app.store.claim(&hosts, app.clock.now(), CLAIM_MAX);
    let (passed_on, claimed) = tokio::join!(cancel_requested(app, agents), claiming);
    let claimed = claimed?;
    metrics::counter!("hostler_claims_total").increment(claimed.len() as u64);
    let again = core::look_again(claimed.len());
    deliver(app, agents, &hosts, claimed).await?;
    passed_on?;
    Ok(again)
}

async fn deliver(
    app: &App,
    agents: &impl Sessions,
    hosts: &[ClaimHost],
    claimed: Vec<Claimed>,
) -> Result<(), StoreError> {
    let mut returned: Vec<AttemptRef> = Vec::new();
    let mut failed: Vec<Report> = Vec::new();
    for claimed in &claimed {
        let job = &claimed.job;
        let template = app.templates.for_job(&job.template, job.job_type);
        match core::plan(claimed, &template, hosts, app.clock.now()) {
            core::Plan::Run { attempt, epoch, spec } => {
                tracing::debug!(job.id = %attempt.job, attempt = attempt.attempt, host.id = %job.host_id, "a job is handed to its host");
                let timeout_secs = job.timeout_secs;
                let run = Order::Run { attempt: attempt.clone(), timeout_secs, spec, template };
                if agents.order(&job.host_id, epoch, run).is_err() {
                    returned.push(attempt);
                }
            }
            core::Plan::Return { attempt } => returned.push(attempt),
            core::Plan::Fail { attempt, error } => failed.push(Report {
                host: job.host_id.clone(),
                attempt,
                outcome: without_result(OutcomeState::Failed, error, app.clock.now()),
                template: Some(template),
            }),
        }
    }
    if !returned.is_empty() {
        app.store.requeue_unseen(&to_store(&returned), app.clock.now()).await?;
    }
    if !failed.is_empty() {
        app.settle(failed).await?;
    }
    Ok(())
}

/// Sessions pass each request on once; asking again is free.
async fn cancel_requested(app: &App, agents: &impl Sessions) -> Result<(), StoreError> {
    let connected = agents.connected();
    let hosts: Vec<_> = connected.iter().map(|session| session.host.clone()).collect();
    for asked in app.store.cancel_requested(&hosts).await? {
        let Some(session) = connected.iter().find(|session| session.host == asked.host) else {
            continue;
        };
        let attempt = AttemptRef { job: asked.attempt.job, attempt: asked.attempt.attempt };
        if agents.order(&asked.host, session.epoch, Order::Cancel { attempt }).is_err() {
            tracing::debug!(host.id = %asked.host, "a cancellation waits for the next look");
        }
    }
    Ok(())
}
