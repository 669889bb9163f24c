//! Time and randomness: the only file of the agent that asks the machine for either.
//!
//! A [`Clock`] is handed down from `lib`; tests hand down a manual one, which stands still until
//! it is moved and whose randomness is a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks and random source, or a test's.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    System { start: Instant, ahead_us: i64 },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    now_us: AtomicI64,
    monotonic_us: AtomicU64,
    drawn: AtomicU64,
}

impl Clock {
    /// The machine's own clocks and random source.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the door to the monotonic clock")]
    pub fn system() -> Self {
        Self { source: Source::System { start: Instant::now(), ahead_us: 0 } }
    }

    /// A clock for tests: the machine's, but with a wall clock that goes wrong by this much.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the door to the monotonic clock")]
    pub fn wrong_by(ahead_us: i64) -> Self {
        Self { source: Source::System { start: Instant::now(), ahead_us } }
    }

    /// A clock for tests: it stands at `now_us` until [`Clock::advance_ms`] moves it.
    #[must_use]
    pub fn manual(now_us: i64) -> Self {
        let manual = Manual {
            now_us: AtomicI64::new(now_us),
            monotonic_us: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
        };
        Self { source: Source::Manual(Arc::new(manual)) }
    }

    /// Moves a manual clock, and all its clones, forward; the machine's clock is left alone.
    pub fn advance_ms(&self, by_ms: u64) {
        match &self.source {
            Source::System { .. } => {}
            Source::Manual(manual) => {
                let by_us = by_ms.saturating_mul(1000);
                manual.monotonic_us.fetch_add(by_us, Ordering::SeqCst);
                manual.now_us.fetch_add(i64::try_from(by_us).unwrap_or(i64::MAX), Ordering::SeqCst);
            }
        }
    }

    /// Sets a manual wall clock forward or back, as a person or a time server does: the monotonic
    /// clock does not notice. The machine's clock is left alone.
    pub fn jump_us(&self, by_us: i64) {
        match &self.source {
            Source::System { .. } => {}
            Source::Manual(manual) => {
                manual.now_us.fetch_add(by_us, Ordering::SeqCst);
            }
        }
    }

    /// Microseconds since the Unix epoch, UTC. May jump: for people, never for measuring.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        match &self.source {
            Source::System { ahead_us, .. } => system_now_us().saturating_add(*ahead_us),
            Source::Manual(manual) => manual.now_us.load(Ordering::SeqCst),
        }
    }

    /// Milliseconds of a clock that never goes back.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        self.monotonic_us() / 1000
    }

    /// Microseconds of the same clock.
    #[must_use]
    pub fn monotonic_us(&self) -> u64 {
        match &self.source {
            Source::System { start, .. } => {
                u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
            }
            Source::Manual(manual) => manual.monotonic_us.load(Ordering::SeqCst),
        }
    }

    /// Random bytes from the operating system.
    ///
    /// # Panics
    /// If the operating system has no randomness to give; nothing safe can be done without it.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.source {
            Source::System { .. } => system_random(&mut bytes),
            Source::Manual(manual) => {
                let drawn = manual.drawn.fetch_add(1, Ordering::SeqCst) + 1;
                for (place, byte) in bytes.iter_mut().rev().enumerate().take(8) {
                    *byte = drawn.to_be_bytes()[7 - place];
                }
            }
        }
        bytes
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door to the wall clock")]
fn system_now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the door to randomness")]
fn system_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system must be able to give random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_its_clones_with_it() {
        let clock = Clock::manual(5);
        let clone = clock.clone();
        assert_eq!((clone.now_us(), clone.monotonic_ms()), (5, 0));
        clock.advance_ms(3);
        assert_eq!((clone.now_us(), clone.monotonic_ms()), (3005, 3));
        assert_ne!(clock.random::<4>(), clone.random::<4>());
    }

    #[test]
    fn the_machine_s_clock_runs_and_its_randomness_differs() {
        let clock = Clock::system();
        assert!(clock.now_us() > 1_600_000_000_000_000);
        assert!(clock.monotonic_us() <= clock.monotonic_us());
        assert_ne!(clock.random::<16>(), clock.random::<16>());
    }
}
