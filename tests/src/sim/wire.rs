//! Connections: frames of one stream in their order, streams in any, and ends that the two sides
//! notice at different times.

use std::collections::BTreeMap;

use hostler_protocol::message::{ToAgent, ToController};
use hostler_protocol::session::ChannelId;

use super::event::{Boot, Conn, Event, Frame};
use super::world::World;

/// Longest time until a side notices that the other is gone: what QUIC is told to wait.
pub(super) const IDLE_MS: u64 = hostler_protocol::IDLE_SECS * 1000;

/// One way of a connection.
#[derive(Debug, Default)]
struct Way {
    /// When the last frame of each stream arrives.
    last: BTreeMap<ChannelId, u64>,
    /// Nothing gets through any more.
    lost: bool,
}

/// A connection, as the network knows it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) boot: Boot,
    pub(super) host: usize,
    /// Whether the side still believes in it.
    pub(super) agent_open: bool,
    pub(super) controller_open: bool,
    /// What reached the controller before it had a place for the session.
    pub(super) waiting: Vec<(ChannelId, Frame<ToController>)>,
    up: Way,
    down: Way,
}

impl Connection {
    pub(super) fn new(boot: Boot, host: usize) -> Self {
        Self {
            boot,
            host,
            agent_open: true,
            controller_open: true,
            waiting: Vec::new(),
            up: Way::default(),
            down: Way::default(),
        }
    }
}

impl World {
    /// How long a frame takes.
    fn travel_ms(&mut self) -> u64 {
        let slow = if self.healed { 0 } else { self.plan.rates.slow };
        if self.dice.permille(slow) {
            self.dice.between(50, 6_000)
        } else {
            self.dice.between(1, 30)
        }
    }

    pub(super) fn send_up(&mut self, conn: Conn, channel: ChannelId, frame: Frame<ToController>) {
        let travel_ms = self.travel_ms();
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.up.lost {
            return;
        }
        let last = connection.up.last.entry(channel).or_default();
        *last = (*last).max(now_ms + travel_ms);
        let at_ms = *last;
        self.at(at_ms, Event::ToController(conn, channel, Box::new(frame)));
    }

    pub(super) fn send_down(&mut self, conn: Conn, channel: ChannelId, frame: Frame<ToAgent>) {
        let travel_ms = self.travel_ms();
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.down.lost {
            return;
        }
        let last = connection.down.last.entry(channel).or_default();
        *last = (*last).max(now_ms + travel_ms);
        let at_ms = *last;
        self.at(at_ms, Event::ToAgent(conn, channel, Box::new(frame)));
    }

    /// Whether a frame that is due gets to the controller.
    pub(super) fn arrives_up(&self, conn: Conn) -> bool {
        self.connections.get(&conn).is_some_and(|one| one.controller_open && !one.up.lost)
    }

    pub(super) fn arrives_down(&self, conn: Conn) -> bool {
        self.connections.get(&conn).is_some_and(|one| one.agent_open && !one.down.lost)
    }

    /// The agent's side closes in good order: its last words on the control stream arrive first,
    /// others may not.
    pub(super) fn agent_closes(&mut self, conn: Conn) {
        let travel_ms = self.travel_ms();
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.agent_open = false;
        let control = connection.up.last.get(&ChannelId(0)).copied().unwrap_or(0);
        let told = !connection.up.lost;
        let at_ms = if told { control.max(now_ms + travel_ms) } else { now_ms + IDLE_MS };
        self.at(at_ms, Event::ControllerNotices(conn));
    }

    /// The controller's side closes: what it sent last has a second to arrive.
    pub(super) fn controller_closes(&mut self, conn: Conn, code: u32) {
        let travel_ms = self.travel_ms();
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.controller_open = false;
        let told = !connection.down.lost;
        let last = connection.down.last.values().max().copied().unwrap_or(0);
        let at_ms = last.min(now_ms + 1000).max(now_ms + travel_ms);
        if told {
            self.at(at_ms, Event::AgentNotices(conn, Some(code)));
        } else {
            self.at(now_ms + IDLE_MS, Event::AgentNotices(conn, None));
        }
    }

    /// An agent's process is gone without a word.
    pub(super) fn agent_vanishes(&mut self, boot: Boot) {
        let gone: Vec<Conn> = self.of_boot(boot);
        for conn in gone {
            let wait_ms = self.dice.below(IDLE_MS);
            if let Some(connection) = self.connections.get_mut(&conn) {
                connection.agent_open = false;
            }
            // Whoever listens on the port again tells the other side at once.
            self.after(wait_ms, Event::ControllerNotices(conn));
        }
    }

    fn of_boot(&self, boot: Boot) -> Vec<Conn> {
        let open = |one: &&Connection| one.boot == boot && one.agent_open;
        let all = self.connections.iter().filter(|(_, one)| open(one));
        all.map(|(conn, _)| *conn).collect()
    }

    /// The network loses a connection: one way or both carry nothing any more, and each side
    /// notices when it does.
    pub(super) fn cut(&mut self, conn: Conn) {
        let (up, down) = match self.dice.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let (agent_ms, controller_ms) = (self.dice.below(IDLE_MS), self.dice.below(IDLE_MS));
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.up.lost |= up;
        connection.down.lost |= down;
        self.after(agent_ms, Event::AgentNotices(conn, None));
        self.after(controller_ms, Event::ControllerNotices(conn));
        self.count("connection lost");
        self.note(format_args!("wire {conn} cut, up {up} down {down}"));
    }

    /// Forgets connections that neither side believes in.
    pub(super) fn forget_connections(&mut self) {
        self.connections.retain(|_, one| one.agent_open || one.controller_open);
    }
}
