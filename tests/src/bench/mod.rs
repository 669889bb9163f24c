//! `make bench`: speed and memory of the real parts, each beside what people would use instead,
//! measured in the same run on the same machine.
//!
//! Invariants:
//! * everything listens on loopback and lives in one temporary directory that goes at the end;
//! * every loop is bounded in count, every wait has a deadline;
//! * a figure is printed with its aim and whether the aim was met; nothing is left out because
//!   it is bad.

pub mod actions;
pub mod cache_files;
pub mod clock;
pub mod crowd;
pub mod fleet;
pub mod http;
pub mod process;
pub mod queue;
pub mod report;
pub mod rivals;
pub mod sections;
pub mod settled;
pub mod stacks;
pub mod stats;
pub mod swarm;

/// What a part of the benchmark answers; the text says what failed.
pub type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Small counts: for trying the benchmark out, not for figures.
    pub quick: bool,
}

impl Scale {
    /// `full`, or `quick` when the run is a quick one.
    #[must_use]
    pub fn pick(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}
