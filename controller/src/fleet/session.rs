//! One session: carries frames between a connection and the session core, and what the core
//! decides between agents and the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::{SinkExt as _, StreamExt as _};
use hostler_protocol::codec;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, close};
use hostler_protocol::session::ChannelId;
use hostler_protocol::session::controller::{CHANNELS_MAX, CONTROL};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::task::JoinHandle;

use super::agents::{Arrival, Place};
use super::answers::Refused;
use super::desk::{Act, Desk, Event};
use super::frames::{FrameReader, ReadError, STREAM_FRAMES_MAX, channel as queue, write_all};
use super::{Fleet, Order, PeerIdentity, renewal};
use crate::app::fleet::{Report, to_store};
use crate::store::StoreError;

/// Frames of all streams of a session that may wait to be handled.
const INBOX_MAX: usize = 32;
/// Milliseconds the last frames get before the connection is closed.
const LAST_FRAMES_MS: u64 = 1000;

struct Writer {
    frames: mpsc::Sender<Vec<u8>>,
    done: JoinHandle<()>,
}

/// Where a session's tasks and the rest of the controller leave word for it.
struct Queues {
    inward: mpsc::Receiver<Event>,
    orders: mpsc::Receiver<Order>,
}

struct Session {
    fleet: Arc<Fleet>,
    connection: Connection,
    peer: PeerIdentity,
    desk: Desk,
    place: Place,
    epoch: Option<u64>,
    /// The control stream, read here and by no task of its own; `None` once it has ended.
    control: Option<FrameReader>,
    inbox: mpsc::Sender<Event>,
    writers: HashMap<ChannelId, Writer>,
    accepted_streams: u64,
    closing: Option<(u32, String)>,
}

/// Serves the session of an enrolled host until its connection ends.
///
/// Idle sessions are many, and a future keeps the room of its largest state: what happens rarely
/// has its own box, here and below.
pub(super) async fn serve(
    fleet: Arc<Fleet>,
    connection: Connection,
    peer: PeerIdentity,
    arrival: Arrival,
) {
    let entered = Box::pin(enter(fleet, connection, peer, arrival)).await;
    let Some((mut session, mut queues)) = entered else { return };
    metrics::gauge!("hostler_sessions").increment(1);
    let ended = session.run(&mut queues).await;
    metrics::gauge!("hostler_sessions").decrement(1);
    tracing::info!(host.id = %session.peer.host(), reason = %ended, "a session ended");
    Box::pin(session.leave(queues)).await;
}

async fn enter(
    fleet: Arc<Fleet>,
    connection: Connection,
    peer: PeerIdentity,
    arrival: Arrival,
) -> Option<(Box<Session>, Queues)> {
    let Some((place, orders)) = fleet.agents.enter(peer.host(), &connection, arrival).await else {
        let reason = b"a newer session of this host was there first";
        connection.close(VarInt::from_u32(close::REPLACED), reason);
        return None;
    };
    // The revocation may have come between the handshake and the entry that its follower looks at.
    match peer.holds(&fleet.app).await {
        Ok(true) => {}
        Ok(false) => {
            connection.close(VarInt::from_u32(close::REVOKED), b"this host was revoked");
            return None;
        }
        Err(error) => {
            tracing::warn!(%error, host.id = %peer.host(), "a host cannot be looked up");
            connection.close(VarInt::from_u32(close::UNAVAILABLE), b"try again later");
            return None;
        }
    }
    let (inbox, inward) = queue(INBOX_MAX);
    let desk = Desk::new(fleet.app.clock.monotonic_ms());
    let session = Session {
        fleet,
        connection,
        peer,
        desk,
        place,
        epoch: None,
        control: None,
        inbox,
        writers: HashMap::new(),
        accepted_streams: 0,
        closing: None,
    };
    Some((Box::new(session), Queues { inward, orders }))
}

/// The control stream's next frame; for ever nothing, while there is no such stream.
async fn control_frame(control: &mut Option<FrameReader>) -> Event {
    let Some(frames) = control else { return std::future::pending().await };
    let event = read(CONTROL, frames).await;
    if !matches!(event, Event::Frame(..)) {
        *control = None;
    }
    event
}

impl Session {
    async fn run(&mut self, queues: &mut Queues) -> String {
        loop {
            let due = self.desk.next_timeout();
            let wait = due.map(|due| due.saturating_sub(self.fleet.app.clock.monotonic_ms()));
            let event = tokio::select! {
                error = self.connection.closed() => return ended_by(&error),
                stream = self.connection.accept_bi() => {
                    if let Ok((send, receive)) = stream {
                        self.accept(send, receive);
                    }
                    None
                }
                event = control_frame(&mut self.control) => Some(event),
                Some(event) = queues.inward.next() => Some(event),
                Some(order) = queues.orders.next() => Some(Event::Order(order)),
                () = tokio::time::sleep(Duration::from_millis(wait.unwrap_or(0))), if due.is_some() => {
                    Some(Event::Timeout)
                }
            };
            let Some(event) = event else { continue };
            if let Some(hello) = self.handle(event) {
                Box::pin(self.admit(&hello)).await;
            }
            if let Some((code, reason)) = self.closing.take() {
                Box::pin(self.close(code, &reason)).await;
                return reason;
            }
        }
    }

