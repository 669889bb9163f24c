//! The UDP port: handshakes within limits, each connection to what its ALPN asks for.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_protocol::message::close;
use hostler_protocol::{
    AGENT_STREAMS_MAX, ALPN_BULK, ALPN_ENROL, ALPN_RENEW, ALPN_SESSION, IDLE_SECS, KEEP_ALIVE_SECS,
};
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::agents::Arrival;
use super::rate::RateLimit;
use super::tls::{self, Served};
use super::{Fleet, PeerIdentity, bulk, drops, enrolment, recovery, session};
use crate::pki::PkiError;

/// Bytes asked for as the UDP socket's receive buffer: what a fleet answering at once needs.
pub(super) const UDP_RECEIVE_BYTES: usize = 32 * 1024 * 1024;
/// Handshakes in flight at once; more are refused.
pub(super) const HANDSHAKES_MAX: usize = 512;
/// From this many handshakes in flight on, a source has to prove its address first.
pub(super) const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Connections at once; more are refused.
pub(super) const CONNECTIONS_MAX: usize = 20_000;
/// Seconds a handshake may take.
pub(super) const HANDSHAKE_SECS: u64 = 10;
/// Bytes an agent may have in flight on one stream: a whole frame fits.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024 + 64 * 1024;
/// Bytes an agent may have in flight on all its streams.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes that may wait here for an agent's acknowledgement.
pub(super) const SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// Seconds between two looks at the age of the controller's certificate.
const CERTIFICATE_LOOK_SECS: u64 = 600;
/// Seconds between two looks at what the system dropped.
const DROPS_LOOK_SECS: u64 = 10;
/// Milliseconds to tell agents to come back after a drain, spread evenly.
const DRAIN_SPREAD_MS: u64 = 5_000;
/// Milliseconds between two resets of connections of the process before: a fleet whose controller was
/// started anew asks all within one keep-alive, and whoever gets no answer waits for the next.
const RESET_INTERVAL_MS: u64 = 1;
/// Seconds connections get to end at a shutdown.
const DRAIN_SECS: u64 = 3;

