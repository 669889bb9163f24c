//! How many pages may be asked for at once: as many as PHP has workers to spare, fewer when the
//! machine is busy, and none once nobody wants them any more.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hostler_protocol::id::EnvironmentId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::host::fpm::{self, Address, Workers};
use crate::host::load;
use crate::host::nginx::tree;
use crate::steps::live::Live;
use crate::steps::state;
use crate::steps::tools::Tools;

/// Pages asked for at once where the pool does not say how many workers wait.
pub const AT_ONCE_DEFAULT: usize = 2;
/// Most pages asked for at once.
pub const AT_ONCE_MAX: usize = 8;
/// Load average per CPU from which pages are asked for one by one.
pub const LOAD_PER_CPU_MAX: f64 = 1.0;
/// How often all of this is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest wait for a pool's word; one that is slower has no worker to spare.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// Where pools have their status page, if they have one (`pm.status_path`).
const STATUS_PATHS: [&str; 2] = ["/status", "/fpm-status"];

/// What the warm-up goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce(usize),
    /// Not at all any more: why.
    Stop(&'static str),
}

/// The pool behind an environment, if it tells of its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    address: Address,
    status_path: &'static str,
}

impl Pool {
    /// Finds it by what nginx passes requests to.
    pub(super) async fn find(
        tools: &Tools,
        live: &Live,
        cancel: &CancellationToken,
    ) -> Option<Self> {
        let file = Path::new(&live.environment.nginx.location_file);
        let tested = tools.nginx.dump(cancel).await.ok().filter(|tested| tested.ok)?;
        let address = Address::parse(&tree::passed_to(&tested.dump, file)?)?;
        let permitted = match &address {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => tools.policy.probe_hosts.contains(host),
        };
        for status_path in STATUS_PATHS.into_iter().filter(|_| permitted) {
            if fpm::workers(&address, status_path, STATUS_TIMEOUT).await.is_ok() {
                return Some(Self { address, status_path });
            }
        }
        None
    }
}

/// Looks again and again, as long as it is polled.
pub(super) async fn keep(
    tools: &Tools,
    id: &EnvironmentId,
    pool: Option<&Pool>,
    going: &AtomicUsize,
    pace: &watch::Sender<Pace>,
) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(PERIOD).await;
        let next = look(tools, id, pool, going.load(Ordering::Relaxed)).await;
        pace.send_if_modified(|now| std::mem::replace(now, next) != next);
    }
}

/// Looks once; `going` pages are being rendered for us.
pub(super) async fn look(
    tools: &Tools,
    id: &EnvironmentId,
    pool: Option<&Pool>,
    going: usize,
) -> Pace {
    match state::load(tools, id).await {
        Ok(None) => return Pace::Stop("the environment was removed from this host"),
        Ok(Some(applied)) if !applied.nginx.as_ref().is_some_and(|nginx| nginx.enabled) => {
            return Pace::Stop("the cache was switched off");
        }
        // What cannot be read now may be read the next time.
        Ok(Some(_)) | Err(_) => {}
    }
    let workers = match pool {
        None => Said::Nothing,
        Some(Pool { address, status_path }) => {
            match fpm::workers(address, status_path, STATUS_TIMEOUT).await {
                Ok(workers) => Said::Workers(workers),
                Err(_) => Said::Busy,
            }
        }
    };
    let load = if tools.faults.pretends("idle_cpus") { None } else { load::per_cpu() };
    Pace::AtOnce(at_once(workers, going, load))
}

/// What a pool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It has no status page.
    Nothing,
    /// It has one, and does not come to answer.
    Busy,
    Workers(Workers),
}

fn at_once(said: Said, going: usize, load_per_cpu: Option<f64>) -> usize {
    if load_per_cpu.is_some_and(|load| load >= LOAD_PER_CPU_MAX) {
        return 1;
    }
    match said {
        Said::Nothing => AT_ONCE_DEFAULT,
        Said::Busy => 1,
        Said::Workers(workers) if workers.queued > 0 => 1,
        Said::Workers(Workers { idle, active, .. }) => {
            let count = |workers: u32| usize::try_from(workers).unwrap_or(AT_ONCE_MAX);
            let spare = count(idle).saturating_add(going);
            // One stays in reserve for visitors: as many as there are others.
            let others = count(idle.saturating_add(active)).saturating_sub(1);
            spare.min(others).clamp(1, AT_ONCE_MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pages_as_workers_wait_less_one() {
        let of_five = |idle, queued| Said::Workers(Workers { idle, active: 5 - idle, queued });
        let idle_cpus = Some(0.1);
        assert_eq!(at_once(of_five(4, 0), 0, idle_cpus), 4);
        assert_eq!(at_once(of_five(1, 0), 3, idle_cpus), 4, "ours do not count as busy");
        assert_eq!(at_once(of_five(2, 0), 4, idle_cpus), 4, "one of ours ended meanwhile");
        assert_eq!(at_once(of_five(1, 0), 0, idle_cpus), 1, "visitors keep three busy");
        assert_eq!(at_once(of_five(0, 0), 0, idle_cpus), 1, "never none at all");
        let many = Said::Workers(Workers { idle: 500, active: 1, queued: 0 });
        assert_eq!(at_once(many, 0, idle_cpus), AT_ONCE_MAX);
        assert_eq!(at_once(of_five(4, 1), 2, idle_cpus), 1, "visitors wait");
        assert_eq!(at_once(Said::Busy, 2, idle_cpus), 1);
        assert_eq!(at_once(Said::Nothing, 0, None), AT_ONCE_DEFAULT);
        assert_eq!(at_once(of_five(4, 0), 0, Some(LOAD_PER_CPU_MAX)), 1, "the machine is busy");
    }
}
