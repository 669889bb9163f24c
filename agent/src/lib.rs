//! Hostler's agent: connects out to a controller, runs jobs on its host, reports proven results.

pub mod clock;
pub mod identity;
pub mod journal;
pub mod net;
pub mod runner;
