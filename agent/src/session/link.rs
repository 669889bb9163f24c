//! One connection: moves frames between its streams, the session core and the runner's pipe.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::facts::with_welcomed;
use hostler_protocol::message::{Hello, ToAgent, ToController, close};
use hostler_protocol::session::ChannelId;
use hostler_protocol::session::agent::{CONTROL, Core, Effect, Input};
use hostler_protocol::{JOB_STREAMS_MAX, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, VERSION_OBSERVED};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{PipeEnd, Session, Status, Told, chain};
use crate::identity::{Keeper, Shown};
use crate::net::{self, Way};
use crate::runner::pipe::{FromRunner, Introduction, PipeError, ToRunner};

/// Events waiting for the loop.
const EVENTS_MAX: usize = 2 * JOB_STREAMS_MAX as usize;
/// Frames waiting on one channel; progress gives way to what must arrive.
const CHANNEL_FRAMES_MAX: usize = 64;
/// Places of a channel progress may not take.
const CHANNEL_FRAMES_KEPT: usize = 8;
/// Reports that may wait on the control channel: what is not sent soon is not worth sending.
const REPORTS_WAITING_MAX: usize = 2;
/// How long the last frames may take to arrive before the connection is closed.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// How a connection went.
#[derive(Debug)]
pub(super) struct Served {
    /// When the controller welcomed the agent.
    pub(super) established_ms: Option<u64>,
    /// How long the controller asked to stay away.
    pub(super) retry_after_ms: Option<u64>,
    pub(super) end: End,
}

/// Why it ended.
#[derive(Debug)]
pub(super) enum End {
    Stopped,
    /// To come back at once, showing another identity.
    Switched {
        reason: String,
    },
    Lost {
        code: Option<u32>,
        ended: bool,
        reason: String,
    },
}

enum Event {
    Opened(SendStream, RecvStream),
    Frame(ChannelId, ToAgent),
    Ended(ChannelId),
    /// The controller sent something that is no frame.
    Unreadable(String),
}

/// One connection being served.
pub(super) struct Link<'a> {
    connection: Connection,
    session: &'a Session,
    pub(super) keeper: &'a mut Keeper,
    /// Which identity this connection shows; committed once it is welcomed.
    pub(super) shown: Shown,
    pipe: &'a mut PipeEnd,
    stop: CancellationToken,
    pub(super) core: Core,
    /// Where frames for each channel go.
    channels: HashMap<ChannelId, mpsc::Sender<Vec<u8>>>,
    control: Option<JoinHandle<()>>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    accepted: u64,
    pub(super) served: Served,
    /// Why the connection is to end at once.
    pub(super) switch: Option<String>,
}

impl<'a> Link<'a> {
    pub(super) fn new(
        connection: Connection,
        session: &'a Session,
        keeper: &'a mut Keeper,
        shown: Shown,
        pipe: &'a mut PipeEnd,
        stop: CancellationToken,
    ) -> Self {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let reason = "the connection broke".to_owned();
        let end = End::Lost { code: None, ended: false, reason };
        Self {
            connection,
            session,
            keeper,
            shown,
            pipe,
            stop,
            core: Core::new(),
            channels: HashMap::new(),
            control: None,
            events,
            inbox,
            accepted: 0,
            served: Served { established_ms: None, retry_after_ms: None, end },
            switch: None,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn serve(mut self) -> Result<Served, PipeError> {
        let introduction = self.introduction().await?;
        let hello = self.hello(introduction);
        self.open(CONTROL);
        let acceptor = tokio::spawn(accept(self.connection.clone(), self.events.clone()));
        let mut open = self.step(Input::Connected { hello }).await?;
        while open {
            let wait_ms = self
                .core
                .next_timeout()
                .map_or(u64::MAX, |due| due.saturating_sub(self.session.clock.monotonic_ms()));
            let certificate_ms = self.certificate_ms();
            let takes_reports = self.takes_reports();
            open = tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(event) => self.event(event).await?,
                    None => false,
                },
                told = self.pipe.next_told(takes_reports) => match told {
                    Told::Runner(message) => match message? {
                        FromRunner::Message(message) => {
                            self.step(Input::FromRunner(message)).await?
                        }
                        FromRunner::Introduction(_) => true,
                    },
                    Told::Report(document) => self.step(Input::Observed { document }).await?,
                },
                error = self.connection.closed() => {
                    self.lost(&error);
                    false
                }
                () = self.stop.cancelled() => {
                    self.served.end = End::Stopped;
                    self.step(Input::Stop { reason: "the agent stops".to_owned() }).await?
                }
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {
                    self.step(Input::Timeout).await?
                }
                () = sleep_ms(certificate_ms), if certificate_ms.is_some() => {
                    match self.certificate_due().await {
                        Some(input) => self.step(input).await?,
                        None => true,
                    }
                }
            };
            if let (true, Some(reason)) = (open, self.switch.take()) {
                self.served.end = End::Switched { reason: reason.clone() };
                open = self.step(Input::Stop { reason }).await?;
            }
        }
        acceptor.abort();
        self.pipe.reports.end();
        Ok(self.served)
    }

