//! How an attempt gets in: what is refused, what is accepted, when it starts; and how an
//! acknowledged one is remembered.

use hostler_protocol::SPEC_BYTES_MAX;
use hostler_protocol::job::{self, Code, JobDoc, JobError, JobType, OutcomeState};
use hostler_protocol::message::{AttemptRef, ToController};

use super::end::failure;
use super::{Core, Effect, Now, State, UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_MAX};
use crate::journal::{JournalFault, SETTLED_MAX};

impl Core {
    pub(super) fn run(
        &mut self,
        attempt: AttemptRef,
        timeout_secs: u32,
        spec: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        match self.attempts.get_mut(&attempt) {
            // Said when it is on disk.
            Some(State::Accepting { .. }) => return,
            Some(State::Unacknowledged { sent_at_ms, .. }) => {
                *sent_at_ms = None;
                return;
            }
            Some(
                State::Ready { .. }
                | State::Running { .. }
                | State::Stopping { .. }
                | State::CutOff { .. }
                | State::Finishing { .. },
            ) => {
                effects.push(Effect::Send(ToController::Accepted { attempt }));
                return;
            }
            None => {}
        }
        let parsed = self.admit(&attempt).and_then(|()| read_spec(&spec));
        match parsed {
            Err(error) => effects.push(rejected(attempt, &error)),
            Ok(parsed) => {
                let timeout_ms = u64::from(timeout_secs) * 1000;
                let state =
                    State::Accepting { spec: Box::new(parsed), timeout_ms, cancelled: false };
                self.attempts.insert(attempt.clone(), state);
                effects.push(Effect::JournalAccept { attempt, timeout_secs, spec });
            }
        }
    }

    /// Whether an attempt the runner does not know may be accepted.
    fn admit(&self, attempt: &AttemptRef) -> Result<(), Box<JobError>> {
        let number = attempt.attempt;
        if let Some((settled, _)) = self.settled.get(&attempt.job) {
            if *settled == number {
                return Err(refusal(Code::AttemptSettled, "this attempt was already settled"));
            }
            if *settled > number {
                return Err(stale(number, *settled));
            }
        }
        let first = AttemptRef { job: attempt.job.clone(), attempt: 0 };
        let last = AttemptRef { job: attempt.job.clone(), attempt: u32::MAX };
        for (known, state) in self.attempts.range(first..=last) {
            if known.attempt > number {
                return Err(stale(number, known.attempt));
            }
            if !state.is_finished() {
                let message = format!("attempt {} of this job still runs here", known.attempt);
                return Err(refusal(Code::AgentBusy, message));
            }
        }
        if self.draining {
            return Err(refusal(Code::AgentBusy, "the agent is stopping"));
        }
        let (mut running, mut finished) = (0, 0);
        for state in self.attempts.values() {
            running += usize::from(state.takes_a_place());
            finished += usize::from(!state.takes_a_place());
        }
        if running >= self.limits.jobs_max {
            let message = format!("{running} jobs run here; the limit is {}", self.limits.jobs_max);
            return Err(refusal(Code::AgentBusy, message));
        }
        let bytes: u64 = self.attempts.values().map(State::kept_bytes).sum();
        if finished >= UNACKNOWLEDGED_MAX || bytes >= UNACKNOWLEDGED_BYTES_MAX {
            let mib = bytes / (1024 * 1024);
            let message = format!("{finished} outcomes ({mib} MiB) wait to be acknowledged");
            return Err(refusal(Code::NoSpace, message));
        }
        Ok(())
    }

    pub(super) fn acknowledged(&mut self, attempt: AttemptRef, effects: &mut Vec<Effect>) {
        if self.attempts.get(&attempt).is_some_and(State::is_finished) {
            self.attempts.remove(&attempt);
            self.remember(attempt.clone());
            effects.push(Effect::JournalForget { attempt });
        }
    }

    pub(super) fn remember(&mut self, attempt: AttemptRef) {
        let order = self.settled_count;
        self.settled_count += 1;
        let latest = self.settled.get(&attempt.job).map_or(0, |(number, _)| *number);
        let entry = (attempt.attempt.max(latest), order);
        if let Some((_, before)) = self.settled.insert(attempt.job.clone(), entry) {
            self.settled_order.remove(&before);
        }
        self.settled_order.insert(order, attempt.job);
        if self.settled_order.len() > SETTLED_MAX
            && let Some((_, job)) = self.settled_order.pop_first()
        {
            self.settled.remove(&job);
        }
    }