    /// A stream the agent opened: the first is the control stream, the others get odd numbers.
    fn accept(&mut self, send: SendStream, receive: RecvStream) {
        let channel = match self.accepted_streams {
            0 => CONTROL,
            count => ChannelId(2 * count - 1),
        };
        self.accepted_streams += 1;
        let frames = FrameReader::new(receive);
        if channel == CONTROL {
            self.control = Some(frames);
        } else {
            tokio::spawn(read_all(channel, frames, self.inbox.clone()));
        }
        let (frames, waiting) = queue(STREAM_FRAMES_MAX);
        let done = tokio::spawn(write_all(send, waiting));
        self.writers.insert(channel, Writer { frames, done });
    }

    fn open(&mut self, channel: ChannelId) {
        let (frames, waiting) = queue(STREAM_FRAMES_MAX);
        let (connection, inbox) = (self.connection.clone(), self.inbox.clone());
        let done = tokio::spawn(async move {
            // Waits while the agent permits no more streams.
            let Ok((send, receive)) = connection.open_bi().await else { return };
            tokio::spawn(read_all(channel, FrameReader::new(receive), inbox));
            write_all(send, waiting).await;
        });
        self.writers.insert(channel, Writer { frames, done });
    }

    /// Does what the desk says; a `Hello` is left to be admitted.
    fn handle(&mut self, event: Event) -> Option<Hello> {
        // A frame that cannot be read is counted; one out of place is worth a line as well.
        let unreadable = matches!(event, Event::Broken(_));
        let now_ms = self.fleet.app.clock.monotonic_ms();
        for act in self.desk.handle(event, now_ms) {
            match act {
                Act::Open(channel) => self.open(channel),
                Act::Send(channel, message) => self.send(channel, message),
                Act::Finish(channel) => drop(self.writers.remove(&channel)),
                // The desk's last word until it is told of the admission.
                Act::Admit(hello) => return Some(*hello),
                Act::Accept(attempt) => self.accept_attempt(attempt),
                Act::Settle { attempt, document, refused, template } => {
                    let app = &self.fleet.app;
                    let outcome =
                        if refused { app.rejection(&document) } else { app.outcome(&document) };
                    let host = self.peer.host().clone();
                    self.settle(Report { host, attempt, outcome, template }, !refused);
                }
                Act::Progress { attempt, sequence, document } => {
                    self.fleet.intake.progress(self.peer.host(), &attempt, sequence, &document);
                }
                Act::Renew(attempts) => self.fleet.intake.renew(attempts),
                Act::Observed(document) => {
                    self.fleet.intake.observed(self.peer.host(), document);
                }
                Act::Freed => self.place.freed(),
                Act::Certify(csr) => self.renew(csr),
                Act::Leaving(reason) => {
                    tracing::info!(host.id = %self.peer.host(), reason, "an agent takes its leave");
                }
                Act::Close { code, reason } => {
                    if code == close::PROTOCOL {
                        metrics::counter!("hostler_protocol_errors_total").increment(1);
                    }
                    if code == close::PROTOCOL && !unreadable {
                        tracing::warn!(host.id = %self.peer.host(), reason, "an agent broke the protocol");
                    }
                    self.closing = Some((code, reason));
                }
            }
        }
        None
    }