    /// Whether the controller reads fast enough for a report.
    fn takes_reports(&self) -> bool {
        let waiting = |frames: &mpsc::Sender<Vec<u8>>| frames.max_capacity() - frames.capacity();
        let control = self.channels.get(&CONTROL);
        control.is_some_and(|frames| waiting(frames) < REPORTS_WAITING_MAX)
    }

    /// Asks the runner what to say in the `Hello`; what it said before is of the past.
    async fn introduction(&mut self) -> Result<Introduction, PipeError> {
        self.pipe.say(&ToRunner::Introduce).await?;
        loop {
            if let FromRunner::Introduction(introduction) = self.pipe.next().await? {
                return Ok(introduction);
            }
        }
    }

    fn hello(&self, introduction: Introduction) -> Hello {
        let Introduction { boot, running, unacknowledged } = introduction;
        let welcomed =
            Some(self.session.welcomed.load(Ordering::SeqCst)).filter(|epoch| *epoch > 0);
        Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            boot,
            clock_us: self.session.clock.now_us(),
            running,
            unacknowledged,
            facts: with_welcomed(&self.session.facts, welcomed),
        }
    }

    async fn event(&mut self, event: Event) -> Result<bool, PipeError> {
        match event {
            Event::Frame(channel, message) => self.step(Input::Received { channel, message }).await,
            Event::Ended(channel) => {
                if channel == CONTROL {
                    self.hear_why().await;
                }
                self.step(Input::Ended { channel }).await
            }
            Event::Opened(send, receive) => {
                self.accepted += 1;
                let channel = ChannelId(2 * self.accepted);
                let (frames, queue) = mpsc::channel(CHANNEL_FRAMES_MAX);
                self.channels.insert(channel, frames);
                tokio::spawn(write_frames(send, queue));
                tokio::spawn(read_frames(channel, receive, self.events.clone()));
                Ok(true)
            }
            Event::Unreadable(reason) => {
                self.close(close::PROTOCOL, &reason).await;
                Ok(false)
            }
        }
    }

    /// Feeds the core and carries out what it says. False when the connection is over.
    async fn step(&mut self, input: Input) -> Result<bool, PipeError> {
        let now_ms = self.session.clock.monotonic_ms();
        for effect in self.core.handle(input, now_ms) {
            match effect {
                Effect::Open { channel } => self.open(channel),
                Effect::Send { channel, message } => {
                    if !self.send(channel, &message) {
                        self.close(close::UNAVAILABLE, "the controller does not read").await;
                        return Ok(false);
                    }
                }
                Effect::Finish { channel } => drop(self.channels.remove(&channel)),
                Effect::Established { version, controller, epoch } => {
                    tracing::info!(%controller, epoch, version, peer = %self.connection.remote_address(), "connected to the controller");
                    self.served.established_ms = Some(now_ms);
                    self.session.welcomed.store(epoch, Ordering::SeqCst);
                    self.identity_welcomed().await;
                    self.tell_way();
                    self.session.status.send_replace(Status::Connected { epoch });
                    self.pipe.say(&ToRunner::Online).await?;
                    if version >= VERSION_OBSERVED {
                        self.pipe.reports.begin();
                    }
                }
                Effect::ToRunner(message) => self.pipe.say(&ToRunner::Message(message)).await?,
                Effect::Renewed { chain } => self.renewed(chain).await,
                Effect::RenewRefused { code, message } => self.renewal_refused(&code, &message),
                Effect::RenewUnanswered => self.renewal_unanswered(),
                Effect::RetryAfter { retry_after_ms } => {
                    tracing::info!(retry_after_ms, "the controller is about to stop");
                    self.served.retry_after_ms = Some(retry_after_ms);
                }
                Effect::Refused { code, message } => {
                    let reason = format!("the controller refused this agent: {message} ({code})");
                    let code = Some(close::VERSION);
                    self.served.end = End::Lost { code, ended: false, reason };
                }
                Effect::Close { code, reason } => {
                    self.close(code, &reason).await;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Says how bundles are fetched from now on: from this controller first, showing the identity that
    /// was welcomed.
    fn tell_way(&self) {
        match self.keeper.bulk_config() {
            Ok(config) => {
                let first = Some(self.connection.remote_address());
                let controllers = self.session.controllers.clone();
                self.session.ways.send_replace(Some(Way { config, first, controllers }));
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "no bundles can be fetched");
            }
        }
    }

    fn open(&mut self, channel: ChannelId) {
        let (frames, queue) = mpsc::channel(CHANNEL_FRAMES_MAX);
        self.channels.insert(channel, frames);
        let (connection, events) = (self.connection.clone(), self.events.clone());
        let writer = tokio::spawn(async move {
            match connection.open_bi().await {
                Ok((send, receive)) => {
                    tokio::spawn(read_frames(channel, receive, events));
                    write_frames(send, queue).await;
                }
                Err(error) => tracing::debug!(%error, "no stream could be opened"),
            }
        });
        if channel == CONTROL {
            self.control = Some(writer);
        }
    }

    /// Queues a frame. False if the controller reads too slowly for what must arrive.
    fn send(&self, channel: ChannelId, message: &ToController) -> bool {
        // A channel that is gone is one the controller has ended: it will learn in the next Hello.
        let Some(frames) = self.channels.get(&channel) else { return true };
        let may_wait = matches!(message, ToController::Progress { .. });
        if may_wait && frames.capacity() <= CHANNEL_FRAMES_KEPT {
            return true;
        }
        match codec::encode(message) {
            Ok(frame) => match frames.try_send(frame) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
                Err(mpsc::error::TrySendError::Full(_)) => false,
            },
            Err(error) => {
                tracing::error!(%error, "a message does not fit a frame");
                true
            }
        }
    }

    /// A controller that ends a session ends its stream first, and says why as it closes the
    /// connection: that may come a moment later.
    async fn hear_why(&self) {
        let closed = tokio::time::timeout(FAREWELL_TIMEOUT, self.connection.closed()).await;
        if closed.is_err() {
            tracing::debug!("the controller ended its stream and leaves the connection open");
        }
    }

    async fn close(&mut self, code: u32, reason: &str) {
        if let Some(error) = self.connection.close_reason() {
            return self.lost(&error);
        }
        let said = match &self.served.end {
            End::Lost { code, .. } => code.is_some(),
            End::Stopped | End::Switched { .. } => true,
        };
        if !said {
            let reason = reason.to_owned();
            self.served.end = End::Lost { code: None, ended: false, reason };
        }
        self.channels.clear();
        if let Some(control) = self.control.take()
            && tokio::time::timeout(FAREWELL_TIMEOUT, control).await.is_err()
        {
            tracing::debug!("the last words may not have arrived");
        }
        self.connection.close(code.into(), reason.as_bytes());
    }

    fn lost(&mut self, error: &quinn::ConnectionError) {
        let (code, ended) = (net::close_code(error), net::is_our_certificate_ended(error));
        self.served.end = End::Lost { code, ended, reason: chain(error) };
    }
}

async fn sleep_ms(wait_ms: Option<u64>) {
    tokio::time::sleep(Duration::from_millis(wait_ms.unwrap_or(0))).await;
}

async fn accept(connection: Connection, events: mpsc::Sender<Event>) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        if events.send(Event::Opened(send, receive)).await.is_err() {
            return;
        }
    }
}

