//! The controller's side of one session.
//!
//! One [`Core`] lives as long as one connection of one enrolled host. It negotiates, asks its
//! runner to reconcile what the agent carries, ties each attempt to the channel that carries it
//! and passes what agents report outward. It never decides about a job: the database does.
//!
//! Invariants: the first frame is a `Hello` on [`CONTROL`] and comes only once; nothing about a
//! job is passed on before the agent was admitted; an `Ack` is sent only after
//! [`Input::Settled`]; each attempt is asked to stop at most once a session; a certificate is
//! sent only to an agent that asked for one, once for each time it asked; after [`Effect::Close`]
//! nothing follows.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChannelId, MonotonicMs, negotiate};
use crate::id::ControllerId;
use crate::message::{AttemptRef, Hello, Renewed, ToAgent, ToController, Verdict, Welcome, close};
use crate::{
    CSR_BYTES_MAX, FACTS_BYTES_MAX, HELLO_ATTEMPTS_MAX, JOB_STREAMS_MAX, OBSERVED_BYTES_MAX,
    OUTCOME_BYTES_MAX, PROGRESS_BYTES_MAX, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
    VERSION_OBSERVED, VERSION_RENEWAL,
};

/// The control channel; the agent opens it first.
pub const CONTROL: ChannelId = ChannelId(0);
/// Milliseconds a connection may stand without a `Hello`.
pub const HELLO_MS_MAX: u64 = 10_000;
/// Job channels open at once, of both sides together.
pub const CHANNELS_MAX: usize = 2 * JOB_STREAMS_MAX as usize;
/// Certificates given out in one session: an agent reconnects with each, more are refused.
pub const RENEWALS_MAX: u8 = 8;
/// Longest build version in a `Hello`, in bytes.
pub const BUILD_BYTES_MAX: usize = 128;

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A frame came in. Channels opened by the agent have odd numbers, except [`CONTROL`].
    Received { channel: ChannelId, message: ToController },
    /// The agent will send nothing more on a channel.
    Ended { channel: ChannelId },
    /// The answer to [`Effect::Reconcile`]: the session is entered in the database.
    Admitted { controller: ControllerId, epoch: u64, verdicts: Vec<(AttemptRef, Verdict)> },
    /// The host was given a job.
    Run { attempt: AttemptRef, timeout_secs: u32, spec: Vec<u8> },
    /// An attempt shall stop: somebody asked, or it is stale.
    Cancel { attempt: AttemptRef },
    /// An outcome is committed, or known to be stale: the agent may forget it.
    Settled { attempt: AttemptRef },
    /// The answer to [`Effect::Renew`]: a certificate's chain, or a code and a sentence.
    Renewed { answer: Result<Vec<Vec<u8>>, (String, String)> },
    /// The controller goes away.
    Drain { retry_after_ms: u64 },
    /// The time of [`Core::next_timeout`] has come.
    Timeout,
}

/// What is to be done about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a job channel under this (even) number.
    Open { channel: ChannelId },
    /// Send a frame.
    Send { channel: ChannelId, message: ToAgent },
    /// Nothing more will be sent on this channel.
    Finish { channel: ChannelId },
    /// Enter the session and compare what the agent carries with the database; answer with
    /// [`Input::Admitted`].
    Reconcile { hello: Hello },
    /// The attempt is in the agent's journal.
    Accepted { attempt: AttemptRef },
    /// The agent did nothing and will do nothing; `error` is a `JobError` document.
    Rejected { attempt: AttemptRef, error: Vec<u8> },
    /// A `Progress` document.
    Progress { attempt: AttemptRef, sequence: u64, document: Vec<u8> },
    /// An `Outcome` document; answer with [`Input::Settled`] once it is committed.
    Finished { attempt: AttemptRef, outcome: Vec<u8> },
    /// These attempts run: their leases are to be renewed.
    Alive { running: Vec<AttemptRef> },
    /// The agent asks for a certificate for a new key; answer with [`Input::Renewed`].
    Renew { csr: Vec<u8> },
    /// What the agent sees of its host: an `Observed` document.
    Observed { document: Vec<u8> },
    /// The agent stops of its own will.
    Leaving { reason: String },
    /// Close the connection, after what was sent has had a chance to arrive.
    Close { code: u32, reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until_ms: MonotonicMs },
    Reconciling { version: u16 },
    Live { version: u16 },
    Closed,
}

