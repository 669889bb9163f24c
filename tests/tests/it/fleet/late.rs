//! Connections of one host that come in another order than they began.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hostler_protocol::ALPN_SESSION;
use hostler_protocol::message::close;

use super::agent::{close_code, connect, hello, new_host, session, soon};
use super::{Controller, directory};

/// A way to the controller on which a handshake can be held up half-way.
struct Gate {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    /// Whether something is being held up.
    holds: Arc<AtomicBool>,
}

impl Gate {
    /// Lets the client's first packet through and holds up the others until it is opened.
    fn to(controller: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(controller).unwrap();
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        }
        let address = near.local_addr().unwrap();
        let [open, over, holds] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let gate = Self { address, open: open.clone(), over: over.clone(), holds: holds.clone() };
        std::thread::spawn(move || {
            let (mut bytes, mut client, mut passed, mut held) =
                ([0; 2048], None, 0, Vec::<Vec<u8>>::new());
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, from)) = near.recv_from(&mut bytes) {
                    client = Some(from);
                    held.push(bytes[..length].to_vec());
                }
                if passed == 0 || open.load(Ordering::Relaxed) {
                    for packet in held.drain(..) {
                        far.send(&packet).unwrap();
                        passed += 1;
                    }
                }
                holds.store(!held.is_empty(), Ordering::Relaxed);
                if let (Ok(length), Some(client)) = (far.recv(&mut bytes), client) {
                    near.send_to(&bytes[..length], client).unwrap();
                }
            }
        });
        gate
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_connection_that_began_before_the_host_s_session_does_not_replace_it() {
    let (_dir, path) = directory();
    let controller = Controller::start(&path).await;
    let identity = new_host(&controller, "web-1").await;
    let pin = controller.app().join.pin;
    let gate = Gate::to(controller.ready.agents);
    let certificate = Some((identity.enrolled.chain.clone(), &identity.key));
    let (former, live) =
        tokio::join!(connect(gate.address, pin, ALPN_SESSION, certificate), async {
            soon("the first handshake to be held up", async {
                while !gate.holds.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            let live = session(&controller, &identity, hello(&[], &[])).await;
            gate.open.store(true, Ordering::Relaxed);
            live
        });
    assert_eq!(close_code(&former.unwrap()).await, u64::from(close::REPLACED));
    assert!(live.connection.close_reason().is_none(), "the session goes on");
    let host = controller.app().store.host(&identity.enrolled.host).await.unwrap().unwrap();
    assert!(host.connected, "and the database knows it");
    controller.stop().await;
}
