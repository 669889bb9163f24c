//! Ctrl-C and SIGTERM, as something to ask: so that whatever was started is stopped in its order.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};

use hostler_tests::servers::ServerError;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of what was interrupted, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether the demo is to end now.
pub(crate) struct Stop {
    /// Closed when it is.
    listening: Mutex<Receiver<()>>,
}

impl Stop {
    /// Listens for signals from now on, in a thread of its own.
    pub(crate) fn listen() -> Result<Self, ServerError> {
        let failed = |error| ServerError::new("listening for signals", error);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            (interrupt, signal(SignalKind::terminate()).map_err(failed)?)
        };
        let (asked, listening) = channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            drop(asked);
        });
        Ok(Self { listening: Mutex::new(listening) })
    }

    /// Whether it was asked for.
    pub(crate) fn is_asked(&self) -> bool {
        use std::sync::mpsc::TryRecvError;
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// An error once it was asked for.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        if self.is_asked() { Err(ServerError("interrupted".to_owned())) } else { Ok(()) }
    }

    /// Waits until it is asked for.
    pub(crate) fn wait(&self) {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.recv().unwrap_or(());
    }
}