/// The rules of one session. See the module's invariants.
#[derive(Debug)]
pub struct Core {
    state: State,
    /// The channel each attempt is talked about on; a channel carries one attempt.
    channels: BTreeMap<ChannelId, AttemptRef>,
    bound: BTreeMap<AttemptRef, ChannelId>,
    stopped: BTreeSet<AttemptRef>,
    opened: u64,
    /// A request for a certificate is being answered; what the agent asks meanwhile is dropped,
    /// since that answer serves it too.
    renewing: bool,
    renewals: u8,
}

impl Core {
    /// A connection whose peer is known to be an enrolled host.
    #[must_use]
    pub fn new(now_ms: MonotonicMs) -> Self {
        Self {
            state: State::Waiting { until_ms: now_ms + HELLO_MS_MAX },
            channels: BTreeMap::new(),
            bound: BTreeMap::new(),
            stopped: BTreeSet::new(),
            opened: 0,
            renewing: false,
            renewals: 0,
        }
    }

    /// When [`Input::Timeout`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<MonotonicMs> {
        match self.state {
            State::Waiting { until_ms } => Some(until_ms),
            State::Reconciling { .. } | State::Live { .. } | State::Closed => None,
        }
    }

    /// Whether a channel of this session still carries the attempt.
    #[must_use]
    pub fn carries(&self, attempt: &AttemptRef) -> bool {
        self.bound.contains_key(attempt)
    }

    /// Takes in one event.
    pub fn handle(&mut self, input: Input, now_ms: MonotonicMs) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.state == State::Closed {
            return effects;
        }
        match input {
            Input::Received { channel: CONTROL, message } => self.control(message, &mut effects),
            Input::Received { channel, message } => self.job(channel, message, &mut effects),
            Input::Ended { channel: CONTROL } => {
                self.close(close::DONE, "the agent ended the control stream", &mut effects);
            }
            Input::Ended { channel } => self.ended(channel, &mut effects),
            Input::Admitted { controller, epoch, verdicts } => {
                self.admitted(controller, epoch, verdicts, &mut effects);
            }
            Input::Run { attempt, timeout_secs, spec } => {
                let channel = self.channel_of(&attempt, &mut effects);
                let message = ToAgent::Run { attempt, timeout_secs, spec };
                effects.push(Effect::Send { channel, message });
            }
            Input::Cancel { attempt } => self.cancel(attempt, &mut effects),
            Input::Settled { attempt } => self.settled(attempt, &mut effects),
            Input::Renewed { answer } => self.renewed(answer, &mut effects),
            Input::Drain { retry_after_ms } => {
                let message = ToAgent::Drain { retry_after_ms };
                effects.push(Effect::Send { channel: CONTROL, message });
            }
            Input::Timeout => {
                if self.next_timeout().is_some_and(|due| now_ms >= due) {
                    // An agent that was killed, or cut off, just after it connected: no breach.
                    self.close(close::UNAVAILABLE, "no Hello in time", &mut effects);
                }
            }
        }
        effects
    }

    fn control(&mut self, message: ToController, effects: &mut Vec<Effect>) {
        match (self.state, message) {
            (State::Waiting { .. }, ToController::Hello(hello)) => self.hello(hello, effects),
            (State::Live { .. }, ToController::Heartbeat { sequence, running }) => {
                if running.len() > HELLO_ATTEMPTS_MAX {
                    return self.close(
                        close::PROTOCOL,
                        "too many attempts in a Heartbeat",
                        effects,
                    );
                }
                let message = ToAgent::HeartbeatAck { sequence };
                effects.push(Effect::Alive { running });
                effects.push(Effect::Send { channel: CONTROL, message });
            }
            (State::Live { version }, ToController::Renew { csr })
                if version >= VERSION_RENEWAL =>
            {
                self.renew(csr, effects);
            }
            (State::Live { version }, ToController::Observed { document })
                if version >= VERSION_OBSERVED && document.len() <= OBSERVED_BYTES_MAX =>
            {
                effects.push(Effect::Observed { document });
            }
            (_, ToController::Goodbye { reason }) => {
                effects.push(Effect::Leaving { reason });
                self.close(close::DONE, "goodbye", effects);
            }
            (
                _,
                ToController::Hello(_)
                | ToController::Heartbeat { .. }
                | ToController::Accepted { .. }
                | ToController::Rejected { .. }
                | ToController::Progress { .. }
                | ToController::Finished { .. }
                | ToController::Enrol(_)
                | ToController::Renew { .. }
                | ToController::Recover(_)
                | ToController::Prove(_)
                | ToController::Observed { .. },
            ) => self.close(close::PROTOCOL, "a frame out of place on the control stream", effects),
        }
    }

    fn renew(&mut self, csr: Vec<u8>, effects: &mut Vec<Effect>) {
        if csr.len() > CSR_BYTES_MAX {
            return self.close(close::PROTOCOL, "an oversized signing request", effects);
        }
        if self.renewing {
            return;
        }
        if self.renewals >= RENEWALS_MAX {
            let message = ToAgent::RenewRefused {
                code: "RATE_LIMITED".to_owned(),
                message: "too many certificates in one session: reconnect".to_owned(),
            };
            return effects.push(Effect::Send { channel: CONTROL, message });
        }
        self.renewals += 1;
        self.renewing = true;
        effects.push(Effect::Renew { csr });
    }

    fn renewed(
        &mut self,
        answer: Result<Vec<Vec<u8>>, (String, String)>,
        effects: &mut Vec<Effect>,
    ) {
        if !std::mem::take(&mut self.renewing) {
            return;
        }
        let message = match answer {
            Ok(chain) => ToAgent::Renewed(Renewed { chain }),
            Err((code, message)) => ToAgent::RenewRefused { code, message },
        };
        effects.push(Effect::Send { channel: CONTROL, message });
    }

    fn hello(&mut self, hello: Hello, effects: &mut Vec<Effect>) {
        let offered = (hello.version_min, hello.version_max);
        let ours = (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION);
        let version = match negotiate(ours, offered, "the agent") {
            Ok(version) => version,
            Err(mismatch) => return self.refuse_version(offered, mismatch.upgrade, effects),
        };
        let attempts = hello.running.len().max(hello.unacknowledged.len());
        if attempts > HELLO_ATTEMPTS_MAX {
            return self.close(close::PROTOCOL, "too many attempts in a Hello", effects);
        }
        if hello.facts.len() > FACTS_BYTES_MAX || hello.build.len() > BUILD_BYTES_MAX {
            return self.close(close::PROTOCOL, "a Hello with oversized facts", effects);
        }
        self.state = State::Reconciling { version };
        effects.push(Effect::Reconcile { hello });
    }

    fn refuse_version(&mut self, offered: (u16, u16), upgrade: &str, effects: &mut Vec<Effect>) {
        let upgrade = if upgrade == "the agent" { upgrade } else { "the controller" };
        let message = format!(
            "no common protocol version (controller {PROTOCOL_VERSION_MIN}-{PROTOCOL_VERSION}, \
             agent {}-{}): upgrade {upgrade}",
            offered.0, offered.1
        );
        let refused =
            ToAgent::Refused { code: "VERSION_MISMATCH".to_owned(), message: message.clone() };
        effects.push(Effect::Send { channel: CONTROL, message: refused });
        self.close(close::VERSION, &message, effects);
    }

    fn admitted(
        &mut self,
        controller: ControllerId,
        epoch: u64,
        verdicts: Vec<(AttemptRef, Verdict)>,
        effects: &mut Vec<Effect>,
    ) {
        let State::Reconciling { version } = self.state else { return };
        for (attempt, verdict) in &verdicts {
            match verdict {
                Verdict::Continue => {}
                // The verdict itself is the request to stop.
                Verdict::Cancel | Verdict::Stale => {
                    self.stopped.insert(attempt.clone());
                }
            }
        }
        self.state = State::Live { version };
        let welcome = Welcome { version, controller, epoch, verdicts };
        effects.push(Effect::Send { channel: CONTROL, message: ToAgent::Welcome(welcome) });
    }

    fn job(&mut self, channel: ChannelId, message: ToController, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Live { .. }) {
            return self.close(close::PROTOCOL, "a job frame before the Welcome", effects);
        }
        let attempt = match &message {
            ToController::Accepted { attempt }
            | ToController::Rejected { attempt, .. }
            | ToController::Progress { attempt, .. }
            | ToController::Finished { attempt, .. } => attempt.clone(),
            ToController::Hello(_)
            | ToController::Heartbeat { .. }
            | ToController::Enrol(_)
            | ToController::Goodbye { .. }
            | ToController::Renew { .. }
            | ToController::Recover(_)
            | ToController::Prove(_)
            | ToController::Observed { .. } => {
                return self.close(close::PROTOCOL, "a control frame on a job stream", effects);
            }
        };
        if let Err(reason) = self.bind(channel, &attempt) {
            return self.close(close::PROTOCOL, reason, effects);
        }
        match outward(message) {
            Ok(effect) => effects.push(effect),
            Err(reason) => self.close(close::PROTOCOL, reason, effects),
        }
    }

    fn bind(&mut self, channel: ChannelId, attempt: &AttemptRef) -> Result<(), &'static str> {
        match self.channels.get(&channel) {
            Some(bound) if bound == attempt => Ok(()),
            Some(_) => Err("a frame about another attempt than its stream's"),
            None if self.channels.len() >= CHANNELS_MAX => Err("too many job streams"),
            None => {
                self.channels.insert(channel, attempt.clone());
                self.bound.insert(attempt.clone(), channel);
                Ok(())
            }
        }
    }

    fn ended(&mut self, channel: ChannelId, effects: &mut Vec<Effect>) {
        if let Some(attempt) = self.channels.remove(&channel) {
            if self.bound.get(&attempt) == Some(&channel) {
                self.bound.remove(&attempt);
            }
            effects.push(Effect::Finish { channel });
        }
    }

    fn cancel(&mut self, attempt: AttemptRef, effects: &mut Vec<Effect>) {
        if matches!(self.state, State::Live { .. }) && self.stopped.insert(attempt.clone()) {
            let channel = self.channel_of(&attempt, effects);
            effects.push(Effect::Send { channel, message: ToAgent::Cancel { attempt } });
        }
    }

    fn settled(&mut self, attempt: AttemptRef, effects: &mut Vec<Effect>) {
        self.stopped.remove(&attempt);
        let channel = self.channel_of(&attempt, effects);
        self.bound.remove(&attempt);
        self.channels.remove(&channel);
        effects.push(Effect::Send { channel, message: ToAgent::Ack { attempt } });
        effects.push(Effect::Finish { channel });
    }

    fn channel_of(&mut self, attempt: &AttemptRef, effects: &mut Vec<Effect>) -> ChannelId {
        if let Some(channel) = self.bound.get(attempt) {
            return *channel;
        }
        self.opened += 1;
        let channel = ChannelId(2 * self.opened);
        self.channels.insert(channel, attempt.clone());
        self.bound.insert(attempt.clone(), channel);
        effects.push(Effect::Open { channel });
        channel
    }

    fn close(&mut self, code: u32, reason: &str, effects: &mut Vec<Effect>) {
        self.state = State::Closed;
        effects.push(Effect::Close { code, reason: reason.to_owned() });
    }
}

