//! Pages that were being rendered during a purge: nothing of them is on disk yet, so a purge cannot
//! find them, and the old page would be stored right after it and served for its full time.
//!
//! Each request PHP works on has a connection of its own from an nginx worker. Those that are open
//! when a purge begins are remembered; until the last of them is closed, or for the longest time a
//! render may take, entries the purge is about that come to their places are purged again in the
//! same mode. Where none is open there is nothing to watch. Where the connections cannot be seen
//! the whole time is waited out. An entry is purged again at most twice, so a page that is rendered
//! all the time is stored in the end.
//!
//! What is watched stands on disk too and is taken up again after a restart.

mod again;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{PurgeMode, PurgeScope};
use tokio::sync::mpsc;

use self::again::Quarry;
use self::record::Record;
use super::refresh::RENDER_SECS_MAX;
use super::run::{Failure, blocking};
use super::tools::Tools;
use crate::host::nginx::OpenSockets;

/// How often it is looked which renders have ended.
const TICK: Duration = Duration::from_millis(50);
/// Ticks after which it is looked for entries even if no render seems to have ended: connections
/// may be kept open and used again.
const LOOK_TICKS: u32 = 20;
/// The same where the connections cannot be seen.
const BLIND_LOOK_TICKS: u32 = 4;
/// Ticks after a purge from which on only every fourth counts: most renders are over by then.
const FAST_TICKS: u32 = 40;
/// Purges of one environment that are watched apart; more become one of everything.
const WATCHED_PURGES_MAX: usize = 4;
/// Purges that wait to be taken in while pages are made anew again.
const WAITING_PURGES_MAX: usize = 256;
/// The file system's clock may be behind ours by this much.
const CLOCK_LAG_US: i64 = 100_000;

/// The watches of this host; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<EnvironmentId, mpsc::Sender<Quarry>>>>);

/// What was under way when a purge began.
#[derive(Debug, Clone)]
pub struct Begun {
    began_us: i64,
    open: Option<BTreeSet<u64>>,
}

/// A purge to remember.
#[derive(Debug, Clone)]
pub struct Purged {
    pub mode: PurgeMode,
    pub scope: PurgeScope,
    /// Inodes of the entries it made anew.
    pub inodes: Vec<u64>,
    /// Whether a page varies: then variants may come to places that cannot be computed.
    pub varies: bool,
}

/// Connections of nginx just before a purge begins.
#[derive(Debug)]
pub struct Glance {
    began_us: i64,
    sockets: Option<OpenSockets>,
}

/// Looks which connections there are, before anything is asked of nginx.
pub async fn glance(tools: &Tools) -> Glance {
    let began_us = tools.clock.now_us();
    let nginx = tools.nginx.clone();
    let sockets = blocking(move || Ok::<_, Failure>(nginx.open_sockets())).await;
    Glance { began_us, sockets: sockets.ok().flatten() }
}

/// Finds out which of them are pages under way. To be over before the first entry is touched; a page
/// whose connection is closed by then is stored by then, and one asked for since the glance is made
/// of what is there now.
pub async fn begin(glance: Glance) -> Begun {
    let Glance { began_us, sockets } = glance;
    Begun { began_us, open: backends(sockets).await }
}

async fn backends(sockets: Option<OpenSockets>) -> Option<BTreeSet<u64>> {
    let sockets = sockets?;
    blocking(move || Ok::<_, Failure>(sockets.backends())).await.ok().flatten()
}

async fn open(tools: &Tools) -> Option<BTreeSet<u64>> {
    backends(glance(tools).await.sockets).await
}

/// Remembers a purge that has just been done; for how many seconds at most it is watched. What has
/// come to its place already is purged again before this returns.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn remember(
    tools: &Tools,
    environment: &EnvironmentId,
    begun: Begun,
    purged: Purged,
) -> Result<u32, Failure> {
    if begun.open.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(0);
    }
    let mut still = begun.open;
    if let (Some(still), Some(now)) = (&mut still, open(tools).await) {
        still.retain(|inode| now.contains(inode));
    }
    let until_us = begun.began_us + i64::from(RENDER_SECS_MAX) * 1_000_000;
    let record = Record {
        name: format!("{environment}-{}.json", hex::encode(tools.clock.random::<8>())),
        environment: environment.clone(),
        mode: purged.mode,
        scope: purged.scope,
        since_sec: (begun.began_us - CLOCK_LAG_US).div_euclid(1_000_000),
        until_us,
        open: still,
    };
    let over = record.open.as_ref().is_some_and(BTreeSet::is_empty);
    let mut quarry = Quarry::new(record, purged.inodes, purged.varies);
    if over {
        quarry.look(tools).await?;
        return Ok(0);
    }
    quarry.record.save(tools).await?;
    follow(tools, quarry);
    Ok(RENDER_SECS_MAX)
}

