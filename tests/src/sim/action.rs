//! What a simulated action does, drawn when it starts: lines of progress, its effect at some
//! moment, its end; or none.

use hostler_agent::journal::Contents;
use hostler_agent::runner::core::Input;
use hostler_protocol::SPEC_BYTES_MAX;
use hostler_protocol::job::{
    self, Code, FlagResult, JobDoc, JobError, JobSpec, Outcome, OutcomeState, Progress, StepState,
    Subject, ToggleResult,
};
use hostler_protocol::message::AttemptRef;
use serde_json::json;

use super::event::{Boot, Event};
use super::ledger::Nature;
use super::report::Violation;
use super::world::{Step, World};

/// One thing an action does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    Line,
    Effect,
    End,
    FailLater,
    FailForGood,
    Stopped,
    Panic,
    CrashAgent,
}

/// A running action.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) changes: Option<Subject>,
    doc: JobDoc,
    deaf: bool,
    /// Its end is on its way to the runner.
    over: bool,
    /// What comes, last first, with the wait before it.
    script: Vec<(u64, Doing)>,
    /// Counts changes of the script: steps of an older one are void.
    serial: u64,
    lines: u32,
    began_us: i64,
}

impl World {
    fn nature(&mut self, attempt: &AttemptRef) -> Nature {
        if let Some(known) = self.ledger.natures.get(&attempt.job) {
            return *known;
        }
        let poison = self.plan.poison;
        let nature = if self.dice.permille(poison) {
            Nature::Poison
        } else {
            match self.dice.below(20) {
                0 => Nature::Hangs,
                1 => Nature::Panics,
                2 => Nature::Fails,
                3 | 4 => Nature::Flaky(1 + u32::try_from(self.dice.below(2)).unwrap_or(0)),
                5 if self.dice.permille(500) => Nature::Deaf,
                _ => Nature::Succeeds,
            }
        };
        self.ledger.natures.insert(attempt.job.clone(), nature);
        nature
    }

    fn script(&mut self, attempt: &AttemptRef, nature: Nature) -> Vec<(u64, Doing)> {
        let mut script = Vec::new();
        let pace = if self.dice.permille(200) { 8_000 } else { 600 };
        for _ in 0..self.dice.below(4) {
            script.push(Doing::Line);
        }
        let last = match nature {
            Nature::Succeeds => Some(Doing::End),
            Nature::Flaky(times) if attempt.attempt > times => Some(Doing::End),
            Nature::Flaky(_) => Some(Doing::FailLater),
            Nature::Fails => Some(Doing::FailForGood),
            Nature::Panics => Some(Doing::Panic),
            Nature::Poison => Some(Doing::CrashAgent),
            Nature::Hangs | Nature::Deaf => None,
        };
        let place = self.dice.place(script.len() + 1);
        // What fails may have had its effect before it did.
        if last == Some(Doing::End) || self.dice.permille(500) {
            script.insert(place, Doing::Effect);
        }
        script.extend(last);
        let mut timed = Vec::with_capacity(script.len());
        for doing in script {
            timed.push((self.dice.between(1, pace), doing));
        }
        timed.reverse();
        timed
    }

    /// An attempt's action starts.
    pub(super) fn action_starts(&mut self, boot: Boot, attempt: AttemptRef, doc: JobDoc) -> Step {
        let changes = doc.spec.changes();
        let Some(process) = self.process(boot) else { return Ok(()) };
        if let Some(subject) = &changes {
            let rival =
                process.actions.iter().find(|(_, one)| one.changes.as_ref() == changes.as_ref());
            if let Some((rival, _)) = rival {
                return Err(Violation::doubled(format!(
                    "{} attempt {} starts while {} attempt {} changes {subject:?}",
                    attempt.job, attempt.attempt, rival.job, rival.attempt
                )));
            }
        }
        self.ledger.start(&attempt, boot.agent)?;
        self.agents[boot.agent].promised.accepted.insert(attempt.clone());
        let nature = self.nature(&attempt);
        let script = self.script(&attempt, nature);
        self.note(format_args!(
            "agent {} begins {} {} {nature:?}",
            boot.agent, attempt.job, attempt.attempt
        ));
        let deaf = nature == Nature::Deaf;
        let began_us = self.agents[boot.agent].clock.now_us();
        let action =
            Action { changes, doc, deaf, over: false, script, serial: 0, lines: 0, began_us };
        if let Some(process) = self.process(boot) {
            process.actions.insert(attempt.clone(), action);
        }
        self.next_act(boot, &attempt);
        Ok(())
    }

