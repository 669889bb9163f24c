//! Carries out what [`super::core`] decides: one loop, one task per running action.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use hostler_protocol::SPEC_BYTES_MAX;
use hostler_protocol::id::BootId;
use hostler_protocol::job::{self, JobDoc, Progress, StepReport, StepState};
use hostler_protocol::message::{AttemptRef, ToController};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::core::{Core, Effect, Input, Limits, Now};
use super::executor::{Executor, Work};
use super::pipe::{self, FromRunner, PIPE_BYTES, PipeReader, ToRunner};
use crate::clock::Clock;
use crate::journal::{Contents, Journal};

/// Messages waiting for the session to read them. Whatever does not fit is dropped: progress is
/// only watched, everything else is said again on the next session.
const OUTBOX_MAX: usize = 512;
/// Lines of progress of one action waiting to be passed on.
const PROGRESS_MAX: usize = 64;
/// How long it may take to put right what an action left that was cut off.
const PUT_RIGHT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to ask the host how far one attempt came that was cut off.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// Events waiting for the loop.
const EVENTS_MAX: usize = 256;

/// What a runner is made of.
pub struct Runner {
    pub limits: Limits,
    pub boot: BootId,
    pub journal: Journal,
    pub contents: Contents,
    pub executor: Executor,
    pub clock: Clock,
}

/// A running runner.
#[derive(Debug)]
pub struct RunnerHandle {
    /// The session's end of the pipe.
    pub pipe: DuplexStream,
    /// Fired to take in no new work.
    pub drain: CancellationToken,
    /// What is under way.
    pub load: watch::Receiver<Load>,
}

/// What is under way in a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Attempts whose outcome is not on disk yet.
    pub unfinished: usize,
    /// Attempts that are not acknowledged yet, those above included.
    pub unsettled: usize,
}

impl Runner {
    /// Starts the loop. It ends, dropping what still runs, when the session's end of the pipe
    /// is gone.
    #[must_use]
    pub fn start(self) -> RunnerHandle {
        let Self { limits, boot, journal, contents, executor, clock } = self;
        let cut_off = to_be_asked(&contents);
        let core = Core::new(limits, boot, contents);
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let drain = CancellationToken::new();
        let (says, load) = watch::channel(core.load());
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
        let (reading, writing) = tokio::io::split(near);
        tokio::spawn(read_pipe(PipeReader::new(reading), events.clone()));
        tokio::spawn(write_pipe(writing, outgoing));

        let running = HashMap::new();
        let shell = Shell { core, journal, executor, clock, events, outbox, running };
        tokio::spawn(shell.serve(inbox, drain.clone(), says, cut_off));
        RunnerHandle { pipe: far, drain, load }
    }
}

/// Attempts that were cut off and whose host may prove that they are done.
fn to_be_asked(contents: &Contents) -> Vec<(AttemptRef, JobDoc)> {
    let asked = contents.unfinished.iter().filter_map(|one| {
        let doc: JobDoc = job::read("job", &one.spec, SPEC_BYTES_MAX).ok()?;
        doc.probe.then(|| (one.attempt.clone(), doc))
    });
    asked.collect()
}

enum Event {
    Core(Input),
    /// An outcome read for delivery, for the pipe.
    Outgoing(ToController),
    PipeClosed,
}

