//! One attempt as it goes: its steps, its progress, its cancellation, and how a failure is told.

use std::error::Error;
use std::future::Future;

use hostler_protocol::job::{Code, JobError, Progress, StepReport, StepState};
use hostler_protocol::message::AttemptRef;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::host::ansible::AnsibleError;
use crate::host::docker::{ComposeError, EngineError};
use crate::host::fake::Faults;
use crate::host::fs::FsError;
use crate::host::nginx::NginxError;
use crate::host::probe::ProbeError;
use crate::host::process::ProcessError;
use crate::host::redis::RedisFailure;

/// Where live progress goes. Work never waits for it: what does not fit is dropped, since the
/// outcome repeats every step.
#[derive(Debug, Clone)]
pub struct ProgressSink(pub Sender<Progress>);

impl ProgressSink {
    fn send(&self, progress: Progress) {
        // Full or closed: the work goes on.
        self.0.try_send(progress).ok();
    }
}

/// What an attempt is told besides its spec.
#[derive(Debug, Clone)]
pub struct JobContext {
    pub attempt: AttemptRef,
    /// Honoured between steps and by long ones; what was done until then is undone.
    pub cancel: CancellationToken,
    pub progress: ProgressSink,
}

/// A structured failure on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Box<JobError>);

impl Failure {
    /// A failure of that code.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(JobError::new(code, message)))
    }

    /// The same failure, with the command that failed.
    #[must_use]
    pub fn with_command(mut self, command: Vec<String>, status: Option<i32>, tail: String) -> Self {
        self.0.command = Some(command);
        self.0.exit_status = status;
        self.0.output_tail = Some(tail);
        self
    }

    /// The same failure, with what was said before it.
    #[must_use]
    pub fn with_output(mut self, tail: String) -> Self {
        self.0.output_tail = Some(tail);
        self
    }

    /// The same failure, with more to its sentence.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.0.message = format!("{}; {more}", self.0.message);
        self
    }

    /// The same failure, with a hint of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Its sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether it is the job's cancellation.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.code == Code::Cancelled.as_str()
    }

    /// The error document.
    #[must_use]
    pub fn into_error(self) -> JobError {
        *self.0
    }

    /// The same failure in the step it happened in, unless it already names one.
    #[must_use]
    pub fn at_step(mut self, step: &str) -> Self {
        self.0.step.get_or_insert_with(|| step.to_owned());
        self
    }

    /// A failure of a rollback, which outweighs what it was to undo.
    #[must_use]
    pub fn after(mut self, first: &Self) -> Self {
        self.0.message =
            format!("{}; this followed {}: {}", self.0.message, first.code(), first.message());
        self
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        let code = match &error {
            FsError::Outside { .. } => Code::PathOutsideRoots,
            FsError::Symlink { .. } => Code::PathIsSymlink,
            FsError::Missing { .. } => Code::PathMissing,
            FsError::Kind { .. } | FsError::TooLarge { .. } | FsError::Io { .. } => {
                Code::FileFailed
            }
        };
        Self::new(code, chain(&error))
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        let code = match &error {
            ProcessError::Missing { .. } => Code::CommandMissing,
            ProcessError::Cancelled { .. } => Code::Cancelled,
            ProcessError::Run { .. } | ProcessError::TimedOut { .. } => Code::CommandFailed,
        };
        Self::new(code, chain(&error))
    }
}

impl From<AnsibleError> for Failure {
    fn from(error: AnsibleError) -> Self {
        let code = match &error {
            AnsibleError::Missing { .. } => Code::AnsibleMissing,
            AnsibleError::PlaybookMissing { .. } => Code::PlaybookMissing,
            AnsibleError::Private { .. } => Code::FileFailed,
            AnsibleError::Process(ProcessError::TimedOut { .. }) => Code::TimedOut,
            AnsibleError::Process(ProcessError::Cancelled { .. }) => Code::Cancelled,
            AnsibleError::Process(ProcessError::Missing { .. } | ProcessError::Run { .. }) => {
                Code::CommandFailed
            }
        };
        Self::new(code, chain(&error))
    }
}

impl From<NginxError> for Failure {
    fn from(error: NginxError) -> Self {
        match error {
            NginxError::Run { source } => source.into(),
            NginxError::DumpTooLarge => Self::new(Code::CommandFailed, chain(&error)),
            NginxError::NotRunning { .. } => Self::new(Code::NginxReloadFailed, chain(&error))
                .with_hint("Start nginx; the job is tried again by itself. If nginx runs, correct `nginx_pid_file` in the agent's policy file."),
            NginxError::Signal { .. } => Self::new(Code::NginxReloadFailed, chain(&error)),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Unreachable { .. }
            | EngineError::Http { .. }
            | EngineError::TimedOut { .. } => Code::DockerUnavailable,
            EngineError::Refused { .. }
            | EngineError::Unreadable { .. }
            | EngineError::TooLarge { .. } => Code::CommandFailed,
        };
        Self::new(code, chain(&error))
    }
}

