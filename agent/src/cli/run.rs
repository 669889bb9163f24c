//! `hostler-agent run`: signals, logs, and what systemd wants to hear.

use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::{Common, Failure, runtime};
use crate::config::LogFormat;
use crate::journal::{Journal, JournalFault};
use crate::session::Status;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// What is logged: a level, or `target=level` pairs.
    #[arg(long, value_name = "FILTER", env = "HOSTLER_AGENT_LOG", default_value = "info")]
    log: String,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = args.common.load()?;
    log_to_stderr(&args.log, config.log_format)?;
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signals(&shutdown)?;
        let agent = crate::launch(&config, shutdown.clone())?;
        tokio::spawn(tell_systemd(agent.status.clone(), shutdown));
        if let Some(period) = sd_notify::watchdog_enabled() {
            tokio::spawn(feed_watchdog(agent.journal.clone(), period / 2));
        }
        agent.stopped().await?;
        Ok::<(), Failure>(())
    });
    // What still blocks (a name being resolved) is not worth waiting for.
    runtime.shutdown_background();
    done?;
    tracing::info!("agent stopped");
    Ok(ExitCode::SUCCESS)
}

fn log_to_stderr(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure(format!("the log filter is not valid: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Failure(format!("cannot log: {error}")))
}

fn stop_on_signals(shutdown: &CancellationToken) -> Result<(), Failure> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                tracing::info!("told to stop");
                shutdown.cancel();
            }
        });
    }
    Ok(())
}

/// Ready as soon as the first attempt to connect is under way: a controller that is down must not
/// hold up the host's boot.
async fn tell_systemd(
    mut status: tokio::sync::watch::Receiver<Status>,
    shutdown: CancellationToken,
) {
    if status.wait_for(|status| *status != Status::Idle).await.is_ok() {
        notify(&NotifyState::Ready);
    }
    loop {
        let text = match &*status.borrow_and_update() {
            Status::Idle | Status::Connecting => "connecting".to_owned(),
            Status::Connected { epoch } => format!("connected (session {epoch})"),
            Status::Waiting { reason, .. } => format!("not connected: {reason}"),
        };
        notify(&NotifyState::Status(&text));
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => {
                notify(&NotifyState::Stopping);
                return;
            }
        }
    }
}

/// Fed while this loop runs and the journal's thread answers; a full disk is no reason to be
/// restarted, a dead journal is.
async fn feed_watchdog(journal: Journal, period: Duration) {
    loop {
        match journal.probe().await {
            Ok(()) | Err(JournalFault::NoSpace) => notify(&NotifyState::Watchdog),
            Err(JournalFault::Failed) => tracing::error!("the journal does not answer"),
        }
        tokio::time::sleep(period).await;
    }
}

fn notify(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