struct Running {
    cancel: CancellationToken,
    abort: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

struct Shell {
    core: Core,
    journal: Journal,
    executor: Executor,
    clock: Clock,
    events: mpsc::Sender<Event>,
    outbox: mpsc::Sender<FromRunner>,
    running: HashMap<AttemptRef, Running>,
}

impl Shell {
    async fn serve(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        drain: CancellationToken,
        load: watch::Sender<Load>,
        cut_off: Vec<(AttemptRef, JobDoc)>,
    ) {
        self.recover(cut_off);
        let mut draining = false;
        loop {
            load.send_if_modified(|said| {
                std::mem::replace(said, self.core.load()) != self.core.load()
            });
            let wait_ms =
                self.core.next_timeout().map(|due| due.saturating_sub(self.clock.monotonic_ms()));
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(Event::Core(input)) => self.handle(input),
                    Some(Event::Outgoing(message)) => self.send(FromRunner::Message(message)),
                    Some(Event::PipeClosed) | None => return,
                },
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    self.handle(Input::Drain);
                }
                () = sleep_ms(wait_ms), if wait_ms.is_some() => self.handle(Input::Timeout),
            }
        }
    }

    /// First the host is put in a defined state, then it is asked: what it says then is what is.
    /// Whatever becomes of that, the runner hears of its end: until then no job starts.
    fn recover(&self, cut_off: Vec<(AttemptRef, JobDoc)>) {
        let executor = self.executor.clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let recovered = unless_it_panics(async { executor.recover().await }).await;
            let steps = recovered.unwrap_or_else(|| vec![not_recovered()]);
            let mut proven = Vec::new();
            for (attempt, doc) in cut_off {
                let asked = unless_it_panics(async { executor.probe(doc).await });
                let asked = tokio::time::timeout(PROBE_TIMEOUT, asked).await;
                if let Ok(Some(Some(outcome))) = asked {
                    tracing::info!(job = %attempt.job, attempt = attempt.attempt, "a job that was cut off is done, as its host proves");
                    proven.push((attempt, outcome));
                }
            }
            report(&events, Input::Recovered { steps, proven }).await;
        });
    }

    fn handle(&mut self, input: Input) {
        match &input {
            Input::Ended { attempt, .. } | Input::Vanished { attempt, .. } => {
                self.running.remove(attempt);
            }
            Input::Introduce
            | Input::Online
            | Input::Message(_)
            | Input::Accepted { .. }
            | Input::Stored { .. }
            | Input::Progress { .. }
            | Input::Recovered { .. }
            | Input::Drain
            | Input::Timeout => {}
        }
        let now = Now { monotonic_ms: self.clock.monotonic_ms(), wall_us: self.clock.now_us() };
        for effect in self.core.handle(input, now) {
            self.carry_out(effect, now.wall_us);
        }
    }

    fn carry_out(&mut self, effect: Effect, now_us: i64) {
        match effect {
            Effect::Introduce(introduction) => self.send(FromRunner::Introduction(introduction)),
            Effect::Send(message) => {
                log_message(&message);
                self.send(FromRunner::Message(message));
            }
            Effect::Deliver { attempt } => self.deliver(attempt),
            Effect::JournalAccept { attempt, timeout_secs, spec } => {
                let (journal, events) = (self.journal.clone(), self.events.clone());
                tokio::spawn(async move {
                    let done = journal.accept(attempt.clone(), timeout_secs, now_us, spec).await;
                    report(&events, Input::Accepted { attempt, done }).await;
                });
            }
            Effect::JournalFinish { attempt, outcome } => {
                let (journal, events) = (self.journal.clone(), self.events.clone());
                tokio::spawn(async move {
                    let done = journal.finish(attempt.clone(), outcome).await;
                    report(&events, Input::Stored { attempt, done }).await;
                });
            }
            Effect::JournalForget { attempt } => {
                let journal = self.journal.clone();
                tokio::spawn(async move {
                    let (job, number) = (attempt.job.clone(), attempt.attempt);
                    if let Err(error) = journal.forget(attempt, now_us).await {
                        tracing::warn!(%job, attempt = number, %error, "an acknowledged outcome stays in the journal");
                    }
                });
            }
            Effect::Start { attempt, spec } => self.start(attempt, *spec),
            Effect::Cancel { attempt } => {
                tracing::info!(job = %attempt.job, attempt = attempt.attempt, "job told to stop");
                if let Some(running) = self.running.get(&attempt) {
                    running.cancel.cancel();
                }
            }
            Effect::Abort { attempt } => {
                tracing::warn!(job = %attempt.job, attempt = attempt.attempt, "job does not stop: cut off");
                if let Some(running) = self.running.get(&attempt) {
                    running.abort.abort();
                }
            }
        }
    }

    fn send(&self, message: FromRunner) {
        if self.outbox.try_send(message).is_err() {
            tracing::debug!("the session does not keep up: a message was dropped");
        }
    }

    fn deliver(&self, attempt: AttemptRef) {
        let (journal, events) = (self.journal.clone(), self.events.clone());
        tokio::spawn(async move {
            let (job, number) = (attempt.job.clone(), attempt.attempt);
            match journal.outcome(attempt.clone()).await {
                Ok(Some(outcome)) => {
                    let message = ToController::Finished { attempt, outcome };
                    if events.send(Event::Outgoing(message)).await.is_err() {
                        tracing::debug!(%job, attempt = number, "the runner is gone");
                    }
                }
                Ok(None) => {
                    tracing::debug!(%job, attempt = number, "acknowledged before it was sent");
                }
                Err(error) => {
                    tracing::warn!(%job, attempt = number, %error, "an outcome cannot be read");
                }
            }
        });
    }

    fn start(&mut self, attempt: AttemptRef, doc: JobDoc) {
        let (kind, executor) = (doc.spec.job_type().as_str(), doc.executor.as_str());
        tracing::info!(job = %attempt.job, attempt = attempt.attempt, kind, executor, "job starts");
        let cancel = CancellationToken::new();
        let (progress, lines) = mpsc::channel(PROGRESS_MAX);
        let subject = doc.spec.subject();
        let work = Work { attempt: attempt.clone(), doc, cancel: cancel.clone(), progress };
        let action = tokio::spawn(self.executor.run(work));
        let abort = action.abort_handle();
        let events = self.events.clone();
        let executor = self.executor.clone();
        let put_right = async move { executor.put_right(subject).await };
        tokio::spawn(supervise(attempt.clone(), action, lines, put_right, events));
        self.running.insert(attempt, Running { cancel, abort });
    }
}

