//! An agent's connection: the real session core, and what its link does with the core's effects.

use hostler_agent::runner::pipe::{FromRunner, Introduction, ToRunner};
use hostler_protocol::facts::with_welcomed;
use hostler_protocol::message::{Hello, ToAgent, close};
use hostler_protocol::session::ChannelId;
use hostler_protocol::session::agent::{CONTROL, Core, Effect, Input};
use hostler_protocol::{PROTOCOL_VERSION_MIN, VERSION_RENEWAL};

use super::event::{Boot, Conn, Event, Frame};
use super::report::Violation;
use super::wire::Connection;
use super::world::{Step, World};

/// As the agent's back-off has it.
const WINDOW_MS: (u64, u64) = (1_000, 60_000);
/// A session this long counts as a success.
const STABLE_MS: u64 = 30_000;
/// How long a dialled controller may be silent.
const DIAL_MS: u64 = 10_000;

/// A connection being served by an agent.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: Conn,
    core: Core,
    /// The runner has been asked and has not said yet what stands in the `Hello`.
    introducing: bool,
    established_ms: Option<u64>,
    retry_after_ms: Option<u64>,
    timer_ms: Option<u64>,
    version: u16,
}

impl World {
    /// The agent dials.
    pub(super) fn dials(&mut self, boot: Boot) -> Step {
        let host = self.agents[boot.agent].host;
        let cut_until_ms = self.hosts[host].cut_until_ms;
        let Some(process) = self.process(boot) else { return Ok(()) };
        if process.link.is_some() {
            return Ok(());
        }
        if cut_until_ms > self.now_ms {
            // What a long outage brings is the same however often it is dialled meanwhile.
            let wait_ms = cut_until_ms - self.now_ms + self.dice.below(60_000);
            self.after(wait_ms, Event::Dials(boot));
            return Ok(());
        }
        if !self.controller.is_up() {
            let wait_ms = self.dice.below(DIAL_MS);
            self.dials_again(boot, None, wait_ms);
            return Ok(());
        }
        let conn = self.controller.next_conn();
        self.connections.insert(conn, Connection::new(boot, host));
        self.note(format_args!("agent {} dials, wire {conn}", boot.agent));
        let wait_ms = self.dice.between(1, 60);
        self.after(wait_ms, Event::Joins(conn));
        if let Some(process) = self.process(boot) {
            process.link = Some(Link {
                conn,
                core: Core::new(),
                introducing: true,
                established_ms: None,
                retry_after_ms: None,
                timer_ms: None,
                version: 0,
            });
        }
        self.tells_runner(boot, ToRunner::Introduce);
        Ok(())
    }

    /// Full jitter within a window that doubles, as the agent's back-off.
    fn dials_again(&mut self, boot: Boot, code: Option<u32>, least_ms: u64) {
        let unwanted =
            [close::REVOKED, close::UNAUTHENTICATED, close::VERSION, close::REPLACED, close::HELD];
        let agent = &mut self.agents[boot.agent];
        if code.is_some_and(|code| unwanted.contains(&code)) {
            agent.window_ms = WINDOW_MS.1;
        }
        let window_ms = agent.window_ms;
        agent.window_ms = (window_ms * 2).min(WINDOW_MS.1);
        let wait_ms = least_ms + self.dice.below(window_ms + 1);
        self.after(wait_ms, Event::Dials(boot));
    }

    /// The connection is over for the agent; `code` is what the controller closed it with.
    pub(super) fn agent_notices(&mut self, conn: Conn, code: Option<u32>) -> Step {
        let Some(connection) = self.connections.get_mut(&conn) else { return Ok(()) };
        if !connection.agent_open {
            return Ok(());
        }
        connection.agent_open = false;
        let boot = connection.boot;
        self.link_over(boot, conn, code);
        self.forget_connections();
        Ok(())
    }

    fn link_over(&mut self, boot: Boot, conn: Conn, code: Option<u32>) {
        let now_ms = self.now_ms;
        let Some(process) = self.process(boot) else { return };
        let Some(link) = process.link.take_if(|link| link.conn == conn) else { return };
        if link.established_ms.is_some_and(|since| now_ms - since >= STABLE_MS) {
            self.agents[boot.agent].window_ms = WINDOW_MS.0;
        }
        self.note(format_args!("agent {} wire {conn} over, code {code:?}", boot.agent));
        self.dials_again(boot, code, link.retry_after_ms.unwrap_or(0));
    }

    pub(super) fn runner_says(&mut self, boot: Boot, message: FromRunner) -> Step {
        let Some(link) = self.process(boot).and_then(|process| process.link.as_mut()) else {
            return Ok(());
        };
        let conn = link.conn;
        match message {
            FromRunner::Introduction(introduction) if link.introducing => {
                link.introducing = false;
                let hello = self.hello(boot, introduction);
                self.link_step(boot, conn, Input::Connected { hello })
            }
            // What was said before the introduction is of the past.
            FromRunner::Message(message) if !link.introducing => {
                self.link_step(boot, conn, Input::FromRunner(message))
            }
            FromRunner::Introduction(_) | FromRunner::Message(_) => Ok(()),
        }
    }

