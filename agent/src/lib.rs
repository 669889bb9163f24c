//! Hostler's agent: connects out to a controller, runs jobs on its host, reports proven results.
//!
//! [`run`] is the only place that wires: journal, runner, session. It is a library so that tests
//! can start a real agent in their own process.

pub mod actions;
pub mod bulk;
pub mod cli;
pub mod clock;
pub mod config;
pub mod host;
pub mod identity;
pub mod journal;
pub mod net;
pub mod observe;
pub mod policy;
pub mod runner;
pub mod session;
pub mod steps;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hostler_protocol::id::BootId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::actions::{ActionSettings, Actions};
use crate::bulk::{BUNDLES_DIR, Bulk, CACHE_BYTES_MAX};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::identity::{IdentityError, Keeper};
use crate::journal::{Journal, JournalError};
use crate::net::Way;
use crate::observe::{Facts, Reports};
use crate::policy::{Policy, PolicyError};
use crate::runner::core::Limits;
use crate::runner::{Executor, Load, Runner, RunnerHandle};
use crate::session::{Session, SessionError, Status};

/// Seconds the journal may take to close at the end.
const CLOSE_SECS: u64 = 5;
/// How long outcomes may wait for their acknowledgement when the agent stops.
const FAREWELL_SECS: u64 = 2;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A started agent.
#[derive(Debug)]
pub struct Agent {
    /// Where its session is.
    pub status: watch::Receiver<Status>,
    /// Its journal, to ask whether it works.
    pub journal: Journal,
    done: tokio::task::JoinHandle<Result<(), SessionError>>,
}

impl Agent {
    /// Waits until the agent has stopped.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn stopped(self) -> Result<(), AgentError> {
        let done = match self.done.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        // The process may end with this call: a journal left open would have to be repaired.
        let closed = self.journal.close();
        if tokio::time::timeout(Duration::from_secs(CLOSE_SECS), closed).await.is_err() {
            tracing::warn!("the journal does not close; the next start repairs it");
        }
        Ok(done?)
    }
}

/// Runs an agent on this host until `shutdown` fires.
///
/// # Errors
/// [`AgentError`] if it cannot start; whatever goes wrong later is survived.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    launch(&config, shutdown)?.stopped().await
}

/// Starts an agent that works on this host, within the host's own policy.
///
/// # Errors
/// As [`start`].
pub fn launch(config: &Config, shutdown: CancellationToken) -> Result<Agent, AgentError> {
    let clock = Clock::system();
    let policy = Policy::load(config.policy.as_deref())?;
    let state_dir = config.state_dir.join(identity::ACTIONS_DIR);
    let ways = watch::Sender::new(None);
    let bundles_dir = config.state_dir.join(BUNDLES_DIR);
    let bulk = Bulk::new(bundles_dir, CACHE_BYTES_MAX, ways.subscribe(), clock.clone());
    let settings = ActionSettings {
        state_dir,
        ansible: config.ansible(),
        bundles: Some(Arc::new(bulk)),
        age_key: config.age_key.clone(),
        ..ActionSettings::default()
    };
    let actions = Actions::new(policy, settings, clock.clone());
    let reports = observe::watch(actions.tools().clone());
    start_with(config, Arc::new(actions), clock, Outside { ways, reports }, shutdown)
}

/// Starts an agent whose jobs are run by `executor`. It stops when `shutdown` fires: running jobs
/// get `drain_secs`, then goodbye is said.
///
/// # Errors
/// [`AgentError`] if it cannot start; whatever goes wrong later is survived.
pub fn start(
    config: &Config,
    executor: Executor,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<Agent, AgentError> {
    let outside = Outside { ways: watch::Sender::new(None), reports: Reports::none() };
    start_with(config, executor, clock, outside, shutdown)
}

/// What a session has to do with beside jobs.
#[derive(Debug)]
pub struct Outside {
    /// Told how bundles are fetched, whenever a session begins.
    pub ways: watch::Sender<Option<Way>>,
    /// What is seen of the host.
    pub reports: Reports,
}

/// The same, with what goes on beside jobs.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    config: &Config,
    executor: Executor,
    clock: Clock,
    Outside { ways, reports }: Outside,
    shutdown: CancellationToken,
) -> Result<Agent, AgentError> {
    config.check()?;
    identity::prepare_state_dir(&config.state_dir)?;
    let keeper = Keeper::load(&config.state_dir, clock.clone())?;
    let (journal, contents) = Journal::open(&config.state_dir, config.jobs_max)?;
    tracing::info!(
        host = %keeper.card().host,
        name = keeper.card().name,
        unfinished = contents.unfinished.len(),
        unacknowledged = contents.finished.len(),
        "agent starts"
    );
    let unix_ms = u64::try_from(clock.now_us() / 1000).unwrap_or(0);
    let runner = Runner {
        limits: Limits { jobs_max: config.jobs_max, stop_ms_max: config.stop_secs * 1000 },
        boot: BootId::from_parts(unix_ms, clock.random()),
        journal: journal.clone(),
        contents,
        executor,
        clock: clock.clone(),
    };
    let RunnerHandle { pipe, drain, load } = runner.start();
    let controllers = match config.controllers.is_empty() {
        true => keeper.card().controllers.clone(),
        false => config.controllers.clone(),
    };
    let (says, status) = watch::channel(Status::default());
    let facts = Facts::gather().document();
    let welcomed = AtomicU64::new(0);
    let session = Session { controllers, facts, clock, status: says, ways, welcomed };
    let stop = CancellationToken::new();
    let done = tokio::spawn(session.run(keeper, pipe, reports, stop.clone()));
    let drain_secs = config.drain_secs;
    tokio::spawn(async move {
        shutdown.cancelled().await;
        drain.cancel();
        wind_down(load, drain_secs).await;
        stop.cancel();
    });
    Ok(Agent { status, journal, done })
}

/// Waits, within bounds, for running jobs to end and for their outcomes to be acknowledged. What
/// is not, stands in the journal.
async fn wind_down(mut load: watch::Receiver<Load>, drain_secs: u64) {
    let all_ended = load.wait_for(|load| load.unfinished == 0);
    if tokio::time::timeout(Duration::from_secs(drain_secs), all_ended).await.is_err() {
        tracing::warn!(drain_secs, "jobs still run and are cut off; the journal has them");
    }
    let all_told = load.wait_for(|load| load.unsettled == 0);
    if tokio::time::timeout(Duration::from_secs(FAREWELL_SECS), all_told).await.is_err() {
        tracing::info!("outcomes wait in the journal for the next session");
    }
}
