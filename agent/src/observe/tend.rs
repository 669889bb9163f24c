//! Listening to the engine for as long as it is wanted, whoever restarts it meanwhile.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::core::{Input, retry_ms};
use crate::clock::Clock;
use crate::host::docker::{Engine, EngineError};

/// Happenings waiting to be looked at; the engine waits behind them.
const WAITING_MAX: usize = 64;

/// A listener; it ends when dropped.
#[derive(Debug)]
pub(super) struct Tended {
    told: mpsc::Receiver<Input>,
    _task: AbortOnDropHandle<()>,
}

impl Tended {
    pub(super) fn start(engine: Engine, clock: Clock) -> Self {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(tend(engine, clock, tell));
        Self { told, _task: AbortOnDropHandle::new(task) }
    }

    /// What has happened; waits for ever once there is nothing more.
    pub(super) async fn next(&mut self) -> Input {
        match self.told.recv().await {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }
}

async fn tend(engine: Engine, clock: Clock, tell: mpsc::Sender<Input>) {
    let mut failures = 0;
    loop {
        let ended = listen(&engine, &tell, &mut failures).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "the engine's events cannot be listened to");
        }
        if tell.is_closed() {
            return;
        }
        let random = u64::from_le_bytes(clock.random());
        tokio::time::sleep(Duration::from_millis(retry_ms(failures, random))).await;
        failures = failures.saturating_add(1);
    }
}

/// Listens once, to the end. Before and after it anything may have happened.
async fn listen(
    engine: &Engine,
    tell: &mpsc::Sender<Input>,
    failures: &mut u32,
) -> Result<(), EngineError> {
    let mut events = engine.events().await?;
    *failures = 0;
    let mut next = Ok(Some(Input::Missed));
    while let Ok(Some(input)) = next {
        if tell.send(input).await.is_err() {
            return Ok(());
        }
        next = events.next().await.map(|project| project.map(Input::Changed));
    }
    // Its end tells as much as any event: the engine may be gone.
    if tell.send(Input::Missed).await.is_err() {
        return Ok(());
    }
    next.map(drop)
}
