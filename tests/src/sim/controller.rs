//! The controller's process: the real application on the real store, and its loops. Where the
//! product gathers reports in tasks, each gathering is an event here.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostler_controller::app::desired::Desired;
use hostler_controller::app::fleet::{Report, store_attempt, to_store};
use hostler_controller::app::{App, JoinTarget};
use hostler_controller::clock::Clock;
use hostler_controller::domain::JobState;
use hostler_controller::events::Events;
use hostler_controller::fleet::desk;
use hostler_controller::store::{
    JobFilter, MemoryDatabase, Page, ProgressLine, SettleAnswer, Store, StoreError,
};
use hostler_controller::tasks::sweep::{self, Leases};
use hostler_controller::tasks::{dispatch, presence};
use hostler_controller::templates::Templates;
use hostler_protocol::id::ControllerId;
use hostler_protocol::message::AttemptRef;

use super::event::{Conn, Event};
use super::hub::Hub;
use super::mutation::Mutation;
use super::report::Violation;
use super::session::Session;
use super::world::{START, Step, World};

/// Between two sweeps, while something goes on and at most.
const SWEEP_MS: (u64, u64) = (sweep::SWEEP_SECS * 1000, 1_800_000);
/// Between two looks at what has only to do with age.
const AGE_MS: u64 = 120_000;

/// What stays of a controller when it stops, and what runs.
pub(super) struct Controller {
    pub(super) database: MemoryDatabase,
    /// What it was some time ago, by its number.
    pub(super) backup: Option<MemoryDatabase>,
    pub(super) copies: u64,
    pub(super) name: String,
    pub(super) clock: Clock,
    pub(super) templates: Templates,
    pub(super) run: u64,
    pub(super) process: Option<Running>,
    connections: u64,
}

/// A running controller.
pub(super) struct Running {
    pub(super) app: App,
    pub(super) hub: Hub,
    pub(super) sessions: BTreeMap<Conn, Session>,
    leases: Leases,
    work: tokio::sync::watch::Receiver<i64>,
    /// Reports that wait to be settled, with the session that waits for the answer.
    pub(super) reports: Vec<(Conn, Report, Vec<u8>, bool)>,
    pub(super) lines: Vec<ProgressLine>,
    dispatching_ms: Option<u64>,
    sweep_ms: u64,
    aged_ms: u64,
}

pub(super) fn failed(error: &StoreError) -> Violation {
    Violation::unexplained(format!("the database failed: {error:?}"))
}

