//! A UDP relay between hosts and a controller that can delay, reorder, repeat and drop packets:
//! this kernel has no netem.
//!
//! Each client address has a socket of its own towards the controller, so that answers find back.
//! What becomes of a packet is drawn from the relay's own seeded stream; the kernel decides in which
//! order packets come, so a seed gives the same odds, not the same run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::seed::Seeded;
use crate::servers::ServerError;

/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Clients remembered; an agent dials from a new port each time.
const CLIENTS_MAX: usize = 4_096;
/// In a storm: packets of a hundred that are dropped, repeated, delayed.
const DROPPED: u64 = 5;
const REPEATED: u64 = 5;
const DELAYED: u64 = 60;
/// Milliseconds of the longest delay: what was sent later overtakes what waits.
const DELAY_MS_MAX: u64 = 120;

/// A running relay; it ends with its guard.
#[derive(Debug)]
pub struct Relay {
    pub port: u16,
    stormy: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    outer: UdpSocket,
    controller: SocketAddr,
    stormy: Arc<AtomicBool>,
    seeded: Mutex<Seeded>,
}

/// What becomes of a packet: after how many milliseconds each copy of it is sent.
fn fate(seeded: &mut Seeded, stormy: bool) -> Vec<u64> {
    if !stormy {
        return vec![0];
    }
    if seeded.percent(DROPPED) {
        return Vec::new();
    }
    let copies = 1 + usize::from(seeded.percent(REPEATED));
    let delay = |seeded: &mut Seeded| match seeded.percent(DELAYED) {
        true => seeded.range(1, DELAY_MS_MAX),
        false => 0,
    };
    (0..copies).map(|_| delay(seeded)).collect()
}

impl Relay {
    /// Relays from a free port of `at` to the controller.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn start(
        at: std::net::Ipv4Addr,
        controller: SocketAddr,
        seeded: Seeded,
    ) -> Result<Self, ServerError> {
        let failed = |error| ServerError::new("starting the relay", error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let outer = runtime.block_on(UdpSocket::bind((at, 0))).map_err(failed)?;
        let port = outer.local_addr().map_err(failed)?.port();
        let stormy = Arc::new(AtomicBool::new(false));
        let shared =
            Shared { outer, controller, stormy: stormy.clone(), seeded: Mutex::new(seeded) };
        runtime.spawn(Arc::new(shared).serve());
        Ok(Self { port, stormy, _runtime: runtime })
    }

    /// Begins or ends a storm.
    pub fn storm(&self, on: bool) {
        self.stormy.store(on, Ordering::Relaxed);
    }
}

impl Shared {
    async fn serve(self: Arc<Self>) {
        let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // An ICMP error of an agent that is gone comes in here, too.
            let Ok((length, client)) = self.outer.recv_from(&mut bytes).await else { continue };
            let known = match clients.get(&client) {
                Some(socket) => socket.clone(),
                None => {
                    let Some(socket) = self.dial().await else { continue };
                    if clients.len() >= CLIENTS_MAX {
                        clients.clear();
                    }
                    clients.insert(client, socket.clone());
                    tokio::spawn(self.clone().answers(socket.clone(), client));
                    socket
                }
            };
            for delay_ms in self.fate() {
                let (socket, packet) = (known.clone(), bytes[..length].to_vec());
                later(delay_ms, async move { drop(socket.send(&packet).await) }).await;
            }
        }
    }

    async fn dial(&self) -> Option<Arc<UdpSocket>> {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
        socket.connect(self.controller).await.ok()?;
        Some(Arc::new(socket))
    }

    async fn answers(self: Arc<Self>, socket: Arc<UdpSocket>, client: SocketAddr) {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // A controller that is down refuses; it comes back.
            let Ok(length) = socket.recv(&mut bytes).await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            for delay_ms in self.fate() {
                let (shared, packet) = (self.clone(), bytes[..length].to_vec());
                let send = async move { drop(shared.outer.send_to(&packet, client).await) };
                later(delay_ms, send).await;
            }
        }
    }

    fn fate(&self) -> Vec<u64> {
        let stormy = self.stormy.load(Ordering::Relaxed);
        fate(&mut self.seeded.lock().unwrap_or_else(PoisonError::into_inner), stormy)
    }
}

/// At once, or in a task of its own after a while.
async fn later(delay_ms: u64, send: impl Future<Output = ()> + Send + 'static) {
    if delay_ms == 0 {
        return send.await;
    }
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        send.await;
    });
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn packets_pass_untouched_in_calm_and_suffer_in_a_storm() {
        let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        there.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let address = there.local_addr().unwrap();
        let relay = Relay::start(Ipv4Addr::LOCALHOST, address, Seeded::new(1)).unwrap();
        let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        here.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        here.connect((Ipv4Addr::LOCALHOST, relay.port)).unwrap();
        let mut bytes = [0; 16];
        for number in 0..50u8 {
            here.send(&[number]).unwrap();
            let (length, client) = there.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..length], [number]);
            there.send_to(&[number, 1], client).unwrap();
            assert_eq!(here.recv(&mut bytes).unwrap(), 2);
            assert_eq!(bytes[..2], [number, 1]);
        }
        relay.storm(true);
        for number in 0..200u8 {
            here.send(&[number]).unwrap();
        }
        let mut seen = Vec::new();
        while let Ok((_, _)) = there.recv_from(&mut bytes) {
            seen.push(bytes[0]);
        }
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert!((150..200).contains(&once.len()), "{} of 200 came", once.len());
        assert!(seen.len() > once.len(), "none came twice");
        assert!(!seen.is_sorted(), "none was overtaken");
    }
}