impl From<ComposeError> for Failure {
    fn from(error: ComposeError) -> Self {
        match error {
            ComposeError::Missing { .. } => Self::new(Code::ComposeMissing, error.to_string()),
            ComposeError::Process(ProcessError::TimedOut { .. }) => {
                Self::new(Code::TimedOut, chain(&error))
            }
            ComposeError::Process(error) => error.into(),
        }
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        Self::new(Code::ProbeFailed, chain(&error))
    }
}

impl From<RedisFailure> for Failure {
    fn from(error: RedisFailure) -> Self {
        let code = match &error {
            RedisFailure::Unreachable { .. } => Code::RedisUnreachable,
            RedisFailure::Auth { .. } => Code::RedisAuthFailed,
            RedisFailure::Denied { .. } => Code::RedisDenied,
            RedisFailure::TimedOut { .. } => Code::RedisTimeout,
            RedisFailure::Failed { .. } => Code::RedisFailed,
            RedisFailure::Cancelled => Code::Cancelled,
        };
        Self::new(code, chain(&error))
    }
}

/// Runs file work where it may block.
///
/// # Errors
/// What the work returns; `INTERNAL_ERROR` if it panicked.
pub async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Send + 'static,
    Failure: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Failure::from),
        Err(error) => Err(Failure::new(Code::InternalError, chain(&error))),
    }
}

/// A running attempt.
#[derive(Debug)]
pub struct Run {
    context: JobContext,
    clock: Clock,
    faults: Faults,
    reports: Vec<StepReport>,
}

impl Run {
    /// An attempt that has not begun any step.
    #[must_use]
    pub fn new(context: JobContext, clock: Clock, faults: Faults) -> Self {
        Self { context, clock, faults, reports: Vec::new() }
    }

    /// Which attempt this is.
    #[must_use]
    pub fn attempt(&self) -> &AttemptRef {
        &self.context.attempt
    }

    /// Cancelled when the job is.
    #[must_use]
    pub fn cancel(&self) -> &CancellationToken {
        &self.context.cancel
    }

    /// A run beside this one for what a cancelled job has to bring to its end: it tells its
    /// progress in the same place, and its reports are its own.
    #[must_use]
    pub fn settling(&self) -> Self {
        let context = JobContext { cancel: CancellationToken::new(), ..self.context.clone() };
        Self::new(context, self.clock.clone(), self.faults.clone())
    }

    /// Every step so far.
    #[must_use]
    pub fn into_reports(self) -> Vec<StepReport> {
        self.reports
    }

    /// Runs a step unless the job has been cancelled; its message becomes the report's.
    ///
    /// # Errors
    /// What the work returns, naming the step; `CANCELLED`.
    pub async fn step<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        if self.context.cancel.is_cancelled() {
            return Err(Failure::new(Code::Cancelled, "the job was cancelled").at_step(step));
        }
        self.settle(step, StepState::Done, work).await
    }

    /// Runs a step that a cancelled job needs too, such as undoing another.
    ///
    /// # Errors
    /// What the work returns, naming the step.
    pub async fn settle<T>(
        &mut self,
        step: &'static str,
        end: StepState,
        work: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        let started_us = self.clock.monotonic_us();
        self.tell(step, StepState::Started, "");
        self.faults.pass(step).await;
        let (state, message, result) = match work.await {
            Ok((value, message)) => (end, message, Ok(value)),
            Err(failure) => {
                let message = failure.message().to_owned();
                (StepState::Failed, message, Err(failure.at_step(step)))
            }
        };
        self.tell(step, state, &message);
        let took_us = self.clock.monotonic_us().saturating_sub(started_us);
        self.reports.push(StepReport { step: step.to_owned(), state, message, took_us });
        result
    }

    /// Reports a step that had nothing to do.
    pub fn skip(&mut self, step: &'static str, message: &str) {
        self.record(step, StepState::Skipped, message, 0);
    }

    /// Reports a step somebody else has carried out.
    pub fn record(&mut self, step: &str, state: StepState, message: &str, took_us: u64) {
        self.tell(step, state, message);
        let (step, message) = (step.to_owned(), message.to_owned());
        self.reports.push(StepReport { step, state, message, took_us });
    }

    /// Says something while a step runs.
    pub fn tell(&self, step: &str, state: StepState, message: &str) {
        self.context.progress.send(Progress {
            step: step.to_owned(),
            state,
            message: message.to_owned(),
            at_us: self.clock.now_us(),
        });
    }

    /// Something that says how far a step has come, apart from the run itself.
    pub fn teller(&self, step: &'static str) -> impl FnMut(String) + Send + use<> {
        let (progress, clock) = (self.context.progress.clone(), self.clock.clone());
        move |message| {
            progress.send(Progress {
                step: step.to_owned(),
                state: StepState::Started,
                message,
                at_us: clock.now_us(),
            });
        }
    }
}
