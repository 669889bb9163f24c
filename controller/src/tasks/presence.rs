//! Sessions that live here against those the database knows of: either side may have missed
//! something while the database could not be reached, or was restored.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::HostId;
use hostler_protocol::message::close;

use crate::app::App;
use crate::fleet::{Connected, Sessions};
use crate::store::StoreError;

/// Makes both sides say the same again.
///
/// # Errors
/// [`StoreError`]; the next look does what this one could not.
pub async fn compare(app: &App, agents: &impl Sessions) -> Result<(), StoreError> {
    // A session is in the database before it counts as connected, hence connected first; one
    // that begins while the database is read is among the live ones afterwards.
    let connected = agents.connected();
    let known: BTreeMap<HostId, u64> =
        app.store.sessions_at(&app.controller).await?.into_iter().collect();
    let live: BTreeSet<HostId> = agents.hosts().into_iter().collect();
    close_unknown(app, agents, connected, &known).await?;
    for (host, epoch) in known.into_iter().filter(|(host, _)| !live.contains(host)) {
        tracing::info!(host.id = %host, epoch, "a session that ended unseen is entered as ended");
        app.disconnected(&host, epoch).await?;
    }
    Ok(())
}

/// A host whose session the database does not know gets no work, and nobody would see why: it is
/// to come back at once. One that has a newer session elsewhere has moved; whoever is still here is
/// told so, since it may be a copy of the machine.
async fn close_unknown(
    app: &App,
    agents: &impl Sessions,
    connected: Vec<Connected>,
    known: &BTreeMap<HostId, u64>,
) -> Result<(), StoreError> {
    let unknown = connected.into_iter().filter(|one| known.get(&one.host) != Some(&one.epoch));
    for Connected { host, epoch, .. } in unknown {
        let newer = app.store.session_of(&host).await?.is_some_and(|current| current > epoch);
        let (code, reason) = if newer {
            (
                close::REPLACED,
                "a newer session of this host, at another controller, replaced this one",
            )
        } else {
            (close::UNAVAILABLE, "this session is no longer known: connect anew")
        };
        if agents.close_epoch(&host, epoch, code, reason) {
            tracing::warn!(host.id = %host, epoch, reason, "a session is closed");
        }
    }
    Ok(())
}
