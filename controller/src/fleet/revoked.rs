//! Revocation closes live connections.

use std::collections::BTreeSet;
use std::sync::Arc;

use hostler_protocol::id::HostId;
use hostler_protocol::message::close;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{Fleet, Sessions as _};
use crate::domain::{Event, EventKind, HostState};

/// Closes the connections of each host that is revoked, until the shutdown.
pub(super) async fn follow(fleet: &Fleet, shutdown: CancellationToken) {
    let mut follower = fleet.app.events.subscribe();
    loop {
        let told = tokio::select! {
            () = shutdown.cancelled() => return,
            told = follower.recv() => told,
        };
        match told {
            Ok(event) => on_event(fleet, &event),
            // Something was missed: ask about everybody.
            Err(RecvError::Lagged(_)) => look_at_all(fleet).await,
            Err(RecvError::Closed) => return,
        }
    }
}

fn on_event(fleet: &Fleet, event: &Arc<Event>) {
    if event.event.kind == EventKind::HostRevoked
        && let Some(host) = &event.event.subject.host
    {
        close_all(fleet, host);
    }
}

fn close_all(fleet: &Fleet, host: &HostId) {
    let reason = "this host was revoked";
    fleet.lines.close(host, close::REVOKED, reason);
    if fleet.agents.close(host, close::REVOKED, reason) {
        tracing::info!(host.id = %host, "the session of a revoked host was closed");
    }
}

async fn look_at_all(fleet: &Fleet) {
    let hosts: BTreeSet<HostId> =
        fleet.agents.hosts().into_iter().chain(fleet.lines.hosts()).collect();
    for host in hosts {
        match fleet.app.store.host(&host).await {
            Ok(Some(row)) if row.state == HostState::Enrolled => {}
            Ok(_) => close_all(fleet, &host),
            Err(error) => tracing::warn!(%error, host.id = %host, "a host cannot be looked up"),
        }
    }
}