/// Why the endpoint cannot stand.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("the agents' port cannot be used")]
    Socket(#[from] std::io::Error),
    #[error("the controller's certificate cannot be made")]
    Pki(#[from] PkiError),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("client certificates cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("TLS lacks QUIC's first cipher suite")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// The agents' port, open.
#[derive(Debug)]
pub struct Port {
    endpoint: Endpoint,
    served: Arc<Served>,
    fleet: Arc<Fleet>,
    handshakes: Arc<Semaphore>,
    strangers: Arc<Strangers>,
}

/// How often peers without a certificate may try: one limit for those that want one for the first
/// time, one for those that come back, so that neither can keep the other out.
#[derive(Debug, Default)]
struct Strangers {
    enrolments: Mutex<RateLimit>,
    returns: Mutex<RateLimit>,
}

fn allow(limit: &Mutex<RateLimit>, fleet: &Fleet, connection: &Connection) -> bool {
    let source = connection.remote_address().ip();
    let now_ms = fleet.app.clock.monotonic_ms();
    limit.lock().unwrap_or_else(PoisonError::into_inner).allow(source, now_ms)
}

impl Port {
    /// Opens the port on a bound socket. To be called within the runtime.
    ///
    /// # Errors
    /// [`EndpointError`] when the socket, the certificate or TLS is not usable.
    pub fn open(fleet: Fleet, socket: UdpSocket) -> Result<Self, EndpointError> {
        widen_receive_buffer(&socket);
        let served = Served::new(Arc::clone(&fleet.authority))?;
        let tls = tls::server_config(Arc::clone(&served), fleet.app.clock.clone())?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(Arc::new(transport()));
        config.max_incoming(HANDSHAKES_MAX);
        config.incoming_buffer_size(16 * 1024).incoming_buffer_size_total(8 * 1024 * 1024);
        let endpoint = Endpoint::new(
            endpoint_config(&fleet.authority.reset_secret()),
            Some(config),
            socket,
            Arc::new(quinn::TokioRuntime),
        )?;
        Ok(Self {
            endpoint,
            served,
            fleet: Arc::new(fleet),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            strangers: Arc::default(),
        })
    }

    /// Where the port is.
    ///
    /// # Errors
    /// [`EndpointError::Socket`] if the socket does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, EndpointError> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Serves until the shutdown, then lets agents go within a bounded time.
    pub async fn serve(self, shutdown: CancellationToken) {
        let mut look = tokio::time::interval(Duration::from_secs(CERTIFICATE_LOOK_SECS));
        let mut drops_look = tokio::time::interval(Duration::from_secs(DROPS_LOOK_SECS));
        let mut dropped = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = look.tick() => self.renew_certificate(),
                _ = drops_look.tick() => dropped = self.tell_drops(dropped),
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.admit(incoming),
                    None => break,
                },
            }
        }
        self.endpoint.set_server_config(None);
        self.fleet.agents.drain(DRAIN_SPREAD_MS);
        self.fleet.lines.close_all(close::DRAINING, "the controller shuts down");
        self.fleet.tasks.close();
        let drained = Duration::from_secs(DRAIN_SECS);
        if tokio::time::timeout(drained, self.fleet.tasks.wait()).await.is_err() {
            tracing::warn!("some agents' sessions did not end in time and are cut off");
        }
        self.endpoint.close(VarInt::from_u32(close::DRAINING), b"the controller shuts down");
        if tokio::time::timeout(drained, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("connections were still draining");
        }
    }

    fn renew_certificate(&self) {
        if let Err(error) = self.served.look_at_authority() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "this controller's issuing authority cannot be looked after"
            );
        }
        let now = self.fleet.app.clock.now();
        if self.served.is_due(now) {
            match self.served.renew() {
                Ok(()) => tracing::info!("the controller's certificate was renewed"),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the controller's certificate could not be renewed"
                ),
            }
        }
    }

    /// Tells how many datagrams the system has dropped here, if more were than `before`.
    fn tell_drops(&self, before: u64) -> u64 {
        let dropped = self.local_addr().ok().and_then(drops::at).unwrap_or(before);
        metrics::counter!("hostler_udp_receive_drops_total").absolute(dropped);
        if dropped > before {
            tracing::warn!(
                dropped = dropped - before,
                "the system dropped datagrams of agents: the UDP receive buffer is too small for this \
                 fleet, raise net.core.rmem_max"
            );
        }
        dropped
    }

    fn admit(&self, incoming: Incoming) {
        let under_way = HANDSHAKES_MAX - self.handshakes.available_permits();
        if under_way >= HANDSHAKES_UNPROVEN_MAX
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            if incoming.retry().is_err() {
                refused("retry");
            }
            return;
        }
        let room = self.endpoint.open_connections() < CONNECTIONS_MAX;
        let Some(permit) = Arc::clone(&self.handshakes).try_acquire_owned().ok().filter(|_| room)
        else {
            refused("busy");
            return incoming.refuse();
        };
        let arrival = self.fleet.agents.arrival();
        let limit = Duration::from_secs(HANDSHAKE_SECS);
        // In a box, which goes when the handshake is over: a task keeps the room of its largest
        // state for as long as it lives, and this one lives as long as the session.
        let handshake =
            Box::pin(tokio::time::timeout(limit, async move { incoming.accept()?.await }));
        let (fleet, strangers) = (Arc::clone(&self.fleet), Arc::clone(&self.strangers));
        self.fleet.tasks.spawn(async move {
            match handshake.await {
                Ok(Ok(connection)) => {
                    drop(permit);
                    serve_connection(fleet, &strangers, connection, arrival).await;
                }
                Ok(Err(error)) => {
                    refused("tls");
                    tracing::debug!(%error, "a handshake failed");
                }
                Err(_) => refused("slow"),
            }
        });
    }
}