/// What a job frame means outside the session; its documents are held to their limits.
fn outward(message: ToController) -> Result<Effect, &'static str> {
    match message {
        ToController::Accepted { attempt } => Ok(Effect::Accepted { attempt }),
        ToController::Rejected { error, .. } if error.len() > OUTCOME_BYTES_MAX => {
            Err("an error document over its limit")
        }
        ToController::Rejected { attempt, error } => Ok(Effect::Rejected { attempt, error }),
        ToController::Progress { document, .. } if document.len() > PROGRESS_BYTES_MAX => {
            Err("a progress document over its limit")
        }
        ToController::Progress { attempt, sequence, document } => {
            Ok(Effect::Progress { attempt, sequence, document })
        }
        ToController::Finished { outcome, .. } if outcome.len() > OUTCOME_BYTES_MAX => {
            Err("an outcome document over its limit")
        }
        ToController::Finished { attempt, outcome } => Ok(Effect::Finished { attempt, outcome }),
        ToController::Hello(_)
        | ToController::Heartbeat { .. }
        | ToController::Enrol(_)
        | ToController::Goodbye { .. }
        | ToController::Renew { .. }
        | ToController::Recover(_)
        | ToController::Prove(_)
        | ToController::Observed { .. } => Err("a control frame on a job stream"),
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
