//! One session: carries frames between a connection and the session core, and what the core
//! decides between agents and the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::{SinkExt as _, StreamExt as _};
use hostler_protocol::codec;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, ToController, close};
use hostler_protocol::session::ChannelId;
use hostler_protocol::session::controller::{CHANNELS_MAX, CONTROL, Core, Effect, Input};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::task::JoinHandle;

use super::agents::Place;
use super::answers::Refused;
use super::frames::{FrameReader, ReadError, STREAM_FRAMES_MAX, channel as queue, write_all};
use super::{Fleet, Order, PeerIdentity, renewal};
use crate::app::fleet::{Admission, Report, to_store};
use crate::domain::Template;

/// Frames of all streams of a session that may wait to be handled.
const INBOX_MAX: usize = 32;
/// Milliseconds the last frames get before the connection is closed.
const LAST_FRAMES_MS: u64 = 1000;

/// What comes to a session from its own tasks.
enum Inward {
    Frame(ChannelId, Box<ToController>),
    Ended(ChannelId),
    Broken(String),
    /// The outcome is committed or stale: it may be forgotten.
    Settled(AttemptRef),
    /// The attempt is not the job's current one.
    NotCurrent(AttemptRef),
    /// The attempt is over without an outcome to acknowledge.
    Over(AttemptRef),
    NotTaken,
    /// A certificate for a new key, or why there is none; boxed, since it is rare and large.
    Renewed(Box<Result<Vec<Vec<u8>>, Refused>>),
}

struct Writer {
    frames: mpsc::Sender<Vec<u8>>,
    done: JoinHandle<()>,
}

/// Where a session's tasks and the rest of the controller leave word for it.
struct Queues {
    inward: mpsc::Receiver<Inward>,
    orders: mpsc::Receiver<Order>,
}

struct Session {
    fleet: Arc<Fleet>,
    connection: Connection,
    peer: PeerIdentity,
    core: Core,
    place: Place,
    epoch: Option<u64>,
    /// The control stream, read here and by no task of its own; `None` once it has ended.
    control: Option<FrameReader>,
    inbox: mpsc::Sender<Inward>,
    writers: HashMap<ChannelId, Writer>,
    accepted_streams: u64,
    /// Attempts that take up a slot, with their templates where they are known.
    slots: HashSet<AttemptRef>,
    /// Attempts whose end has been told and is not entered yet.
    ending: HashSet<AttemptRef>,
    templates: HashMap<AttemptRef, Arc<Template>>,
    closing: Option<(u32, String)>,
}

/// Serves the session of an enrolled host until its connection ends.
///
/// Idle sessions are many, and a future keeps the room of its largest state: what happens rarely
/// has its own box, here and below.
pub(super) async fn serve(fleet: Arc<Fleet>, connection: Connection, peer: PeerIdentity) {
    let Some((mut session, mut queues)) = Box::pin(enter(fleet, connection, peer)).await else {
        return;
    };
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
) -> Option<(Box<Session>, Queues)> {
    let (place, orders) = fleet.agents.enter(peer.host(), &connection).await;
    // The revocation may have come between the handshake and the entry that its follower looks at.
    if !peer.holds(&fleet.app).await.unwrap_or(false) {
        connection.close(VarInt::from_u32(close::REVOKED), b"this host was revoked");
        return None;
    }
    let (inbox, inward) = queue(INBOX_MAX);
    let core = Core::new(fleet.app.clock.monotonic_ms());
    let session = Session {
        fleet,
        connection,
        peer,
        core,
        place,
        epoch: None,
        control: None,
        inbox,
        writers: HashMap::new(),
        accepted_streams: 0,
        slots: HashSet::new(),
        ending: HashSet::new(),
        templates: HashMap::new(),
        closing: None,
    };
    Some((Box::new(session), Queues { inward, orders }))
}

/// The control stream's next frame; for ever nothing, while there is no such stream.
async fn control_frame(control: &mut Option<FrameReader>) -> Inward {
    let Some(frames) = control else { return std::future::pending().await };
    let inward = read(CONTROL, frames).await;
    if !matches!(inward, Inward::Frame(..)) {
        *control = None;
    }
    inward
}

