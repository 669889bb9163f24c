//! An agent's process: the real runner core on the real journal. What the runner's shell does with
//! the core's effects is done here as it does it, one event at a time.

use std::collections::BTreeMap;

use hostler_agent::clock::Clock;
use hostler_agent::journal::disk::{Disk, Wrong};
use hostler_agent::journal::{Contents, Journal};
use hostler_agent::runner::core::{Core, Effect, Input, Limits, Now};
use hostler_agent::runner::pipe::{FromRunner, ToRunner};
use hostler_protocol::id::BootId;
use hostler_protocol::message::{AttemptRef, ToController};

use super::action::Action;
use super::event::{Boot, Event, JournalWork};
use super::ledger::Promised;
use super::link::Link;
use super::mutation::Mutation;
use super::report::Violation;
use super::world::{START, Step, World};

/// As an agent's own settings have it.
const LIMITS: Limits = Limits { jobs_max: 8, stop_ms_max: 10_000 };

/// A machine with an agent installed; what stays when the agent stops.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) host: usize,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    pub(super) run: u64,
    pub(super) process: Option<Process>,
    pub(super) version_max: u16,
    /// The back-off's window.
    pub(super) window_ms: u64,
    pub(super) promised: Promised,
}

/// A running agent.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) core: Core,
    pub(super) journal: Journal,
    pub(super) actions: BTreeMap<AttemptRef, Action>,
    pub(super) link: Option<Link>,
    /// The epoch it was last welcomed in.
    pub(super) welcomed: Option<u64>,
    timer_ms: Option<u64>,
    /// When the last message on each way of the pipe arrives.
    to_runner_ms: u64,
    from_runner_ms: u64,
}

impl Agent {
    pub(super) fn new(host: usize, version_max: u16, lies: bool) -> Self {
        let disk = Disk::new();
        if lies {
            disk.set(Wrong::Lies);
        }
        Self {
            host,
            disk,
            clock: Clock::manual(START.0),
            run: 0,
            process: None,
            version_max,
            window_ms: 1000,
            promised: Promised::default(),
        }
    }
}

impl World {
    pub(super) fn process(&mut self, boot: Boot) -> Option<&mut Process> {
        let agent = self.agents.get_mut(boot.agent)?;
        if agent.run == boot.run { agent.process.as_mut() } else { None }
    }

