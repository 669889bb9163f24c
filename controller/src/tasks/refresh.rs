//! Looks at the config repository: at the start, when somebody asked, and on a period with jitter.
//!
//! One controller of an installation looks at a time, for all of them: who begins a look says so in its
//! row, and the others read what it found for their own bundles. The fetch has deadlines of its own, and
//! an outer one here; a look that fails leaves everything as it was.

mod on_disk;
mod when;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hostler_protocol::id::ControllerId;
use tokio_util::sync::CancellationToken;

use self::on_disk::stacks_of;
use self::when::{RETRY_SECS, Timer};
use crate::app::desired::{Alone, Current, Stuck, facts};
use crate::app::{App, AppError};
use crate::domain::decide::refresh::{self as decide, Taken};
use crate::domain::desired::{Commit, Refresh, RefreshError, RefreshReport, RefreshState, Trigger};
use crate::domain::{Decision, Refusal, Scope, Snapshot};
use crate::git::{Class, GitError, GitLimits, Mirror};
use crate::store::Peer;

/// Milliseconds after which it is looked whether a look is asked for even if nothing rang.
const PERIOD_MS: u64 = 5000;
/// Seconds that a look may take beyond the fetch and the reading.
const SLACK_SECS: u64 = 30;
/// Milliseconds between two looks whether another controller has found something newer.
const CATCH_UP_MS: u64 = 1000;
/// Milliseconds to wait before the end of a look is written again: five minutes in all.
const WRITE_AGAIN_MS: [u64; 14] = [
    250, 500, 1000, 2000, 4000, 8000, 15_000, 30_000, 30_000, 30_000, 45_000, 45_000, 45_000,
    45_000,
];

/// The repository, and how often it is looked at unasked.
#[derive(Debug)]
pub struct Looking {
    pub mirror: Arc<Mirror>,
    pub limits: GitLimits,
    /// `None`: only when somebody asks.
    pub poll: Option<Duration>,
}

