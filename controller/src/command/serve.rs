//! `serve`: until SIGTERM or SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::CommandError;
use crate::Listeners;
use crate::config::Config;

/// Serves until a signal asks to stop; a second signal does not wait for anything.
pub(super) async fn serve(config: Config) -> Result<(), CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Signals)?;
    // Before anything is counted: what was counted before is lost.
    crate::telemetry::metrics()?;
    let (tell, told) = oneshot::channel();
    let listeners = Listeners { ready: Some(tell), ..Listeners::bind(&config)? };
    tokio::spawn(async move {
        // Without systemd this does nothing.
        if told.await.is_ok()
            && let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready])
        {
            tracing::warn!(%error, "systemd could not be told that the controller serves");
        }
    });
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let run = crate::run(config, listeners, shutdown);
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return Ok(ended?),
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    stop.cancel();
    tokio::select! {
        ended = run => Ok(ended?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
