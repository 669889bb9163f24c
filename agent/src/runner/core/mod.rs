//! The rules of running jobs, without IO: events in, effects out.
//!
//! Invariants:
//! * `Accepted` follows the journal's word that the attempt is on disk, `Finished` the word that
//!   its outcome is;
//! * an attempt starts at most once, ever: what is running, unacknowledged or settled is never
//!   started again, and nothing older than the latest known attempt of a job is;
//! * of all attempts that change one environment or stack, one runs at a time, whatever the controller
//!   says: one that it no longer wants may still be stopping when the next one comes;
//! * what was cut off by a crash ends as `INTERRUPTED`, after the actions have put the host in a
//!   defined state, unless the host itself proves that it is done; whether to try again is the
//!   controller's decision.

mod admit;
mod end;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use hostler_protocol::id::{BootId, JobId};
use hostler_protocol::job::{JobDoc, Outcome, Progress, StepReport, Subject};
use hostler_protocol::message::{AttemptRef, ToAgent, ToController};

use super::Load;
use super::pipe::Introduction;
use crate::journal::{Contents, JournalFault, Kept, Unfinished};

/// Outcomes on their way to the controller at once.
pub const DELIVERIES_MAX: usize = 16;
/// Outcomes waiting for their acknowledgement beyond which no new work is accepted.
pub const UNACKNOWLEDGED_MAX: usize = 2000;
/// Bytes of outcomes waiting for their acknowledgement beyond which no new work is accepted.
pub const UNACKNOWLEDGED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// An outcome not acknowledged for this long is sent again within the same session.
pub const REDELIVER_MS: u64 = 60_000;
/// First and longest wait before an outcome is journalled again after a fault.
pub const REJOURNAL_MS: (u64, u64) = (500, 30_000);

/// What the runner may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Jobs running at once.
    pub jobs_max: usize,
    /// How long an action may take to stop after it was told to, in milliseconds.
    pub stop_ms_max: u64,
}

/// The time of an event: a monotonic clock to measure, the wall clock for people.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub monotonic_ms: u64,
    pub wall_us: i64,
}

/// What happens to a runner.
#[derive(Debug, Clone)]
pub enum Input {
    /// A session is about to say hello.
    Introduce,
    /// The controller has welcomed the session.
    Online,
    /// The controller says something about a job.
    Message(ToAgent),
    /// The journal has taken an attempt, or not.
    Accepted { attempt: AttemptRef, done: Result<(), JournalFault> },
    /// The journal has taken an outcome, or not.
    Stored { attempt: AttemptRef, done: Result<(), JournalFault> },
    /// An action has a line of progress.
    Progress { attempt: AttemptRef, progress: Progress },
    /// An action ended.
    Ended { attempt: AttemptRef, outcome: Outcome },
    /// An action is gone without an outcome: it was aborted, or panicked. What it left half-done
    /// has been put right, as these steps say.
    Vanished { attempt: AttemptRef, steps: Vec<StepReport> },
    /// The actions have put the host in a defined state after the last stop. Of some attempts that
    /// were cut off the host itself has said that they are done.
    Recovered { steps: Vec<StepReport>, proven: Vec<(AttemptRef, Outcome)> },
    /// No new work from now on.
    Drain,
    /// The time of [`Core::next_timeout`] has come.
    Timeout,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Introduce(Introduction),
    Send(ToController),
    /// Read the outcome from the journal and send it.
    Deliver {
        attempt: AttemptRef,
    },
    JournalAccept {
        attempt: AttemptRef,
        timeout_secs: u32,
        spec: Vec<u8>,
    },
    JournalFinish {
        attempt: AttemptRef,
        outcome: Vec<u8>,
    },
    JournalForget {
        attempt: AttemptRef,
    },
    Start {
        attempt: AttemptRef,
        spec: Box<JobDoc>,
    },
    Cancel {
        attempt: AttemptRef,
    },
    /// The action did not stop: drop it.
    Abort {
        attempt: AttemptRef,
    },
}

/// Why an action was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Cancelled,
    TimedOut,
}

#[derive(Debug)]
enum State {
    /// On its way to the disk.
    Accepting {
        spec: Box<JobDoc>,
        timeout_ms: u64,
        cancelled: bool,
    },
    /// On disk, waiting for the host to be in a defined state, and what it changes to be free.
    Ready {
        spec: Box<JobDoc>,
        timeout_ms: u64,
        cancelled: bool,
    },
    Running {
        deadline_ms: u64,
        sequence: u64,
        since_us: i64,
    },
    Stopping {
        why: Why,
        abort_at_ms: u64,
        aborted: bool,
        sequence: u64,
        since_us: i64,
    },
    /// Cut off by the last stop of the agent; waits for `Recovered`.
    CutOff {
        accepted_at_us: i64,
        crashes: u32,
    },
    /// Its outcome is on its way to the disk; `retry_at_ms` after a fault.
    Finishing {
        outcome: Vec<u8>,
        retry_at_ms: Option<u64>,
        wait_ms: u64,
    },
    Unacknowledged {
        sent_at_ms: Option<u64>,
        /// Of its outcome's document.
        bytes: u64,
    },
}

