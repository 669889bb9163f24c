//! The unit of all wall-clock times: microseconds.

/// Microseconds since the Unix epoch, UTC. Signed 64 bits reach past the year 290000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// This many seconds later; stays at the largest time instead of wrapping.
    #[must_use]
    pub fn plus_secs(self, secs: u64) -> Self {
        let micros = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self(self.0.saturating_add(micros))
    }

    /// This many seconds earlier; stays at the smallest time instead of wrapping.
    #[must_use]
    pub fn minus_secs(self, secs: u64) -> Self {
        let micros = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self(self.0.saturating_sub(micros))
    }
}
