//! Docker on this host: its engine is asked what there is ([`engine`]), and compose makes it so
//! ([`compose`]).
//!
//! Invariants:
//! * nothing here decides what should be;
//! * the engine is spoken to over its Unix socket alone, and compose is told of the same socket;
//! * whatever is read has a limit, and whatever is waited for a deadline.

mod compose;
mod engine;
mod events;
mod logs;
mod model;

use std::path::PathBuf;

pub use self::compose::{Compose, ComposeError, Generation, Project};
pub use self::engine::{Engine, EngineError};
pub use self::events::Events;
pub use self::model::{Container, State, Volume};

/// How Docker is reached on this host; see the policy's `docker`.
#[derive(Debug, Clone)]
pub struct Docker {
    /// The engine's socket.
    pub socket: PathBuf,
    /// Program and leading arguments of compose; empty: it is looked for.
    pub compose: Vec<String>,
    /// Where the Docker client keeps its settings: registry logins, plugins.
    pub config_dir: PathBuf,
}

impl Docker {
    /// The engine, to ask it something; connects when asked.
    #[must_use]
    pub fn engine(&self) -> Engine {
        Engine::new(self.socket.clone())
    }
}
