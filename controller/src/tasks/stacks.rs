//! Carries stacks on: looks when jobs ended, when a look at the repository did, and once in a while.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Milliseconds after which stacks are looked at even if nothing rang: labels change, times pass.
pub const PERIOD_MS: u64 = 5000;
/// Milliseconds between two looks, so that a burst of ends is taken in together.
const PAUSE_MS: u64 = 50;

/// Carries stacks on until the shutdown.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut work = app.store.work();
    while !shutdown.is_cancelled() {
        work.mark_unchanged();
        let again = match app.carry_stacks().await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "stacks cannot be carried on"
                );
                false
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(PAUSE_MS)) => {}
        }
        if again {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = work.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(PERIOD_MS)) => {}
        }
    }
}
