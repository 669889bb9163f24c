//! What a session does with what it hears, without IO: the session core's rules, and what stands
//! between them and the database: which attempts take up a slot here, whose end is being entered,
//! and what becomes of the database's answers.
//!
//! Invariants:
//! * a host speaks for itself only: an attempt that was not handed to this session, or found
//!   running at its Hello, is neither renewed nor accepted here;
//! * a slot is given back once, when the attempt's end is in the database;
//! * an attempt whose end has been told is not asked to stop.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hostler_protocol::id::ControllerId;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, ToController, close};
use hostler_protocol::session::ChannelId;
use hostler_protocol::session::controller::{Core, Effect, Input};

use super::Order;
use crate::app::fleet::Admission;
use crate::domain::Template;

/// A certificate's chain, or why there is none: a stable code and a sentence.
pub type Certified = Result<Vec<Vec<u8>>, (String, String)>;

/// What happens to a session.
#[derive(Debug)]
pub enum Event {
    Frame(ChannelId, Box<ToController>),
    Ended(ChannelId),
    /// The agent sent something that is no frame.
    Broken(String),
    Order(Order),
    /// The answer to [`Act::Admit`].
    Admitted {
        controller: ControllerId,
        admission: Admission,
    },
    /// The answer to [`Act::Settle`]: the report is committed, or known to be stale. `acknowledge`
    /// as it was asked for.
    Settled {
        attempt: AttemptRef,
        acknowledge: bool,
    },
    /// The answer to [`Act::Accept`]: the attempt is not its job's current one.
    NotCurrent(AttemptRef),
    /// The database does not take reports just now.
    NotTaken,
    /// The answer to [`Act::Certify`]; boxed, since it is rare and large.
    Certified(Box<Certified>),
    /// The time of [`Desk::next_timeout`] has come.
    Timeout,
}

/// What is to be done about it, in this order.
#[derive(Debug)]
pub enum Act {
    Open(ChannelId),
    Send(ChannelId, ToAgent),
    /// Nothing more will be sent on this channel.
    Finish(ChannelId),
    /// Enter the session; answer with [`Event::Admitted`], or close.
    Admit(Box<Hello>),
    /// Note that the attempt is journalled; answer with [`Event::NotCurrent`] if it is not its
    /// job's current one.
    Accept(AttemptRef),
    /// Settle the attempt by this document; answer with [`Event::Settled`] after the commit.
    Settle {
        attempt: AttemptRef,
        /// An `Outcome` document, or a `JobError` document of an attempt that was refused.
        document: Vec<u8>,
        refused: bool,
        template: Option<Arc<Template>>,
    },
    Progress {
        attempt: AttemptRef,
        sequence: u64,
        document: Vec<u8>,
    },
    /// The leases of these attempts are to be renewed.
    Renew(Vec<AttemptRef>),
    /// One attempt less is in flight.
    Freed,
    /// An `Observed` document.
    Observed(Vec<u8>),
    /// Answer with [`Event::Certified`].
    Certify(Vec<u8>),
    Leaving(String),
    /// After what was sent has had a chance to arrive.
    Close {
        code: u32,
        reason: String,
    },
}

/// One session's rules. See the module's invariants.
#[derive(Debug)]
pub struct Desk {
    core: Core,
    /// Attempts that take up a slot.
    slots: HashSet<AttemptRef>,
    /// Attempts whose end has been told and is not entered yet.
    ending: HashSet<AttemptRef>,
    templates: HashMap<AttemptRef, Arc<Template>>,
}

