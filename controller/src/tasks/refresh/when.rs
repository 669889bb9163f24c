//! When a look is due unasked.

use std::time::Duration;

use crate::app::{App, AppError};
use crate::domain::Micros;

/// Seconds after a failure that may pass before it is looked again, unless the period is shorter.
pub(super) const RETRY_SECS: u64 = 60;
/// Seconds until it is seen what has become of a look that has not ended.
const OPEN_SECS: u64 = 5;
/// A look is due so much before its time, in seconds: no two clocks pass time alike.
const EARLY_SECS: u64 = 1;

/// Whoever looks, for whatever reason, winds it up again.
pub(super) struct Timer {
    poll: Option<Duration>,
    /// Between the look that ended last and the next.
    wait: Option<Duration>,
    due_ms: Option<u64>,
}

impl Timer {
    pub(super) fn new(app: &App, poll: Option<Duration>) -> Self {
        let mut timer = Self { poll, wait: None, due_ms: None };
        timer.set(app, false);
        timer
    }

    /// A look has just ended, or is asked for just now.
    pub(super) fn set(&mut self, app: &App, may_pass: bool) {
        let period = self.poll.map(|period| jittered(app, period));
        let soon = may_pass.then(|| Duration::from_secs(RETRY_SECS));
        self.wait = match (period, soon) {
            (Some(period), Some(soon)) => Some(period.min(soon)),
            (one, other) => one.or(other),
        };
        self.due_ms = self.wait.map(|wait| later(app, wait));
    }

    /// Whether a look is due that no other controller has made meanwhile: one looks for all.
    pub(super) async fn is_due(&mut self, app: &App) -> Result<bool, AppError> {
        let (Some(wait), Some(due_ms)) = (self.wait, self.due_ms) else { return Ok(false) };
        if app.clock.monotonic_ms() < due_ms {
            return Ok(false);
        }
        // Also if the database does not say: it is asked again after that.
        self.due_ms = Some(later(app, Duration::from_secs(OPEN_SECS)));
        if !app.store.open_refreshes().await?.is_empty() {
            return Ok(false);
        }
        let last = app.store.last_refresh().await?.and_then(|last| last.finished_at);
        if let Some(left) = left(last, wait, app.clock.now()) {
            self.due_ms = Some(later(app, left));
            return Ok(false);
        }
        self.set(app, false);
        Ok(true)
    }

    pub(super) fn left_ms(&self, app: &App) -> u64 {
        self.due_ms.map_or(u64::MAX, |due| due.saturating_sub(app.clock.monotonic_ms())).max(1)
    }
}

fn later(app: &App, wait: Duration) -> u64 {
    let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    app.clock.monotonic_ms().saturating_add(ms)
}

/// The period and up to a tenth of it: many controllers must not ask a forge in step.
fn jittered(app: &App, period: Duration) -> Duration {
    let part = app.clock.random::<2>().map_or(0, u16::from_le_bytes);
    period + period / 10 * u32::from(part) / u32::from(u16::MAX)
}

/// How long it is until so much has passed since the last look, whoever made it; `None` if it has.
fn left(last: Option<Micros>, wait: Duration, now: Micros) -> Option<Duration> {
    let passed_us = now.0.saturating_sub(last?.0);
    // One that ended after now: a clock was put right since.
    let passed = Duration::from_micros(u64::try_from(passed_us).unwrap_or(0));
    let left = wait.saturating_sub(passed);
    (left > Duration::from_secs(EARLY_SECS)).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_of_any_controller_is_one_for_all() {
        let (wait, now) = (Duration::from_secs(180), Micros(1_000_000_000));
        let before = |secs: i64| Some(Micros(now.0 - secs * 1_000_000));
        assert_eq!(left(None, wait, now), None, "nobody ever looked");
        assert_eq!(left(before(180), wait, now), None, "this one's own was the last");
        assert_eq!(left(before(500), wait, now), None);
        assert_eq!(left(before(30), wait, now), Some(Duration::from_secs(150)), "another's");
        assert_eq!(left(before(-3600), wait, now), Some(wait), "a clock that was put back");
    }
}
