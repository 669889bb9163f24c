//! Several controllers on one database: this one's sign of life, the others', and one clock for all.
//!
//! A peer is gone when its count has not moved for [`GONE_SECS`] on this process's own monotonic clock,
//! in which the count was looked at all the while; no two clocks are compared. Whoever is the first to
//! say so ends its sessions; nothing is queued again by that: attempts that ran there are unknown until
//! their hosts, which connect elsewhere, say what became of them.

use std::collections::HashMap;
use std::time::Duration;

use hostler_protocol::id::ControllerId;
use hostler_protocol::message::close;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::Clock;
use crate::domain::Micros;
use crate::fleet::{Agents, Sessions as _};
use crate::store::{Entry, Peer, Store, StoreError};

/// Seconds between two signs of life.
pub const BEAT_SECS: u64 = 2;
/// Seconds without a sign of life after which a controller is gone.
pub const GONE_SECS: u64 = 20;
/// Seconds between two looks after which what was seen before says nothing: nobody was looking.
const BLIND_SECS: u64 = 3 * BEAT_SECS;
/// Seconds this machine's clock may differ from the database's before it is said.
pub const CLOCK_SECS_MAX: u64 = 30;
/// Seconds between two times that it is said.
const SAY_AGAIN_SECS: u64 = 600;
/// The longest way to the database and back with which its clock is still told apart, in seconds.
const WAY_SECS_MAX: u64 = 2;

/// This controller's place among the others.
#[derive(Debug)]
pub struct Place {
    entry: Entry,
}

impl Place {
    /// Takes it. No session may be open here yet.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub async fn enter(app: &App, name: String) -> Result<Self, StoreError> {
        let entry = Entry {
            id: app.controller.clone(),
            name,
            addresses: app.join.addresses.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            rules: app.desired.rules_digest(),
            now: app.clock.now(),
        };
        app.store.controller_enter(entry.clone()).await?;
        Ok(Self { entry })
    }

    async fn beat(&self, app: &App) -> Result<(), StoreError> {
        if !app.store.controller_beat(&app.controller).await? {
            tracing::warn!(
                "other controllers took this one for gone and ended its sessions: it was cut off \
                 from the database, or stood still"
            );
            let entry = Entry { now: app.clock.now(), ..self.entry.clone() };
            app.store.controller_enter(entry).await?;
        }
        Ok(())
    }
}

/// Who moved when, as this process saw it.
#[derive(Debug, Default)]
pub struct Watch {
    seen: HashMap<ControllerId, (i64, u64)>,
    looked_at_ms: Option<u64>,
}

impl Watch {
    /// Takes in what is there now; those that are gone, with the count they stand at. A controller
    /// that ended is of interest only while sessions are left to it.
    pub fn look(&mut self, peers: &[Peer], now_ms: u64) -> Vec<(ControllerId, i64)> {
        let blind = self
            .looked_at_ms
            .replace(now_ms)
            .is_none_or(|before| now_ms.saturating_sub(before) > BLIND_SECS * 1000);
        if blind {
            self.seen.clear();
        }
        let mut next = HashMap::with_capacity(peers.len());
        let mut gone = Vec::new();
        for peer in peers.iter().filter(|peer| peer.serving || peer.sessions > 0) {
            let before = self.seen.get(&peer.id).filter(|(beats, _)| *beats == peer.beats);
            let (beats, moved_at_ms) = before.copied().unwrap_or((peer.beats, now_ms));
            if now_ms.saturating_sub(moved_at_ms) >= GONE_SECS * 1000 {
                gone.push((peer.id.clone(), beats));
            }
            next.insert(peer.id.clone(), (beats, moved_at_ms));
        }
        self.seen = next;
        gone
    }
}

/// Whether this controller is cut off from the database while others may not be.
#[derive(Debug, Default)]
pub struct Reach {
    others: bool,
    reached_at_ms: u64,
}