impl State {
    fn is_finished(&self) -> bool {
        matches!(self, Self::Unacknowledged { .. })
    }

    /// Bytes it keeps on disk, or will, until it is acknowledged.
    fn kept_bytes(&self) -> u64 {
        match self {
            Self::Finishing { outcome, .. } => outcome.len() as u64,
            Self::Unacknowledged { bytes, .. } => *bytes,
            Self::Accepting { .. }
            | Self::Ready { .. }
            | Self::Running { .. }
            | Self::Stopping { .. }
            | Self::CutOff { .. } => 0,
        }
    }

    fn takes_a_place(&self) -> bool {
        match self {
            Self::Accepting { .. }
            | Self::Ready { .. }
            | Self::Running { .. }
            | Self::Stopping { .. } => true,
            Self::CutOff { .. } | Self::Finishing { .. } | Self::Unacknowledged { .. } => false,
        }
    }
}

/// The rules. See the module's invariants.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    boot: BootId,
    attempts: BTreeMap<AttemptRef, State>,
    /// The attempt that changes each environment and stack just now.
    changing: BTreeMap<Subject, AttemptRef>,
    /// Latest settled attempt of each job, with the order in which it was settled.
    settled: BTreeMap<JobId, (u32, u64)>,
    settled_order: BTreeMap<u64, JobId>,
    settled_count: u64,
    online: bool,
    recovering: bool,
    draining: bool,
}

impl Core {
    /// A runner that starts from what the journal held.
    #[must_use]
    pub fn new(limits: Limits, boot: BootId, contents: Contents) -> Self {
        let mut core = Self {
            limits,
            boot,
            attempts: BTreeMap::new(),
            changing: BTreeMap::new(),
            settled: BTreeMap::new(),
            settled_order: BTreeMap::new(),
            settled_count: 0,
            online: false,
            recovering: true,
            draining: false,
        };
        for Unfinished { attempt, accepted_at_us, crashes, .. } in contents.unfinished {
            core.attempts.insert(attempt, State::CutOff { accepted_at_us, crashes });
        }
        for Kept { attempt, bytes } in contents.finished {
            core.attempts.insert(attempt, State::Unacknowledged { sent_at_ms: None, bytes });
        }
        for attempt in contents.settled {
            core.remember(attempt);
        }
        core
    }

