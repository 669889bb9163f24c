//! The controller's live sessions, as its loops see them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hostler_controller::fleet::{Connected, NotDelivered, ORDERS_MAX, Order, Sessions};
use hostler_protocol::id::HostId;

use super::event::Conn;

/// A host's place among the live ones.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) conn: Conn,
    /// Set once the session was welcomed.
    pub(super) epoch: Option<u64>,
    pub(super) in_flight: usize,
    pub(super) orders: VecDeque<Order>,
    /// No more orders are taken.
    pub(super) shut: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) places: BTreeMap<HostId, Place>,
    /// What a loop wants closed, with the code.
    pub(super) to_close: Vec<(Conn, u32)>,
    /// A session was welcomed or has room again.
    pub(super) changed: bool,
}

/// Every live session; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Hub {
    inner: Arc<Mutex<Inner>>,
}

impl Hub {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions for Hub {
    fn connected(&self) -> Vec<Connected> {
        let inner = self.inner();
        let welcomed = inner.places.iter().filter_map(|(host, place)| {
            let epoch = place.epoch?;
            Some(Connected { host: host.clone(), epoch, in_flight: place.in_flight })
        });
        welcomed.collect()
    }

    fn hosts(&self) -> Vec<HostId> {
        self.inner().places.keys().cloned().collect()
    }

    fn order(&self, host: &HostId, epoch: u64, order: Order) -> Result<(), NotDelivered> {
        let mut inner = self.inner();
        let place = inner.places.get_mut(host).filter(|place| place.epoch == Some(epoch));
        let place = place.filter(|place| !place.shut && place.orders.len() < ORDERS_MAX);
        let place = place.ok_or(NotDelivered)?;
        if matches!(order, Order::Run { .. }) {
            place.in_flight += 1;
        }
        place.orders.push_back(order);
        Ok(())
    }

    fn close(&self, host: &HostId, code: u32, _reason: &str) -> bool {
        let mut inner = self.inner();
        let conn = inner.places.get(host).map(|place| place.conn);
        inner.to_close.extend(conn.map(|conn| (conn, code)));
        conn.is_some()
    }

    fn close_epoch(&self, host: &HostId, epoch: u64, code: u32, _reason: &str) -> bool {
        let mut inner = self.inner();
        let place = inner.places.get(host).filter(|place| place.epoch == Some(epoch));
        let conn = place.map(|place| place.conn);
        inner.to_close.extend(conn.map(|conn| (conn, code)));
        conn.is_some()
    }
}
