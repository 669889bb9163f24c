//! The agent's sessions, one after another: dial, serve, wait, dial again, for ever.
//!
//! [`link`] carries one connection; the rules are `hostler_protocol::session::agent`'s, and which
//! identity is shown is the [`Keeper`]'s. Nothing here ends the agent: a host that is not wanted
//! now may be wanted later.

mod backoff;
mod certificate;
mod link;
mod route;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hostler_protocol::message::close;
use tokio::io::{DuplexStream, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::backoff::Backoff;
use self::link::{End, Link, Served};
use self::route::Route;
use crate::clock::Clock;
use crate::identity::{self, IdentityError, Keeper, Loss, Shown};
use crate::net::{self, Way};
use crate::observe::Reports;
use crate::runner::pipe::{self, FromRunner, PipeError, PipeReader, ToRunner};

/// Messages of the runner waiting for the session.
const PIPE_MESSAGES_MAX: usize = 64;
/// Longest wait a controller may ask for when it goes away.
const RETRY_AFTER_MS_MAX: u64 = 10 * 60 * 1000;

/// Longest wait before another controller is asked when the one that served goes away.
const MOVE_MS_MAX: u64 = 500;

/// Where the session is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Status {
    /// Not started.
    #[default]
    Idle,
    Connecting,
    /// Welcomed, for the epoch-th time.
    Connected {
        epoch: u64,
    },
    /// Waiting before the next attempt.
    Waiting {
        wait_ms: u64,
        reason: String,
    },
}

/// What a session is made of.
pub struct Session {
    /// `host:port`; the first to be tried is any of them, then the next ones in turn.
    pub controllers: Vec<String>,
    /// The facts document of the `Hello`.
    pub facts: Vec<u8>,
    pub clock: Clock,
    pub status: watch::Sender<Status>,
    /// How bundles are fetched, told whenever the agent was welcomed.
    pub ways: watch::Sender<Option<Way>>,
    /// The epoch this process was last welcomed in; 0: in none yet.
    pub welcomed: AtomicU64,
}

/// Why the session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The runner is gone.
    #[error("the runner is gone")]
    Runner(#[source] PipeError),
}

/// The session's end of the pipe to the runner, and of what else this host has to tell.
struct PipeEnd {
    send: WriteHalf<DuplexStream>,
    messages: mpsc::Receiver<Result<FromRunner, PipeError>>,
    /// What is seen of the host.
    reports: Reports,
    /// Holds the other half: with it the pipe ends, and the runner with the pipe.
    _reader: AbortOnDropHandle<()>,
}

/// What this host has to tell.
enum Told {
    Runner(Result<FromRunner, PipeError>),
    Report(Vec<u8>),
}

fn runner_gone() -> PipeError {
    PipeError::Io(std::io::ErrorKind::BrokenPipe.into())
}

impl PipeEnd {
    fn new(pipe: DuplexStream, reports: Reports) -> Self {
        let (reading, send) = tokio::io::split(pipe);
        let (says, messages) = mpsc::channel(PIPE_MESSAGES_MAX);
        let reader = tokio::spawn(async move {
            let mut reader = PipeReader::new(reading);
            while let Some(message) = reader.next().await.transpose() {
                let broken = message.is_err();
                if says.send(message).await.is_err() || broken {
                    return;
                }
            }
        });
        Self { send, messages, reports, _reader: AbortOnDropHandle::new(reader) }
    }

    async fn say(&mut self, message: &ToRunner) -> Result<(), PipeError> {
        pipe::write(&mut self.send, message).await
    }

    async fn next(&mut self) -> Result<FromRunner, PipeError> {
        self.messages.recv().await.unwrap_or_else(|| Err(runner_gone()))
    }

    /// The same, or a report if any are taken.
    async fn next_told(&mut self, reports: bool) -> Told {
        tokio::select! {
            message = self.messages.recv() => {
                Told::Runner(message.unwrap_or_else(|| Err(runner_gone())))
            }
            document = self.reports.next(), if reports => Told::Report(document),
        }
    }

    /// Waits for something else while nobody listens to the runner.
    async fn discard_until<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, PipeError> {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return Ok(done),
                message = self.next() => drop(message?),
            }
        }
    }
}

/// Why there is no session, and what comes next.
struct Lost {
    code: Option<u32>,
    reason: String,
    /// How long the controller asked to stay away.
    asked_ms: Option<u64>,
    /// There is another way that is worth trying at once.
    at_once: bool,
}