impl Desk {
    /// A connection whose peer is known to be an enrolled host; `now_ms` of a monotonic clock.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            core: Core::new(now_ms),
            slots: HashSet::new(),
            ending: HashSet::new(),
            templates: HashMap::new(),
        }
    }

    /// When [`Event::Timeout`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.core.next_timeout()
    }

    /// Takes in one event.
    pub fn handle(&mut self, event: Event, now_ms: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        match event {
            Event::Frame(channel, message) => {
                self.step(Input::Received { channel, message: *message }, now_ms, &mut acts);
            }
            Event::Ended(channel) => self.step(Input::Ended { channel }, now_ms, &mut acts),
            Event::Broken(reason) => acts.push(Act::Close { code: close::PROTOCOL, reason }),
            Event::Order(order) => self.order(order, now_ms, &mut acts),
            Event::Admitted { controller, admission } => {
                let Admission { epoch, verdicts, running } = admission;
                self.slots = running.into_iter().collect();
                self.step(Input::Admitted { controller, epoch, verdicts }, now_ms, &mut acts);
            }
            Event::Settled { attempt, acknowledge } => {
                self.over(&attempt, &mut acts);
                if acknowledge {
                    self.step(Input::Settled { attempt }, now_ms, &mut acts);
                }
            }
            Event::NotCurrent(attempt) => self.not_current(attempt, now_ms, &mut acts),
            Event::NotTaken => {
                let reason = "the controller cannot take reports just now".to_owned();
                acts.push(Act::Close { code: close::UNAVAILABLE, reason });
            }
            Event::Certified(answer) => {
                self.step(Input::Renewed { answer: *answer }, now_ms, &mut acts);
            }
            Event::Timeout => self.step(Input::Timeout, now_ms, &mut acts),
        }
        acts
    }

    fn order(&mut self, order: Order, now_ms: u64, acts: &mut Vec<Act>) {
        match order {
            Order::Run { attempt, timeout_secs, spec, template } => {
                self.slots.insert(attempt.clone());
                self.templates.insert(attempt.clone(), template);
                self.step(Input::Run { attempt, timeout_secs, spec }, now_ms, acts);
            }
            Order::Cancel { attempt } => self.step(Input::Cancel { attempt }, now_ms, acts),
            Order::Drain { retry_after_ms } => {
                self.step(Input::Drain { retry_after_ms }, now_ms, acts);
                let reason = "the controller shuts down".to_owned();
                acts.push(Act::Close { code: close::DRAINING, reason });
            }
        }
    }

    fn over(&mut self, attempt: &AttemptRef, acts: &mut Vec<Act>) {
        self.ending.remove(attempt);
        self.templates.remove(attempt);
        if self.slots.remove(attempt) {
            acts.push(Act::Freed);
        }
    }

    /// An attempt that ended as fast as it was accepted is no longer current either, but its end
    /// has been told and there is nothing to stop.
    fn not_current(&mut self, attempt: AttemptRef, now_ms: u64, acts: &mut Vec<Act>) {
        if self.core.carries(&attempt) && !self.ending.contains(&attempt) {
            self.step(Input::Cancel { attempt }, now_ms, acts);
        }
    }

    fn step(&mut self, input: Input, now_ms: u64, acts: &mut Vec<Act>) {
        for effect in self.core.handle(input, now_ms) {
            match effect {
                Effect::Open { channel } => acts.push(Act::Open(channel)),
                Effect::Send { channel, message } => acts.push(Act::Send(channel, message)),
                Effect::Finish { channel } => acts.push(Act::Finish(channel)),
                Effect::Reconcile { hello } => acts.push(Act::Admit(Box::new(hello))),
                Effect::Accepted { attempt } if self.slots.contains(&attempt) => {
                    acts.push(Act::Accept(attempt));
                }
                Effect::Accepted { attempt } => self.not_current(attempt, now_ms, acts),
                Effect::Rejected { attempt, error } => self.settle(attempt, error, true, acts),
                Effect::Finished { attempt, outcome } => {
                    self.settle(attempt, outcome, false, acts);
                }
                Effect::Progress { attempt, sequence, document } => {
                    acts.push(Act::Progress { attempt, sequence, document });
                }
                Effect::Alive { mut running } => {
                    running.retain(|attempt| self.slots.contains(attempt));
                    acts.push(Act::Renew(running));
                }
                Effect::Observed { document } => acts.push(Act::Observed(document)),
                Effect::Renew { csr } => acts.push(Act::Certify(csr)),
                Effect::Leaving { reason } => acts.push(Act::Leaving(reason)),
                Effect::Close { code, reason } => acts.push(Act::Close { code, reason }),
            }
        }
    }

    fn settle(
        &mut self,
        attempt: AttemptRef,
        document: Vec<u8>,
        refused: bool,
        acts: &mut Vec<Act>,
    ) {
        self.ending.insert(attempt.clone());
        let template = self.templates.get(&attempt).cloned();
        acts.push(Act::Settle { attempt, document, refused, template });
    }
}
