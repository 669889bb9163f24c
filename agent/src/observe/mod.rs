//! What this host is ([`Facts`]), and what it sees of its stacks between jobs ([`watch`]).
//!
//! A report says how stacks are now; later ones replace earlier ones, and nothing is kept of what
//! was not sent: each session begins with a whole one.
//!
//! Invariants:
//! * nothing here changes anything on the host but the agent's own memory of what somebody stopped:
//!   once the engine has been restarted, that could not be told any more;
//! * what is drift is decided in [`crate::steps::stack`], by what a sync holds a stack against: what
//!   is told as drift a sync would put right, and the other way round;
//! * a stack that is worked on is left out, and looked at when the work has ended;
//! * a host without stacks, and one without a session, asks its engine nothing.

mod core;
mod facts;
mod look;
mod report;
mod reports;
mod tend;
mod watcher;

pub use self::facts::{Facts, Program};
pub use self::reports::Reports;
pub use self::watcher::watch;
