//! One session: carries frames between a connection and the session core, and what the core
//! decides between agents and the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hostler_protocol::codec;
use hostler_protocol::id::HostId;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, ToController, close};
use hostler_protocol::session::ChannelId;
use hostler_protocol::session::controller::{CHANNELS_MAX, CONTROL, Core, Effect, Input};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::agents::Place;
use super::answers::Refused;
use super::frames::{FrameReader, ReadError, STREAM_FRAMES_MAX, write_all};
use super::{Fleet, Order, PeerIdentity, renewal};
use crate::app::fleet::{Report, to_store};
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
    /// A certificate for a new key, or why there is none.
    Renewed(Result<Vec<Vec<u8>>, Refused>),
}

struct Writer {
    frames: mpsc::Sender<Vec<u8>>,
    done: JoinHandle<()>,
}

struct Session {
    fleet: Fleet,
    connection: Connection,
    host: HostId,
    peer: PeerIdentity,
    core: Core,
    place: Place,
    epoch: Option<u64>,
    inbox: mpsc::Sender<Inward>,
    writers: HashMap<ChannelId, Writer>,
    accepted_streams: u64,
    /// Attempts that take up a slot, with their templates where they are known.
    slots: HashSet<AttemptRef>,
    templates: HashMap<AttemptRef, Arc<Template>>,
    closing: Option<(u32, String)>,
}

/// Serves the session of an enrolled host until its connection ends.
pub(super) async fn serve(fleet: Fleet, connection: Connection, peer: PeerIdentity) {
    let host = peer.host().clone();
    let (place, mut orders) = fleet.agents.enter(&host, &connection).await;
    // The revocation may have come between the handshake and the entry that its follower looks at.
    if !peer.holds(&fleet.app).await.unwrap_or(false) {
        connection.close(VarInt::from_u32(close::REVOKED), b"this host was revoked");
        return;
    }
    let (inbox, mut inward) = mpsc::channel(INBOX_MAX);
    let core = Core::new(fleet.app.clock.monotonic_ms());
    let mut session = Session {
        fleet,
        connection,
        host,
        peer,
        core,
        place,
        epoch: None,
        inbox,
        writers: HashMap::new(),
        accepted_streams: 0,
        slots: HashSet::new(),
        templates: HashMap::new(),
        closing: None,
    };
    metrics::gauge!("hostler_sessions").increment(1);
    let ended = session.run(&mut inward, &mut orders).await;
    metrics::gauge!("hostler_sessions").decrement(1);
    tracing::info!(host.id = %session.host, reason = %ended, "a session ended");
    drop(inward);
    session.leave(orders).await;
}

impl Session {
    async fn run(
        &mut self,
        inward: &mut mpsc::Receiver<Inward>,
        orders: &mut mpsc::Receiver<Order>,
    ) -> String {
        loop {
            let due = self.core.next_timeout();
            let wait = due.map(|due| due.saturating_sub(self.fleet.app.clock.monotonic_ms()));
            let input = tokio::select! {
                error = self.connection.closed() => return ended_by(&error),
                stream = self.connection.accept_bi() => {
                    if let Ok((send, receive)) = stream {
                        self.accept(send, receive);
                    }
                    continue;
                }
                Some(inward) = inward.recv() => match self.inward(inward) {
                    Some(input) => input,
                    None => continue,
                },
                Some(order) = orders.recv() => self.order(order),
                () = tokio::time::sleep(Duration::from_millis(wait.unwrap_or(0))), if due.is_some() => {
                    Input::Timeout
                }
            };
            self.handle(input).await;
            if let Some((code, reason)) = self.closing.take() {
                self.close(code, &reason).await;
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
        tokio::spawn(read_all(channel, FrameReader::new(receive), self.inbox.clone()));
        let (frames, waiting) = mpsc::channel(STREAM_FRAMES_MAX);
        let done = tokio::spawn(write_all(send, waiting));
        self.writers.insert(channel, Writer { frames, done });
    }

    fn open(&mut self, channel: ChannelId) {
        let (frames, waiting) = mpsc::channel(STREAM_FRAMES_MAX);
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
                self.core.carries(&attempt).then_some(Input::Cancel { attempt })
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
                let answer = answer.map_err(|refused| (refused.code.to_owned(), refused.message));
                Some(Input::Renewed { answer })
            }
        }
    }

