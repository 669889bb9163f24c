//! Hostler's controller: API, job queue, certificate authority and agents' sessions.
//!
//! [`run`] is the only place that puts the parts together.

pub mod api;
pub mod app;
pub mod bundles;
pub mod clock;
pub mod command;
pub mod config;
pub mod domain;
pub mod events;
pub mod fleet;
pub mod git;
pub mod pki;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod templates;
pub mod views;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use hostler_protocol::id::ControllerId;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Access;
use crate::app::desired::{Desired, Keeping, Source};
use crate::app::{App, JoinTarget};
use crate::bundles::Bundles;
use crate::clock::{Clock, RandomError};
use crate::config::{Config, DesiredConfig};
use crate::events::Events;
use crate::fleet::{EndpointError, Fleet, Port};
use crate::git::{GitSettings, Mirror};
use crate::pki::{Authority, PkiError};
use crate::store::{DatabaseUrl, Page, Store, StoreError};
use crate::tasks::refresh::Looking;
use crate::templates::{TemplateError, Templates};

/// Bound sockets, and what a test may want to hold in its own hands.
#[derive(Debug)]
pub struct Listeners {
    pub api: TcpListener,
    pub agents: UdpSocket,
    pub metrics: Option<TcpListener>,
    pub clock: Clock,
    /// Told once everything serves.
    pub ready: Option<oneshot::Sender<Ready>>,
}

/// A controller that serves.
#[derive(Debug)]
pub struct Ready {
    pub api: SocketAddr,
    pub agents: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub app: App,
}

