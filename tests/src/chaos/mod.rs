//! `make chaos`: real processes in network namespaces, killed, cut off, starved and frozen by a
//! seeded plan while clients send jobs; at the end an oracle says what was lost, what was done
//! twice, and what nothing explains.
//!
//! Invariants:
//! * everything lives in namespaces of its own ([`den`]): nothing is left on any exit path;
//! * the plan is a pure function of the printed seed ([`plan`]); what the kernel's scheduling makes
//!   of it is not;
//! * every wait has a deadline, every fault an end, every list a bound;
//! * a fault never excuses what it does not explain ([`logs`], [`judge`]).

pub mod clients;
pub mod den;
pub mod disk;
pub mod faults;
pub mod host;
pub mod judge;
pub mod logs;
pub mod net;
pub mod phase;
pub mod plan;
pub mod relay;
pub mod report;
pub mod seed;
pub mod service;
pub mod world;

use std::io::Write;
use std::path::Path;

use self::phase::Phase;
use self::plan::Shape;
use crate::servers::ServerError;

/// How a run is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub seed: u64,
    /// Seconds of faults, of both phases together.
    pub secs: u64,
    pub hosts: usize,
    /// Jobs a second, of both phases.
    pub jobs_per_sec: usize,
    /// Which phases; both, unless one is to be looked at.
    pub postgres: bool,
    pub sqlite: bool,
}

/// Hosts of the first so many numbers have small disks.
const SMALL_DISKS: usize = 2;
/// Seconds a host's certificate is good for: it is renewed and ends while jobs run.
const CERTIFICATE_SECS: u64 = 24;

/// Runs what was asked for inside; `true`: nothing was lost, doubled or unexplained.
///
/// # Errors
/// When the run itself did not work: it has no result then.
pub fn run(asked: &Asked, dir: &Path, out: &mut impl Write) -> Result<bool, ServerError> {
    let told = |error| ServerError::new("printing", error);
    den::settle_in(dir)?;
    net::bridge()?;
    let postgres_secs = match (asked.postgres, asked.sqlite) {
        (true, true) => asked.secs * 3 / 5,
        (true, false) => asked.secs,
        (false, _) => 0,
    };
    let sqlite_secs = asked.secs - postgres_secs;
    let phases = [("postgresql", true, postgres_secs), ("sqlite", false, sqlite_secs)];
    let seed = asked.seed;
    let mut good = true;
    for (name, postgres, secs) in phases {
        if secs == 0 {
            continue;
        }
        writeln!(out, "chaos on {name}: {secs} s, {} agents, seed {seed}", asked.hosts)
            .map_err(told)?;
        let (at, logs) = (dir.join(name), dir.join(den::LOGS).join(name));
        let jobs = asked.jobs_per_sec * usize::try_from(secs).unwrap_or(0);
        let shape = Shape {
            hosts: asked.hosts,
            controllers: 1,
            small_disks: SMALL_DISKS.min(asked.hosts),
            postgres,
            certificate_secs: CERTIFICATE_SECS,
        };
        let phase = Phase { name, dir: &at, logs: &logs, seed, secs, jobs, shape };
        let report = phase.run()?;
        report.write(out).map_err(told)?;
        good &= report.is_good();
    }
    Ok(good)
}