impl Controller {
    pub(super) fn new(database: MemoryDatabase, templates: Templates, name: String) -> Self {
        Self {
            database,
            backup: None,
            copies: 0,
            name,
            clock: Clock::manual(START),
            templates,
            run: 0,
            process: None,
            connections: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn next_conn(&mut self) -> Conn {
        self.connections += 1;
        self.connections
    }

    fn app(&self, store: Store) -> App {
        App {
            events: Events::new(store.clone()),
            store,
            clock: self.clock.clone(),
            templates: self.templates.clone(),
            desired: Desired::none(),
            controller: ControllerId::from_parts(1, [7; 10]),
            join: Arc::new(JoinTarget { addresses: Vec::new(), pin: [0; 32] }),
        }
    }

    /// The running controller, if it is that run of it.
    pub(super) fn running(&mut self, run: u64) -> Option<&mut Running> {
        if self.run == run { self.process.as_mut() } else { None }
    }
}

impl World {
    pub(super) async fn controller_starts(&mut self) -> Step {
        if self.controller.is_up() {
            return Ok(());
        }
        let store = self.controller.database.open().await.map_err(|error| failed(&error))?;
        let app = self.controller.app(store);
        // Nobody is connected at a start.
        app.store.sessions_clear(None, app.clock.now()).await.map_err(|error| failed(&error))?;
        self.controller.run += 1;
        let run = self.controller.run;
        self.note(format_args!("controller starts, run {run}"));
        let work = app.store.work();
        self.controller.process = Some(Running {
            app,
            hub: Hub::default(),
            sessions: BTreeMap::new(),
            leases: Leases::default(),
            work,
            reports: Vec::new(),
            lines: Vec::new(),
            dispatching_ms: None,
            sweep_ms: SWEEP_MS.0,
            aged_ms: 0,
        });
        self.after(0, Event::Sweeps(run));
        Ok(())
    }

    /// The process is killed. What was committed is committed, whoever was told or not.
    pub(super) async fn crash_controller(&mut self, restore: bool) -> Step {
        let Some(running) = self.controller.process.take() else { return Ok(()) };
        running.app.store.close().await;
        self.controller.run += 1;
        self.count("controller killed");
        self.note(format_args!("controller dies, restored {restore}"));
        let open: Vec<Conn> = self
            .connections
            .iter()
            .filter(|(_, one)| one.controller_open)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in open {
            let wait_ms = self.dice.below(super::wire::IDLE_MS);
            if let Some(connection) = self.connections.get_mut(&conn) {
                connection.controller_open = false;
            }
            self.after(wait_ms, Event::AgentNotices(conn, None));
        }
        if restore {
            self.restore().await?;
        }
        let wait_ms = if self.healed { 1_000 } else { self.dice.between(100, 60_000) };
        self.after(wait_ms, Event::ControllerStarts);
        Ok(())
    }

    async fn restore(&mut self) -> Step {
        let Some(backup) = self.controller.backup.clone() else { return Ok(()) };
        self.controller.copies += 1;
        let name = format!("{}-copy{}", self.controller.name, self.controller.copies);
        self.controller.database = backup.copy(&name).await.map_err(|error| failed(&error))?;
        self.count("controller restored");
        self.ledger.restored = true;
        let forgotten = std::mem::take(&mut self.ledger.since_backup);
        self.ledger.keys.retain(|_, job| !forgotten.contains(job));
        self.ledger.forgiven.extend(forgotten);
        // What the database had taken is as old as the database now.
        self.ledger.lines.clear();
        Ok(())
    }

    /// Copies the database aside.
    pub(super) async fn back_up(&mut self) -> Step {
        self.controller.copies += 1;
        let name = format!("{}-copy{}", self.controller.name, self.controller.copies);
        let copy = self.controller.database.copy(&name).await.map_err(|error| failed(&error))?;
        self.controller.backup = Some(copy);
        self.ledger.since_backup.clear();
        self.note(format_args!("backup"));
        Ok(())
    }

    /// Wakes the loops that a commit or a session has something for, and closes what a loop wants
    /// closed.
    pub(super) fn follow_bells(&mut self) {
        let run = self.controller.run;
        let Some(running) = self.controller.process.as_mut() else { return };
        let rung = running.work.has_changed().unwrap_or(false);
        running.work.mark_unchanged();
        let (to_close, welcomed, orders) = {
            let mut inner = running.hub.inner();
            let orders: Vec<Conn> = inner
                .places
                .values()
                .filter(|place| !place.orders.is_empty())
                .map(|place| place.conn)
                .collect();
            (std::mem::take(&mut inner.to_close), std::mem::take(&mut inner.changed), orders)
        };
        if rung || welcomed {
            running.sweep_ms = SWEEP_MS.0 * 2;
            let wait_ms = self.soon();
            self.dispatch_at(self.now_ms + wait_ms);
        }
        for conn in orders {
            let Some(running) = self.controller.process.as_mut() else { return };
            let Some(session) = running.sessions.get_mut(&conn) else { continue };
            if !std::mem::replace(&mut session.orders_due, true) {
                let wait_ms = self.soon();
                self.after(wait_ms, Event::Orders(run, conn));
            }
        }
        for (conn, code) in to_close {
            self.session_closes(conn, code);
        }
    }

    /// Has the queue looked at then, unless it is looked at before anyway.
    fn dispatch_at(&mut self, at_ms: u64) {
        let run = self.controller.run;
        let Some(running) = self.controller.process.as_mut() else { return };
        if running.dispatching_ms.is_none_or(|due_ms| due_ms > at_ms) {
            running.dispatching_ms = Some(at_ms);
            self.at(at_ms, Event::Dispatches(run));
        }
    }

    pub(super) async fn dispatches(&mut self, run: u64) -> Step {
        let now_ms = self.now_ms;
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        if running.dispatching_ms != Some(now_ms) {
            return Ok(());
        }
        running.dispatching_ms = None;
        let again = dispatch::pass(&running.app, &running.hub).await;
        if again.map_err(|error| failed(&error))? {
            self.dispatch_at(now_ms + 1);
        }
        if self.dies_now() {
            return self.crash_controller(false).await;
        }
        self.look_when_due().await
    }

    /// The product looks every second; here the next second in which there is something is taken.
    async fn look_when_due(&mut self) -> Step {
        let Some(running) = self.controller.process.as_mut() else { return Ok(()) };
        let app = running.app.clone();
        let filter = JobFilter { state: Some(JobState::Queued), ..JobFilter::default() };
        let jobs = app.store.jobs(&filter, &Page::first(1000)).await;
        let (queued, _) = jobs.map_err(|error| failed(&error))?;
        let now = app.clock.now();
        let due = queued.iter().map(|job| job.run_after.0).filter(|due| *due > now.0).min();
        if let Some(due) = due {
            let wait_ms = u64::try_from((due - now.0) / 1000 + 1).unwrap_or(0);
            let late_ms = self.dice.below(dispatch::PERIOD_MS);
            self.dispatch_at(self.now_ms + wait_ms + late_ms);
        }
        Ok(())
    }

    pub(super) async fn sweeps(&mut self, run: u64) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let (app, hub) = (running.app.clone(), running.hub.clone());
        let busy = !running.sessions.is_empty();
        let wrong = |error: StoreError| failed(&error);
        presence::compare(&app, &hub).await.map_err(wrong)?;
        if let Some(running) = self.controller.running(run) {
            sweep::watch(&app, &hub, &mut running.leases).await.map_err(wrong)?;
        }
        let now_ms = self.now_ms;
        let aged = self.controller.running(run).is_some_and(|running| {
            let due = now_ms >= running.aged_ms + AGE_MS;
            if due {
                running.aged_ms = now_ms;
            }
            due
        });
        if aged {
            sweep::sweep(&app).await.map_err(wrong)?;
        }
        self.one_runs_per_lane().await?;
        if self.dies_now() {
            return self.crash_controller(false).await;
        }
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let most_ms = if busy { SWEEP_MS.0 * 12 } else { SWEEP_MS.1 };
        let wait_ms = running.sweep_ms.min(most_ms);
        running.sweep_ms = (running.sweep_ms * 2).min(SWEEP_MS.1);
        self.after(wait_ms, Event::Sweeps(run));
        // A look at the queue that nobody rang for, as the product has one each second.
        if aged {
            self.dispatch_at(self.now_ms + 1);
        }
        Ok(())
    }

    /// Writes what was gathered: the lines that wait first, so that they stand before the end.
    pub(super) async fn settles(&mut self, run: u64) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let waiting = std::mem::take(&mut running.reports);
        if waiting.is_empty() {
            return Ok(());
        }
        let app = running.app.clone();
        self.write_lines(run).await?;
        let mut reports: Vec<Report> =
            waiting.iter().map(|(_, report, _, _)| report.clone()).collect();
        if self.mutation == Some(Mutation::NoFence) {
            for report in &mut reports {
                let job = app.store.job(&report.attempt.job).await;
                if let Some(job) = job.map_err(|error| failed(&error))? {
                    report.attempt.attempt = job.attempt;
                }
            }
        }
        let answers = app.settle(reports).await.map_err(|error| failed(&error))?;
        for ((_, report, document, refused), answer) in waiting.iter().zip(&answers) {
            let AttemptRef { job, attempt } = &report.attempt;
            self.note(format_args!("controller settles {job} {attempt}: {answer:?}"));
            self.settled_soundly(report, document, *refused, *answer)?;
            self.ledger.answered.insert(report.attempt.clone());
        }
        if self.dies_now() {
            return self.crash_controller(false).await;
        }
        for (conn, report, _, refused) in waiting {
            let wait_ms = self.soon();
            let (attempt, acknowledge) = (report.attempt, !refused);
            let told = desk::Event::Settled { attempt, acknowledge };
            self.after(wait_ms, Event::DeskHears(run, conn, Box::new(told)));
        }
        Ok(())
    }