    /// When [`Input::Timeout`] is due, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.attempts.values().filter_map(|state| self.due(state)).min()
    }

    fn due(&self, state: &State) -> Option<u64> {
        match state {
            State::Running { deadline_ms, .. } => Some(*deadline_ms),
            State::Stopping { abort_at_ms, aborted: false, .. } => Some(*abort_at_ms),
            State::Finishing { retry_at_ms, .. } => *retry_at_ms,
            State::Unacknowledged { sent_at_ms: Some(sent), .. } if self.online => {
                Some(sent + REDELIVER_MS)
            }
            State::Stopping { .. }
            | State::Unacknowledged { .. }
            | State::Accepting { .. }
            | State::Ready { .. }
            | State::CutOff { .. } => None,
        }
    }

    /// Attempts that are neither finished nor refused.
    #[must_use]
    pub fn running(&self) -> Vec<AttemptRef> {
        let unfinished = self.attempts.iter().filter(|(_, state)| !state.is_finished());
        unfinished.map(|(attempt, _)| attempt.clone()).collect()
    }

    /// What is under way.
    #[must_use]
    pub fn load(&self) -> Load {
        let finished = self.attempts.values().filter(|state| state.is_finished()).count();
        let unsettled = self.attempts.len();
        Load { unfinished: unsettled - finished, unsettled }
    }

    /// Takes in one event.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Introduce => self.introduce(&mut effects),
            Input::Online => self.online = true,
            Input::Message(message) => self.message(message, now, &mut effects),
            Input::Accepted { attempt, done } => self.accepted(attempt, done, now, &mut effects),
            Input::Stored { attempt, done } => self.stored(attempt, done, now),
            Input::Progress { attempt, progress } => {
                self.progress(attempt, &progress, &mut effects);
            }
            Input::Ended { attempt, outcome } => self.ended(attempt, outcome, &mut effects),
            Input::Vanished { attempt, steps } => {
                self.vanished(attempt, steps, now, &mut effects);
            }
            Input::Recovered { steps, proven } => {
                self.recovered(&steps, proven, now, &mut effects);
            }
            Input::Drain => self.draining = true,
            Input::Timeout => self.timeout(now, &mut effects),
        }
        self.start_waiting(now, &mut effects);
        self.deliver(now, &mut effects);
        effects
    }

    fn introduce(&mut self, effects: &mut Vec<Effect>) {
        self.online = false;
        let mut unacknowledged = Vec::new();
        for (attempt, state) in &mut self.attempts {
            if let State::Unacknowledged { sent_at_ms, .. } = state {
                *sent_at_ms = None;
                unacknowledged.push(attempt.clone());
            }
        }
        let running = self.running();
        let boot = self.boot.clone();
        effects.push(Effect::Introduce(Introduction { boot, running, unacknowledged }));
    }

    fn message(&mut self, message: ToAgent, now: Now, effects: &mut Vec<Effect>) {
        match message {
            ToAgent::Run { attempt, timeout_secs, spec } => {
                self.run(attempt, timeout_secs, spec, effects);
            }
            ToAgent::Cancel { attempt } => self.cancel(&attempt, now, effects),
            ToAgent::Ack { attempt } => self.acknowledged(attempt, effects),
            // The session deals with these; none of them concerns a job.
            ToAgent::Welcome(_)
            | ToAgent::Refused { .. }
            | ToAgent::HeartbeatAck { .. }
            | ToAgent::Drain { .. }
            | ToAgent::Enrolled(_)
            | ToAgent::EnrolRefused { .. }
            | ToAgent::Renewed(_)
            | ToAgent::RenewRefused { .. }
            | ToAgent::Challenge(_) => {}
        }
    }

    fn cancel(&mut self, attempt: &AttemptRef, now: Now, effects: &mut Vec<Effect>) {
        let stop_ms = self.limits.stop_ms_max;
        match self.attempts.get_mut(attempt) {
            Some(State::Accepting { cancelled, .. } | State::Ready { cancelled, .. }) => {
                *cancelled = true;
            }
            Some(state @ State::Running { .. }) => {
                stop(state, Why::Cancelled, now.monotonic_ms + stop_ms);
                effects.push(Effect::Cancel { attempt: attempt.clone() });
            }
            // The outcome is known, or soon will be: it is the answer.
            Some(State::Unacknowledged { sent_at_ms, .. }) => *sent_at_ms = None,
            Some(State::Stopping { .. } | State::CutOff { .. } | State::Finishing { .. })
            | None => {}
        }
    }

    fn timeout(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let now_ms = now.monotonic_ms;
        let abort_at = now_ms + self.limits.stop_ms_max;
        for (attempt, state) in &mut self.attempts {
            match state {
                State::Running { deadline_ms, .. } if *deadline_ms <= now_ms => {
                    stop(state, Why::TimedOut, abort_at);
                    effects.push(Effect::Cancel { attempt: attempt.clone() });
                }
                State::Stopping { abort_at_ms, aborted, .. }
                    if *abort_at_ms <= now_ms && !*aborted =>
                {
                    *aborted = true;
                    effects.push(Effect::Abort { attempt: attempt.clone() });
                }
                State::Finishing { outcome, retry_at_ms, .. }
                    if retry_at_ms.is_some_and(|at| at <= now_ms) =>
                {
                    *retry_at_ms = None;
                    let (attempt, outcome) = (attempt.clone(), outcome.clone());
                    effects.push(Effect::JournalFinish { attempt, outcome });
                }
                State::Unacknowledged { sent_at_ms, .. }
                    if sent_at_ms.is_some_and(|sent| sent + REDELIVER_MS <= now_ms) =>
                {
                    *sent_at_ms = None;
                }
                State::Running { .. }
                | State::Stopping { .. }
                | State::Finishing { .. }
                | State::Unacknowledged { .. }
                | State::Accepting { .. }
                | State::Ready { .. }
                | State::CutOff { .. } => {}
            }
        }
    }

    /// Sends outcomes on their way, a bounded number at once.
    fn deliver(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.online {
            return;
        }
        let sent =
            |state: &&State| matches!(state, State::Unacknowledged { sent_at_ms: Some(_), .. });
        let mut places = DELIVERIES_MAX.saturating_sub(self.attempts.values().filter(sent).count());
        for (attempt, state) in &mut self.attempts {
            if let State::Unacknowledged { sent_at_ms: sent_at_ms @ None, .. } = state
                && places > 0
            {
                places -= 1;
                *sent_at_ms = Some(now.monotonic_ms);
                effects.push(Effect::Deliver { attempt: attempt.clone() });
            }
        }
    }
}

fn stop(state: &mut State, why: Why, abort_at_ms: u64) {
    if let State::Running { sequence, since_us, .. } = *state {
        *state = State::Stopping { why, abort_at_ms, aborted: false, sequence, since_us };
    }
}
