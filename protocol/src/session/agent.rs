//! The agent's side of one session.
//!
//! One [`Core`] lives as long as one connection. It says hello, keeps the heartbeat, ties each
//! attempt to the channel that carries it, and passes job messages between the controller and the
//! runner. It never decides about a job: the runner's journal does.
//!
//! Invariants: nothing but `Hello` is sent before `Welcome`; job frames that overtake the
//! `Welcome` wait for it; each attempt has at most one channel; a certificate is asked for only
//! where the version knows the question, and none is taken that was not asked for; after
//! [`Effect::Close`] nothing follows.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChannelId, MonotonicMs};
use crate::id::ControllerId;
use crate::job::{self, Code, JobError};
use crate::message::{AttemptRef, Hello, Renewed, ToAgent, ToController, Verdict, Welcome, close};
use crate::{
    IDLE_SECS, JOB_STREAMS_MAX, KEEP_ALIVE_SECS, OBSERVED_BYTES_MAX, SPEC_BYTES_MAX,
    VERSION_OBSERVED, VERSION_RENEWAL,
};

/// The control channel; the agent opens it first.
pub const CONTROL: ChannelId = ChannelId(0);
/// Milliseconds an agent waits for the answer to its `Hello`.
pub const WELCOME_MS_MAX: u64 = 15_000;
/// Job frames kept while the `Welcome` is still on its way.
pub const EARLY_FRAMES_MAX: usize = 2 * JOB_STREAMS_MAX as usize;

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The connection stands and [`CONTROL`] is open.
    Connected { hello: Hello },
    /// A frame came in. Channels opened by the controller have even numbers above 0.
    Received { channel: ChannelId, message: ToAgent },
    /// The controller will send nothing more on a channel.
    Ended { channel: ChannelId },
    /// The runner has something to say about a job.
    FromRunner(ToController),
    /// Ask for a certificate; see [`Core::may_renew`]. After `wait_ms` the answer is called late.
    Renew { csr: Vec<u8>, wait_ms: u64 },
    /// What is seen of the host: an `Observed` document. Not sent where the version does not know
    /// it, before the welcome, or past [`OBSERVED_BYTES_MAX`].
    Observed { document: Vec<u8> },
    /// The agent stops, or takes its leave to come back at once.
    Stop { reason: String },
    /// The time of [`Core::next_timeout`] has come.
    Timeout,
}

/// What is to be done about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a job channel under this (odd) number.
    Open { channel: ChannelId },
    /// Send a frame.
    Send { channel: ChannelId, message: ToController },
    /// Nothing more will be sent on this channel.
    Finish { channel: ChannelId },
    /// The controller has welcomed the agent: the runner may deliver what is unacknowledged.
    Established { version: u16, controller: ControllerId, epoch: u64 },
    /// Hand a `Run`, `Cancel` or `Ack` to the runner.
    ToRunner(ToAgent),
    /// The answer to [`Input::Renew`]; it may come after [`Effect::RenewUnanswered`] too.
    Renewed { chain: Vec<Vec<u8>> },
    /// The controller does not certify the key; the session goes on.
    RenewRefused { code: String, message: String },
    /// No answer to [`Input::Renew`] in time; the session goes on.
    RenewUnanswered,
    /// The controller is about to go: after the connection ends, wait this long.
    RetryAfter { retry_after_ms: u64 },
    /// The controller does not want this agent as it is; a `Close` follows.
    Refused { code: String, message: String },
    /// Close the connection, after what was sent has had a chance to arrive.
    Close { code: u32, reason: String },
}

#[derive(Debug)]
enum State {
    Connecting,
    Greeting {
        versions: (u16, u16),
        until_ms: MonotonicMs,
        early: Vec<(ChannelId, ToAgent)>,
        /// What the runner refused after the `Hello` had named it; told once there is a welcome.
        refused: Vec<ToController>,
    },
    Live(Live),
    Closed,
}

#[derive(Debug)]
struct Live {
    version: u16,
    heartbeat_at_ms: MonotonicMs,
    silent_at_ms: MonotonicMs,
    /// Requests for a certificate that have no answer yet.
    renewals: u32,
    /// When the last of them is called unanswered.
    unanswered_at_ms: Option<MonotonicMs>,
}

/// The rules of one session. See the module's invariants.
#[derive(Debug)]
pub struct Core {
    state: State,
    running: BTreeSet<AttemptRef>,
    channels: BTreeMap<AttemptRef, ChannelId>,
    opened: u64,
    sequence: u64,
}