    fn settled_soundly(
        &self,
        report: &Report,
        document: &[u8],
        refused: bool,
        answer: SettleAnswer,
    ) -> Step {
        let AttemptRef { job, attempt } = &report.attempt;
        match answer {
            SettleAnswer::WrongHost => {
                return Err(Violation::unexplained(format!("{job} is said to be another host's")));
            }
            SettleAnswer::Unknown if !self.ledger.restored => {
                return Err(Violation::lost(format!(
                    "nobody knows {job}, of which a host reports"
                )));
            }
            SettleAnswer::Unknown
            | SettleAnswer::Settled(_)
            | SettleAnswer::AlreadySettled
            | SettleAnswer::Stale => {}
        }
        if !refused && !self.ledger.journalled(&report.attempt, document) {
            return Err(Violation::lost(format!(
                "what was settled of {job} attempt {attempt} is not what its agent wrote down"
            )));
        }
        Ok(())
    }

    pub(super) async fn writes_progress(&mut self, run: u64) -> Step {
        self.write_lines(run).await
    }

    async fn write_lines(&mut self, run: u64) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let lines = std::mem::take(&mut running.lines);
        if lines.is_empty() {
            return Ok(());
        }
        let app = running.app.clone();
        for line in &lines {
            let job = app.store.job(&line.attempt.job).await.map_err(|error| failed(&error))?;
            let current = |job: &hostler_controller::domain::Job| {
                job.state == JobState::Running && job.attempt == line.attempt.attempt
            };
            if job.as_ref().is_some_and(current) {
                let (job, attempt) = (line.attempt.job.clone(), line.attempt.attempt);
                self.ledger.lines.insert((AttemptRef { job, attempt }, line.sequence));
            }
        }
        app.store.progress(&lines).await.map_err(|error| failed(&error))
    }

    pub(super) async fn accepts(&mut self, run: u64, conn: Conn, attempt: AttemptRef) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let app = running.app.clone();
        let answers = app.store.accept(&[store_attempt(&attempt)], app.clock.now()).await;
        let current = answers.map_err(|error| failed(&error))?.first().copied().unwrap_or(false);
        if !current {
            let wait_ms = self.soon();
            let told = desk::Event::NotCurrent(attempt);
            self.after(wait_ms, Event::DeskHears(run, conn, Box::new(told)));
        }
        Ok(())
    }

    pub(super) async fn renews(&mut self, run: u64, attempts: &[AttemptRef]) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let app = running.app.clone();
        let renewed = app.store.renew(&to_store(attempts)).await;
        renewed.map(|_| ()).map_err(|error| failed(&error))
    }
}
