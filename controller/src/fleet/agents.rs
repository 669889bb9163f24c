//! The handle on live sessions: who is connected, and how to tell them something.
//!
//! One session per host: a newer one closes the older and waits until it is entered as ended, so
//! that the two never write about the host at the same time. Which one is newer is a matter of when
//! their connections began, not of whose host was found in the database first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::mpsc;
use hostler_protocol::id::HostId;
use hostler_protocol::message::{AttemptRef, close};
use quinn::{Connection, VarInt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::Template;

/// Orders that may wait for one session.
pub const ORDERS_MAX: usize = 64;
/// Seconds a newer session waits for the older one to be entered as ended.
const REPLACE_SECS: u64 = 5;

/// What a session is told from inside.
#[derive(Debug)]
pub enum Order {
    Run { attempt: AttemptRef, timeout_secs: u32, spec: Vec<u8>, template: Arc<Template> },
    Cancel { attempt: AttemptRef },
    Drain { retry_after_ms: u64 },
}

/// The order did not reach a session: nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the host's session is gone or takes no more orders")]
pub struct NotDelivered;

/// A host with a live session here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    pub host: HostId,
    pub epoch: u64,
    /// Attempts handed over or running there.
    pub in_flight: usize,
}

/// The place of a connection in the order in which connections began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival(u64);

#[derive(Debug)]
struct Live {
    arrival: Arrival,
    /// Set once the session was welcomed.
    epoch: Option<u64>,
    connection: Connection,
    orders: mpsc::Sender<Order>,
    in_flight: Arc<AtomicUsize>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    live: Mutex<HashMap<HostId, Live>>,
    arrivals: AtomicU64,
    changed: Notify,
}

/// What the loops need of live sessions: who is there, and a way to tell them something.
pub trait Sessions: Sync {
    /// The welcomed sessions.
    fn connected(&self) -> Vec<Connected>;

    /// Every host with a session here, welcomed or not.
    fn hosts(&self) -> Vec<HostId>;

    /// Hands an order to the host's session of this epoch.
    ///
    /// # Errors
    /// [`NotDelivered`] if that session is gone or full; nothing was sent then.
    fn order(&self, host: &HostId, epoch: u64, order: Order) -> Result<(), NotDelivered>;

    /// Closes the host's session at once, whatever it does; says whether there was one.
    fn close(&self, host: &HostId, code: u32, reason: &str) -> bool;

    /// Closes the host's session if it is the one of this epoch; says whether it was.
    fn close_epoch(&self, host: &HostId, epoch: u64, code: u32, reason: &str) -> bool;
}

/// Every live session here; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    inner: Arc<Inner>,
}

/// A session's place among the live ones; leaving it is its drop.
#[derive(Debug)]
pub(super) struct Place {
    agents: Agents,
    host: HostId,
    arrival: Arrival,
    pub(super) in_flight: Arc<AtomicUsize>,
}

impl Agents {
    fn live(&self) -> MutexGuard<'_, HashMap<HostId, Live>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next connection's place; to be asked for when it begins.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival(self.inner.arrivals.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends when a session is welcomed or has room again; counts from its creation, not from its
    /// first poll, so create it before looking.
    pub fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.inner.changed.notified()
    }

    /// Tells every agent to come back later, each at its own time within the spread, and lets the
    /// sessions end.
    pub(super) fn drain(&self, spread_ms: u64) {
        let mut live = self.live();
        let count = live.len().max(1) as u64;
        for (place, session) in live.values_mut().enumerate() {
            let retry_after_ms = spread_ms * place as u64 / count;
            if session.orders.try_send(Order::Drain { retry_after_ms }).is_err() {
                let reason = b"the controller shuts down";
                session.connection.close(VarInt::from_u32(close::DRAINING), reason);
            }
        }
    }

    /// Takes the host's place for a new session, after the older one has left it. `None`: the place
    /// has a session of a connection that began later, so this one is its agent's former one.
    pub(super) async fn enter(
        &self,
        host: &HostId,
        connection: &Connection,
        arrival: Arrival,
    ) -> Option<(Place, mpsc::Receiver<Order>)> {
        loop {
            let older = {
                let mut live = self.live();
                match live.get(host) {
                    None => {
                        let (orders, receiver) = super::frames::channel(ORDERS_MAX);
                        let in_flight = Arc::new(AtomicUsize::new(0));
                        let session = Live {
                            arrival,
                            epoch: None,
                            connection: connection.clone(),
                            orders,
                            in_flight: Arc::clone(&in_flight),
                            gone: CancellationToken::new(),
                        };
                        live.insert(host.clone(), session);
                        let agents = self.clone();
                        let place = Place { agents, host: host.clone(), arrival, in_flight };
                        return Some((place, receiver));
                    }
                    Some(newer) if newer.arrival > arrival => return None,
                    Some(older) => {
                        let reason = b"a newer session of this host replaced this one";
                        older.connection.close(VarInt::from_u32(close::REPLACED), reason);
                        (older.arrival, older.gone.clone())
                    }
                }
            };
            let (former, gone) = older;
            let limit = Duration::from_secs(REPLACE_SECS);
            if tokio::time::timeout(limit, gone.cancelled()).await.is_err() {
                tracing::warn!(host.id = %host, "an older session of this host does not end");
                self.leave(host, former);
            }
        }
    }

    fn leave(&self, host: &HostId, arrival: Arrival) {
        let mut live = self.live();
        if live.get(host).is_some_and(|session| session.arrival == arrival)
            && let Some(session) = live.remove(host)
        {
            session.gone.cancel();
        }
    }
}

impl Sessions for Agents {
    fn connected(&self) -> Vec<Connected> {
        let live = self.live();
        live.iter()
            .filter_map(|(host, session)| {
                let in_flight = session.in_flight.load(Ordering::SeqCst);
                Some(Connected { host: host.clone(), epoch: session.epoch?, in_flight })
            })
            .collect()
    }

    fn order(&self, host: &HostId, epoch: u64, order: Order) -> Result<(), NotDelivered> {
        let mut live = self.live();
        let session = live.get_mut(host).filter(|session| session.epoch == Some(epoch));
        let session = session.ok_or(NotDelivered)?;
        let is_run = matches!(order, Order::Run { .. });
        session.orders.try_send(order).map_err(|_| NotDelivered)?;
        if is_run {
            session.in_flight.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn close(&self, host: &HostId, code: u32, reason: &str) -> bool {
        let live = self.live();
        let session = live.get(host);
        if let Some(session) = session {
            session.connection.close(VarInt::from_u32(code), reason.as_bytes());
        }
        session.is_some()
    }

    fn close_epoch(&self, host: &HostId, epoch: u64, code: u32, reason: &str) -> bool {
        let live = self.live();
        let session = live.get(host).filter(|session| session.epoch == Some(epoch));
        if let Some(session) = session {
            session.connection.close(VarInt::from_u32(code), reason.as_bytes());
        }
        session.is_some()
    }

    fn hosts(&self) -> Vec<HostId> {
        self.live().keys().cloned().collect()
    }
}

impl Place {
    /// From now on the session takes jobs.
    pub(super) fn welcomed(&self, epoch: u64) {
        if let Some(session) = self.agents.live().get_mut(&self.host)
            && session.arrival == self.arrival
        {
            session.epoch = Some(epoch);
        }
        self.agents.inner.changed.notify_waiters();
    }

    /// One attempt less is in flight.
    pub(super) fn freed(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.agents.inner.changed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.agents.leave(&self.host, self.arrival);
    }
}
