//! How an attempt ends: by itself, cut off, or interrupted; and how its outcome gets to the disk.

use hostler_protocol::PROGRESS_BYTES_MAX;
use hostler_protocol::job::{self, Code, JobError, Outcome, OutcomeState, Progress, StepReport};
use hostler_protocol::message::{AttemptRef, ToController};

use super::{Core, Effect, Now, REJOURNAL_MS, State, Why};
use crate::journal::JournalFault;
use crate::runner::fit;

impl Core {
    pub(super) fn progress(
        &mut self,
        attempt: AttemptRef,
        progress: &Progress,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(State::Running { sequence, .. } | State::Stopping { sequence, .. }) =
            self.attempts.get_mut(&attempt)
        {
            let document = job::write(progress);
            if self.online && document.len() <= PROGRESS_BYTES_MAX {
                let message = ToController::Progress { attempt, sequence: *sequence, document };
                effects.push(Effect::Send(message));
            }
            *sequence += 1;
        }
    }

    pub(super) fn ended(
        &mut self,
        attempt: AttemptRef,
        mut outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        match self.attempts.get(&attempt) {
            Some(State::Running { .. } | State::Stopping { why: Why::Cancelled, .. }) => {}
            Some(State::Stopping { why: Why::TimedOut, .. }) => {
                // Work that was done is done; a host left half-changed has to be told, whatever
                // the time; anything else ended because its time was up.
                let half = outcome
                    .error
                    .as_ref()
                    .is_some_and(|error| error.code == Code::NginxRollbackFailed.as_str());
                if outcome.state != OutcomeState::Succeeded && !half {
                    let step = outcome.error.take().and_then(|error| error.step);
                    let mut error =
                        JobError::new(Code::TimedOut, "the attempt ran longer than it may");
                    error.step = step;
                    outcome.state = OutcomeState::Failed;
                    outcome.error = Some(error);
                }
            }
            Some(
                State::Accepting { .. }
                | State::Ready { .. }
                | State::CutOff { .. }
                | State::Finishing { .. }
                | State::Unacknowledged { .. },
            )
            | None => return,
        }
        self.finish(attempt, &outcome, effects);
    }

    pub(super) fn vanished(
        &mut self,
        attempt: AttemptRef,
        steps: Vec<StepReport>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let (state, error, since_us) = match self.attempts.get(&attempt) {
            Some(State::Running { since_us, .. }) => {
                let error = JobError::new(Code::InternalError, "the action broke off");
                (OutcomeState::Failed, error, *since_us)
            }
            Some(State::Stopping { why, since_us, .. }) => {
                let secs = self.limits.stop_ms_max / 1000;
                let message = format!("the action did not stop within {secs} s and was cut off");
                match why {
                    Why::Cancelled => {
                        let error = JobError::new(Code::Cancelled, message);
                        (OutcomeState::Cancelled, error, *since_us)
                    }
                    Why::TimedOut => {
                        (OutcomeState::Failed, JobError::new(Code::TimedOut, message), *since_us)
                    }
                }
            }
            Some(
                State::Accepting { .. }
                | State::Ready { .. }
                | State::CutOff { .. }
                | State::Finishing { .. }
                | State::Unacknowledged { .. },
            )
            | None => return,
        };
        let outcome = failure(state, error, steps, since_us, now.wall_us);
        self.finish(attempt, &outcome, effects);
    }

    pub(super) fn recovered(
        &mut self,
        steps: &[StepReport],
        proven: Vec<(AttemptRef, Outcome)>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.recovering = false;
        for (attempt, outcome) in proven {
            if let Some(State::CutOff { .. }) = self.attempts.get(&attempt) {
                self.finish(attempt, &outcome, effects);
            }
        }
        for attempt in self.running() {
            match self.attempts.get(&attempt) {
                Some(State::CutOff { accepted_at_us, crashes }) => {
                    let message = match crashes {
                        0 | 1 => "the agent stopped in the middle of this attempt".to_owned(),
                        n => format!("the agent stopped in the middle of this job, {n} times now"),
                    };
                    let error = JobError::new(Code::Interrupted, message);
                    let outcome = failure(
                        OutcomeState::Failed,
                        error,
                        steps.to_vec(),
                        *accepted_at_us,
                        now.wall_us,
                    );
                    self.finish(attempt, &outcome, effects);
                }
                Some(State::Ready { .. }) => self.start(&attempt, now, effects),
                Some(
                    State::Accepting { .. }
                    | State::Running { .. }
                    | State::Stopping { .. }
                    | State::Finishing { .. }
                    | State::Unacknowledged { .. },
                )
                | None => {}
            }
        }
    }

    pub(super) fn finish(
        &mut self,
        attempt: AttemptRef,
        outcome: &Outcome,
        effects: &mut Vec<Effect>,
    ) {
        self.changing.retain(|_, holder| *holder != attempt);
        let outcome = fit::document(outcome);
        let state = State::Finishing {
            outcome: outcome.clone(),
            retry_at_ms: None,
            wait_ms: REJOURNAL_MS.0,
        };
        self.attempts.insert(attempt.clone(), state);
        effects.push(Effect::JournalFinish { attempt, outcome });
    }

    pub(super) fn stored(&mut self, attempt: AttemptRef, done: Result<(), JournalFault>, now: Now) {
        let Some(state @ State::Finishing { .. }) = self.attempts.get_mut(&attempt) else { return };
        match done {
            Ok(()) => {
                *state = State::Unacknowledged { sent_at_ms: None, bytes: state.kept_bytes() };
            }
            Err(_) => {
                if let State::Finishing { retry_at_ms, wait_ms, .. } = state {
                    *retry_at_ms = Some(now.monotonic_ms + *wait_ms);
                    *wait_ms = (*wait_ms * 2).min(REJOURNAL_MS.1);
                }
            }
        }
    }
}

pub(super) fn failure(
    state: OutcomeState,
    error: JobError,
    steps: Vec<StepReport>,
    started_at_us: i64,
    finished_at_us: i64,
) -> Outcome {
    Outcome { state, result: None, error: Some(error), steps, started_at_us, finished_at_us }
}
