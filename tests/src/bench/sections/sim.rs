//! The simulator: how much of an installation's life passes in a second.

use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::{Res, Scale};
use crate::sim::{self, Options};

/// Steps per second on one thread below which two thousand seeds would keep everybody waiting.
const STEPS_PER_SEC_MIN: f64 = 5_000.0;

pub(super) fn measure(scale: Scale) -> Res<Table> {
    let seeds = scale.pick(1_000, 50) as u64;
    let mut table =
        Table::new("The simulator: real cores, store and journal under a seed's accidents");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, threads] {
        let watch = Watch::start();
        let total = sim::run_all(0..seeds, Options::default(), threads, false)?;
        let secs = watch.secs();
        if let Some((seed, violation)) = total.broken.first() {
            return Err(format!("seed {seed} broke a promise: {}", violation.what).into());
        }
        let per_sec = total.steps as f64 / secs;
        let figures = format!("{per_sec:.0} steps, {:.0} seeds a second", seeds as f64 / secs);
        let what = format!("{seeds} seeds, {} jobs, on {threads} threads", total.jobs);
        let aim = format!("≥ {STEPS_PER_SEC_MIN:.0} steps a second");
        table.row(Row::new(what, figures).aim(aim, per_sec >= STEPS_PER_SEC_MIN));
    }
    table.note(
        "A step is one event: a frame that arrives, a commit, a crash. Nothing is waited for: days \
         of backing off pass in the few steps in which something happens.",
    );
    Ok(table)
}
