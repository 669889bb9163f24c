//! Time, randomness and new ids: the only door to all three in the controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hostler_protocol::id::{
    ApiTokenId, ControllerId, EnrolmentTokenId, EnvironmentId, HostId, JobId, RequestId, SiteId,
};
use hostler_protocol::time::Micros;

/// Tells the time and makes ids; cheap to clone, and in tests moved by hand.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    System { started: Instant },
    Manual { now_us: Arc<AtomicI64>, random: Arc<AtomicU64> },
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
        Self { source: Source::System { started: Instant::now() } }
    }

    /// A clock that stands still until [`Clock::advance`], with counted instead of random bytes.
    #[must_use]
    pub fn manual(now: Micros) -> Self {
        Self {
            source: Source::Manual {
                now_us: Arc::new(AtomicI64::new(now.0)),
                random: Arc::new(AtomicU64::new(1)),
            },
        }
    }

    /// Moves a manual clock; the system's clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { now_us, .. } = &self.source {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            now_us.fetch_add(micros, Ordering::SeqCst);
        }
    }

    /// Wall-clock time, UTC.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Micros {
        match &self.source {
            Source::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Source::Manual { now_us, .. } => Micros(now_us.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds that never go back, from an arbitrary start.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        match &self.source {
            Source::System { started } => {
                u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
            }
            Source::Manual { now_us, .. } => {
                u64::try_from(now_us.load(Ordering::SeqCst) / 1000).unwrap_or(0)
            }
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
    new_enrolment_token_id -> EnrolmentTokenId;
    new_api_token_id -> ApiTokenId;
    new_controller_id -> ControllerId;
    new_request_id -> RequestId;
}