/// Writes frames until there are no more, then ends the stream and waits for it to arrive.
async fn write_frames(mut send: SendStream, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = send.write_all(&frame).await {
            tracing::debug!(%error, "a stream ended early");
            return;
        }
    }
    if send.finish().is_ok()
        && let Err(error) = send.stopped().await
    {
        tracing::debug!(%error, "the end of a stream was not confirmed");
    }
}

async fn read_frames(channel: ChannelId, mut receive: RecvStream, events: mpsc::Sender<Event>) {
    let mut decoder = Decoder::new();
    let mut bytes = vec![0; 4 * 1024];
    loop {
        let event = match decoder.next_payload() {
            Ok(Some(payload)) => match codec::decode(&payload) {
                Ok(message) => Event::Frame(channel, message),
                Err(error) => Event::Unreadable(error.to_string()),
            },
            Ok(None) => match receive.read(&mut bytes).await {
                Ok(Some(read)) => {
                    decoder.ingest(&bytes[..read]);
                    continue;
                }
                Ok(None) => match decoder.finish() {
                    Ok(()) => Event::Ended(channel),
                    Err(error) => Event::Unreadable(error.to_string()),
                },
                // The loop learns of a lost connection, and why, from the connection.
                Err(quinn::ReadError::ConnectionLost(_)) => return,
                Err(_) => Event::Ended(channel),
            },
            Err(error) => Event::Unreadable(error.to_string()),
        };
        let last = !matches!(event, Event::Frame(..));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