impl Session {
    /// Keeps a session until `stop` fires.
    ///
    /// # Errors
    /// [`SessionError`]; everything that can pass by itself is waited for instead.
    pub async fn run(
        self,
        mut keeper: Keeper,
        pipe: DuplexStream,
        reports: Reports,
        stop: CancellationToken,
    ) -> Result<(), SessionError> {
        let mut pipe = PipeEnd::new(pipe, reports);
        let mut backoff = Backoff::new();
        let mut route =
            Route::new(self.controllers.clone(), u64::from_le_bytes(self.clock.random()));
        loop {
            self.status.send_replace(Status::Connecting);
            let connected =
                Box::pin(self.connect(&mut keeper, &mut pipe, &mut backoff, &mut route, &stop));
            let Some(lost) = connected.await? else { return Ok(()) };
            if lost.at_once {
                tracing::info!(reason = lost.reason, "connecting anew");
                continue;
            }
            backoff.lost(self.clock.monotonic_ms());
            let wait_ms = self.wait_ms(&mut backoff, &route, &lost);
            report(&lost, wait_ms);
            self.status.send_replace(Status::Waiting { wait_ms, reason: lost.reason });
            let wait = tokio::time::sleep(Duration::from_millis(wait_ms));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                waited = pipe.discard_until(wait) => waited.map_err(SessionError::Runner)?,
            }
        }
    }

    /// Connects and serves the connection to its end; `None` when the agent is to stop.
    async fn connect(
        &self,
        keeper: &mut Keeper,
        pipe: &mut PipeEnd,
        backoff: &mut Backoff,
        route: &mut Route,
        stop: &CancellationToken,
    ) -> Result<Option<Lost>, SessionError> {
        if keeper.must_return() {
            let controllers = route.in_turn();
            let returned = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                returned = pipe.discard_until(keeper.come_back(&controllers)) => returned,
            };
            let returned = returned.map_err(SessionError::Runner)?;
            if returned.is_err() {
                // Another may be there, or know more.
                route.move_on();
            }
            return Ok(Some(certificate::returned(returned, backoff)));
        }
        let shown = keeper.shown();
        let mut config = keeper.config(shown)?;
        if route.has_another() {
            identity::tls::notice_soon(&mut config);
        }
        let dialled = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            dialled = pipe.discard_until(route.dial(&config)) => dialled,
        };
        let (endpoint, connection) = match dialled.map_err(SessionError::Runner)? {
            Ok(dialled) => {
                route.arrived(dialled.place);
                (dialled.endpoint, dialled.connection)
            }
            Err(error) => {
                let ended = error.connection_error().is_some_and(net::is_our_certificate_ended);
                let (code, reason) = (error.close_code(), chain(&error));
                return Ok(Some(lost(keeper, shown, code, ended, reason)));
            }
        };
        let link = Link::new(connection, self, keeper, shown, pipe, stop.clone());
        let Served { established_ms, retry_after_ms, end } =
            link.serve().await.map_err(SessionError::Runner)?;
        net::settle(&endpoint).await;
        if let Some(at_ms) = established_ms {
            backoff.established(at_ms);
        }
        Ok(match end {
            End::Stopped => None,
            End::Switched { reason } => {
                Some(Lost { code: None, reason, asked_ms: None, at_once: true })
            }
            End::Lost { code, ended, reason } => {
                // Whoever served last is gone, or wants to be left alone: the next one is asked first.
                route.move_on();
                let lost = lost(keeper, shown, code, ended, reason);
                Some(Lost { asked_ms: retry_after_ms, ..lost })
            }
        })
    }

    fn wait_ms(&self, backoff: &mut Backoff, route: &Route, lost: &Lost) -> u64 {
        let random = u64::from_le_bytes(self.clock.random());
        let unwanted = matches!(
            lost.code,
            Some(
                close::REVOKED
                    | close::UNAUTHENTICATED
                    | close::VERSION
                    | close::REPLACED
                    | close::HELD
            )
        );
        if unwanted {
            backoff.exhaust();
        }
        let drained = lost.asked_ms.is_some() || lost.code == Some(close::DRAINING);
        match lost.asked_ms {
            // It goes away, and there is another one: that it will be back soon is of no interest.
            // Hosts that move together still do not knock together.
            _ if drained && route.has_another() && !unwanted => random % MOVE_MS_MAX,
            // The controller gives each host a moment of its own: no more jitter than a second.
            Some(asked_ms) => asked_ms.min(RETRY_AFTER_MS_MAX) + random % 1000,
            None => backoff.next_ms(random),
        }
    }
}

/// A connection that was not made or did not last, as the keeper of the identity sees it.
fn lost(keeper: &mut Keeper, shown: Shown, code: Option<u32>, ended: bool, reason: String) -> Lost {
    let loss = match (ended, code) {
        (true, _) => Loss::Ended,
        (false, Some(close::UNAUTHENTICATED)) => Loss::Unknown,
        (false, _) => Loss::Other,
    };
    let at_once = keeper.lost(shown, loss);
    Lost { code, reason, asked_ms: None, at_once }
}

fn report(lost: &Lost, wait_ms: u64) {
    let reason = lost.reason.as_str();
    match lost.code {
        Some(close::REVOKED) => tracing::error!(
            wait_ms,
            reason,
            "the controller has revoked this host; enrol it again with a new token if that was a mistake"
        ),
        Some(close::UNAUTHENTICATED) => tracing::error!(
            wait_ms,
            reason,
            "the controller does not know this host's certificate; was the host revoked, or enrolled elsewhere?"
        ),
        Some(close::VERSION) => {
            tracing::error!(wait_ms, reason, "controller and agent share no protocol version");
        }
        Some(close::REPLACED) => tracing::error!(
            wait_ms,
            reason,
            "another agent with this host's identity has connected; is the machine a copy?"
        ),
        Some(close::HELD) => tracing::error!(
            wait_ms,
            reason,
            "two agents show this host's identity and neither is let in: revoke the host and enrol \
             each machine anew"
        ),
        // It was announced: a controller that is stopped in order is nothing to worry about.
        Some(_) | None if lost.asked_ms.is_some() => {
            tracing::info!(wait_ms, reason, "the controller has stopped");
        }
        Some(_) | None => tracing::warn!(wait_ms, reason, "no session with the controller"),
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