/// What happens once on a connection has its own box, for the same reason as the handshake.
async fn serve_connection(
    fleet: Arc<Fleet>,
    strangers: &Strangers,
    connection: Connection,
    arrival: Arrival,
) {
    let alpn = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    match alpn.as_deref() {
        Some(ALPN_ENROL) => {
            let allowed = allow(&strangers.enrolments, &fleet, &connection);
            Box::pin(enrolment::serve(&fleet, &connection, allowed)).await;
        }
        Some(ALPN_RENEW) => {
            let allowed = allow(&strangers.returns, &fleet, &connection);
            Box::pin(recovery::serve(&fleet, &connection, allowed)).await;
        }
        Some(ALPN_SESSION) => {
            if let Some(peer) = Box::pin(known(&fleet, &connection)).await {
                Box::pin(session::serve(fleet, connection, peer, arrival)).await;
            }
        }
        Some(ALPN_BULK) => {
            if let Some(peer) = Box::pin(known(&fleet, &connection)).await {
                Box::pin(bulk::serve(fleet, connection, peer)).await;
            }
        }
        Some(_) | None => connection.close(VarInt::from_u32(close::PROTOCOL), b"unknown ALPN"),
    }
}

/// Who is at the other end; anybody but an enrolled host is sent away.
async fn known(fleet: &Fleet, connection: &Connection) -> Option<PeerIdentity> {
    match PeerIdentity::check(&fleet.app, connection).await {
        Ok(Some(peer)) => Some(peer),
        Ok(None) => {
            refused("unauthenticated");
            let reason = b"no certificate of an enrolled host";
            connection.close(VarInt::from_u32(close::UNAUTHENTICATED), reason);
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a host cannot be looked up");
            connection.close(VarInt::from_u32(close::UNAVAILABLE), b"try again later");
            None
        }
    }
}

fn refused(why: &'static str) {
    metrics::counter!("hostler_handshakes_refused_total", "reason" => why).increment(1);
}

/// Connection ids and reset tokens that a restarted controller still recognises: an agent whose
/// connection belonged to the process before learns so with its next packet, and need not wait
/// until the connection has been idle for too long (RFC 9000, section 10.3).
fn endpoint_config(secret: &[u8; 32]) -> EndpointConfig {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let derived = ring::hmac::sign(&key, b"connection ids");
    let cid_key = derived.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.min_reset_interval(Duration::from_millis(RESET_INTERVAL_MS));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    config
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    // State is kept for each stream permitted: an idle host should cost little.
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(AGENT_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // Frames are small and hosts are many: probing each path costs more than it saves.
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .enable_segmentation_offload(false)
        .keep_alive_interval(Some(Duration::from_secs(KEEP_ALIVE_SECS)))
        .max_idle_timeout(Some(
            VarInt::from_u32(u32::try_from(IDLE_SECS * 1000).unwrap_or(45_000)).into(),
        ));
    transport
}

/// Asks for a large receive buffer, reads back what was given, and says so if it is less.
fn widen_receive_buffer(socket: &UdpSocket) {
    use rustix::net::sockopt;
    if sockopt::set_socket_recv_buffer_size_force(socket, UDP_RECEIVE_BYTES).is_err()
        && let Err(error) = sockopt::set_socket_recv_buffer_size(socket, UDP_RECEIVE_BYTES)
    {
        tracing::warn!(%error, "the UDP receive buffer cannot be set");
    }
    let Ok(given) = sockopt::socket_recv_buffer_size(socket) else { return };
    #[expect(clippy::cast_precision_loss, reason = "a buffer's size is far below 2^52")]
    metrics::gauge!("hostler_udp_receive_buffer_bytes").set(given as f64);
    if given < UDP_RECEIVE_BYTES {
        tracing::warn!(
            given_bytes = given,
            asked_bytes = UDP_RECEIVE_BYTES,
            "the UDP receive buffer is small: a large fleet answering at once will lose packets; \
             raise net.core.rmem_max"
        );
    }
}
