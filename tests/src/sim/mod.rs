//! A seeded, deterministic simulation of a whole installation: the real cores, the real journal on
//! a disk that fails, the real application on the real store, under a network, operators and
//! accidents that come from the seed alone. `docs/RELIABILITY.md` says what is real here, what is
//! carried out in the product's stead, what goes wrong, and what must hold.
//!
//! Invariants:
//! * time moves by events alone; no clock of the machine is read;
//! * one thing happens at a time: whatever a store or a journal does on a thread of its own is
//!   awaited before the next event;
//! * the same seed gives the same trace, whose hash the report carries.

mod action;
mod agent;
mod controller;
mod dice;
mod event;
mod faults;
mod hub;
mod ledger;
mod link;
mod mutation;
mod operator;
mod oracle;
mod plan;
mod report;
mod says;
mod session;
mod setting;
mod wire;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use mutation::Mutation;
pub use report::{Kind, Report, Total, Violation};

use setting::Base;

/// What is asked of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep every line of what happens.
    pub trace: bool,
    /// A guard that is missing.
    pub mutation: Option<Mutation>,
}

/// Runs one seed.
///
/// # Errors
/// What kept the simulation itself from running; a broken promise is part of the report.
pub fn run(
    seed: u64,
    options: Options,
) -> Result<Report, Box<dyn std::error::Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let base = Base::new().await?;
        setting::simulate(&base, seed, options).await
    })
}

/// Runs seeds on as many threads, and stops at the first broken promise if `until_broken`.
///
/// # Errors
/// As [`run`].
pub fn run_all(
    seeds: Range<u64>,
    options: Options,
    threads: usize,
    until_broken: bool,
) -> Result<Total, Box<dyn std::error::Error + Send + Sync>> {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    let work = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let base = Base::new().await?;
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                let broken =
                    !total.lock().unwrap_or_else(PoisonError::into_inner).broken.is_empty();
                if seed >= seeds.end || until_broken && broken {
                    return Ok(());
                }
                let report = setting::simulate(&base, seed, options).await?;
                total.lock().unwrap_or_else(PoisonError::into_inner).add(report);
            }
        })
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| "a simulation panicked")??;
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}
