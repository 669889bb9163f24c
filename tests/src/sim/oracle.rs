//! What must be true, at each look and at the end.

use std::collections::BTreeMap;

use hostler_controller::domain::{Event, EventKind, Job, JobState};
use hostler_controller::store::{EventFilter, JobFilter, Page, Store};
use hostler_protocol::id::JobId;
use hostler_protocol::job::{JobType, Outcome};
use hostler_protocol::message::AttemptRef;

use super::controller::failed;
use super::ledger::Nature;
use super::report::Violation;
use super::world::{Step, World};

/// A queued job that waits longer than this is waited for with every host cut off: nothing happens
/// meanwhile, and days pass in a few steps.
const SKIP_US: i64 = 200_000_000;
/// A timeout nobody waits for: a person stops what hangs.
const PATIENCE_SECS: u32 = 200;

impl World {
    fn store(&self) -> Result<Store, Violation> {
        let running = self.controller.process.as_ref();
        let running = running.ok_or_else(|| Violation::unexplained("there is no controller"))?;
        Ok(running.app.store.clone())
    }

    async fn jobs(&self) -> Result<Vec<Job>, Violation> {
        let page = self.store()?.jobs(&JobFilter::default(), &Page::first(1000)).await;
        Ok(page.map_err(|error| failed(&error))?.0)
    }

    /// Of all jobs that change one environment one runs at a time.
    pub(super) async fn one_runs_per_lane(&self) -> Step {
        let running = self.store()?.running_all().await.map_err(|error| failed(&error))?;
        let mut held: BTreeMap<_, &JobId> = BTreeMap::new();
        for job in &running {
            let changes = matches!(job.job_type, JobType::EnvCacheToggle | JobType::CachePurge);
            if !changes {
                continue;
            }
            if let Some(other) = held.insert(&job.environment_id, &job.id) {
                let what = format!("{other} and {} run in one lane", job.id);
                return Err(Violation::doubled(what));
            }
        }
        Ok(())
    }

    /// Whether nothing is left to do.
    pub(super) async fn is_at_rest(&mut self) -> Result<bool, Violation> {
        if !self.controller.is_up() {
            return Ok(false);
        }
        let open: Vec<Job> =
            self.jobs().await?.into_iter().filter(|job| !job.state.is_ended()).collect();
        let waits = open.iter().filter(|job| job.state != JobState::Held);
        let unsettled = self.agents.iter().any(|agent| {
            let counts = !self.hosts[agent.host].revoked && !self.hosts[agent.host].cloned;
            counts && agent.process.as_ref().is_none_or(|one| one.core.load().unsettled > 0)
        });
        if !unsettled && waits.clone().next().is_none() {
            return Ok(true);
        }
        if self.evicts().await? || self.attends(&open).await? {
            return Ok(false);
        }
        let now_us = self.controller.clock.now().0;
        // What is due and queued all the same waits in its lane for one that is not due yet.
        let mut due_us = i64::MAX;
        for job in waits.clone() {
            if job.run_after.0 > now_us {
                due_us = due_us.min(job.run_after.0);
            } else if self.store()?.waiting_for(&job.id).await.is_ok_and(|front| front.is_empty()) {
                due_us = now_us;
            }
        }
        let all_queued = waits.clone().all(|job| job.state == JobState::Queued);
        let reachable = self.hosts.iter().all(|host| host.cut_until_ms <= self.now_ms);
        if !unsettled && all_queued && due_us > now_us + SKIP_US && reachable {
            let wait_ms = u64::try_from((due_us - now_us) / 1000).unwrap_or(0);
            for host in 0..self.hosts.len() {
                self.cut_off(host, wait_ms);
            }
        }
        Ok(false)
    }

    /// A host of which there are two must get to be held; then a person revokes it, since nobody
    /// else can tell which of the two is right.
    async fn evicts(&mut self) -> Result<bool, Violation> {
        let store = self.store()?;
        for host in self.hosts.iter().filter(|host| !host.cloned) {
            let row = store.host(&host.id).await.map_err(|error| failed(&error))?;
            if row.is_some_and(|row| row.held_at.is_some()) {
                let what = format!("{} is held and has one agent", host.id);
                return Err(Violation::unexplained(what));
            }
        }
        let copied = |host: &super::world::Host| host.cloned && !host.revoked;
        let Some(place) = self.hosts.iter().position(copied) else { return Ok(false) };
        let row = store.host(&self.hosts[place].id).await.map_err(|error| failed(&error))?;
        if row.is_some_and(|row| row.held_at.is_some()) {
            self.note(format_args!("host {place} is held"));
            self.revokes(place).await?;
        }
        Ok(true)
    }