/// Why a controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {address} ({what})")]
    Bind {
        what: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("a listener failed")]
    Listener(#[from] std::io::Error),
    #[error("{path} cannot be made or read")]
    DataDir {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// Two controllers on one directory would take each other's sessions away.
    #[error(
        "another controller runs on the data directory {path}: stop it first, or give this one a \
         --data-dir of its own"
    )]
    DataDirInUse { path: String },
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the certificate authority cannot be used")]
    Pki(#[from] PkiError),
    /// Its agents trust another root, and the installation's agents would not trust it.
    #[error(
        "the database {database} is of the installation with root {theirs}, and {dir} has root {own}: \
         put there what `hostler-controller pki issue` makes on a controller of that installation, or \
         give this controller the database (or the backup of its pki directory) it belongs to"
    )]
    OtherRoot { database: String, theirs: String, own: String, dir: String },
    /// A root made here and now would be another than the installation's.
    #[error(
        "the database {database} is of the installation with root {theirs}, and {dir} has none: put \
         there what `hostler-controller pki issue --out DIR` makes on a controller of that \
         installation, or restore the directory from a backup"
    )]
    NoRoot { database: String, theirs: String, dir: String },
    #[error("the agents' port cannot be served")]
    Endpoint(#[from] EndpointError),
    #[error("the store of bundles cannot be used")]
    Bundles(#[from] bundles::BundleError),
    #[error("the git mirror cannot be used")]
    Git(#[from] git::GitError),
    #[error("the job templates cannot be used")]
    Templates(#[from] TemplateError),
    #[error(transparent)]
    Random(#[from] RandomError),
    /// It would go on answering and do nothing: better to end, and be started again.
    #[error("a part of the controller ended by itself; its log says which and why")]
    PartEnded,
    /// Beyond loopback, everybody could do everything.
    #[error(
        "at {listen} API tokens are asked for, and there is none: make one \
         (`hostler-controller api-token create --name me --scope admin`), listen on 127.0.0.1 \
         without --require-tokens, or permit it with --insecure-no-auth"
    )]
    NoTokens { listen: SocketAddr },
}

impl Listeners {
    /// Binds what the settings name.
    ///
    /// # Errors
    /// [`RunError::Bind`], naming the address.
    pub fn bind(config: &Config) -> Result<Self, RunError> {
        let failed = |what, address| move |source| RunError::Bind { what, address, source };
        let tcp = |what, address| TcpListener::bind(address).map_err(failed(what, address));
        Ok(Self {
            api: tcp("API", config.listen)?,
            agents: UdpSocket::bind(config.agent_listen)
                .map_err(failed("agents, UDP", config.agent_listen))?,
            metrics: config.metrics_listen.map(|at| tcp("metrics", at)).transpose()?,
            clock: Clock::system(),
            ready: None,
        })
    }
}

/// Everything that doing needs, over the settings' database and certificate authority. The
/// command line uses it beside a running controller.
///
/// # Errors
/// [`RunError`]: what could not be opened.
pub async fn open(
    config: &Config,
    clock: Clock,
    agents: SocketAddr,
) -> Result<(App, Arc<Authority>), RunError> {
    prepare_data_dir(config)?;
    let templates = Templates::shipped()?;
    let store = Store::open(&config.database).await?;
    let (authority, controller) = match belong(config, &store, &clock).await {
        Ok(found) => found,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    let nodename = nodename();
    let join =
        JoinTarget { addresses: config.join_addresses(agents, &nodename), pin: authority.pin()? };
    let events = Events::new(store.clone());
    let authority = Arc::new(authority);
    let desired = desired(config)?;
    let join = Arc::new(join);
    Ok((App { store, clock, templates, events, desired, controller, join }, authority))
}

/// Where stacks come from, and where their bundles are kept.
fn desired(config: &Config) -> Result<Desired, RunError> {
    let DesiredConfig { git, webhook_secrets, rules, removal, syncs_max, bucket, .. } =
        &config.desired;
    let bundles = match bucket {
        Some(bucket) => Bundles::in_bucket(bucket)?,
        None => Bundles::on_disk(&config.data_dir.join("bundles"))?,
    };
    let keeping = Keeping {
        source: git.as_ref().map(source),
        rules: rules.clone(),
        removal: *removal,
        syncs_max: *syncs_max,
        webhook_secrets: webhook_secrets.clone(),
    };
    Ok(Desired::new(keeping, bundles))
}

fn source(git: &GitSettings) -> Source {
    let (url, reference) = (git.url.as_str(), git.reference.as_str());
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    Source {
        shown: format!("{url}#{reference}:/{}", git.deploy_dir.path()),
        deploy_dir: git.deploy_dir.clone(),
        reference: reference.to_owned(),
        repository: last.trim_end_matches(".git").to_owned(),
    }
}

/// The repository's mirror, if one is configured.
fn looking(config: &Config, clock: &Clock) -> Result<Option<Looking>, RunError> {
    let Some(git) = &config.desired.git else { return Ok(None) };
    let mirror = Mirror::open(&config.data_dir.join("git"), git.clone(), clock.clone())?;
    let (limits, poll) = (git.limits, config.desired.poll);
    Ok(Some(Looking { mirror: Arc::new(mirror), limits, poll }))
}

fn nodename() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Its clock, its authority and its name, where they are those of the database's installation.
async fn belong(
    config: &Config,
    store: &Store,
    clock: &Clock,
) -> Result<(Authority, ControllerId), RunError> {
    tasks::cluster::follow_clock(store, clock).await?;
    let (dir, database) = (config.pki_dir(), config.database.to_string());
    let shown = dir.display().to_string();
    if let (Some(theirs), false) = (store.root_pin().await?, Authority::is_begun(&dir)) {
        return Err(RunError::NoRoot { database, theirs, dir: shown });
    }
    let authority = Authority::open(&dir, clock.clone(), config.host_certificate_secs)?;
    let own = hex::encode(authority.pin()?);
    let theirs = store.claim_installation(&own, clock.now()).await?;
    if theirs != own {
        return Err(RunError::OtherRoot { database, theirs, own, dir: shown });
    }
    Ok((authority, controller_id(config, clock)?))
}

/// Runs a controller until the shutdown, then lets go of everything within bounded times.
///
/// # Errors
/// [`RunError`]: what could not be started, or what failed while it ran.
pub async fn run(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let agents = listeners.agents.local_addr()?;
    let _alone = lock_data_dir(&config)?;
    let (app, authority) = open(&config, listeners.clock.clone(), agents).await?;
    let store = app.store.clone();
    let served = serve(&config, listeners, app, authority, shutdown).await;
    store.close().await;
    served
}

async fn serve(
    config: &Config,
    listeners: Listeners,
    app: App,
    authority: Arc<Authority>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let api_address = listeners.api.local_addr()?;
    let access = access(config, api_address, &app).await?;
    let looking = looking(config, &app.clock)?;
    clear_presence(config, &app).await?;
    let place = tasks::cluster::Place::enter(&app, nodename()).await?;
    let fleet = Fleet::new(app.clone(), authority);
    let port = Port::open(fleet.clone(), listeners.agents)?;
    let api = listening(listeners.api)?;
    let metrics = listeners.metrics.map(listening).transpose()?;
    let ready = Ready {
        api: api_address,
        agents: port.local_addr()?,
        metrics: metrics.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
        app: app.clone(),
    };

    let mut tasks = JoinSet::new();
    // Agents and loops end before the event log's tailer and the API's last answers need them no
    // more: one token for all, bounded waits below.
    let (events, agents) = (app.events.clone(), fleet.agents());
    let asked_again = fleet.agents();
    tasks.spawn({
        let shutdown = shutdown.clone();
        async move { events.tail(shutdown).await }
    });
    tasks.spawn({
        let (fleet, shutdown) = (fleet.clone(), shutdown.clone());
        async move { fleet.follow_revocations(shutdown).await }
    });
    tasks.spawn(tasks::dispatch::run(app.clone(), agents, shutdown.clone()));
    tasks.spawn(tasks::batches::run(app.clone(), shutdown.clone()));
    tasks.spawn(tasks::stacks::run(app.clone(), shutdown.clone()));
    tasks.spawn(tasks::bundles::run(app.clone(), shutdown.clone()));
    if let Some(looking) = looking {
        tasks.spawn(tasks::refresh::run(app.clone(), looking, shutdown.clone()));
    }
    tasks.spawn(tasks::sweep::run(app.clone(), asked_again, shutdown.clone()));
    tasks.spawn(tasks::cluster::run(app.clone(), fleet.agents(), place, shutdown.clone()));
    tasks.spawn(port.serve(shutdown.clone()));
    if let (Some(metrics), Ok(handle)) = (metrics, telemetry::metrics()) {
        let router = api::serve::metrics_router(move || handle.render());
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = api::serve::serve(metrics, router, shutdown).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
    }
    announce(&ready, listeners.ready);

    let app_left = app.clone();
    let router = api::router(app, access, shutdown.clone());
    let served = async {
        let served = api::serve::serve(api, router, shutdown.clone()).await;
        shutdown.cancel();
        served
    };
    let (served, whole) = tokio::join!(served, supervise(&mut tasks, shutdown.clone()));
    tasks::cluster::leave(&app_left).await;
    tracing::info!("the controller has stopped");
    served?;
    if whole { Ok(()) } else { Err(RunError::PartEnded) }
}

/// Waits for the parts to end at the shutdown. A part that ends before it, or panics, ends the
/// rest, as the API's own end does: without one of them a controller is of no use. False if that
/// happened.
async fn supervise(parts: &mut JoinSet<()>, shutdown: CancellationToken) -> bool {
    let mut whole = true;
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = &ended {
            tracing::error!(%error, "a part of the controller failed");
        }
        whole &= ended.is_ok() && shutdown.is_cancelled();
        shutdown.cancel();
    }
    whole
}

fn announce(ready: &Ready, tell: Option<oneshot::Sender<Ready>>) {
    tracing::info!(api = %ready.api, agents = %ready.agents, "the controller serves");
    if let Some(tell) = tell {
        let Ready { api, agents, metrics, app } = ready;
        let told = Ready { api: *api, agents: *agents, metrics: *metrics, app: app.clone() };
        // Whoever asked may have stopped waiting.
        drop(tell.send(told));
    }
}

fn listening(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Who this controller is, whenever it starts: what it left behind when it was killed, such as
/// sessions in the database, is known to be its own.
fn controller_id(config: &Config, clock: &Clock) -> Result<ControllerId, RunError> {
    use std::io::Write as _;
    let path = config.data_dir.join("controller-id");
    let failed = |source| RunError::DataDir { path: path.display().to_string(), source };
    let fresh = clock.new_controller_id()?;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    match made {
        Ok(mut file) => {
            writeln!(file, "{fresh}").and_then(|()| file.sync_all()).map_err(failed)?;
            return Ok(fresh);
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    // Cut off while it was first written: it has named nothing yet.
    match text.trim().parse() {
        Ok(known) => Ok(known),
        Err(_) => {
            std::fs::write(&path, format!("{fresh}\n")).map_err(failed)?;
            Ok(fresh)
        }
    }
}

fn prepare_data_dir(config: &Config) -> Result<(), RunError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|source| RunError::DataDir { path: config.data_dir.display().to_string(), source })
}

/// Holds the data directory for one serving controller; the lock goes with the file, however the
/// process ends.
fn lock_data_dir(config: &Config) -> Result<std::fs::File, RunError> {
    prepare_data_dir(config)?;
    let path = config.data_dir.join("serve.lock");
    let failed = |source| RunError::DataDir { path: path.display().to_string(), source };
    let file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(RunError::DataDirInUse { path: config.data_dir.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Beyond loopback an API without tokens does not start, unless that is what was asked for.
async fn access(config: &Config, listen: SocketAddr, app: &App) -> Result<Access, RunError> {
    if listen.ip().is_loopback() && !config.require_tokens {
        return Ok(Access::Loopback { listen: Some(listen) });
    }
    if config.insecure_no_auth {
        return Ok(Access::Insecure);
    }
    let (tokens, _) = app.store.api_tokens(&Page::first(1000)).await?;
    let now = app.clock.now();
    let ended = |at: Option<domain::Micros>| at.is_some_and(|at| at <= now);
    if tokens.iter().all(|token| token.revoked_at.is_some() || ended(token.expires_at)) {
        return Err(RunError::NoTokens { listen });
    }
    if config.open_desired_state {
        return Ok(Access::TokensBesidesDesiredState);
    }
    Ok(Access::Tokens)
}

/// At a start nobody is connected here. An SQLite file has one controller: nobody is anywhere.
async fn clear_presence(config: &Config, app: &App) -> Result<(), RunError> {
    let controller = match &config.database {
        DatabaseUrl::Sqlite(_) => None,
        DatabaseUrl::Postgres(_) => Some(&app.controller),
    };
    app.store.sessions_clear(controller, app.clock.now()).await?;
    Ok(())
}
