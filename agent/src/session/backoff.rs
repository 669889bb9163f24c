//! Full-jitter exponential back-off; randomness comes in as an argument.

/// The first window, in milliseconds.
const BASE_MS: u64 = 1000;
/// The widest window, in milliseconds.
pub(super) const CAP_MS: u64 = 60_000;
/// A session this long counts as a success, in milliseconds.
const STABLE_MS: u64 = 30_000;

/// How long to wait before the next attempt.
#[derive(Debug)]
pub(super) struct Backoff {
    window_ms: u64,
    /// Since when there has been a session.
    since_ms: Option<u64>,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { window_ms: BASE_MS, since_ms: None }
    }

    /// The next wait: anything within the window, which doubles each time.
    pub(super) fn next_ms(&mut self, random: u64) -> u64 {
        let wait_ms = random % (self.window_ms + 1);
        self.window_ms = (self.window_ms * 2).min(CAP_MS);
        wait_ms
    }

    /// Trying again soon will not help.
    pub(super) fn exhaust(&mut self) {
        self.window_ms = CAP_MS;
    }

    fn reset(&mut self) {
        self.window_ms = BASE_MS;
    }

    /// A session was established then. One that takes over from another, with a new certificate,
    /// counts together with it.
    pub(super) fn established(&mut self, at_ms: u64) {
        self.since_ms.get_or_insert(at_ms);
    }

    /// There is no session now. One that lasted means that all is well again.
    pub(super) fn lost(&mut self, now_ms: u64) {
        let since_ms = self.since_ms.take();
        if since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= STABLE_MS) {
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_up_to_its_cap_and_starts_anew() {
        let mut backoff = Backoff::new();
        // `u64::MAX` modulo a window plus one is anything; take the window's end by its size.
        let widest: Vec<u64> = (0..8)
            .map(|_| {
                let window = backoff.window_ms;
                assert_eq!(backoff.next_ms(window), window);
                window
            })
            .collect();
        assert_eq!(widest, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        backoff.reset();
        assert!(backoff.next_ms(u64::MAX) <= 1000);
        backoff.exhaust();
        assert_eq!(backoff.next_ms(CAP_MS), CAP_MS);
        assert_eq!(backoff.next_ms(0), 0, "the jitter is full");
    }

    #[test]
    fn only_a_session_that_lasted_counts() {
        let widened = |backoff: &mut Backoff| {
            backoff.exhaust();
            backoff.established(1000);
        };
        let mut backoff = Backoff::new();
        widened(&mut backoff);
        backoff.lost(30_999);
        assert_eq!(backoff.window_ms, CAP_MS);
        widened(&mut backoff);
        backoff.lost(31_000);
        assert_eq!(backoff.window_ms, BASE_MS);
        backoff.exhaust();
        backoff.lost(90_000);
        assert_eq!(backoff.window_ms, CAP_MS, "there was none since");
    }

    #[test]
    fn sessions_of_renewed_certificates_count_as_one() {
        let mut backoff = Backoff::new();
        backoff.exhaust();
        // Each shorter than what counts, one after the other without a loss.
        for at_ms in [1000, 13_000, 25_000] {
            backoff.established(at_ms);
        }
        backoff.lost(37_000);
        assert_eq!(backoff.window_ms, BASE_MS);
    }
}
