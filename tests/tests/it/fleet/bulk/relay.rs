//! A UDP relay that counts what comes from the controller, and can hold it up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// A running relay.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    outer: UdpSocket,
    controller: SocketAddr,
    /// Bytes that came from the controller and were passed on.
    bytes: AtomicU64,
    /// Nothing more is passed on from so many bytes on.
    limit: watch::Sender<u64>,
}

impl Relay {
    pub(super) async fn start(controller: SocketAddr) -> Self {
        let outer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = outer.local_addr().unwrap();
        let (bytes, limit) = (AtomicU64::new(0), watch::Sender::new(u64::MAX));
        let shared = Arc::new(Shared { outer, controller, bytes, limit });
        let task = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).serve()));
        Self { address, shared, _task: task }
    }

    /// Bytes from the controller so far.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Holds everything from the controller up once so many bytes have passed.
    pub(super) fn hold_from(&self, bytes: u64) {
        self.shared.limit.send_replace(bytes);
    }

    /// Lets everything pass again.
    pub(super) fn let_go(&self) {
        self.shared.limit.send_replace(u64::MAX);
    }
}

impl Shared {
    async fn serve(self: Arc<Self>) {
        let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, AbortOnDropHandle<()>)> =
            HashMap::new();
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // An ICMP error of a client that is gone comes in here, too.
            let Ok((length, client)) = self.outer.recv_from(&mut bytes).await else { continue };
            let (socket, _answers) = match clients.entry(client) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    socket.connect(self.controller).await.unwrap();
                    let answers = Arc::clone(&self).answers(Arc::clone(&socket), client);
                    new.insert((socket, AbortOnDropHandle::new(tokio::spawn(answers))))
                }
            };
            // A controller that is down refuses; it comes back.
            socket.send(&bytes[..length]).await.ok();
        }
    }

    async fn answers(self: Arc<Self>, socket: Arc<UdpSocket>, client: SocketAddr) {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        let mut limit = self.limit.subscribe();
        loop {
            let Ok(length) = socket.recv(&mut bytes).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let passed = self.bytes.load(Ordering::SeqCst);
            limit.wait_for(|limit| passed < *limit).await.unwrap();
            self.bytes.fetch_add(length as u64, Ordering::SeqCst);
            self.outer.send_to(&bytes[..length], client).await.ok();
        }
    }
}
