//! Runs jobs: accept → journal → run → report, whatever happens in between.
//!
//! [`core`] decides, without IO; [`shell`] does. The session talks to the runner in framed bytes
//! over a pipe ([`pipe`]), so that the two could be two processes.

pub mod core;
mod executor;
mod fit;
pub mod pipe;
mod shell;

pub use self::executor::{Executor, Work, Worker};
pub use self::shell::{Load, Runner, RunnerHandle};
