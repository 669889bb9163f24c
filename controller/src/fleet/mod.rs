//! Agents: one UDP port, enrolment of new hosts, sessions of enrolled ones and bundles for them, the
//! return of hosts whose certificate has ended.
//!
//! Invariants:
//! * the only room that names quinn and rustls;
//! * the only key to a session, and to bundles, is a [`PeerIdentity`]: a client certificate of our own authority
//!   whose host and key are those of an enrolled host, checked before a byte is read;
//! * nothing is acknowledged to an agent that is not committed;
//! * every queue, stream count, window and wait here has a limit with a name.

mod agents;
mod answers;
mod bulk;
pub mod desk;
mod drops;
mod endpoint;
mod enrolment;
mod frames;
mod identity;
mod intake;
mod lines;
mod progress;
mod rate;
mod recovery;
mod renewal;
mod revoked;
mod session;
mod tls;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::pki::Authority;

pub use agents::{Agents, Connected, NotDelivered, ORDERS_MAX, Order, Sessions};
pub use endpoint::{EndpointError, Port};
pub use identity::PeerIdentity;
pub use intake::Intake;

/// What every connection needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    app: App,
    authority: Arc<Authority>,
    agents: Agents,
    intake: Intake,
    lines: lines::Lines,
    tasks: TaskTracker,
}

impl Fleet {
    /// A fleet without connections. Starts the writers that gather what sessions report; they end
    /// when the last clone is gone.
    #[must_use]
    pub fn new(app: App, authority: Arc<Authority>) -> Self {
        let intake = Intake::start(&app);
        let (agents, lines, tasks) =
            (Agents::default(), lines::Lines::default(), TaskTracker::new());
        Self { app, authority, agents, intake, lines, tasks }
    }

    /// Who is connected, and how to reach them.
    #[must_use]
    pub fn agents(&self) -> Agents {
        self.agents.clone()
    }

    /// Closes the connections of hosts that get revoked, until the shutdown.
    pub async fn follow_revocations(&self, shutdown: CancellationToken) {
        revoked::follow(self, shutdown).await;
    }
}