    /// Messages that do not fit the stream's queue mean an agent that does not read.
    fn send(&mut self, channel: ChannelId, message: ToAgent) {
        let Some(writer) = self.writers.get_mut(&channel) else { return };
        let frame = match codec::encode(&message) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "a message does not fit a frame and is not sent");
                return;
            }
        };
        if writer.frames.try_send(frame).is_err_and(|error| error.is_full()) {
            let reason = "the agent does not read what it is sent".to_owned();
            self.closing = Some((close::UNAVAILABLE, reason));
        }
        if self.writers.len() > 2 * CHANNELS_MAX {
            self.closing = Some((close::PROTOCOL, "too many streams".to_owned()));
        }
    }

    async fn admit(&mut self, hello: &Hello) {
        let admission = match self.fleet.app.admit(self.peer.shown(), hello).await {
            Ok(admission) => admission,
            Err(StoreError::HostHeld { .. }) => {
                tracing::error!(
                    host.id = %self.peer.host(),
                    "two agents show this host's identity: neither is let in until a person has \
                     revoked the host and enrolled the machines anew"
                );
                let reason = "two agents show this host's identity".to_owned();
                self.closing = Some((close::HELD, reason));
                return;
            }
            Err(error) => {
                tracing::error!(%error, host.id = %self.peer.host(), "a session could not be entered");
                let reason = "the controller cannot take sessions just now".to_owned();
                self.closing = Some((close::UNAVAILABLE, reason));
                return;
            }
        };
        let epoch = admission.epoch;
        self.epoch = Some(epoch);
        self.place.in_flight.store(admission.running.len(), Ordering::SeqCst);
        tracing::info!(
            host.id = %self.peer.host(), epoch, agent.build = %hello.build,
            source = %self.connection.remote_address(), "a session began"
        );
        let controller = self.fleet.app.controller.clone();
        self.handle(Event::Admitted { controller, admission });
        // Only now may jobs come: the Welcome is on its way before them.
        self.place.welcomed(epoch);
    }

    fn accept_attempt(&self, attempt: AttemptRef) {
        let (intake, mut inbox) = (self.fleet.intake.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let answer = match intake.accept(attempt.clone()).await {
                Ok(true) => return,
                Ok(false) => Event::NotCurrent(attempt),
                Err(_) => Event::NotTaken,
            };
            // The session may be over: its successor asks again.
            drop(inbox.send(answer).await);
        });
    }

    fn settle(&self, report: Report, acknowledge: bool) {
        let (intake, mut inbox) = (self.fleet.intake.clone(), self.inbox.clone());
        let attempt = report.attempt.clone();
        tokio::spawn(async move {
            let answer = match intake.settle(report).await {
                Ok(_) => Event::Settled { attempt, acknowledge },
                Err(_) => Event::NotTaken,
            };
            drop(inbox.send(answer).await);
        });
    }

    fn renew(&self, csr: Vec<u8>) {
        let (fleet, mut inbox) = (Arc::clone(&self.fleet), self.inbox.clone());
        let shown = self.peer.shown().clone();
        tokio::spawn(async move {
            let answer = renewal::over_session(&fleet, &shown, &csr).await;
            let told = |refused: Refused| (refused.code.to_owned(), refused.message);
            // The session may be over: its successor asks again.
            drop(inbox.send(Event::Certified(Box::new(answer.map_err(told)))).await);
        });
    }

    /// Lets what was sent arrive, within bounds, then closes.
    async fn close(&mut self, code: u32, reason: &str) {
        let writers: Vec<Writer> = self.writers.drain().map(|(_, writer)| writer).collect();
        let all = async {
            for Writer { frames, done } in writers {
                drop(frames);
                drop(done.await);
            }
        };
        drop(tokio::time::timeout(Duration::from_millis(LAST_FRAMES_MS), all).await);
        self.connection.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Enters the end: orders never sent become runnable again, the rest is unknown.
    async fn leave(&self, queues: Queues) {
        let Queues { inward, mut orders } = queues;
        drop(inward);
        orders.close();
        let mut unsent = Vec::new();
        while let Ok(order) = orders.try_recv() {
            if let Order::Run { attempt, .. } = order {
                unsent.push(attempt);
            }
        }
        let app = &self.fleet.app;
        if !unsent.is_empty()
            && let Err(error) = app.store.requeue_unseen(&to_store(&unsent), app.clock.now()).await
        {
            tracing::error!(%error, "unsent jobs wait for their host's next session");
        }
        if let Some(epoch) = self.epoch
            && let Err(error) = app.disconnected(self.peer.host(), epoch).await
        {
            tracing::error!(%error, host.id = %self.peer.host(), "a session's end could not be entered");
        }
    }
}

/// What a stream brings next. Dropped before its end, it has lost nothing.
async fn read(channel: ChannelId, frames: &mut FrameReader) -> Event {
    match frames.next().await {
        Ok(Some(message)) => Event::Frame(channel, Box::new(message)),
        Ok(None) => Event::Ended(channel),
        Err(ReadError::Frame(error)) => Event::Broken(error.to_string()),
        // A stream reset by the agent carries nothing more; a lost connection says so itself.
        Err(ReadError::Stream(_)) => Event::Ended(channel),
    }
}

async fn read_all(channel: ChannelId, mut frames: FrameReader, mut inbox: mpsc::Sender<Event>) {
    loop {
        let event = read(channel, &mut frames).await;
        let last = !matches!(event, Event::Frame(..));
        if inbox.send(event).await.is_err() || last {
            return;
        }
    }
}

fn ended_by(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            format!("the agent closed it: {}", String::from_utf8_lossy(&closed.reason))
        }
        ConnectionError::LocallyClosed => "closed here".to_owned(),
        ConnectionError::TimedOut => "the agent fell silent".to_owned(),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::CidsExhausted => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future of a function of four arguments.
    fn future_bytes<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Idle sessions are many, and what each keeps grows by one stray `.await`.
    #[test]
    fn a_session_that_waits_takes_little_memory() {
        let waiting = future_bytes(serve as fn(_, _, _, _) -> _);
        assert!(waiting <= 1024, "the future of a session takes {waiting} bytes");
        let kept = size_of::<Session>();
        assert!(kept <= 640, "a session takes {kept} bytes");
    }
}
