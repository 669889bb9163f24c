//! Hostler's agent: connects out to a controller, runs jobs on its host, reports proven results.

pub mod clock;
pub mod journal;