    /// A held job waits for a person, and so does what waits behind it: the person gives it up.
    async fn attends(&mut self, open: &[Job]) -> Result<bool, Violation> {
        let Some(running) = self.controller.process.as_ref() else { return Ok(false) };
        let app = running.app.clone();
        let hangs = |job: &&Job| {
            let nature = self.ledger.natures.get(&job.id);
            let hangs = matches!(nature, Some(Nature::Hangs | Nature::Deaf));
            let asked = job.cancel_requested_at.is_some();
            hangs && !asked && job.state == JobState::Running && job.timeout_secs > PATIENCE_SECS
        };
        if let Some(job) = open.iter().find(hangs) {
            let done = app.cancel_job(job.id.clone()).await;
            done.map_err(|error| Violation::unexplained(format!("it hangs on: {error}")))?;
            self.note(format_args!("operator cancels {}, which hangs", job.id));
            return Ok(true);
        }
        for job in open.iter().filter(|job| job.state == JobState::Queued) {
            let before = app.store.waiting_for(&job.id).await.map_err(|error| failed(&error))?;
            let held = before.iter().find(|wait| wait.state == JobState::Held);
            let Some(held) = open.iter().find(|one| held.is_some_and(|wait| wait.job == one.id))
            else {
                continue;
            };
            self.judge_job(held)?;
            self.note(format_args!("operator gives up {}, which others wait for", held.id));
            let done = app.cancel_job(held.id.clone()).await;
            done.map_err(|error| Violation::unexplained(format!("a held job stays: {error}")))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// What is left to do, for whoever wonders why it is not done.
    pub(super) async fn restless(&self) -> Result<String, Violation> {
        if !self.controller.is_up() {
            return Ok("the controller is down".to_owned());
        }
        let open = self.jobs().await?.into_iter().filter(|job| !job.state.is_ended());
        let mut waits: Vec<String> = open
            .map(|job| {
                format!("{} {:?} {:?} attempt {}", job.id, job.state, job.reason, job.attempt)
            })
            .collect();
        for (index, agent) in self.agents.iter().enumerate() {
            let load = agent.process.as_ref().map(|process| process.core.load());
            waits.push(format!("agent {index} {load:?}"));
        }
        Ok(waits.join("; "))
    }

    /// The whole truth, once everything has come to rest.
    pub(super) async fn judge(&mut self) -> Step {
        let jobs = self.jobs().await?;
        self.report.attempts = self.ledger.started.len() as u64;
        self.report.effects = self.ledger.effects.len() as u64;
        let known: BTreeMap<&JobId, &Job> = jobs.iter().map(|job| (&job.id, job)).collect();
        for job in self.ledger.promised.keys() {
            if !known.contains_key(job) && !self.ledger.forgiven.contains(job) {
                return Err(Violation::lost(format!("{job} was ordered and is not there")));
            }
        }
        for job in &jobs {
            self.judge_job(job)?;
        }
        let log = self.log().await?;
        dense(&log)?;
        lives(&log)?;
        self.lines_are_there(&log)?;
        self.note(format_args!("at rest, {} jobs, {} events", jobs.len(), log.len()));
        Ok(())
    }

    fn judge_job(&self, job: &Job) -> Step {
        let (id, attempt) = (&job.id, job.attempt);
        let last = AttemptRef { job: job.id.clone(), attempt };
        match job.state {
            JobState::Queued | JobState::Running => {
                return Err(Violation::unexplained(format!("{id} is still {:?}", job.state)));
            }
            JobState::Held | JobState::Failed | JobState::Cancelled if job.reason.is_none() => {
                return Err(Violation::unexplained(format!("{id} {:?} without reason", job.state)));
            }
            JobState::Succeeded => {
                if !self.ledger.has_effect(&last) {
                    let what = format!("{id} succeeded and attempt {attempt} had no effect");
                    return Err(Violation::lost(what));
                }
                let document = job.outcome.clone().unwrap_or_default();
                let outcome: Option<Outcome> = serde_json::from_value(document).ok();
                let bytes = outcome.map(|outcome| hostler_protocol::job::write(&outcome));
                if !bytes.is_some_and(|bytes| self.ledger.journalled(&last, &bytes)) {
                    let what = format!("the result of {id} is not what its agent wrote down");
                    return Err(Violation::lost(what));
                }
            }
            JobState::Held | JobState::Failed | JobState::Cancelled => {}
        }
        let poison = self.ledger.natures.get(id) == Some(&Nature::Poison);
        let quarantined = job.reason.as_deref() == Some("QUARANTINED");
        if job.state == JobState::Held && poison && !quarantined {
            let what = format!("{id} cuts its agent off and is held as {:?}", job.reason);
            return Err(Violation::unexplained(what));
        }
        if job.crashes >= 3 && job.state == JobState::Held && !quarantined {
            return Err(Violation::unexplained(format!("{id} crashed thrice: {:?}", job.reason)));
        }
        Ok(())
    }

    async fn log(&self) -> Result<Vec<Event>, Violation> {
        let store = self.store()?;
        let mut log: Vec<Event> = Vec::new();
        loop {
            let after = log.last().map_or(0, |event| event.seq);
            let page = store.events_after(after, 1000, &EventFilter::default()).await;
            let page = page.map_err(|error| failed(&error))?;
            if page.is_empty() {
                return Ok(log);
            }
            log.extend(page);
        }
    }

    /// Each line the database took stands in the log.
    fn lines_are_there(&self, log: &[Event]) -> Step {
        let told: std::collections::BTreeSet<(AttemptRef, u64)> =
            log.iter().filter_map(line).collect();
        match self.ledger.lines.iter().find(|line| !told.contains(line)) {
            None => Ok(()),
            Some((attempt, sequence)) => Err(Violation::lost(format!(
                "line {sequence} of {} attempt {} is not in the log",
                attempt.job, attempt.attempt
            ))),
        }
    }
}

fn number(event: &Event, name: &str) -> Option<u64> {
    event.event.document.get(name).and_then(serde_json::Value::as_u64)
}

fn attempt_of(event: &Event) -> Option<AttemptRef> {
    let job = event.event.subject.job.clone()?;
    let attempt = number(event, "attempt").and_then(|attempt| u32::try_from(attempt).ok())?;
    Some(AttemptRef { job, attempt })
}

fn line(event: &Event) -> Option<(AttemptRef, u64)> {
    if event.event.kind != EventKind::JobProgress {
        return None;
    }
    Some((attempt_of(event)?, number(event, "sequence")?))
}

fn dense(log: &[Event]) -> Step {
    for pair in log.windows(2) {
        if pair[1].seq != pair[0].seq + 1 {
            let what = format!("after event {} comes event {}", pair[0].seq, pair[1].seq);
            return Err(Violation::lost(what));
        }
    }
    Ok(())
}

/// One job's life, as the log tells it.
#[derive(Debug, Default)]
struct Life {
    attempt: u32,
    runs: bool,
    ended: bool,
    line: u64,
}

/// Every job's life is one that the state machine knows: attempts grow, lines do, and after the
/// end comes nothing but what is late.
fn lives(log: &[Event]) -> Step {
    let mut lives: BTreeMap<JobId, Life> = BTreeMap::new();
    for event in log {
        let Some(job) = &event.event.subject.job else { continue };
        let kind = event.event.kind;
        let life = lives.entry(job.clone()).or_default();
        let wrong = |what: &str| {
            Err(Violation::doubled(format!(
                "event {} of {job}: {} {what}",
                event.seq,
                kind.as_str()
            )))
        };
        if life.ended && kind != EventKind::JobLateOutcome {
            return wrong("after its end");
        }
        let attempt = attempt_of(event).map(|one| one.attempt);
        if kind == EventKind::JobStarted {
            if life.runs || attempt != Some(life.attempt + 1) {
                return wrong("is not of the next attempt");
            }
            *life = Life { attempt: life.attempt + 1, runs: true, ..Life::default() };
        }
        if let Some((_, sequence)) = line(event) {
            if !life.runs || attempt != Some(life.attempt) || sequence <= life.line {
                return wrong("is out of order");
            }
            life.line = sequence;
        }
        life.ended |= matches!(
            kind,
            EventKind::JobSucceeded | EventKind::JobFailed | EventKind::JobCancelled
        );
        life.runs &= !life.ended && !matches!(kind, EventKind::JobRetrying | EventKind::JobHeld);
    }
    Ok(())
}