/// Passes on an action's progress and then its end, in that order; puts right what it left if it
/// has none of its own.
async fn supervise(
    attempt: AttemptRef,
    action: tokio::task::JoinHandle<hostler_protocol::job::Outcome>,
    mut lines: mpsc::Receiver<Progress>,
    put_right: impl Future<Output = Vec<StepReport>>,
    events: mpsc::Sender<Event>,
) {
    // The channel ends when the action, and with it the sender, is gone.
    while let Some(progress) = lines.recv().await {
        report(&events, Input::Progress { attempt: attempt.clone(), progress }).await;
    }
    let input = match action.await {
        Ok(outcome) => {
            tracing::info!(job = %attempt.job, attempt = attempt.attempt, state = ?outcome.state, "job ends");
            Input::Ended { attempt, outcome }
        }
        Err(error) => {
            tracing::error!(job = %attempt.job, attempt = attempt.attempt, %error, "job broke off");
            // Its end is told when the host is in a defined state, or does not get into one.
            let steps = tokio::time::timeout(PUT_RIGHT_TIMEOUT, put_right).await;
            Input::Vanished { attempt, steps: steps.unwrap_or_default() }
        }
    };
    report(&events, input).await;
}

/// What it gives, if it does not panic.
async fn unless_it_panics<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

fn not_recovered() -> StepReport {
    tracing::error!("what an earlier run left could not be put right: the agent failed");
    let (step, state) = ("recover".to_owned(), StepState::Failed);
    let message = "the agent failed while it put right what an earlier run left".to_owned();
    StepReport { step, state, message, took_us: 0 }
}

async fn report(events: &mpsc::Sender<Event>, input: Input) {
    if events.send(Event::Core(input)).await.is_err() {
        tracing::debug!("the runner has stopped");
    }
}

async fn read_pipe(
    mut pipe: PipeReader<tokio::io::ReadHalf<DuplexStream>>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let event = match pipe.next::<ToRunner>().await {
            Ok(Some(ToRunner::Introduce)) => Event::Core(Input::Introduce),
            Ok(Some(ToRunner::Online)) => Event::Core(Input::Online),
            Ok(Some(ToRunner::Message(message))) => Event::Core(Input::Message(message)),
            Ok(None) => Event::PipeClosed,
            Err(error) => {
                tracing::error!(%error, "the session cannot be understood");
                Event::PipeClosed
            }
        };
        let last = matches!(event, Event::PipeClosed);
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

async fn write_pipe(
    mut pipe: tokio::io::WriteHalf<DuplexStream>,
    mut outgoing: mpsc::Receiver<FromRunner>,
) {
    while let Some(message) = outgoing.recv().await {
        if let Err(error) = pipe::write(&mut pipe, &message).await {
            tracing::debug!(%error, "the session is gone");
            return;
        }
    }
}

async fn sleep_ms(wait_ms: Option<u64>) {
    match wait_ms {
        Some(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
        None => std::future::pending().await,
    }
}

fn log_message(message: &ToController) {
    if let ToController::Rejected { attempt, error } = message {
        let error = String::from_utf8_lossy(error);
        tracing::warn!(job = %attempt.job, attempt = attempt.attempt, %error, "job refused");
    }
}
