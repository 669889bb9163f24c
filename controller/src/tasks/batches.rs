//! Carries batches on: looks when jobs ended or were queued, and once a second.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Milliseconds after which batches are looked at even if no bell rang: hosts come and go.
pub const PERIOD_MS: u64 = 1000;
/// Milliseconds between two looks, so that a burst of ends is taken in together.
const PAUSE_MS: u64 = 50;

/// Carries batches on until the shutdown.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut work = app.store.work();
    while !shutdown.is_cancelled() {
        work.mark_unchanged();
        if let Err(error) = app.advance_batches().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "batches cannot be carried on"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(PAUSE_MS)) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = work.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(PERIOD_MS)) => {}
        }
    }
}