    fn hello(&mut self, boot: Boot, introduction: Introduction) -> Hello {
        let Introduction { boot: boot_id, running, unacknowledged } = introduction;
        let welcomed = self.process(boot).and_then(|process| process.welcomed);
        let agent = &self.agents[boot.agent];
        Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: agent.version_max,
            build: "simulated".to_owned(),
            boot: boot_id,
            clock_us: agent.clock.now_us(),
            running,
            unacknowledged,
            facts: with_welcomed(b"{}", welcomed),
        }
    }

    pub(super) fn agent_receives(
        &mut self,
        conn: Conn,
        channel: ChannelId,
        frame: Frame<ToAgent>,
    ) -> Step {
        if !self.arrives_down(conn) {
            return Ok(());
        }
        let Some(boot) = self.connections.get(&conn).map(|one| one.boot) else { return Ok(()) };
        let input = match frame {
            Frame::Message(message) => Input::Received { channel, message },
            Frame::End => Input::Ended { channel },
        };
        self.link_step(boot, conn, input)
    }

    pub(super) fn link_timer(&mut self, boot: Boot, conn: Conn) -> Step {
        let now_ms = self.agents[boot.agent].clock.monotonic_ms();
        let Some(link) = self.process(boot).and_then(|process| process.link.as_mut()) else {
            return Ok(());
        };
        if link.conn != conn {
            return Ok(());
        }
        link.timer_ms = None;
        if link.core.next_timeout().is_some_and(|due| due <= now_ms) {
            self.link_step(boot, conn, Input::Timeout)?;
            self.asks_for_a_certificate(boot, conn)
        } else {
            self.arm_link(boot);
            Ok(())
        }
    }

    /// Now and then, where the session knows the question.
    fn asks_for_a_certificate(&mut self, boot: Boot, conn: Conn) -> Step {
        if self.healed || !self.dice.permille(30) {
            return Ok(());
        }
        let link = self.process(boot).and_then(|process| process.link.as_mut());
        if link.is_some_and(|link| link.core.may_renew()) {
            let ask = Input::Renew { csr: vec![1, 2, 3], wait_ms: 20_000 };
            self.link_step(boot, conn, ask)?;
        }
        Ok(())
    }

    fn arm_link(&mut self, boot: Boot) {
        let now_ms = self.agents[boot.agent].clock.monotonic_ms();
        let Some(link) = self.process(boot).and_then(|process| process.link.as_mut()) else {
            return;
        };
        let (due, conn) = (link.core.next_timeout(), link.conn);
        if let Some(due_ms) = due
            && due != link.timer_ms
        {
            link.timer_ms = due;
            self.after(due_ms.saturating_sub(now_ms), Event::LinkTimer(boot, conn));
        }
    }

    fn link_step(&mut self, boot: Boot, conn: Conn, input: Input) -> Step {
        let now_ms = self.agents[boot.agent].clock.monotonic_ms();
        let Some(link) = self.process(boot).and_then(|process| process.link.as_mut()) else {
            return Ok(());
        };
        if link.conn != conn {
            return Ok(());
        }
        let effects = link.core.handle(input, now_ms);
        for effect in effects {
            if self.dies_now() {
                self.crash_agent(boot.agent, false);
                return Ok(());
            }
            if !self.link_does(boot, conn, effect)? {
                return Ok(());
            }
        }
        self.arm_link(boot);
        Ok(())
    }

    /// Does one thing the core says; false once the connection is over.
    fn link_does(&mut self, boot: Boot, conn: Conn, effect: Effect) -> Result<bool, Violation> {
        let now_ms = self.now_ms;
        match effect {
            // A stream comes to be with its first frame.
            Effect::Open { .. } | Effect::Refused { .. } => {}
            Effect::Send { channel, message } => {
                self.note(format_args!("agent {} says {}", boot.agent, super::says::up(&message)));
                self.send_up(conn, channel, Frame::Message(message));
            }
            Effect::Finish { channel } => self.send_up(conn, channel, Frame::End),
            Effect::Established { version, epoch, .. } => {
                self.note(format_args!("agent {} welcomed, epoch {epoch}", boot.agent));
                if let Some(process) = self.process(boot) {
                    process.welcomed = Some(epoch);
                }
                if let Some(link) = self.process(boot).and_then(|process| process.link.as_mut()) {
                    link.established_ms = Some(now_ms);
                    link.version = version;
                }
                self.tells_runner(boot, ToRunner::Online);
            }
            Effect::ToRunner(message) => self.tells_runner(boot, ToRunner::Message(message)),
            Effect::Renewed { .. } | Effect::RenewRefused { .. } => {
                let link = self.process(boot).and_then(|process| process.link.as_ref());
                if link.is_some_and(|link| link.version < VERSION_RENEWAL) {
                    return Err(Violation::unexplained("a renewal within an old session"));
                }
            }
            Effect::RenewUnanswered => {}
            Effect::RetryAfter { retry_after_ms } => {
                if let Some(link) = self.process(boot).and_then(|process| process.link.as_mut()) {
                    link.retry_after_ms = Some(retry_after_ms);
                }
            }
            Effect::Close { code, reason } => {
                self.note(format_args!("agent {} closes: {reason}", boot.agent));
                if code == close::PROTOCOL {
                    return Err(Violation::unexplained(format!(
                        "agent {} calls its controller out of order: {reason}",
                        boot.agent
                    )));
                }
                self.send_up(conn, CONTROL, Frame::End);
                self.agent_closes(conn);
                self.link_over(boot, conn, None);
                return Ok(false);
            }
        }
        Ok(true)
    }
}