impl Session {
    async fn run(&mut self, queues: &mut Queues) -> String {
        loop {
            let due = self.core.next_timeout();
            let wait = due.map(|due| due.saturating_sub(self.fleet.app.clock.monotonic_ms()));
            let input = tokio::select! {
                error = self.connection.closed() => return ended_by(&error),
                stream = self.connection.accept_bi() => {
                    if let Ok((send, receive)) = stream {
                        self.accept(send, receive);
                    }
                    None
                }
                inward = control_frame(&mut self.control) => self.inward(inward),
                Some(inward) = queues.inward.next() => self.inward(inward),
                Some(order) = queues.orders.next() => Some(self.order(order)),
                () = tokio::time::sleep(Duration::from_millis(wait.unwrap_or(0))), if due.is_some() => {
                    Some(Input::Timeout)
                }
            };
            let Some(input) = input else { continue };
            if let Some(hello) = self.handle(input) {
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

    fn inward(&mut self, inward: Inward) -> Option<Input> {
        match inward {
            Inward::Frame(channel, message) => Some(Input::Received { channel, message: *message }),
            Inward::Ended(channel) => Some(Input::Ended { channel }),
            Inward::Broken(reason) => {
                metrics::counter!("hostler_protocol_errors_total").increment(1);
                self.closing = Some((close::PROTOCOL, reason));
                Some(Input::Timeout)
            }
            Inward::Settled(attempt) => {
                self.over(&attempt);
                Some(Input::Settled { attempt })
            }
            // An attempt that ended as fast as it was accepted is no longer current either, but
            // its end has been told and there is nothing to stop.
            Inward::NotCurrent(attempt) => {
                let runs = self.core.carries(&attempt) && !self.ending.contains(&attempt);
                runs.then_some(Input::Cancel { attempt })
            }
            Inward::Over(attempt) => {
                self.over(&attempt);
                None
            }
            Inward::NotTaken => {
                let reason = "the controller cannot take reports just now".to_owned();
                self.closing = Some((close::UNAVAILABLE, reason));
                Some(Input::Timeout)
            }
            Inward::Renewed(answer) => {
                let answer =
                    (*answer).map_err(|refused| (refused.code.to_owned(), refused.message));
                Some(Input::Renewed { answer })
            }
        }
    }

    fn over(&mut self, attempt: &AttemptRef) {
        self.ending.remove(attempt);
        self.templates.remove(attempt);
        if self.slots.remove(attempt) {
            self.place.freed();
        }
    }

    fn order(&mut self, order: Order) -> Input {
        match order {
            Order::Run { attempt, timeout_secs, spec, template } => {
                self.slots.insert(attempt.clone());
                self.templates.insert(attempt.clone(), template);
                Input::Run { attempt, timeout_secs, spec }
            }
            Order::Cancel { attempt } => Input::Cancel { attempt },
            Order::Drain { retry_after_ms } => {
                self.closing = Some((close::DRAINING, "the controller shuts down".to_owned()));
                Input::Drain { retry_after_ms }
            }
        }
    }

    /// Does what the core says; a `Hello` is left to be admitted.
    fn handle(&mut self, input: Input) -> Option<Hello> {
        let now_ms = self.fleet.app.clock.monotonic_ms();
        for effect in self.core.handle(input, now_ms) {
            match effect {
                Effect::Open { channel } => self.open(channel),
                Effect::Send { channel, message } => self.send(channel, message),
                Effect::Finish { channel } => drop(self.writers.remove(&channel)),
                // The core's last word until it is told of the admission.
                Effect::Reconcile { hello } => return Some(hello),
                Effect::Accepted { attempt } => self.accepted(attempt),
                Effect::Rejected { attempt, error } => {
                    let outcome = self.fleet.app.rejection(&error);
                    let report = self.report(attempt, outcome);
                    self.settle(report, false);
                }
                Effect::Progress { attempt, sequence, document } => {
                    self.fleet.intake.progress(self.peer.host(), &attempt, sequence, &document);
                }
                Effect::Finished { attempt, outcome } => {
                    let outcome = self.fleet.app.outcome(&outcome);
                    let report = self.report(attempt, outcome);
                    self.settle(report, true);
                }
                // A host speaks for itself only: what does not run there is none of its business.
                Effect::Alive { mut running } => {
                    running.retain(|attempt| self.slots.contains(attempt));
                    self.fleet.intake.renew(running);
                }
                Effect::Renew { csr } => self.renew(csr),
                Effect::Leaving { reason } => {
                    tracing::info!(host.id = %self.peer.host(), reason, "an agent takes its leave");
                }
                Effect::Close { code, reason } => {
                    if code == close::PROTOCOL {
                        metrics::counter!("hostler_protocol_errors_total").increment(1);
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
            Err(error) => {
                tracing::error!(%error, host.id = %self.peer.host(), "a session could not be entered");
                let reason = "the controller cannot take sessions just now".to_owned();
                self.closing = Some((close::UNAVAILABLE, reason));
                return;
            }
        };
        let Admission { epoch, verdicts, running } = admission;
        self.epoch = Some(epoch);
        self.place.in_flight.store(running.len(), Ordering::SeqCst);
        self.slots = running.into_iter().collect();
        tracing::info!(
            host.id = %self.peer.host(), epoch, agent.build = %hello.build,
            source = %self.connection.remote_address(), "a session began"
        );
        let controller = self.fleet.app.controller.clone();
        self.handle(Input::Admitted { controller, epoch, verdicts });
        // Only now may jobs come: the Welcome is on its way before them.
        self.place.welcomed(epoch);
    }

    fn report(&self, attempt: AttemptRef, outcome: hostler_protocol::job::Outcome) -> Report {
        let template = self.templates.get(&attempt).cloned();
        Report { host: self.peer.host().clone(), attempt, outcome, template }
    }

    fn accepted(&self, attempt: AttemptRef) {
        let (intake, mut inbox) = (self.fleet.intake.clone(), self.inbox.clone());
        let ours = self.slots.contains(&attempt);
        tokio::spawn(async move {
            let answer = if !ours {
                Inward::NotCurrent(attempt)
            } else {
                match intake.accept(attempt.clone()).await {
                    Ok(true) => return,
                    Ok(false) => Inward::NotCurrent(attempt),
                    Err(_) => Inward::NotTaken,
                }
            };
            // The session may be over: its successor asks again.
            drop(inbox.send(answer).await);
        });
    }

    fn settle(&mut self, report: Report, acknowledge: bool) {
        self.ending.insert(report.attempt.clone());
        let (intake, mut inbox) = (self.fleet.intake.clone(), self.inbox.clone());
        let attempt = report.attempt.clone();
        tokio::spawn(async move {
            let answer = match (intake.settle(report).await, acknowledge) {
                (Ok(_), true) => Inward::Settled(attempt),
                (Ok(_), false) => Inward::Over(attempt),
                (Err(_), _) => Inward::NotTaken,
            };
            drop(inbox.send(answer).await);
        });
    }

    fn renew(&self, csr: Vec<u8>) {
        let (fleet, mut inbox) = (Arc::clone(&self.fleet), self.inbox.clone());
        let shown = self.peer.shown().clone();
        tokio::spawn(async move {
            let answer = renewal::over_session(&fleet, &shown, &csr).await;
            // The session may be over: its successor asks again.
            drop(inbox.send(Inward::Renewed(Box::new(answer))).await);
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
async fn read(channel: ChannelId, frames: &mut FrameReader) -> Inward {
    match frames.next().await {
        Ok(Some(message)) => Inward::Frame(channel, Box::new(message)),
        Ok(None) => Inward::Ended(channel),
        Err(ReadError::Frame(error)) => Inward::Broken(error.to_string()),
        // A stream reset by the agent carries nothing more; a lost connection says so itself.
        Err(ReadError::Stream(_)) => Inward::Ended(channel),
    }
}

async fn read_all(channel: ChannelId, mut frames: FrameReader, mut inbox: mpsc::Sender<Inward>) {
    loop {
        let inward = read(channel, &mut frames).await;
        let last = !matches!(inward, Inward::Frame(..));
        if inbox.send(inward).await.is_err() || last {
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

    /// Bytes of the future of a function of three arguments.
    fn future_bytes<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Idle sessions are many, and what each keeps grows by one stray `.await`.
    #[test]
    fn a_session_that_waits_takes_little_memory() {
        let waiting = future_bytes(serve as fn(_, _, _) -> _);
        assert!(waiting <= 1024, "the future of a session takes {waiting} bytes");
        let kept = size_of::<Session>();
        assert!(kept <= 640, "a session takes {kept} bytes");
    }
}
