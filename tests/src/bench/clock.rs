//! The benchmark's stop-watch.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::servers::instant;

/// A running stop-watch.
#[derive(Debug, Clone, Copy)]
pub struct Watch(Instant);

impl Watch {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        Self(instant())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The same in seconds.
    #[must_use]
    pub fn secs(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Wall clock, seconds since the Unix epoch: to match what other programs logged.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "matched with time stamps of traced programs")]
pub fn wall_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