/// Looks until the shutdown.
pub async fn run(app: App, looking: Looking, shutdown: CancellationToken) {
    let mut work = app.store.work();
    let mut looks = Looks {
        timer: Timer::new(&app, looking.poll),
        owed: Some(Trigger::Startup),
        catch_up_ms: 0,
        remembered: false,
        alone: Alone::default(),
        app,
        looking,
        shutdown,
    };
    while !looks.shutdown.is_cancelled() {
        work.mark_unchanged();
        if looks.turn().await {
            continue;
        }
        let wait_ms = PERIOD_MS.min(looks.timer.left_ms(&looks.app));
        tokio::select! {
            () = looks.shutdown.cancelled() => {}
            _ = work.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
    }
}

struct Looks {
    app: App,
    looking: Looking,
    shutdown: CancellationToken,
    timer: Timer,
    /// A look that has to be asked for, and could not be yet.
    owed: Option<Trigger>,
    /// It is not looked again before whether another controller has found something newer.
    catch_up_ms: u64,
    /// What the disk has of the snapshot was read, as far as it can be.
    remembered: bool,
    /// A look that hangs past its deadline keeps the next ones from hanging beside it.
    alone: Alone,
}

impl Looks {
    /// Does what there is to do first; whether there was anything.
    async fn turn(&mut self) -> bool {
        if let Some(trigger) = self.owed {
            self.owed = if ask(&self.app, trigger).await { None } else { Some(trigger) };
        }
        self.remember().await;
        match begin(&self.app).await {
            Ok(Some(refresh)) => {
                self.look(refresh).await;
                return true;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "a look at the repository cannot be begun"
            ),
        }
        match self.timer.is_due(&self.app).await {
            Ok(true) => {
                self.owed = Some(Trigger::Poll);
                return true;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "it is not known whether a look at the repository is due"
            ),
        }
        match self.catch_up().await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "it is not known whether another controller has found something newer"
                );
                false
            }
        }
    }

    /// Carries a look out.
    async fn look(&mut self, refresh: Refresh) {
        let app = self.app.clone();
        let (id, trigger) = (refresh.id.clone(), refresh.trigger);
        tracing::info!(refresh.id = %id, trigger = trigger.as_str(), "a refresh of the desired state begins");
        let started_ms = app.clock.monotonic_ms();
        let read = self.read().await;
        let took_ms = app.clock.monotonic_ms().saturating_sub(started_ms);
        let (ended, passes) = match read {
            Ok(read) => (self.take(refresh, read).await, false),
            Err(error) => {
                let passes = error.class().passes();
                (self.fail(&refresh, &error, took_ms).await, passes)
            }
        };
        self.timer.set(&app, passes);
        match ended {
            Ok(ended) => told(&ended),
            Err(error) => {
                tracing::error!(
                    refresh.id = %id,
                    error = &error as &dyn std::error::Error,
                    "the end of a refresh cannot be written"
                );
                // Another controller took it over, and looks; or nobody does, and whoever asked
                // waits for it.
                if matches!(error, AppError::Store(_)) {
                    self.owed = Some(trigger);
                }
            }
        }
    }

    /// Reads the commit of the snapshot where another controller has found it, so that bundles of its
    /// stacks can be made here as well. True if that was to be done.
    async fn catch_up(&mut self) -> Result<bool, AppError> {
        let (app, now_ms) = (self.app.clone(), self.app.clock.monotonic_ms());
        if now_ms < self.catch_up_ms {
            return Ok(false);
        }
        self.catch_up_ms = now_ms.saturating_add(CATCH_UP_MS);
        let Some(held) = app.store.desired_state().await? else { return Ok(false) };
        let here = app.desired.current().is_some_and(|current| current.revision == held.revision);
        let ours = app.desired.source().is_some_and(|source| source.shown == held.source);
        // One that failed is followed by another, and nothing is to be had meanwhile.
        let last = app.store.last_refresh().await?;
        let readable = last.is_some_and(|last| last.state == RefreshState::Completed);
        if here || !ours || !readable || !app.store.open_refreshes().await?.is_empty() {
            return Ok(false);
        }
        match self.read().await {
            Ok(Read { current, .. }) => {
                if current.revision == held.revision {
                    tracing::info!(
                        revision = held.revision,
                        "what another controller found was read here, too"
                    );
                } else {
                    // The repository has moved on.
                    self.owed = Some(Trigger::Poll);
                }
                app.desired.put_current(current);
                Ok(true)
            }
            Err(error) => {
                self.catch_up_ms = now_ms.saturating_add(RETRY_SECS * 1000);
                tracing::warn!(
                    code = error.code(), %error, revision = held.revision,
                    "what another controller found cannot be read here: bundles are left to that one"
                );
                Ok(false)
            }
        }
    }

    /// Fetches and reads, on a thread that may block, within a deadline that holds whatever that does.
    async fn read(&self) -> Result<Read, GitError> {
        let (mirror, app) = (Arc::clone(&self.looking.mirror), self.app.clone());
        let limits = self.looking.limits;
        let most = Duration::from_secs(limits.fetch_secs + limits.walk_secs + SLACK_SECS);
        self.within(most, move |stop| fetch_and_read(&app, &mirror, stop)).await
    }

    /// Does what blocks, which is to end when it is told to stop.
    async fn within<T: Send + 'static>(
        &self,
        most: Duration,
        work: impl FnOnce(&Arc<AtomicBool>) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let cancel = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&cancel);
        let work = self.alone.within(most, move || work(&stop));
        let done = tokio::select! {
            done = work => done,
            () = self.shutdown.cancelled() => Ok(Err(GitError::cancelled())),
        };
        let read = done.unwrap_or_else(|stuck| match stuck {
            Stuck::Before => Err(GitError::still_hangs()),
            Stuck::Overdue => Err(GitError::overdue(most.as_secs())),
            Stuck::Broken => Err(broken()),
        });
        if read.is_err() {
            cancel.store(true, Ordering::Relaxed);
        }
        read
    }

    /// Makes what was read the snapshot.
    async fn take(&self, refresh: Refresh, read: Read) -> Result<Refresh, AppError> {
        let app = &self.app;
        let Read { current, commit, report } = read;
        let found = facts(&app.desired, &current.discovery);
        let keeping = app.desired.keeping();
        let mut new_ids = Vec::with_capacity(found.len());
        for _ in 0..found.len() {
            new_ids.push(app.clock.new_stack_id()?);
        }
        let taken = Taken {
            refresh: refresh.id,
            source: keeping.source.as_ref().map(|source| source.shown.clone()).unwrap_or_default(),
            revision: current.revision.clone(),
            commit,
            found,
            new_ids,
            limits: keeping.removal,
            report,
            now: app.clock.now(),
        };
        // Before the rows: who reads them finds the files they speak of.
        app.desired.put_current(current);
        let taken = Arc::new(taken);
        let scope = Scope { refreshes: true, stacks: true, ..Scope::default() };
        self.write("take_snapshot", scope, move |snapshot| decide::take(snapshot, &taken)).await
    }

    async fn fail(
        &self,
        refresh: &Refresh,
        error: &GitError,
        took_ms: u64,
    ) -> Result<Refresh, AppError> {
        let error = RefreshError {
            class: class(error.class()).to_owned(),
            code: error.code().to_owned(),
            message: error.to_string(),
        };
        let report =
            RefreshReport { error: Some(error), fetch_ms: took_ms, ..RefreshReport::default() };
        let (id, now) = (refresh.id.clone(), self.app.clock.now());
        let scope = Scope { refreshes: true, ..Scope::default() };
        self.write("fail_refresh", scope, move |snapshot| decide::fail(snapshot, &id, &report, now))
            .await
    }

    /// Writes how a look ended. A database that does not answer is asked again for a while: who waits
    /// for the look is to be told how it went.
    async fn write(
        &self,
        name: &'static str,
        scope: Scope,
        decide: impl Fn(&Snapshot) -> Result<Decision<Refresh>, Refusal> + Clone + Send + Sync + 'static,
    ) -> Result<Refresh, AppError> {
        let mut waits_ms = WRITE_AGAIN_MS.iter();
        loop {
            let written = self.app.store.transact(name, scope.clone(), decide.clone()).await;
            let error = match written.map_err(AppError::from) {
                Ok(written) => return Ok(written.reply),
                Err(error) => error,
            };
            let (AppError::Store(_), Some(wait_ms)) = (&error, waits_ms.next()) else {
                return Err(error);
            };
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the end of a refresh cannot be written yet"
            );
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(error),
                () = tokio::time::sleep(Duration::from_millis(*wait_ms)) => {}
            }
        }
    }
}

