//! When to ask for a new certificate, which identity to show, and when to come back by the key of
//! one that has ended. Pure: times and randomness are arguments.
//!
//! A certificate is replaced at half its life, a little earlier or later so that a fleet does not
//! come all at once. The new one is a *candidate* until a session proves it; until then the
//! *committed* one is there to fall back on. What fails is tried again later, bounded by an hour.
//!
//! Invariant: as long as a candidate might be what the controller has committed, it is not given
//! up: only the welcome of a session with the committed identity shows that it is not.

/// The certificate's age at which a new one is asked for, in thousandths of its life: half of it,
/// up to a tenth of that earlier or later.
const ASK_PER_MILLE_MIN: u64 = 450;
const ASK_PER_MILLE_SPREAD: u64 = 100;
/// After a failure the next try comes after a twentieth of the certificate's life, but within these
/// bounds, in milliseconds; also up to a tenth earlier or later.
const RETRY_LIVES: u64 = 20;
const RETRY_MS_MIN: u64 = 250;
const RETRY_MS_MAX: u64 = 3_600_000;
/// How long an answer is waited for, in milliseconds: a tenth of the life, within these bounds.
const ANSWER_LIVES: u64 = 10;
const ANSWER_MS_MIN: u64 = 1_000;
const ANSWER_MS_MAX: u64 = 30_000;

/// Which of the host's identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Committed,
    Candidate,
}

/// What a live session is to do next about the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Ask for a new certificate.
    Ask,
    /// Reconnect, showing the candidate.
    Try,
}

/// Why a connection did not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The certificate that was shown has ended.
    Ended,
    /// The controller does not know the key that was shown.
    Unknown,
    Other,
}

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// Wall clock: may jump, may be wrong.
    pub(super) wall_us: i64,
    pub(super) monotonic_ms: u64,
    /// A random number.
    pub(super) random: u64,
}

/// A certificate's life, by this host's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) issued_us: i64,
    pub(super) ms: u64,
}

#[derive(Debug)]
struct Trial {
    at_ms: u64,
    /// The controller did not take it.
    refused: bool,
    born_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Renewal {
    life: Life,
    /// The certificate's age at a time of the monotonic clock.
    age_ms: u64,
    as_of_ms: u64,
    ask_at_age_ms: u64,
    ask_after_ms: u64,
    candidate: Option<Trial>,
    ended: bool,
}

impl Renewal {
    /// With the committed certificate's life, and whether there is a candidate.
    pub(super) fn new(life: Life, candidate: bool, now: Now) -> Self {
        let per_mille = ASK_PER_MILLE_MIN + now.random % (ASK_PER_MILLE_SPREAD + 1);
        let trial = Trial { at_ms: now.monotonic_ms, refused: false, born_ms: now.monotonic_ms };
        Self {
            life,
            age_ms: u64::try_from(now.wall_us.saturating_sub(life.issued_us) / 1000).unwrap_or(0),
            as_of_ms: now.monotonic_ms,
            ask_at_age_ms: share(life.ms, per_mille),
            ask_after_ms: 0,
            candidate: candidate.then_some(trial),
            ended: false,
        }
    }

    /// The identity to show on the next connection.
    pub(super) fn shown(&self, now: Now) -> Shown {
        match &self.candidate {
            Some(trial) if !trial.refused && now.monotonic_ms >= trial.at_ms => Shown::Candidate,
            Some(_) | None => Shown::Committed,
        }
    }

    /// Whether the host has to come back by its key before it can connect.
    pub(super) fn must_return(&self) -> bool {
        self.ended
    }

    /// What is due in a session that shows the committed identity, and in how many milliseconds.
    pub(super) fn due(&self, now: Now) -> (Due, u64) {
        match &self.candidate {
            Some(trial) if now.monotonic_ms.saturating_sub(trial.born_ms) < self.life.ms / 2 => {
                (Due::Try, trial.at_ms.saturating_sub(now.monotonic_ms))
            }
            // A candidate that could not be tried for so long would not last.
            Some(_) | None => {
                let until_age = self.ask_at_age_ms.saturating_sub(self.age(now));
                let until_retry = self.ask_after_ms.saturating_sub(now.monotonic_ms);
                (Due::Ask, until_age.max(until_retry))
            }
        }
    }

    /// How long an answer is waited for, in milliseconds.
    pub(super) fn answer_ms(&self) -> u64 {
        (self.life.ms / ANSWER_LIVES).clamp(ANSWER_MS_MIN, ANSWER_MS_MAX)
    }

    /// Asking led to nothing.
    pub(super) fn not_granted(&mut self, now: Now) {
        self.ask_after_ms = now.monotonic_ms + self.retry_ms(now);
    }

    /// A candidate is on disk: it is to be tried at once.
    pub(super) fn granted(&mut self, now: Now) {
        let at_ms = now.monotonic_ms;
        self.candidate = Some(Trial { at_ms, refused: false, born_ms: at_ms });
        self.ended = false;
    }

    /// A session with the committed identity was welcomed; true if the candidate, which the
    /// controller did not take, is of no use any more.
    pub(super) fn welcomed(&mut self, now: Now) -> bool {
        self.ended = false;
        let useless = self.candidate.as_ref().is_some_and(|trial| trial.refused);
        if useless {
            self.candidate = None;
            self.not_granted(now);
        }
        useless
    }

    /// A connection was not made, or was lost; true if there is another way to try at once.
    pub(super) fn lost(&mut self, shown: Shown, loss: Loss, now: Now) -> bool {
        let retry_ms = self.retry_ms(now);
        let refused = match loss {
            Loss::Ended | Loss::Unknown => true,
            Loss::Other => false,
        };
        match (shown, &mut self.candidate) {
            (Shown::Candidate, Some(trial)) => {
                trial.at_ms = now.monotonic_ms + retry_ms;
                trial.refused = refused;
                refused
            }
            // What the controller no longer takes may have been replaced by the candidate, without
            // our having heard of it.
            (Shown::Committed, Some(trial)) if refused && !trial.refused => {
                trial.at_ms = now.monotonic_ms;
                true
            }
            (Shown::Committed, Some(trial)) if refused => {
                // Neither is taken: the candidate has its turn again later, and the way back by the
                // key does not come at once, or it would be gone round and round.
                trial.refused = false;
                trial.at_ms = now.monotonic_ms + retry_ms;
                self.ended = loss == Loss::Ended;
                false
            }
            (Shown::Committed | Shown::Candidate, _) => {
                self.ended = loss == Loss::Ended;
                self.ended
            }
        }
    }

    /// The way back by the key led to nothing: the next try is an ordinary session, in case it was
    /// the controller's clock that was wrong.
    pub(super) fn not_returned(&mut self) {
        self.ended = false;
    }

    /// By whichever clock says more: a wall clock that was set back must not keep a certificate
    /// from being renewed, and the monotonic one may have stood still while the host slept.
    fn age(&self, now: Now) -> u64 {
        let by_wall = now.wall_us.saturating_sub(self.life.issued_us) / 1000;
        let since_ms = now.monotonic_ms.saturating_sub(self.as_of_ms);
        u64::try_from(by_wall).unwrap_or(0).max(self.age_ms.saturating_add(since_ms))
    }

    fn retry_ms(&self, now: Now) -> u64 {
        let middle = (self.life.ms / RETRY_LIVES).clamp(RETRY_MS_MIN, RETRY_MS_MAX);
        share(middle, 900 + now.random % 201)
    }
}

fn share(of: u64, per_mille: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(per_mille) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
