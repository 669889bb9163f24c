//! One session at the controller: the real desk, and what the session's shell does with its acts.

use hostler_controller::app::fleet::{Report, progress_line, to_store};
use hostler_controller::domain::Micros;
use hostler_controller::fleet::Order;
use hostler_controller::fleet::desk::{Act, Desk, Event as Told};
use hostler_controller::pki::ClaimedIdentity;
use hostler_controller::store::StoreError;
use hostler_protocol::message::{AttemptRef, Hello, ToAgent, ToController, close};
use hostler_protocol::session::ChannelId;

use super::controller::failed;
use super::event::{Conn, Event, Frame};
use super::hub::Place;
use super::mutation::Mutation;
use super::report::Violation;
use super::world::{START, Step, World};

/// How long a newer session waits before it looks again whether the older one is entered as ended.
const REPLACE_MS: u64 = 100;

/// A session.
pub(super) struct Session {
    host: usize,
    desk: Desk,
    epoch: Option<u64>,
    /// It ends, and hears nothing more.
    closing: bool,
    pub(super) orders_due: bool,
    timer_ms: Option<u64>,
}

impl World {
    fn shown(&self, host: usize) -> ClaimedIdentity {
        let host = &self.hosts[host];
        let expires_at = Micros(START.0).plus_secs(10 * 365 * 86_400);
        ClaimedIdentity { host: host.id.clone(), key_sha256: host.key_sha256.clone(), expires_at }
    }

    /// A connection has reached the controller: it takes its host's place, once the older session
    /// has left it.
    pub(super) async fn joins(&mut self, conn: Conn) -> Step {
        let Some(connection) = self.connections.get(&conn) else { return Ok(()) };
        let (host, run) = (connection.host, self.controller.run);
        if !connection.controller_open {
            return Ok(());
        }
        let id = self.hosts[host].id.clone();
        let Some(running) = self.controller.process.as_mut() else {
            let wait_ms = self.dice.below(10_000);
            if let Some(connection) = self.connections.get_mut(&conn) {
                connection.controller_open = false;
            }
            self.after(wait_ms, Event::AgentNotices(conn, None));
            return Ok(());
        };
        let older = running.hub.inner().places.get(&id).map(|place| place.conn);
        if let Some(older) = older {
            self.session_closes(older, close::REPLACED);
            self.after(REPLACE_MS, Event::Joins(conn));
            return Ok(());
        }
        let app = running.app.clone();
        let shown = self.shown(host);
        let peer = app.peer(&shown.host, &shown.key_sha256).await;
        if peer.map_err(|error| failed(&error))?.is_none() {
            self.note(format_args!("wire {conn} refused: not an enrolled host"));
            self.controller_closes(conn, close::REVOKED);
            return Ok(());
        }
        let now_ms = app.clock.monotonic_ms();
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let place = Place {
            conn,
            epoch: None,
            in_flight: 0,
            orders: std::collections::VecDeque::new(),
            shut: false,
        };
        running.hub.inner().places.insert(id, place);
        let desk = Desk::new(now_ms);
        let session =
            Session { host, desk, epoch: None, closing: false, orders_due: false, timer_ms: None };
        running.sessions.insert(conn, session);
        self.arm_desk(conn);
        let waiting = self.connections.get_mut(&conn).map(|one| std::mem::take(&mut one.waiting));
        for (channel, frame) in waiting.unwrap_or_default() {
            self.controller_receives(conn, channel, frame).await?;
        }
        Ok(())
    }

    fn host_of(&self, conn: Conn) -> Option<usize> {
        let running = self.controller.process.as_ref()?;
        running.sessions.get(&conn).map(|session| session.host)
    }

    fn arm_desk(&mut self, conn: Conn) {
        let run = self.controller.run;
        let now_ms = self.controller.clock.monotonic_ms();
        let Some(running) = self.controller.process.as_mut() else { return };
        let Some(session) = running.sessions.get_mut(&conn) else { return };
        let due = session.desk.next_timeout();
        if let Some(due_ms) = due
            && due != session.timer_ms
        {
            session.timer_ms = due;
            self.after(due_ms.saturating_sub(now_ms), Event::DeskTimer(run, conn));
        }
    }

    pub(super) async fn desk_timer(&mut self, run: u64, conn: Conn) -> Step {
        self.desk_hears(run, conn, Told::Timeout).await
    }

