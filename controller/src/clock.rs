//! Time, randomness and new ids: the only door to all three in the controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hostler_protocol::id::{
    ApiTokenId, BatchId, ControllerId, EnrolmentTokenId, EnvironmentId, HostId, JobId, RefreshId,
    RequestId, SiteId, StackId,
};
use hostler_protocol::time::Micros;

/// Tells the time and makes ids; cheap to clone, and in tests moved by hand.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    /// Microseconds added to the machine's time; see [`Clock::follow`].
    correction_us: Arc<AtomicI64>,
}

/// A clock that is followed is followed no closer than this, in microseconds: the time of an
/// answer's way is in every measurement.
const FOLLOW_US_MIN: i64 = 500_000;

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant, wrong_us: i64 },
    Manual { now_us: Arc<AtomicI64>, monotonic_us: Arc<AtomicU64>, random: Arc<AtomicU64> },
}

/// The operating system had no random bytes to give.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct RandomError;

impl Clock {
    /// The machine's clock and random generator.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn system() -> Self {
        Self::of(Source::System { started: Instant::now(), wrong_us: 0 })
    }

    /// A clock that stands still until [`Clock::advance`], with counted instead of random bytes.
    #[must_use]
    pub fn manual(now: Micros) -> Self {
        Self::of(Source::Manual {
            now_us: Arc::new(AtomicI64::new(now.0)),
            monotonic_us: Arc::new(AtomicU64::new(u64::try_from(now.0).unwrap_or(0))),
            random: Arc::new(AtomicU64::new(1)),
        })
    }

    fn of(source: Source) -> Self {
        Self { source, correction_us: Arc::default() }
    }

    /// The machine's clock, wrong by so many seconds: for tests.
    #[must_use]
    pub fn wrong_by(secs: i64) -> Self {
        let mut clock = Self::system();
        if let Source::System { wrong_us, .. } = &mut clock.source {
            *wrong_us = secs.saturating_mul(1_000_000);
        }
        clock
    }

    /// From now on tells the time that another clock tells, which said `other` when this machine's
    /// own said `own`; answers how far this machine's is ahead of it, in microseconds.
    pub fn follow(&self, own: Micros, other: Micros) -> i64 {
        let wanted = other.0.saturating_sub(own.0);
        let now = self.correction_us.load(Ordering::SeqCst);
        if wanted.abs_diff(now) > FOLLOW_US_MIN.unsigned_abs() {
            let small = wanted.abs() <= FOLLOW_US_MIN;
            self.correction_us.store(if small { 0 } else { wanted }, Ordering::SeqCst);
        }
        wanted.saturating_neg()
    }

    /// Moves a manual clock; the system's clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { now_us, monotonic_us, .. } = &self.source {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            now_us.fetch_add(micros, Ordering::SeqCst);
            monotonic_us.fetch_add(u64::try_from(micros).unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Sets a manual wall clock forward or back by microseconds, as a person or a time server
    /// does: the monotonic clock does not notice. The system's clock is left alone.
    pub fn jump_us(&self, by_us: i64) {
        if let Source::Manual { now_us, .. } = &self.source {
            now_us.fetch_add(by_us, Ordering::SeqCst);
        }
    }

    /// Wall-clock time, UTC: this machine's, or that of the clock it follows.
    #[must_use]
    pub fn now(&self) -> Micros {
        let correction = self.correction_us.load(Ordering::SeqCst);
        Micros(self.own().0.saturating_add(correction))
    }

    /// What this machine's clock says, right or wrong.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn own(&self) -> Micros {
        match &self.source {
            Source::System { wrong_us, .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
                Micros(now.saturating_add(*wrong_us))
            }
            Source::Manual { now_us, .. } => Micros(now_us.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds that never go back, from an arbitrary start.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        match &self.source {
            Source::System { started, .. } => {
                u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
            }
            Source::Manual { monotonic_us, .. } => monotonic_us.load(Ordering::SeqCst) / 1000,
        }
    }

    /// Random bytes fit for keys and tokens (with a manual clock: counted ones, for tests only).
    ///
    /// # Errors
    /// [`RandomError`] when the system has none to give; nothing may go on without them.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for random bytes")]
    pub fn random<const N: usize>(&self) -> Result<[u8; N], RandomError> {
        let mut bytes = [0; N];
        match &self.source {
            Source::System { .. } => getrandom::fill(&mut bytes).map_err(|_| RandomError)?,
            Source::Manual { random, .. } => {
                let counted = random.fetch_add(1, Ordering::SeqCst).to_be_bytes();
                for (place, byte) in bytes.iter_mut().rev().enumerate() {
                    *byte = counted.iter().rev().nth(place).copied().unwrap_or(0);
                }
            }
        }
        Ok(bytes)
    }
}

macro_rules! new_ids {
    ($($method:ident -> $id:ident;)*) => {
        impl Clock {$(
            #[doc = concat!("A new [`", stringify!($id), "`].")]
            ///
            /// # Errors
            /// [`RandomError`] when the system has no random bytes.
            pub fn $method(&self) -> Result<$id, RandomError> {
                let unix_ms = u64::try_from(self.now().0 / 1000).unwrap_or(0);
                Ok($id::from_parts(unix_ms, self.random()?))
            }
        )*}
    };
}

new_ids! {
    new_host_id -> HostId;
    new_site_id -> SiteId;
    new_environment_id -> EnvironmentId;
    new_job_id -> JobId;
    new_batch_id -> BatchId;
    new_stack_id -> StackId;
    new_refresh_id -> RefreshId;
    new_enrolment_token_id -> EnrolmentTokenId;
    new_api_token_id -> ApiTokenId;
    new_controller_id -> ControllerId;
    new_request_id -> RequestId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_follows_another_and_not_the_noise_of_measuring_it() {
        let clock = Clock::manual(Micros(1_000_000_000));
        assert_eq!(clock.follow(clock.own(), Micros(1_000_000_000 + 400_000)), -400_000);
        assert_eq!(clock.now(), clock.own(), "too little to follow");
        assert_eq!(clock.follow(clock.own(), Micros(400_000_000)), 600_000_000);
        assert_eq!(clock.now(), Micros(400_000_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Micros(401_000_000), "it goes on by itself");
        clock.follow(clock.own(), Micros(401_300_000));
        assert_eq!(clock.now(), Micros(401_000_000), "not moved by what a way takes");
        clock.follow(clock.own(), clock.own());
        assert_eq!(clock.now(), clock.own(), "a machine whose clock was put right is itself again");
    }
}
