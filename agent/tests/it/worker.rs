//! A worker that does what a test tells it to, and counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hostler_agent::runner::{Work, Worker};
use hostler_protocol::job::{
    Code, JobError, Outcome, OutcomeState, Progress, StepReport, StepState, Subject,
};
use hostler_protocol::message::AttemptRef;
use tokio::sync::Semaphore;

/// Runs every attempt as soon as it has a permit; stops when told to.
#[derive(Clone)]
pub(crate) struct Hand {
    permits: Arc<Semaphore>,
    deaf: bool,
    /// Fails where it puts right what was left.
    clumsy: bool,
    started: Arc<Mutex<HashMap<AttemptRef, u32>>>,
}

impl Hand {
    /// A hand that lets jobs end at once.
    pub(crate) fn quick() -> Self {
        let hand = Self::slow();
        hand.permits.add_permits(1000);
        hand
    }

    /// A hand whose jobs run until [`Hand::let_go`].
    pub(crate) fn slow() -> Self {
        let permits = Arc::new(Semaphore::new(0));
        Self { permits, deaf: false, clumsy: false, started: Arc::default() }
    }

    /// A quick hand that panics when it is to put right what an earlier run left.
    pub(crate) fn clumsy() -> Self {
        Self { clumsy: true, ..Self::quick() }
    }

    /// A hand whose jobs do not stop when they are told to.
    pub(crate) fn deaf() -> Self {
        Self { deaf: true, ..Self::slow() }
    }

    /// Lets one job end.
    pub(crate) fn let_go(&self) {
        self.permits.add_permits(1);
    }

    /// How often an attempt was started.
    pub(crate) fn starts(&self, attempt: &AttemptRef) -> u32 {
        self.started.lock().unwrap().get(attempt).copied().unwrap_or(0)
    }
}

fn outcome(state: OutcomeState, error: Option<JobError>) -> Outcome {
    let result = error.is_none().then(|| serde_json::json!({"done": true}));
    Outcome { state, result, error, steps: Vec::new(), started_at_us: 1, finished_at_us: 2 }
}

impl Worker for Hand {
    fn run(&self, work: Work) -> BoxFuture<'static, Outcome> {
        *self.started.lock().unwrap().entry(work.attempt.clone()).or_default() += 1;
        let (permits, deaf) = (self.permits.clone(), self.deaf);
        async move {
            let step = "stand_by".to_owned();
            let line =
                Progress { step, state: StepState::Started, message: String::new(), at_us: 1 };
            work.progress.send(line).await.expect("somebody listens to progress");
            tokio::select! {
                permit = permits.acquire() => {
                    permit.expect("the semaphore is never closed").forget();
                    outcome(OutcomeState::Succeeded, None)
                }
                () = work.cancel.cancelled(), if !deaf => {
                    let error = JobError::new(Code::Cancelled, "told to stop");
                    outcome(OutcomeState::Cancelled, Some(error))
                }
            }
        }
        .boxed()
    }

    fn put_right(&self, _: Subject) -> BoxFuture<'static, Vec<StepReport>> {
        async {
            let step = "rollback".to_owned();
            let state = StepState::RolledBack;
            vec![StepReport { step, state, message: String::new(), took_us: 0 }]
        }
        .boxed()
    }

    fn recover(&self) -> BoxFuture<'static, Vec<StepReport>> {
        let clumsy = self.clumsy;
        async move {
            assert!(!clumsy, "as it was told to");
            let step = "put_back".to_owned();
            vec![StepReport { step, state: StepState::Done, message: String::new(), took_us: 0 }]
        }
        .boxed()
    }

    fn probe(&self, _: hostler_protocol::job::JobDoc) -> BoxFuture<'static, Option<Outcome>> {
        async { None }.boxed()
    }
}