/// Takes up what was watched when the agent was stopped.
pub async fn resume(tools: &Tools) {
    match record::load(tools).await {
        Ok(records) => {
            for record in records {
                follow(tools, Quarry::new(record, Vec::new(), true));
            }
        }
        Err(failure) => {
            let code = failure.code();
            tracing::warn!(code, "purges before the restart are forgotten: {}", failure.message());
        }
    }
}

/// Stops watching an environment's cache.
pub fn forget(tools: &Tools, environment: &EnvironmentId) {
    tools.watches.0.lock().unwrap_or_else(PoisonError::into_inner).remove(environment);
}

/// Hands a purge to the environment's follower, starting one if there is none.
fn follow(tools: &Tools, quarry: Quarry) {
    let environment = quarry.record.environment.clone();
    let mut followers = tools.watches.0.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = followers.entry(environment.clone()).or_insert_with(|| {
        let (sender, inbox) = mpsc::channel(WAITING_PURGES_MAX);
        tokio::spawn(Follower { tools: tools.clone(), list: Vec::new() }.run(inbox));
        sender
    });
    if sender.try_send(quarry).is_err() {
        tracing::warn!(%environment, "too many purges at once: one of them is not watched");
    }
}

struct Follower {
    tools: Tools,
    list: Vec<Quarry>,
}

impl Follower {
    async fn run(mut self, mut inbox: mpsc::Receiver<Quarry>) {
        let stop = self.tools.stop.clone();
        let mut tick = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                came = inbox.recv() => match came {
                    Some(quarry) => {
                        tick = 0;
                        self.admit(quarry).await;
                    }
                    None => break,
                },
                () = tokio::time::sleep(TICK), if !self.list.is_empty() => {
                    tick = tick.wrapping_add(1);
                    if tick < FAST_TICKS || tick.is_multiple_of(BLIND_LOOK_TICKS) {
                        self.look(tick).await;
                    }
                }
            }
        }
        for quarry in std::mem::take(&mut self.list) {
            self.over(&quarry.record).await;
        }
    }

    async fn admit(&mut self, mut newer: Quarry) {
        let covered = |quarry: &mut Quarry| quarry.record.is_covered_by(&newer.record);
        let mut old: Vec<_> = self.list.extract_if(.., covered).collect();
        if self.list.len() >= WATCHED_PURGES_MAX {
            let all: Vec<_> = self.list.drain(..).collect();
            let records: Vec<_> = all.iter().map(|quarry| quarry.record.clone()).collect();
            newer = Quarry::new(newer.record.clone().merged(&records), Vec::new(), true);
            if let Err(failure) = newer.record.save(&self.tools).await {
                tracing::warn!(code = failure.code(), "a watch is not kept: {}", failure.message());
            }
            old.extend(all);
        }
        self.list.push(newer);
        for quarry in old {
            self.over(&quarry.record).await;
        }
    }

    async fn look(&mut self, tick: u32) {
        let open = open(&self.tools).await;
        let mut list = std::mem::take(&mut self.list);
        for mut quarry in list.drain(..) {
            let record = &mut quarry.record;
            let (due, mut over) = match (&mut record.open, &open) {
                (Some(still), Some(now)) => {
                    let before = still.len();
                    still.retain(|inode| now.contains(inode));
                    (still.len() < before || tick.is_multiple_of(LOOK_TICKS), still.is_empty())
                }
                (None, _) | (_, None) => (tick.is_multiple_of(BLIND_LOOK_TICKS), false),
            };
            over |= self.tools.clock.now_us() >= record.until_us;
            if due || over {
                match quarry.look(&self.tools).await {
                    Ok(Some(_)) => {}
                    Ok(None) => over = true,
                    Err(failure) => {
                        let code = failure.code();
                        tracing::warn!(code, "purging again failed: {}", failure.message());
                        over = true;
                    }
                }
            }
            if over {
                self.over(&quarry.record).await;
            } else {
                self.list.push(quarry);
            }
        }
    }

    async fn over(&self, record: &Record) {
        if let Err(failure) = record.forget(&self.tools).await {
            tracing::warn!(code = failure.code(), "a watch's file stays: {}", failure.message());
        }
    }
}
