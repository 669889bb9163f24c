//! What can happen in the world, each at its moment.

use hostler_agent::runner::core::Input;
use hostler_agent::runner::pipe::{FromRunner, ToRunner};
use hostler_controller::fleet::desk;
use hostler_protocol::message::{AttemptRef, ToAgent, ToController};
use hostler_protocol::session::ChannelId;

/// Which run of which agent: what was meant for an earlier run reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) agent: usize,
    pub(super) run: u64,
}

/// A connection, by its number.
pub(super) type Conn = u64;

/// A frame on its way, or the end of its stream.
#[derive(Debug, Clone)]
pub(super) enum Frame<M> {
    Message(M),
    End,
}

/// Work of a runner with its journal.
#[derive(Debug, Clone)]
pub(super) enum JournalWork {
    Accept { attempt: AttemptRef, timeout_secs: u32, spec: Vec<u8> },
    Finish { attempt: AttemptRef, outcome: Vec<u8> },
    Forget { attempt: AttemptRef },
    Deliver { attempt: AttemptRef },
}

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    AgentStarts(usize),
    Dials(Boot),
    /// A runner's timer, due or overtaken.
    RunnerTimer(Boot),
    LinkTimer(Boot, Conn),
    Journal(Boot, JournalWork),
    /// Something a runner's own tasks tell it.
    RunnerHears(Boot, Box<Input>),
    /// The pipe between runner and session, either way.
    ToRunner(Boot, Box<ToRunner>),
    FromRunner(Boot, Box<FromRunner>),
    /// The next act of an action's script.
    Acts(Boot, AttemptRef, u64),
    /// A connection reaches the controller.
    Joins(Conn),
    ToController(Conn, ChannelId, Box<Frame<ToController>>),
    ToAgent(Conn, ChannelId, Box<Frame<ToAgent>>),
    /// A side notices that a connection is over, and with which close code.
    AgentNotices(Conn, Option<u32>),
    ControllerNotices(Conn),
    /// A session is entered as ended.
    Leaves(u64, Conn),
    ControllerStarts,
    Dispatches(u64),
    Sweeps(u64),
    Orders(u64, Conn),
    DeskTimer(u64, Conn),
    /// The gathered reports of one kind are written.
    Settles(u64),
    Accepts(u64, Conn, AttemptRef),
    Renews(u64, Vec<AttemptRef>),
    WritesProgress(u64),
    DeskHears(u64, Conn, Box<desk::Event>),
    /// An operator wants something.
    Operator,
    /// A chance for something to go wrong.
    Fault,
    DiskMends(usize),
    /// Everything that is broken is mended.
    Heals,
}