/// Whether it could be asked for.
async fn ask(app: &App, trigger: Trigger) -> bool {
    let asked = app.request_refresh(trigger, None).await;
    if let Err(error) = &asked {
        tracing::error!(
            error = error as &dyn std::error::Error,
            trigger = trigger.as_str(),
            "a look at the repository cannot be asked for"
        );
    }
    asked.is_ok()
}

/// Begins what waits, unless another controller looks.
async fn begin(app: &App) -> Result<Option<Refresh>, AppError> {
    let open = app.store.open_refreshes().await?;
    if open.is_empty() {
        return Ok(None);
    }
    let peers = app.store.controllers().await?;
    let rules = app.desired.rules_digest();
    if let Some(other) = overruled(&app.controller, rules.as_deref(), &peers) {
        tracing::warn!(
            controller.id = %other.id, controller.name = other.name,
            "another controller, which was started later, has other rules for stacks ([[stacks.rules]]): \
             it alone looks at the repository until this one is started again with the same"
        );
        return Ok(None);
    }
    let alive: Vec<ControllerId> =
        peers.into_iter().filter(|peer| peer.serving).map(|peer| peer.id).collect();
    let (controller, now) = (app.controller.clone(), app.clock.now());
    let scope = Scope { refreshes: true, ..Scope::default() };
    let decide = move |snapshot: &Snapshot| {
        let lives = |id: &ControllerId| alive.contains(id);
        Ok(decide::begin(snapshot, &controller, &lives, now))
    };
    Ok(app.store.transact("begin_refresh", scope, decide).await?.reply)
}

/// The controller that looks in place of this one, whose rules for stacks are other than its own: that
/// of the newest rules, or stacks would move to and fro with whoever looked last.
fn overruled<'p>(own: &ControllerId, rules: Option<&str>, peers: &'p [Peer]) -> Option<&'p Peer> {
    let started = |peer: &Peer| (peer.started_at, peer.id.clone());
    let since = peers.iter().find(|peer| peer.id == *own).map(started)?;
    peers
        .iter()
        .filter(|peer| peer.serving && peer.rules.is_some() && peer.rules.as_deref() != rules)
        .filter(|peer| started(peer) > since)
        .max_by_key(|peer| started(peer))
}