    /// The agent's program starts; a journal that cannot be opened is tried again.
    pub(super) fn agent_starts(&mut self, index: usize) -> Step {
        if self.agents[index].process.is_some() {
            return Ok(());
        }
        let opened = Journal::open_on(&self.agents[index].disk);
        let (journal, mut contents) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.note(format_args!("agent {index} cannot open its journal: {error:?}"));
                self.after(5_000, Event::AgentStarts(index));
                return Ok(());
            }
        };
        self.keeps_promises(index, &contents)?;
        if self.mutation == Some(Mutation::ForgetsSettled) {
            contents.settled.clear();
            contents.finished.clear();
        }
        let proven = self.proven(index, &contents);
        let agent = &mut self.agents[index];
        agent.run += 1;
        let unix_ms = u64::try_from(agent.clock.now_us() / 1000).unwrap_or(0);
        let mut random = [0; 10];
        random[0] = u8::try_from(index).unwrap_or(u8::MAX);
        random[1..9].copy_from_slice(&agent.run.to_be_bytes());
        let boot_id = BootId::from_parts(unix_ms, random);
        let boot = Boot { agent: index, run: agent.run };
        self.note(format_args!(
            "agent {index} starts, run {}, unfinished {}, unacknowledged {}",
            boot.run,
            contents.unfinished.len(),
            contents.finished.len()
        ));
        self.agents[index].process = Some(Process {
            core: Core::new(LIMITS, boot_id, contents),
            journal,
            actions: BTreeMap::new(),
            link: None,
            welcomed: None,
            timer_ms: None,
            to_runner_ms: 0,
            from_runner_ms: 0,
        });
        let (recovers_ms, dials_ms) = (self.dice.between(1, 3_000), self.dice.between(1, 500));
        let recovered = Input::Recovered { steps: Vec::new(), proven };
        self.after(recovers_ms, Event::RunnerHears(boot, Box::new(recovered)));
        self.after(dials_ms, Event::Dials(boot));
        Ok(())
    }

    /// Whatever the agent said it has on disk must be there when it opens its journal again.
    fn keeps_promises(&mut self, index: usize, contents: &Contents) -> Step {
        let promised = &mut self.agents[index].promised;
        let unfinished =
            |attempt: &AttemptRef| contents.unfinished.iter().any(|row| row.attempt == *attempt);
        for attempt in &promised.finished {
            if !contents.finished.iter().any(|kept| kept.attempt == *attempt) {
                return Err(Violation::lost(format!(
                    "agent {index} had the outcome of {} attempt {} on disk and has it no more",
                    attempt.job, attempt.attempt
                )));
            }
        }
        for attempt in &promised.accepted {
            if !contents.finished.iter().any(|kept| kept.attempt == *attempt)
                && !unfinished(attempt)
            {
                return Err(Violation::lost(format!(
                    "agent {index} had accepted {} attempt {} and knows nothing of it",
                    attempt.job, attempt.attempt
                )));
            }
        }
        for attempt in &promised.acknowledged {
            if !contents.finished.iter().any(|kept| kept.attempt == *attempt)
                && !contents.settled.contains(attempt)
            {
                return Err(Violation::lost(format!(
                    "agent {index} has forgotten that it settled {} attempt {}",
                    attempt.job, attempt.attempt
                )));
            }
        }
        Ok(())
    }

    /// The process is killed, or the machine loses its power: then some of what was written and
    /// not synced is there, some is torn, and some is gone.
    pub(super) fn crash_agent(&mut self, index: usize, power: bool) {
        if self.agents[index].process.is_none() {
            return;
        }
        let boot = Boot { agent: index, run: self.agents[index].run };
        let disk = self.agents[index].disk.clone();
        let after = if power {
            let salt = self.dice.number();
            let keeps = self.dice.below(4);
            disk.after_torn_power_cut(|offset, length| torn(salt, keeps, offset, length))
        } else {
            disk.after_kill()
        };
        if self.mutation == Some(Mutation::SyncsLie) {
            after.set(Wrong::Lies);
        }
        self.agents[index].disk = after;
        // Only now: a journal that is closed writes once more, to a disk that is no longer ours.
        self.agents[index].process = None;
        self.agents[index].run += 1;
        self.count(if power { "power cut" } else { "agent killed" });
        self.note(format_args!("agent {index} dies, power {power}"));
        self.agent_vanishes(boot);
        let wait_ms = if self.dice.permille(100) && !self.healed {
            self.dice.between(60_000, 400_000)
        } else {
            self.dice.between(100, 20_000)
        };
        self.after(wait_ms, Event::AgentStarts(index));
    }

    /// Hands something to the runner's core and does what it says.
    pub(super) fn runner_hears(&mut self, boot: Boot, input: Input) -> Step {
        let wall_us = self.agents[boot.agent].clock.now_us();
        let now = Now { monotonic_ms: self.agents[boot.agent].clock.monotonic_ms(), wall_us };
        let Some(process) = self.process(boot) else { return Ok(()) };
        if let Input::Ended { attempt, .. } | Input::Vanished { attempt, .. } = &input {
            process.actions.remove(attempt);
        }
        let effects = process.core.handle(input, now);
        for effect in effects {
            if self.dies_now() {
                let power = self.dice.permille(400);
                self.crash_agent(boot.agent, power);
                return Ok(());
            }
            self.carry_out(boot, effect)?;
        }
        self.arm_runner(boot);
        Ok(())
    }

    fn arm_runner(&mut self, boot: Boot) {
        let now_ms = self.agents[boot.agent].clock.monotonic_ms();
        let Some(process) = self.process(boot) else { return };
        let due = process.core.next_timeout().filter(|due| *due != u64::MAX);
        if due.is_some() && due != process.timer_ms {
            process.timer_ms = due;
            let wait_ms = due.unwrap_or(now_ms).saturating_sub(now_ms);
            self.after(wait_ms, Event::RunnerTimer(boot));
        }
    }

    pub(super) fn runner_timer(&mut self, boot: Boot) -> Step {
        let now_ms = self.agents[boot.agent].clock.monotonic_ms();
        let Some(process) = self.process(boot) else { return Ok(()) };
        process.timer_ms = None;
        if process.core.next_timeout().is_some_and(|due| due <= now_ms) {
            self.runner_hears(boot, Input::Timeout)
        } else {
            self.arm_runner(boot);
            Ok(())
        }
    }

    fn carry_out(&mut self, boot: Boot, effect: Effect) -> Step {
        match effect {
            Effect::Introduce(introduction) => {
                self.says(boot, FromRunner::Introduction(introduction));
            }
            Effect::Send(message) => {
                if let ToController::Accepted { attempt } = &message {
                    let promised = &mut self.agents[boot.agent].promised;
                    if !promised.finished.contains(attempt) {
                        promised.accepted.insert(attempt.clone());
                    }
                }
                self.says(boot, FromRunner::Message(message));
            }
            Effect::Deliver { attempt } => self.works(boot, JournalWork::Deliver { attempt }),
            Effect::JournalAccept { attempt, timeout_secs, spec } => {
                if self.mutation == Some(Mutation::StartsUnjournalled) {
                    let input = Input::Accepted { attempt: attempt.clone(), done: Ok(()) };
                    self.after(0, Event::RunnerHears(boot, Box::new(input)));
                }
                self.works(boot, JournalWork::Accept { attempt, timeout_secs, spec });
            }
            Effect::JournalFinish { attempt, outcome } => {
                let known = self.ledger.outcomes.entry(attempt.clone()).or_default();
                known.insert(outcome.clone());
                self.works(boot, JournalWork::Finish { attempt, outcome });
            }
            Effect::JournalForget { attempt } => {
                if !self.ledger.answered.contains(&attempt) {
                    return Err(Violation::lost(format!(
                        "the outcome of {} attempt {} was acknowledged and never entered",
                        attempt.job, attempt.attempt
                    )));
                }
                let promised = &mut self.agents[boot.agent].promised;
                promised.accepted.remove(&attempt);
                promised.finished.remove(&attempt);
                promised.acknowledged.insert(attempt.clone());
                self.works(boot, JournalWork::Forget { attempt });
            }
            Effect::Start { attempt, spec } => self.action_starts(boot, attempt, *spec)?,
            Effect::Cancel { attempt } => self.action_cancelled(boot, &attempt),
            Effect::Abort { attempt } => self.action_aborted(boot, &attempt),
        }
        Ok(())
    }

    /// The journal has a thread of its own, and a disk that now and then takes its time.
    fn works(&mut self, boot: Boot, work: JournalWork) {
        let stalls = !self.healed && self.dice.permille(80);
        let wait_ms = if stalls { self.dice.between(50, 9_000) } else { self.soon() };
        self.after(wait_ms, Event::Journal(boot, work));
    }

    fn says(&mut self, boot: Boot, message: FromRunner) {
        let (now_ms, wait_ms) = (self.now_ms, self.dice.below(3));
        let Some(process) = self.process(boot) else { return };
        process.from_runner_ms = process.from_runner_ms.max(now_ms + wait_ms);
        let at_ms = process.from_runner_ms;
        self.at(at_ms, Event::FromRunner(boot, Box::new(message)));
    }

    /// The session's side of the pipe.
    pub(super) fn tells_runner(&mut self, boot: Boot, message: ToRunner) {
        let (now_ms, wait_ms) = (self.now_ms, self.dice.below(3));
        let Some(process) = self.process(boot) else { return };
        process.to_runner_ms = process.to_runner_ms.max(now_ms + wait_ms);
        let at_ms = process.to_runner_ms;
        self.at(at_ms, Event::ToRunner(boot, Box::new(message)));
    }

    pub(super) fn runner_is_told(&mut self, boot: Boot, message: ToRunner) -> Step {
        let input = match message {
            ToRunner::Introduce => Input::Introduce,
            ToRunner::Online => Input::Online,
            ToRunner::Message(message) => Input::Message(message),
        };
        self.runner_hears(boot, input)
    }

    /// One piece of work of the journal's thread, awaited to its end.
    pub(super) async fn journal_works(&mut self, boot: Boot, work: JournalWork) -> Step {
        let at_us = self.agents[boot.agent].clock.now_us();
        let Some(process) = self.process(boot) else { return Ok(()) };
        let journal = process.journal.clone();
        let answer = match work {
            JournalWork::Accept { attempt, timeout_secs, spec } => {
                let done = journal.accept(attempt.clone(), timeout_secs, at_us, spec).await;
                self.note(format_args!(
                    "agent {} accept {} {} {done:?}",
                    boot.agent, attempt.job, attempt.attempt
                ));
                Some(Event::RunnerHears(boot, Box::new(Input::Accepted { attempt, done })))
            }
            JournalWork::Finish { attempt, outcome } => {
                let done = journal.finish(attempt.clone(), outcome).await;
                self.note(format_args!(
                    "agent {} finish {} {} {done:?}",
                    boot.agent, attempt.job, attempt.attempt
                ));
                if done.is_ok() {
                    let promised = &mut self.agents[boot.agent].promised;
                    promised.accepted.remove(&attempt);
                    promised.finished.insert(attempt.clone());
                }
                Some(Event::RunnerHears(boot, Box::new(Input::Stored { attempt, done })))
            }
            JournalWork::Forget { attempt } => {
                if let Err(fault) = journal.forget(attempt, at_us).await {
                    self.note(format_args!("agent {} keeps an outcome: {fault}", boot.agent));
                }
                None
            }
            JournalWork::Deliver { attempt } => match journal.outcome(attempt.clone()).await {
                Ok(Some(outcome)) => {
                    let message = ToController::Finished { attempt, outcome };
                    self.says(boot, FromRunner::Message(message));
                    None
                }
                Ok(None) | Err(_) => None,
            },
        };
        if self.dies_now() {
            let power = self.dice.permille(400);
            self.crash_agent(boot.agent, power);
            return Ok(());
        }
        if let Some(answer) = answer {
            let wait_ms = self.soon();
            self.after(wait_ms, answer);
        }
        Ok(())
    }

    /// A disk is well again.
    pub(super) fn disk_mends(&mut self, agent: usize) {
        if self.mutation != Some(Mutation::SyncsLie) {
            self.agents[agent].disk.set(Wrong::Nothing);
        }
    }
}

/// How much of a write that was not synced reached the disk; the same for the same salt whatever
/// order the writes came in.
fn torn(salt: u64, keeps: u64, offset: usize, length: usize) -> usize {
    let mut dice = super::dice::Dice::new(salt ^ (offset as u64).wrapping_mul(0x9e37_79b9));
    match keeps {
        // Everything that was not synced is gone; everything is there; each write as it comes.
        0 => 0,
        1 => length,
        _ => match dice.below(3) {
            0 => 0,
            1 => length,
            // Disks write in sectors.
            _ => dice.place(length / 512 + 1) * 512,
        },
    }
}
