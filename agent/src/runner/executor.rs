//! The seam between deciding to run an attempt and running it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hostler_protocol::job::{JobDoc, Outcome, Progress, StepReport, Subject};
use hostler_protocol::message::AttemptRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::actions::{Actions, JobContext, ProgressSink};

/// One attempt to run.
#[derive(Debug)]
pub struct Work {
    pub attempt: AttemptRef,
    pub doc: JobDoc,
    /// Fires when the attempt is to stop and leave a defined state.
    pub cancel: CancellationToken,
    /// Where progress goes; a full channel may be waited for.
    pub progress: mpsc::Sender<Progress>,
}

/// Whoever can run attempts.
pub trait Worker: Send + Sync {
    /// Runs an attempt to its end; never fails, an outcome says how it went.
    fn run(&self, work: Work) -> BoxFuture<'static, Outcome>;

    /// Puts right what an attempt left half-done that was cut off while the agent goes on.
    fn put_right(&self, subject: Subject) -> BoxFuture<'static, Vec<StepReport>>;

    /// Asks the host whether it does what an attempt wanted that was cut off; `None` when it does
    /// not, or nobody can tell.
    fn probe(&self, doc: JobDoc) -> BoxFuture<'static, Option<Outcome>>;

    /// Puts the host in a defined state after the agent was stopped in the middle of something.
    fn recover(&self) -> BoxFuture<'static, Vec<StepReport>>;
}

/// The worker in use.
pub type Executor = Arc<dyn Worker>;

impl Worker for Actions {
    fn run(&self, work: Work) -> BoxFuture<'static, Outcome> {
        let actions = self.clone();
        let Work { attempt, doc, cancel, progress } = work;
        let context = JobContext { attempt, cancel, progress: ProgressSink(progress) };
        async move { Actions::run(&actions, doc, context).await }.boxed()
    }

    fn put_right(&self, subject: Subject) -> BoxFuture<'static, Vec<StepReport>> {
        let actions = self.clone();
        async move { Actions::put_right(&actions, &subject).await }.boxed()
    }

    fn recover(&self) -> BoxFuture<'static, Vec<StepReport>> {
        let actions = self.clone();
        async move { Actions::recover(&actions).await }.boxed()
    }

    fn probe(&self, doc: JobDoc) -> BoxFuture<'static, Option<Outcome>> {
        let actions = self.clone();
        async move { Actions::probe(&actions, &doc).await }.boxed()
    }
}