    fn next_act(&mut self, boot: Boot, attempt: &AttemptRef) {
        let Some(action) = self.process(boot).and_then(|one| one.actions.get(attempt)) else {
            return;
        };
        if let Some((wait_ms, _)) = action.script.last() {
            let (wait_ms, serial) = (*wait_ms, action.serial);
            self.after(wait_ms, Event::Acts(boot, attempt.clone(), serial));
        }
    }

    /// The next act of a script.
    pub(super) fn acts(&mut self, boot: Boot, attempt: &AttemptRef, serial: u64) -> Step {
        let Some(action) = self.process(boot).and_then(|one| one.actions.get_mut(attempt)) else {
            return Ok(());
        };
        if action.serial != serial {
            return Ok(());
        }
        let Some((_, doing)) = action.script.pop() else { return Ok(()) };
        action.over = match doing {
            Doing::Line | Doing::Effect | Doing::CrashAgent => false,
            Doing::End | Doing::FailLater | Doing::FailForGood | Doing::Stopped | Doing::Panic => {
                true
            }
        };
        match doing {
            Doing::Line => {
                action.lines += 1;
                let message = format!("line {}", action.lines);
                let (step, state) = ("simulated".to_owned(), StepState::Done);
                let at_us = self.agents[boot.agent].clock.now_us();
                let progress = Progress { step, state, message, at_us };
                self.runner_hears(boot, Input::Progress { attempt: attempt.clone(), progress })?;
            }
            Doing::Effect => {
                self.note(format_args!(
                    "agent {} effect of {} {}",
                    boot.agent, attempt.job, attempt.attempt
                ));
                self.ledger.effect(attempt, boot.agent)?;
            }
            Doing::CrashAgent => {
                self.count("poisonous job");
                self.crash_agent(boot.agent, false);
                return Ok(());
            }
            Doing::Panic => {
                let wait_ms = self.soon();
                let input = Input::Vanished { attempt: attempt.clone(), steps: Vec::new() };
                self.after(wait_ms, Event::RunnerHears(boot, Box::new(input)));
            }
            Doing::End | Doing::FailLater | Doing::FailForGood | Doing::Stopped => {
                let outcome = self.outcome(boot, attempt, &doing);
                let wait_ms = self.soon();
                let input = Input::Ended { attempt: attempt.clone(), outcome };
                self.after(wait_ms, Event::RunnerHears(boot, Box::new(input)));
            }
        }
        self.next_act(boot, attempt);
        Ok(())
    }

    fn outcome(&mut self, boot: Boot, attempt: &AttemptRef, doing: &Doing) -> Outcome {
        let finished_at_us = self.agents[boot.agent].clock.now_us();
        let action = self.process(boot).and_then(|one| one.actions.get(attempt));
        let started_at_us = action.map_or(finished_at_us, |action| action.began_us);
        let (state, code) = match doing {
            Doing::FailLater => (OutcomeState::Failed, Some(Code::RedisTimeout)),
            Doing::FailForGood => (OutcomeState::Failed, Some(Code::FileFailed)),
            Doing::Stopped => (OutcomeState::Cancelled, Some(Code::Cancelled)),
            Doing::Line | Doing::Effect | Doing::End | Doing::Panic | Doing::CrashAgent => {
                (OutcomeState::Succeeded, None)
            }
        };
        let result = action
            .filter(|_| state == OutcomeState::Succeeded)
            .map(|action| result(&action.doc.spec, attempt));
        let error = code.map(|code| JobError::new(code, "as the script says"));
        Outcome { state, result, error, steps: Vec::new(), started_at_us, finished_at_us }
    }