fn told(ended: &Refresh) {
    let report = ended.report.clone().unwrap_or_default();
    let (id, trigger) = (&ended.id, ended.trigger.as_str());
    metrics::counter!("hostler_refresh_total", "trigger" => trigger, "outcome" => ended.state.as_str())
        .increment(1);
    match &report.error {
        None => tracing::info!(
            refresh.id = %id, trigger, revision = ended.revision, stacks = report.stacks,
            added = report.added, changed = report.changed, removed = report.removed,
            problems = report.problems, fetch_ms = report.fetch_ms, read_ms = report.read_ms,
            "a refresh of the desired state completed"
        ),
        Some(error) => tracing::warn!(
            refresh.id = %id, trigger, code = error.code, error = error.message,
            "a refresh of the desired state failed: what was known stays"
        ),
    }
}

/// What a look read.
struct Read {
    current: Current,
    commit: Commit,
    report: RefreshReport,
}

fn fetch_and_read(app: &App, mirror: &Mirror, stop: &Arc<AtomicBool>) -> Result<Read, GitError> {
    let (clock, desired) = (&app.clock, &app.desired);
    let started_ms = clock.monotonic_ms();
    let fetched = mirror.fetch(stop)?;
    let fetched_ms = clock.monotonic_ms();
    let source = desired.source().ok_or_else(no_source)?;
    let tree = mirror.tree(&fetched.revision, &source.deploy_dir)?;
    let found = stacks_of(desired, &tree, stop)?;
    let report = RefreshReport {
        fetch_ms: fetched_ms.saturating_sub(started_ms),
        read_ms: clock.monotonic_ms().saturating_sub(fetched_ms),
        bytes_received: fetched.bytes_received,
        ..RefreshReport::default()
    };
    let commit = Commit {
        author: fetched.commit.author,
        summary: fetched.commit.summary,
        committed_at_us: fetched.commit.committed_at_us,
    };
    let discovery = Arc::new(found);
    Ok(Read { current: Current { revision: fetched.revision, tree, discovery }, commit, report })
}

fn no_source() -> GitError {
    GitError::broken("no repository is configured")
}

fn broken() -> GitError {
    GitError::broken("reading the repository broke off; the log has more")
}

/// The stable name of a class.
fn class(class: Class) -> &'static str {
    match class {
        Class::Auth => "auth",
        Class::NotFound => "not_found",
        Class::Network => "network",
        Class::Timeout => "timeout",
        Class::Tls => "tls",
        Class::HostKey => "host_key",
        Class::Ref => "ref",
        Class::Path => "path",
        Class::Limit => "limit",
        Class::Corrupt => "corrupt",
        Class::Signature => "signature",
        Class::Cancelled => "interrupted",
        Class::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Micros;

    fn peer(n: u8, started_at: i64, rules: Option<&str>) -> Peer {
        Peer {
            id: ControllerId::from_parts(1, [n; 10]),
            name: format!("controller-{n}"),
            addresses: Vec::new(),
            build: String::new(),
            schema_version: 1,
            serving: true,
            beats: 1,
            started_at: Micros(started_at),
            ended_at: None,
            sessions: 0,
            rules: rules.map(str::to_owned),
        }
    }

    #[test]
    fn of_different_rules_those_of_the_controller_started_last_hold() {
        let own = peer(5, 10, Some("a"));
        let overruled_by = |others: Vec<Peer>| {
            let peers: Vec<Peer> = std::iter::once(own.clone()).chain(others).collect();
            overruled(&own.id, Some("a"), &peers).map(|peer| peer.name.clone())
        };
        let by = |n: u8| Some(format!("controller-{n}"));
        assert_eq!(overruled_by(vec![peer(1, 20, Some("a"))]), None, "the same rules");
        assert_eq!(overruled_by(vec![peer(1, 20, None)]), None, "it looks at no repository");
        assert_eq!(overruled_by(vec![peer(1, 9, Some("b"))]), None, "it was started before");
        assert_eq!(overruled_by(vec![peer(1, 11, Some("b"))]), by(1));
        assert_eq!(overruled_by(vec![peer(1, 11, Some("b")), peer(2, 12, Some("c"))]), by(2));
        // Two that began at once do not wait for each other.
        assert_eq!(overruled_by(vec![peer(4, 10, Some("b"))]), None);
        assert_eq!(overruled_by(vec![peer(6, 10, Some("b"))]), by(6));
        let gone = Peer { serving: false, ..peer(1, 20, Some("b")) };
        assert_eq!(overruled_by(vec![gone]), None);
        assert_eq!(
            overruled(&own.id, Some("a"), &[peer(1, 20, Some("b"))]),
            None,
            "not entered yet"
        );
    }
}