    pub(super) fn accepted(
        &mut self,
        attempt: AttemptRef,
        done: Result<(), JournalFault>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(State::Accepting { .. }) = self.attempts.get(&attempt) else { return };
        let Some(State::Accepting { spec, timeout_ms, cancelled }) = self.attempts.remove(&attempt)
        else {
            return;
        };
        match done {
            Err(fault) => {
                let code = match fault {
                    JournalFault::NoSpace => Code::NoSpace,
                    JournalFault::Failed => Code::JournalFailed,
                };
                effects.push(rejected(attempt, &JobError::new(code, fault.to_string())));
            }
            Ok(()) => {
                effects.push(Effect::Send(ToController::Accepted { attempt: attempt.clone() }));
                self.attempts.insert(attempt.clone(), State::Ready { spec, timeout_ms, cancelled });
                self.start(&attempt, now, effects);
            }
        }
    }

    /// Starts what is ready and waits no longer.
    pub(super) fn start_waiting(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let ready = |(_, state): &(&AttemptRef, &State)| matches!(state, State::Ready { .. });
        let waiting: Vec<AttemptRef> =
            self.attempts.iter().filter(ready).map(|(attempt, _)| attempt.clone()).collect();
        for attempt in waiting {
            self.start(&attempt, now, effects);
        }
    }

    /// Starts an attempt that is ready, once the host is in a defined state and nobody else
    /// changes what it is about. One that was cancelled ends instead.
    pub(super) fn start(&mut self, attempt: &AttemptRef, now: Now, effects: &mut Vec<Effect>) {
        if self.recovering {
            return;
        }
        let Some(state @ State::Ready { .. }) = self.attempts.get_mut(attempt) else { return };
        if let State::Ready { spec, cancelled: false, .. } = state
            && let Some(subject) = spec.spec.changes()
        {
            if self.changing.contains_key(&subject) {
                return;
            }
            self.changing.insert(subject, attempt.clone());
        }
        let since_us = now.wall_us;
        let next = State::Running { deadline_ms: u64::MAX, sequence: 0, since_us };
        let State::Ready { spec, timeout_ms, cancelled } = std::mem::replace(state, next) else {
            return;
        };
        if cancelled {
            let error = JobError::new(Code::Cancelled, "cancelled before it started");
            let outcome = failure(OutcomeState::Cancelled, error, Vec::new(), since_us, since_us);
            return self.finish(attempt.clone(), &outcome, effects);
        }
        if let State::Running { deadline_ms, .. } = state {
            *deadline_ms = now.monotonic_ms.saturating_add(timeout_ms);
        }
        effects.push(Effect::Start { attempt: attempt.clone(), spec });
    }
}

fn stale(asked: u32, known: u32) -> Box<JobError> {
    let message = format!("attempt {asked} was asked for, attempt {known} is known here");
    refusal(Code::AttemptStale, message)
}

fn refusal(code: Code, message: impl Into<String>) -> Box<JobError> {
    Box::new(JobError::new(code, message))
}

fn rejected(attempt: AttemptRef, error: &JobError) -> Effect {
    Effect::Send(ToController::Rejected { attempt, error: job::write(error) })
}

/// Reads a spec; a type this build does not know is told from a spec that is not one.
fn read_spec(bytes: &[u8]) -> Result<JobDoc, Box<JobError>> {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    match job::read::<JobDoc>("job", bytes, SPEC_BYTES_MAX) {
        Ok(spec) => Ok(spec),
        Err(error) => match job::read::<Typed>("job", bytes, SPEC_BYTES_MAX) {
            Ok(Typed { r#type }) if JobType::parse(&r#type).is_none() => {
                let kind: String = r#type.chars().take(64).collect();
                let message = format!("this agent knows no job type {kind:?}");
                Err(refusal(Code::UnknownJobType, message))
            }
            Ok(_) | Err(_) => {
                let detail = std::error::Error::source(&error).map(|e| format!(": {e}"));
                let message = format!("{error}{}", detail.unwrap_or_default());
                Err(refusal(Code::SpecInvalid, message))
            }
        },
    }
}