impl Reach {
    /// The database answered; the installation has other controllers, or this one alone.
    pub fn reached(&mut self, others: bool, now_ms: u64) {
        *self = Self { others, reached_at_ms: now_ms };
    }

    /// Whether hosts are better served elsewhere: the others have called this one gone by now.
    #[must_use]
    pub fn is_cut_off(&self, now_ms: u64) -> bool {
        self.others && now_ms.saturating_sub(self.reached_at_ms) >= GONE_SECS * 1000
    }
}

/// Gives signs of life and watches for others' until the shutdown.
pub async fn run(app: App, agents: Agents, place: Place, shutdown: CancellationToken) {
    let mut reach = Reach::default();
    let mut watch = Watch::default();
    let mut clocks = Clocks::default();
    let mut failing = false;
    let mut period = tokio::time::interval(Duration::from_secs(BEAT_SECS));
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = period.tick() => {}
        }
        match turn(&app, &place, &mut watch, &mut clocks).await {
            Ok(others) => {
                reach.reached(others, app.clock.monotonic_ms());
                if std::mem::take(&mut failing) {
                    tracing::info!("this controller gives signs of life again");
                }
            }
            // Once for each outage: it would be said every two seconds.
            Err(error) if !std::mem::replace(&mut failing, true) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "this controller cannot give signs of life"
            ),
            Err(error) => tracing::debug!(%error, "still no sign of life can be given"),
        }
        if reach.is_cut_off(app.clock.monotonic_ms()) {
            send_away(&agents);
        }
    }
}

/// Hosts that stay get no work here; another controller may have some for them.
fn send_away(agents: &Agents) {
    let reason = "this controller does not reach the database: try another one";
    let mut hosts = agents.hosts();
    hosts.retain(|host| agents.close(host, close::UNAVAILABLE, reason));
    let sent = hosts.len();
    if sent > 0 {
        tracing::warn!(sessions = sent, "the database is out of reach: hosts are sent elsewhere");
    }
}

/// One turn; whether the installation has other controllers. One that is stopped just now counts: it may
/// be back before this one could see it.
async fn turn(
    app: &App,
    place: &Place,
    watch: &mut Watch,
    clocks: &mut Clocks,
) -> Result<bool, StoreError> {
    place.beat(app).await?;
    let ahead_us = follow_clock(&app.store, &app.clock).await?;
    clocks.say(ahead_us, app.clock.monotonic_ms());
    let peers = app.store.controllers().await?;
    let serving = peers.iter().filter(|peer| peer.serving).count();
    metrics::gauge!("hostler_controllers").set(f64::from(u32::try_from(serving).unwrap_or(0)));
    let others: Vec<Peer> = peers.into_iter().filter(|peer| peer.id != app.controller).collect();
    for (id, beats) in watch.look(&others, app.clock.monotonic_ms()) {
        if let Some(ended) = app.store.controller_gone(&id, beats, app.clock.now()).await? {
            tracing::warn!(
                controller.id = %id,
                sessions = ended.sessions,
                unknown_attempts = ended.unknown,
                "a controller gives no sign of life: its sessions are ended"
            );
        }
    }
    Ok(!others.is_empty())
}

/// Says that this controller serves no more. Failing that, the others notice.
pub async fn leave(app: &App) {
    if let Err(error) = app.store.controller_leave(&app.controller, app.clock.now()).await {
        tracing::warn!(%error, "this controller's end cannot be entered: the others will notice it");
    }
}

/// Makes `clock` tell the database's time, so that all controllers on it agree on when a job is due
/// or has waited too long; answers by how many microseconds this machine's own clock is ahead.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn follow_clock(store: &Store, clock: &Clock) -> Result<i64, StoreError> {
    let (before, began_ms) = (clock.own(), clock.monotonic_ms());
    let Some(theirs) = store.now().await? else { return Ok(0) };
    let way_ms = clock.monotonic_ms().saturating_sub(began_ms);
    if way_ms > WAY_SECS_MAX * 1000 {
        return Ok(0);
    }
    let half_us = i64::try_from(way_ms * 500).unwrap_or(0);
    Ok(clock.follow(Micros(before.0.saturating_add(half_us)), theirs))
}