    /// What the host proves of attempts that were cut off, asked at the agent's start: of one that had
    /// its effect here, and whose template says that it can be asked for, mostly that it is done.
    pub(super) fn proven(
        &mut self,
        agent: usize,
        contents: &Contents,
    ) -> Vec<(AttemptRef, Outcome)> {
        let mut proven = Vec::new();
        for one in &contents.unfinished {
            let here = (one.attempt.clone(), agent);
            let doc: Option<JobDoc> = job::read("job", &one.spec, SPEC_BYTES_MAX).ok();
            let asked = doc.filter(|doc| doc.probe && self.ledger.effects.contains(&here));
            let Some(doc) = asked.filter(|_| self.dice.permille(800)) else { continue };
            self.count("success proven after a kill");
            let at_us = self.agents[agent].clock.now_us();
            let outcome = Outcome {
                state: OutcomeState::Succeeded,
                result: Some(result(&doc.spec, &one.attempt)),
                error: None,
                steps: Vec::new(),
                started_at_us: at_us,
                finished_at_us: at_us,
            };
            proven.push((one.attempt.clone(), outcome));
        }
        proven
    }

    /// An action is told to stop.
    pub(super) fn action_cancelled(&mut self, boot: Boot, attempt: &AttemptRef) {
        let (wait_ms, finishes) = (self.dice.between(1, 2_000), self.dice.permille(300));
        let Some(action) = self.process(boot).and_then(|one| one.actions.get_mut(attempt)) else {
            return;
        };
        let ends = action.script.iter().any(|(_, doing)| *doing == Doing::End);
        // One that is nearly done may end as it would have.
        if action.deaf || action.over || finishes && ends {
            return;
        }
        if let Some(action) = self.process(boot).and_then(|one| one.actions.get_mut(attempt)) {
            action.serial += 1;
            action.script = vec![(wait_ms, Doing::Stopped)];
        }
        self.next_act(boot, attempt);
    }

    /// An action is dropped where it stands.
    pub(super) fn action_aborted(&mut self, boot: Boot, attempt: &AttemptRef) {
        let wait_ms = self.soon();
        if let Some(action) = self.process(boot).and_then(|one| one.actions.get_mut(attempt))
            && !action.over
        {
            action.over = true;
            action.serial += 1;
            action.script.clear();
            let input = Input::Vanished { attempt: attempt.clone(), steps: Vec::new() };
            self.after(wait_ms, Event::RunnerHears(boot, Box::new(input)));
        }
    }
}

fn result(spec: &JobSpec, attempt: &AttemptRef) -> serde_json::Value {
    let flag = |enabled: Option<bool>| {
        enabled.map(|enabled| FlagResult {
            enabled,
            changed: true,
            proof: "simulated".to_owned(),
            purged: 0,
        })
    };
    match spec {
        JobSpec::EnvCacheToggle(spec) => serde_json::to_value(ToggleResult {
            generation: spec.generation,
            fastcgi: flag(spec.fastcgi_enabled),
            redis: flag(spec.redis_enabled),
        })
        .unwrap_or_default(),
        JobSpec::CachePurge(_)
        | JobSpec::EnvCheck(_)
        | JobSpec::EnvDelete(_)
        | JobSpec::CacheWarm(_)
        | JobSpec::CacheFacts(_)
        | JobSpec::CacheExplain(_)
        | JobSpec::StackSync(_)
        | JobSpec::StackDown(_)
        | JobSpec::StackPlan(_) => json!({ "attempt": attempt.attempt }),
    }
}