impl Default for Core {
    fn default() -> Self {
        Self::new()
    }
}

impl Core {
    /// A session that is not connected yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Connecting,
            running: BTreeSet::new(),
            channels: BTreeMap::new(),
            opened: 0,
            sequence: 0,
        }
    }

    /// When [`Input::Timeout`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonotonicMs> {
        match &self.state {
            State::Connecting | State::Closed => None,
            State::Greeting { until_ms, .. } => Some(*until_ms),
            State::Live(live) => {
                let due = live.heartbeat_at_ms.min(live.silent_at_ms);
                Some(live.unanswered_at_ms.map_or(due, |unanswered| unanswered.min(due)))
            }
        }
    }

    /// Whether a certificate may be asked for now: the session is welcomed, its version knows the
    /// question, and none is being waited for.
    #[must_use]
    pub fn may_renew(&self) -> bool {
        if let State::Live(live) = &self.state {
            live.version >= VERSION_RENEWAL && live.unanswered_at_ms.is_none()
        } else {
            false
        }
    }

    /// Takes in one event.
    pub fn handle(&mut self, input: Input, now_ms: MonotonicMs) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(self.state, State::Closed) {
            return effects;
        }
        match input {
            Input::Connected { hello } => self.connected(hello, now_ms, &mut effects),
            Input::Received { channel: CONTROL, message } => {
                self.control(message, now_ms, &mut effects);
            }
            Input::Received { channel, message } => self.job(channel, message, &mut effects),
            Input::Ended { channel: CONTROL } => {
                self.close(close::DONE, "the controller ended the control stream", &mut effects);
            }
            Input::Ended { channel } => self.ended(channel, &mut effects),
            Input::FromRunner(message) => self.runner_says(message, &mut effects),
            Input::Renew { csr, wait_ms } => self.renew(csr, now_ms + wait_ms, &mut effects),
            Input::Observed { document } => self.observed(document, &mut effects),
            Input::Stop { reason } => {
                let goodbye = ToController::Goodbye { reason: reason.clone() };
                effects.push(Effect::Send { channel: CONTROL, message: goodbye });
                self.close(close::DONE, &reason, &mut effects);
            }
            Input::Timeout => self.timeout(now_ms, &mut effects),
        }
        effects
    }

    fn connected(&mut self, hello: Hello, now_ms: MonotonicMs, effects: &mut Vec<Effect>) {
        self.running = hello.running.iter().cloned().collect();
        self.state = State::Greeting {
            versions: (hello.version_min, hello.version_max),
            until_ms: now_ms + WELCOME_MS_MAX,
            early: Vec::new(),
            refused: Vec::new(),
        };
        effects.push(Effect::Send { channel: CONTROL, message: ToController::Hello(hello) });
    }

    fn control(&mut self, message: ToAgent, now_ms: MonotonicMs, effects: &mut Vec<Effect>) {
        match message {
            ToAgent::Welcome(welcome) => self.welcome(welcome, now_ms, effects),
            ToAgent::Refused { code, message } => {
                let reason = format!("refused: {code}");
                effects.push(Effect::Refused { code, message });
                self.close(close::DONE, &reason, effects);
            }
            ToAgent::HeartbeatAck { sequence } => {
                if let State::Live(live) = &mut self.state
                    && sequence <= self.sequence
                {
                    live.silent_at_ms = now_ms + IDLE_SECS * 1000;
                }
            }
            ToAgent::Renewed(Renewed { chain }) => {
                self.renewal_answered(Effect::Renewed { chain }, effects);
            }
            ToAgent::RenewRefused { code, message } => {
                self.renewal_answered(Effect::RenewRefused { code, message }, effects);
            }
            ToAgent::Drain { retry_after_ms } => {
                effects.push(Effect::RetryAfter { retry_after_ms });
            }
            ToAgent::Run { .. }
            | ToAgent::Cancel { .. }
            | ToAgent::Ack { .. }
            | ToAgent::Enrolled(_)
            | ToAgent::EnrolRefused { .. }
            | ToAgent::Challenge(_) => {
                self.close(
                    close::PROTOCOL,
                    "a message out of place on the control stream",
                    effects,
                );
            }
        }
    }

    fn observed(&self, document: Vec<u8>, effects: &mut Vec<Effect>) {
        if let State::Live(live) = &self.state
            && live.version >= VERSION_OBSERVED
            && document.len() <= OBSERVED_BYTES_MAX
        {
            let message = ToController::Observed { document };
            effects.push(Effect::Send { channel: CONTROL, message });
        }
    }

    fn renew(&mut self, csr: Vec<u8>, unanswered_at_ms: MonotonicMs, effects: &mut Vec<Effect>) {
        if !self.may_renew() {
            return;
        }
        if let State::Live(live) = &mut self.state {
            live.renewals += 1;
            live.unanswered_at_ms = Some(unanswered_at_ms);
            effects.push(Effect::Send { channel: CONTROL, message: ToController::Renew { csr } });
        }
    }

    fn renewal_answered(&mut self, answer: Effect, effects: &mut Vec<Effect>) {
        if let State::Live(live) = &mut self.state
            && live.renewals > 0
        {
            live.renewals -= 1;
            live.unanswered_at_ms = None;
            effects.push(answer);
        } else {
            self.close(close::PROTOCOL, "a certificate nobody asked for", effects);
        }
    }

    fn welcome(&mut self, welcome: Welcome, now_ms: MonotonicMs, effects: &mut Vec<Effect>) {
        let State::Greeting { versions, early, refused, .. } = &mut self.state else {
            return self.close(close::PROTOCOL, "a second Welcome", effects);
        };
        if !(versions.0..=versions.1).contains(&welcome.version) {
            return self.close(close::VERSION, "a version the agent did not offer", effects);
        }
        let (early, refused) = (std::mem::take(early), std::mem::take(refused));
        self.state = State::Live(Live {
            version: welcome.version,
            heartbeat_at_ms: now_ms + KEEP_ALIVE_SECS * 1000,
            silent_at_ms: now_ms + IDLE_SECS * 1000,
            renewals: 0,
            unanswered_at_ms: None,
        });
        let Welcome { version, controller, epoch, verdicts } = welcome;
        let verdicts: BTreeMap<AttemptRef, Verdict> = verdicts.into_iter().collect();
        for attempt in self.running.clone() {
            // An attempt without a verdict goes on: stopping work takes an explicit word.
            match verdicts.get(&attempt).copied().unwrap_or(Verdict::Continue) {
                Verdict::Continue => self.reopen(attempt, effects),
                Verdict::Cancel => {
                    self.reopen(attempt.clone(), effects);
                    effects.push(Effect::ToRunner(ToAgent::Cancel { attempt }));
                }
                Verdict::Stale => effects.push(Effect::ToRunner(ToAgent::Cancel { attempt })),
            }
        }
        for message in refused {
            self.runner_says(message, effects);
        }
        effects.push(Effect::Established { version, controller, epoch });
        for (channel, message) in early {
            self.job(channel, message, effects);
        }
    }

    /// Gives a running attempt a channel of this session, so that it can be cancelled through it.
    fn reopen(&mut self, attempt: AttemptRef, effects: &mut Vec<Effect>) {
        let channel = self.channel_of(&attempt, effects);
        effects.push(Effect::Send { channel, message: ToController::Accepted { attempt } });
    }

    fn job(&mut self, channel: ChannelId, message: ToAgent, effects: &mut Vec<Effect>) {
        if let State::Greeting { early, .. } = &mut self.state {
            if early.len() >= EARLY_FRAMES_MAX {
                return self.close(close::PROTOCOL, "too many frames before Welcome", effects);
            }
            early.push((channel, message));
            return;
        }
        match message {
            ToAgent::Run { attempt, spec, .. } if spec.len() > SPEC_BYTES_MAX => {
                let limit =
                    format!("the job has {} bytes; the limit is {SPEC_BYTES_MAX}", spec.len());
                let error = job::write(&JobError::new(Code::SpecInvalid, limit));
                let message = ToController::Rejected { attempt, error };
                effects.push(Effect::Send { channel, message });
                effects.push(Effect::Finish { channel });
            }
            ToAgent::Run { ref attempt, .. } | ToAgent::Cancel { ref attempt } => {
                self.bind(attempt.clone(), channel, effects);
                effects.push(Effect::ToRunner(message));
            }
            ToAgent::Ack { ref attempt } => {
                self.running.remove(attempt);
                self.channels.remove(attempt);
                effects.push(Effect::Finish { channel });
                effects.push(Effect::ToRunner(message));
            }
            ToAgent::Welcome(_)
            | ToAgent::Refused { .. }
            | ToAgent::HeartbeatAck { .. }
            | ToAgent::Drain { .. }
            | ToAgent::Enrolled(_)
            | ToAgent::EnrolRefused { .. }
            | ToAgent::Renewed(_)
            | ToAgent::RenewRefused { .. }
            | ToAgent::Challenge(_) => {
                self.close(close::PROTOCOL, "a control message on a job stream", effects);
            }
        }
    }

    fn bind(&mut self, attempt: AttemptRef, channel: ChannelId, effects: &mut Vec<Effect>) {
        if let Some(before) = self.channels.insert(attempt, channel)
            && before != channel
        {
            effects.push(Effect::Finish { channel: before });
        }
    }

    fn ended(&mut self, channel: ChannelId, effects: &mut Vec<Effect>) {
        let before = self.channels.len();
        self.channels.retain(|_, bound| *bound != channel);
        if self.channels.len() < before {
            effects.push(Effect::Finish { channel });
        }
    }

    fn runner_says(&mut self, message: ToController, effects: &mut Vec<Effect>) {
        match &message {
            ToController::Accepted { attempt } => {
                self.running.insert(attempt.clone());
            }
            ToController::Finished { attempt, .. } | ToController::Rejected { attempt, .. } => {
                self.running.remove(attempt);
            }
            ToController::Progress { .. }
            | ToController::Hello(_)
            | ToController::Heartbeat { .. }
            | ToController::Enrol(_)
            | ToController::Goodbye { .. }
            | ToController::Renew { .. }
            | ToController::Recover(_)
            | ToController::Prove(_)
            | ToController::Observed { .. } => {}
        }
        match &mut self.state {
            State::Live(_) => {}
            // Nobody would say it again, and the Hello has named the attempt as one that runs.
            State::Greeting { refused, .. } if matches!(message, ToController::Rejected { .. }) => {
                return refused.push(message);
            }
            State::Connecting | State::Greeting { .. } | State::Closed => return,
        }
        match &message {
            ToController::Accepted { attempt } | ToController::Finished { attempt, .. } => {
                let channel = self.channel_of(attempt, effects);
                effects.push(Effect::Send { channel, message });
            }
            ToController::Rejected { attempt, .. } => {
                let attempt = attempt.clone();
                let channel = self.channel_of(&attempt, effects);
                effects.push(Effect::Send { channel, message });
                effects.push(Effect::Finish { channel });
                self.channels.remove(&attempt);
            }
            // Progress is for watchers: without a channel nobody watches.
            ToController::Progress { attempt, .. } => {
                if let Some(channel) = self.channels.get(attempt).copied() {
                    effects.push(Effect::Send { channel, message });
                }
            }
            ToController::Hello(_)
            | ToController::Heartbeat { .. }
            | ToController::Enrol(_)
            | ToController::Goodbye { .. }
            | ToController::Renew { .. }
            | ToController::Recover(_)
            | ToController::Prove(_)
            | ToController::Observed { .. } => {}
        }
    }

    fn channel_of(&mut self, attempt: &AttemptRef, effects: &mut Vec<Effect>) -> ChannelId {
        if let Some(channel) = self.channels.get(attempt) {
            return *channel;
        }
        let channel = ChannelId(2 * self.opened + 1);
        self.opened += 1;
        self.channels.insert(attempt.clone(), channel);
        effects.push(Effect::Open { channel });
        channel
    }

    fn timeout(&mut self, now_ms: MonotonicMs, effects: &mut Vec<Effect>) {
        match &mut self.state {
            State::Connecting | State::Closed => {}
            State::Greeting { until_ms, .. } => {
                if now_ms >= *until_ms {
                    self.close(close::UNAVAILABLE, "no answer to Hello", effects);
                }
            }
            State::Live(live) => {
                if now_ms >= live.silent_at_ms {
                    return self.close(close::UNAVAILABLE, "heartbeats go unanswered", effects);
                }
                if live.unanswered_at_ms.is_some_and(|due| now_ms >= due) {
                    live.unanswered_at_ms = None;
                    effects.push(Effect::RenewUnanswered);
                }
                if now_ms >= live.heartbeat_at_ms {
                    live.heartbeat_at_ms = now_ms + KEEP_ALIVE_SECS * 1000;
                    self.sequence += 1;
                    let running = self.running.iter().cloned().collect();
                    let message = ToController::Heartbeat { sequence: self.sequence, running };
                    effects.push(Effect::Send { channel: CONTROL, message });
                }
            }
        }
    }

    fn close(&mut self, code: u32, reason: &str, effects: &mut Vec<Effect>) {
        self.state = State::Closed;
        effects.push(Effect::Close { code, reason: reason.to_owned() });
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
