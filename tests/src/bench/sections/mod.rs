//! The parts of the benchmark, each a table.

mod commits;
mod executors;
mod fleet;
mod floor;
mod flush;
mod footprint;
mod git;
mod modes;
mod purge;
mod queue;
mod request;
mod scan;
mod sim;
mod stacks;
mod sync;
mod traps;
mod warm;

use std::path::Path;

use super::report::Table;
use super::{Res, Scale};

/// The parts, in the order they run.
pub const NAMES: &[&str] = &[
    "floor",
    "request",
    "purge",
    "scan",
    "modes",
    "traps",
    "executors",
    "warm",
    "flush",
    "queue",
    "commits",
    "fleet",
    "sim",
    "git",
    "stacks",
    "sync",
    "footprint",
];

/// Runs one part; `dir` is its own, empty, and removed afterwards.
///
/// # Errors
/// What kept it from being measured.
pub async fn run(name: &str, dir: &Path, scale: Scale) -> Res<Table> {
    match name {
        "floor" => floor::measure(dir, scale).await,
        "purge" => purge::measure(dir, scale).await,
        "scan" => scan::measure(dir, scale).await,
        "modes" => modes::measure(dir, scale).await,
        "traps" => traps::measure(dir).await,
        "executors" => executors::measure(dir, scale).await,
        "warm" => warm::measure(dir, scale).await,
        "flush" => flush::measure(dir, scale).await,
        "commits" => commits::measure(dir, scale).await,
        "fleet" => fleet::measure(dir, scale),
        "queue" => queue::measure(dir, scale).await,
        "sim" => sim::measure(scale),
        // Blocking, as on the threads the controller has for that.
        "git" => tokio::task::block_in_place(|| git::measure(dir, scale)),
        "stacks" => tokio::task::block_in_place(|| stacks::measure(dir, scale)),
        "sync" => tokio::task::block_in_place(|| sync::measure(dir, scale)),
        "request" => request::measure(dir, scale).await,
        "footprint" => footprint::measure(dir, scale).await,
        other => Err(format!("no part is called {other}").into()),
    }
}