    pub(super) async fn controller_receives(
        &mut self,
        conn: Conn,
        channel: ChannelId,
        frame: Frame<ToController>,
    ) -> Step {
        if !self.arrives_up(conn) {
            return Ok(());
        }
        let run = self.controller.run;
        let Some(running) = self.controller.process.as_ref() else { return Ok(()) };
        if !running.sessions.contains_key(&conn) {
            // It waits for its place; what it says waits with it.
            if let Some(connection) = self.connections.get_mut(&conn) {
                connection.waiting.push((channel, frame));
            }
            return Ok(());
        }
        let told = match frame {
            Frame::Message(message) => Told::Frame(channel, Box::new(message)),
            Frame::End => Told::Ended(channel),
        };
        self.desk_hears(run, conn, told).await
    }

    pub(super) async fn orders(&mut self, run: u64, conn: Conn) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let Some(session) = running.sessions.get_mut(&conn) else { return Ok(()) };
        session.orders_due = false;
        let order = {
            let mut inner = running.hub.inner();
            let place = inner.places.values_mut().find(|place| place.conn == conn);
            place.filter(|place| !place.shut).and_then(|place| place.orders.pop_front())
        };
        match order {
            Some(order) => self.desk_hears(run, conn, Told::Order(order)).await,
            None => Ok(()),
        }
    }

    /// Hands something to the session's desk and does what it says.
    pub(super) async fn desk_hears(&mut self, run: u64, conn: Conn, told: Told) -> Step {
        let now_ms = self.controller.clock.monotonic_ms();
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let Some(session) = running.sessions.get_mut(&conn) else { return Ok(()) };
        if session.closing {
            return Ok(());
        }
        let acts = session.desk.handle(told, now_ms);
        for act in acts {
            if self.dies_now() {
                return self.crash_controller(false).await;
            }
            if let Act::Admit(hello) = act {
                self.admits(run, conn, &hello).await?;
            } else {
                self.does(run, conn, act)?;
            }
            if !self.controller.is_up() {
                return Ok(());
            }
        }
        self.arm_desk(conn);
        Ok(())
    }

    async fn admits(&mut self, run: u64, conn: Conn, hello: &Hello) -> Step {
        let Some(host) = self.host_of(conn) else {
            return Ok(());
        };
        let shown = self.shown(host);
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let app = running.app.clone();
        let admission = match app.admit(&shown, hello).await {
            Ok(admission) => admission,
            Err(StoreError::HostHeld { .. }) => {
                self.note(format_args!("wire {conn} refused: its host is held"));
                self.session_closes(conn, close::HELD);
                return Ok(());
            }
            Err(StoreError::NoHost { .. }) => {
                self.session_closes(conn, close::UNAVAILABLE);
                return Ok(());
            }
            Err(error) => return Err(failed(&error)),
        };
        if self.dies_now() {
            return self.crash_controller(false).await;
        }
        let epoch = admission.epoch;
        let now_ms = app.clock.monotonic_ms();
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let Some(session) = running.sessions.get_mut(&conn) else { return Ok(()) };
        session.epoch = Some(epoch);
        if let Some(place) = running.hub.inner().places.get_mut(&shown.host) {
            place.in_flight = admission.running.len();
        }
        let controller = app.controller.clone();
        let acts = session.desk.handle(Told::Admitted { controller, admission }, now_ms);
        for act in acts {
            self.does(run, conn, act)?;
        }
        if let Some(running) = self.controller.running(run) {
            let mut inner = running.hub.inner();
            inner.changed = true;
            if let Some(place) = inner.places.get_mut(&shown.host) {
                place.epoch = Some(epoch);
            }
        }
        Ok(())
    }

    fn does(&mut self, run: u64, conn: Conn, act: Act) -> Step {
        match act {
            // A stream comes to be with its first frame; admissions are done by who calls this.
            // Simulated hosts have no stacks.
            Act::Open(_) | Act::Admit(_) | Act::Leaving(_) | Act::Observed(_) => {}
            Act::Send(channel, message) => {
                let message = self.of_its_version(message);
                self.note(format_args!("controller says {}", super::says::down(&message)));
                self.send_down(conn, channel, Frame::Message(message));
            }
            Act::Finish(channel) => self.send_down(conn, channel, Frame::End),
            Act::Accept(attempt) => {
                let wait_ms = self.soon();
                self.after(wait_ms, Event::Accepts(run, conn, attempt));
            }
            Act::Settle { attempt, document, refused, template } => {
                self.gathers(run, conn, attempt, document, refused, template);
            }
            Act::Progress { attempt, sequence, document } => {
                let Some(host) = self.host_of(conn) else {
                    return Ok(());
                };
                let line = progress_line(&self.hosts[host].id, &attempt, sequence, &document);
                if let Some(running) = self.controller.running(run) {
                    running.lines.extend(line);
                }
                self.after(25, Event::WritesProgress(run));
            }
            Act::Renew(attempts) if attempts.is_empty() => {}
            Act::Renew(attempts) => {
                let wait_ms = self.soon();
                self.after(wait_ms, Event::Renews(run, attempts));
            }
            Act::Freed => {
                if let Some(running) = self.controller.running(run) {
                    let mut inner = running.hub.inner();
                    inner.changed = true;
                    let place = inner.places.values_mut().find(|place| place.conn == conn);
                    if let Some(place) = place {
                        place.in_flight = place.in_flight.checked_sub(1).ok_or_else(|| {
                            Violation::doubled("a session gave a slot back twice")
                        })?;
                    }
                }
            }
            Act::Certify(_) => {
                let wait_ms = self.soon();
                let refused = Err(("RATE_LIMITED".to_owned(), "not now".to_owned()));
                let told = Told::Certified(Box::new(refused));
                self.after(wait_ms, Event::DeskHears(run, conn, Box::new(told)));
            }
            Act::Close { code, reason } => {
                self.note(format_args!("controller closes wire {conn}: {reason}"));
                if code == close::PROTOCOL {
                    return Err(Violation::unexplained(format!(
                        "the controller calls an agent out of order: {reason}"
                    )));
                }
                self.session_closes(conn, code);
            }
        }
        Ok(())
    }

    /// A controller of the version before this one welcomes with its own.
    fn of_its_version(&self, message: ToAgent) -> ToAgent {
        let mut message = message;
        if let ToAgent::Welcome(welcome) = &mut message
            && self.plan.old_controller
        {
            welcome.version = welcome.version.min(hostler_protocol::VERSION_RENEWAL - 1);
        }
        message
    }

    fn gathers(
        &mut self,
        run: u64,
        conn: Conn,
        attempt: AttemptRef,
        document: Vec<u8>,
        refused: bool,
        template: Option<std::sync::Arc<hostler_controller::domain::Template>>,
    ) {
        let Some(host) = self.host_of(conn) else {
            return;
        };
        let host = self.hosts[host].id.clone();
        let wait_ms = self.soon();
        let early = self.mutation == Some(Mutation::AcknowledgesEarly) && !refused;
        let Some(running) = self.controller.running(run) else { return };
        let app = &running.app;
        let outcome = if refused { app.rejection(&document) } else { app.outcome(&document) };
        let report = Report { host, attempt: attempt.clone(), outcome, template };
        running.reports.push((conn, report, document, refused));
        self.after(wait_ms, Event::Settles(run));
        if early {
            let told = Told::Settled { attempt, acknowledge: true };
            self.after(0, Event::DeskHears(run, conn, Box::new(told)));
        }
    }

    /// The session ends: it hears nothing more, and is entered as ended a moment later.
    pub(super) fn session_closes(&mut self, conn: Conn, code: u32) {
        if self.session_ends(conn) {
            self.controller_closes(conn, code);
        }
    }

    /// The controller learns that a connection is over.
    pub(super) fn controller_notices(&mut self, conn: Conn) -> Step {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.controller_open = false;
        }
        self.session_ends(conn);
        self.forget_connections();
        Ok(())
    }

    fn session_ends(&mut self, conn: Conn) -> bool {
        let run = self.controller.run;
        let wait_ms = self.dice.below(1_000);
        let Some(running) = self.controller.process.as_mut() else { return false };
        let Some(session) = running.sessions.get_mut(&conn) else { return false };
        if std::mem::replace(&mut session.closing, true) {
            return false;
        }
        self.after(wait_ms, Event::Leaves(run, conn));
        true
    }

    /// Enters the end: orders never sent become runnable again, the rest is unknown.
    pub(super) async fn leaves(&mut self, run: u64, conn: Conn) -> Step {
        let Some(running) = self.controller.running(run) else { return Ok(()) };
        let Some(session) = running.sessions.get(&conn) else { return Ok(()) };
        let (epoch, host) = (session.epoch, self.hosts[session.host].id.clone());
        let mut unsent: Vec<AttemptRef> = Vec::new();
        if let Some(place) = running.hub.inner().places.get_mut(&host) {
            place.shut = true;
            for order in place.orders.drain(..) {
                if let Order::Run { attempt, .. } = order {
                    unsent.push(attempt);
                }
            }
        }
        let app = running.app.clone();
        let wrong = |error: StoreError| failed(&error);
        if !unsent.is_empty() {
            app.store.requeue_unseen(&to_store(&unsent), app.clock.now()).await.map_err(wrong)?;
        }
        if self.dies_now() {
            return self.crash_controller(false).await;
        }
        if let Some(epoch) = epoch {
            app.disconnected(&host, epoch).await.map_err(wrong)?;
        }
        if let Some(running) = self.controller.running(run) {
            running.sessions.remove(&conn);
            running.hub.inner().places.retain(|_, place| place.conn != conn);
        }
        self.note(format_args!("session of wire {conn} left"));
        Ok(())
    }
}
