//! Sessions that live here against those the database knows of: either side may have missed
//! something while the database could not be reached, or was restored.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::HostId;
use hostler_protocol::message::close;

use crate::app::App;
use crate::fleet::{Agents, Connected};
use crate::store::StoreError;

/// Makes both sides say the same again.
///
/// # Errors
/// [`StoreError`]; the next look does what this one could not.
pub(super) async fn compare(app: &App, agents: &Agents) -> Result<(), StoreError> {
    // A session is in the database before it counts as connected, hence connected first; one
    // that begins while the database is read is among the live ones afterwards.
    let connected = agents.connected();
    let known: BTreeMap<HostId, u64> =
        app.store.sessions_at(&app.controller).await?.into_iter().collect();
    let live: BTreeSet<HostId> = agents.hosts().into_iter().collect();
    close_unknown(agents, connected, &known);
    for (host, epoch) in known.into_iter().filter(|(host, _)| !live.contains(host)) {
        tracing::info!(host.id = %host, epoch, "a session that ended unseen is entered as ended");
        app.disconnected(&host, epoch).await?;
    }
    Ok(())
}

/// A host whose session the database does not know gets no work, and nobody would see why: it is
/// to come back at once.
fn close_unknown(agents: &Agents, connected: Vec<Connected>, known: &BTreeMap<HostId, u64>) {
    for session in connected {
        if known.get(&session.host) != Some(&session.epoch) {
            let reason = "this session is no longer known: connect anew";
            if agents.close_epoch(&session.host, session.epoch, close::UNAVAILABLE, reason) {
                tracing::warn!(
                    host.id = %session.host,
                    "a session the database does not know is closed"
                );
            }
        }
    }
}