    fn over(&mut self, attempt: &AttemptRef) {
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

    async fn handle(&mut self, input: Input) {
        let now_ms = self.fleet.app.clock.monotonic_ms();
        let mut effects = self.core.handle(input, now_ms).into_iter();
        let mut welcomed = None;
        while let Some(effect) = effects.next() {
            match effect {
                Effect::Open { channel } => self.open(channel),
                Effect::Send { channel, message } => self.send(channel, message),
                Effect::Finish { channel } => drop(self.writers.remove(&channel)),
                Effect::Reconcile { hello } => {
                    if let Some(admitted) = self.admit(&hello).await {
                        effects = self.core.handle(admitted, now_ms).into_iter();
                        welcomed = self.epoch;
                    }
                }
                Effect::Accepted { attempt } => self.accepted(attempt),
                Effect::Rejected { attempt, error } => {
                    let outcome = self.fleet.app.rejection(&error);
                    let report = self.report(attempt, outcome);
                    self.settle(report, false);
                }
                Effect::Progress { attempt, sequence, document } => {
                    self.fleet.intake.progress(&self.host, &attempt, sequence, &document);
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
                    tracing::info!(host.id = %self.host, reason, "an agent takes its leave");
                }
                Effect::Close { code, reason } => {
                    if code == close::PROTOCOL {
                        metrics::counter!("hostler_protocol_errors_total").increment(1);
                        tracing::warn!(host.id = %self.host, reason, "an agent broke the protocol");
                    }
                    self.closing = Some((code, reason));
                }
            }
        }
        // Only now may jobs come: the Welcome is on its way before them.
        if let Some(epoch) = welcomed {
            self.place.welcomed(epoch);
        }
    }

    /// Messages that do not fit the stream's queue mean an agent that does not read.
    fn send(&mut self, channel: ChannelId, message: ToAgent) {
        let Some(writer) = self.writers.get(&channel) else { return };
        let frame = match codec::encode(&message) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "a message does not fit a frame and is not sent");
                return;
            }
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = writer.frames.try_send(frame) {
            let reason = "the agent does not read what it is sent".to_owned();
            self.closing = Some((close::UNAVAILABLE, reason));
        }
        if self.writers.len() > 2 * CHANNELS_MAX {
            self.closing = Some((close::PROTOCOL, "too many streams".to_owned()));
        }
    }

    async fn admit(&mut self, hello: &Hello) -> Option<Input> {
        match self.fleet.app.admit(self.peer.shown(), hello).await {
            Ok(admission) => {
                self.epoch = Some(admission.epoch);
                self.place.in_flight.store(admission.running.len(), Ordering::SeqCst);
                self.slots = admission.running.into_iter().collect();
                tracing::info!(
                    host.id = %self.host, epoch = admission.epoch, agent.build = %hello.build,
                    source = %self.connection.remote_address(), "a session began"
                );
                Some(Input::Admitted {
                    controller: self.fleet.app.controller.clone(),
                    epoch: admission.epoch,
                    verdicts: admission.verdicts,
                })
            }
            Err(error) => {
                tracing::error!(%error, host.id = %self.host, "a session could not be entered");
                let reason = "the controller cannot take sessions just now".to_owned();
                self.closing = Some((close::UNAVAILABLE, reason));
                None
            }
        }
    }

    fn report(&self, attempt: AttemptRef, outcome: hostler_protocol::job::Outcome) -> Report {
        let template = self.templates.get(&attempt).cloned();
        Report { host: self.host.clone(), attempt, outcome, template }
    }

    fn accepted(&self, attempt: AttemptRef) {
        let (intake, inbox) = (self.fleet.intake.clone(), self.inbox.clone());
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

    fn settle(&self, report: Report, acknowledge: bool) {
        let (intake, inbox) = (self.fleet.intake.clone(), self.inbox.clone());
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
        let (fleet, inbox) = (self.fleet.clone(), self.inbox.clone());
        let shown = self.peer.shown().clone();
        tokio::spawn(async move {
            let answer = renewal::over_session(&fleet, &shown, &csr).await;
            // The session may be over: its successor asks again.
            drop(inbox.send(Inward::Renewed(answer)).await);
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
    async fn leave(self, mut orders: mpsc::Receiver<Order>) {
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
            && let Err(error) = app.disconnected(&self.host, epoch).await
        {
            tracing::error!(%error, host.id = %self.host, "a session's end could not be entered");
        }
    }
}

async fn read_all(channel: ChannelId, mut frames: FrameReader, inbox: mpsc::Sender<Inward>) {
    loop {
        let inward = match frames.next().await {
            Ok(Some(message)) => Inward::Frame(channel, Box::new(message)),
            Ok(None) => Inward::Ended(channel),
            Err(ReadError::Frame(error)) => Inward::Broken(error.to_string()),
            // A stream reset by the agent carries nothing more; a lost connection says so itself.
            Err(ReadError::Stream(_)) => Inward::Ended(channel),
        };
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
