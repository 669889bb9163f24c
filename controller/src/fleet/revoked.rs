//! Revocation closes live sessions.

use std::sync::Arc;

use hostler_protocol::id::HostId;
use hostler_protocol::message::close;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Agents;
use crate::app::App;
use crate::domain::{Event, EventKind, HostState};

/// Closes the session of each host that is revoked, until the shutdown.
pub(super) async fn follow(app: &App, agents: &Agents, shutdown: CancellationToken) {
    let mut follower = app.events.subscribe();
    loop {
        let told = tokio::select! {
            () = shutdown.cancelled() => return,
            told = follower.recv() => told,
        };
        match told {
            Ok(event) => on_event(agents, &event),
            // Something was missed: ask about everybody.
            Err(RecvError::Lagged(_)) => look_at_all(app, agents).await,
            Err(RecvError::Closed) => return,
        }
    }
}

fn on_event(agents: &Agents, event: &Arc<Event>) {
    if event.event.kind == EventKind::HostRevoked
        && let Some(host) = &event.event.subject.host
    {
        close_session(agents, host);
    }
}

fn close_session(agents: &Agents, host: &HostId) {
    if agents.close(host, close::REVOKED, "this host was revoked") {
        tracing::info!(host.id = %host, "the session of a revoked host was closed");
    }
}

async fn look_at_all(app: &App, agents: &Agents) {
    for host in agents.hosts() {
        match app.store.host(&host).await {
            Ok(Some(row)) if row.state == HostState::Enrolled => {}
            Ok(_) => close_session(agents, &host),
            Err(error) => tracing::warn!(%error, host.id = %host, "a host cannot be looked up"),
        }
    }
}