/// When it was last said that the clocks differ.
#[derive(Debug, Default)]
struct Clocks {
    said_at_ms: Option<u64>,
}

impl Clocks {
    fn say(&mut self, ahead_us: i64, now_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a clock's error is far below 2^52")]
        metrics::gauge!("hostler_clock_ahead_seconds").set(ahead_us as f64 / 1e6);
        let far = ahead_us.unsigned_abs() > CLOCK_SECS_MAX * 1_000_000;
        let lately = |said| now_ms.saturating_sub(said) < SAY_AGAIN_SECS * 1000;
        if far && !self.said_at_ms.is_some_and(lately) {
            self.said_at_ms = Some(now_ms);
            tracing::warn!(
                ahead_secs = ahead_us / 1_000_000,
                "this machine's clock is far from the database server's, which decides: put one of \
                 the two right"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(beats: i64) -> Peer {
        Peer {
            id: ControllerId::from_parts(1, [7; 10]),
            name: "ctl-2".to_owned(),
            addresses: Vec::new(),
            build: "test".to_owned(),
            schema_version: 4,
            serving: true,
            beats,
            started_at: Micros(0),
            ended_at: None,
            sessions: 0,
            rules: None,
        }
    }

    /// Looks every two seconds from `from` to `to`, both in seconds.
    fn watch(watch: &mut Watch, peer: &Peer, from: u64, to: u64) -> usize {
        (from..=to)
            .step_by(2)
            .map(|secs| watch.look(std::slice::from_ref(peer), secs * 1000).len())
            .sum()
    }

    #[test]
    fn a_controller_is_gone_when_its_count_stands_still_here() {
        let mut seen = Watch::default();
        assert_eq!(watch(&mut seen, &peer(1), 1000, 1000 + GONE_SECS - 2), 0);
        assert_eq!(watch(&mut seen, &peer(2), 1000 + GONE_SECS, 998 + 2 * GONE_SECS), 0);
        assert_eq!(watch(&mut seen, &peer(2), 1000 + 2 * GONE_SECS, 1000 + 2 * GONE_SECS), 1);
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let mut seen = Watch::default();
        assert_eq!(watch(&mut seen, &peer(1), 0, 10), 0);
        // The database could not be reached for an hour: nobody could beat.
        assert_eq!(watch(&mut seen, &peer(1), 3600, 3598 + GONE_SECS), 0);
        assert_eq!(watch(&mut seen, &peer(1), 3600 + GONE_SECS, 3600 + GONE_SECS), 1);
    }

    #[test]
    fn only_who_is_not_alone_counts_itself_as_cut_off() {
        let mut reach = Reach::default();
        assert!(!reach.is_cut_off(3_600_000));
        reach.reached(false, 1000);
        assert!(!reach.is_cut_off(3_600_000), "nobody else could serve its hosts");
        reach.reached(true, 1000);
        assert!(!reach.is_cut_off(999 + GONE_SECS * 1000));
        assert!(reach.is_cut_off(1000 + GONE_SECS * 1000));
    }

    #[test]
    fn one_that_ended_is_left_alone_unless_sessions_are_left_to_it() {
        let mut seen = Watch::default();
        let ended = Peer { serving: false, ..peer(9) };
        assert_eq!(watch(&mut seen, &ended, 0, 10 * GONE_SECS), 0);
        let holding = Peer { sessions: 3, ..ended };
        let begun = 10 * GONE_SECS + 2;
        assert_eq!(watch(&mut seen, &holding, begun, begun + GONE_SECS), 1);
    }
}
