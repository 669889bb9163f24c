//! The world: its clock, its queue of what will happen, and one step after the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hostler_controller::domain::Micros;
use hostler_protocol::id::{EnvironmentId, HostId};

use super::agent::Agent;
use super::controller::Controller;
use super::dice::Dice;
use super::event::{Conn, Event};
use super::ledger::Ledger;
use super::mutation::Mutation;
use super::plan::Plan;
use super::report::{Report, Violation};
use super::wire::Connection;

/// When every run begins.
pub(super) const START: Micros = Micros(1_750_000_000_000_000);
/// Steps after which a run that has not come to rest is called restless.
const STEPS_MAX: u64 = 40_000;

pub(super) type Step = Result<(), Violation>;

/// A host as its operators know it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) key_sha256: String,
    pub(super) environments: Vec<EnvironmentId>,
    pub(super) revoked: bool,
    /// No connection comes through before.
    pub(super) cut_until_ms: u64,
    /// Two agents show this host's identity.
    pub(super) cloned: bool,
}

/// Everything there is.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) plan: Plan,
    pub(super) mutation: Option<Mutation>,
    pub(super) now_ms: u64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) agents: Vec<Agent>,
    pub(super) controller: Controller,
    pub(super) connections: BTreeMap<Conn, Connection>,
    pub(super) ledger: Ledger,
    pub(super) report: Report,
    /// Nothing goes wrong any more.
    pub(super) healed: bool,
    keep_trace: bool,
}

impl World {
    pub(super) fn new(
        seed: u64,
        dice: Dice,
        plan: Plan,
        controller: Controller,
        mutation: Option<Mutation>,
        keep_trace: bool,
    ) -> Self {
        let report = Report { seed, hash: 0xcbf2_9ce4_8422_2325, ..Report::default() };
        Self {
            dice,
            plan,
            mutation,
            now_ms: 0,
            queue: BTreeMap::new(),
            queued: 0,
            hosts: Vec::new(),
            agents: Vec::new(),
            controller,
            connections: BTreeMap::new(),
            ledger: Ledger::default(),
            report,
            healed: false,
            keep_trace,
        }
    }

    /// Puts an event into the future.
    pub(super) fn after(&mut self, wait_ms: u64, event: Event) {
        self.at(self.now_ms + wait_ms, event);
    }

    pub(super) fn at(&mut self, at_ms: u64, event: Event) {
        self.queue.insert((at_ms.max(self.now_ms), self.queued), event);
        self.queued += 1;
    }

    /// Writes down what happens: into the hash always, as text where it is asked for.
    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        // A string takes everything.
        if write!(line, "{:>9} {what}", self.now_ms).is_err() {
            return;
        }
        for byte in line.bytes() {
            self.report.hash ^= u64::from(byte);
            self.report.hash = self.report.hash.wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.keep_trace {
            self.report.trace.push(line);
        }
    }

    pub(super) fn count(&mut self, fault: &'static str) {
        *self.report.faults.entry(fault).or_default() += 1;
    }

    /// A short wait, as between two tasks of one process.
    pub(super) fn soon(&mut self) -> u64 {
        if self.dice.permille(20) { self.dice.between(10, 400) } else { self.dice.below(4) }
    }

    /// Whether a process dies before the very next thing it is about to do.
    pub(super) fn dies_now(&mut self) -> bool {
        let often = self.plan.rates.at_boundary;
        !self.healed && often > 0 && self.dice.permille(often)
    }

    fn move_clocks(&mut self, to_ms: u64) {
        let by_ms = to_ms - self.now_ms;
        self.now_ms = to_ms;
        self.controller.clock.advance(Duration::from_millis(by_ms));
        for agent in &self.agents {
            agent.clock.advance_ms(by_ms);
        }
    }

    /// Runs until nothing that goes wrong is left and everything has come to rest.
    pub(super) async fn run(&mut self) -> Step {
        loop {
            let Some(((at_ms, _), event)) = self.queue.pop_first() else {
                return Err(Violation::unexplained("nothing will ever happen again"));
            };
            self.move_clocks(at_ms);
            self.report.steps += 1;
            if self.report.steps > STEPS_MAX {
                let waits = self.restless().await?;
                return Err(Violation::unexplained(format!("it does not come to rest: {waits}")));
            }
            let looked = matches!(event, Event::Sweeps(_));
            self.step(event).await?;
            self.follow_bells();
            if looked && self.healed && self.is_at_rest().await? {
                return self.judge().await;
            }
        }
    }

    async fn step(&mut self, event: Event) -> Step {
        match event {
            Event::AgentStarts(agent) => self.agent_starts(agent),
            Event::Dials(boot) => self.dials(boot),
            Event::RunnerTimer(boot) => self.runner_timer(boot),
            Event::LinkTimer(boot, conn) => self.link_timer(boot, conn),
            Event::Journal(boot, work) => self.journal_works(boot, work).await,
            Event::RunnerHears(boot, input) => self.runner_hears(boot, *input),
            Event::ToRunner(boot, message) => self.runner_is_told(boot, *message),
            Event::FromRunner(boot, message) => self.runner_says(boot, *message),
            Event::Acts(boot, attempt, serial) => self.acts(boot, &attempt, serial),
            Event::Joins(conn) => self.joins(conn).await,
            Event::ToController(conn, channel, frame) => {
                self.controller_receives(conn, channel, *frame).await
            }
            Event::ToAgent(conn, channel, frame) => self.agent_receives(conn, channel, *frame),
            Event::AgentNotices(conn, code) => self.agent_notices(conn, code),
            Event::ControllerNotices(conn) => self.controller_notices(conn),
            Event::Leaves(run, conn) => self.leaves(run, conn).await,
            Event::ControllerStarts => self.controller_starts().await,
            Event::Dispatches(run) => self.dispatches(run).await,
            Event::Sweeps(run) => self.sweeps(run).await,
            Event::Orders(run, conn) => self.orders(run, conn).await,
            Event::DeskTimer(run, conn) => self.desk_timer(run, conn).await,
            Event::Settles(run) => self.settles(run).await,
            Event::Accepts(run, conn, attempt) => self.accepts(run, conn, attempt).await,
            Event::Renews(run, attempts) => self.renews(run, &attempts).await,
            Event::WritesProgress(run) => self.writes_progress(run).await,
            Event::DeskHears(run, conn, event) => self.desk_hears(run, conn, *event).await,
            Event::Operator => self.operator().await,
            Event::Fault => self.fault().await,
            Event::DiskMends(agent) => {
                self.disk_mends(agent);
                Ok(())
            }
            Event::Heals => self.heals(),
        }
    }
}
