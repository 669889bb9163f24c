//! The doorbell between controllers on one PostgreSQL: who has committed tells the others that there is
//! something to read.
//!
//! Invariants:
//! * a ring carries nothing but how far the event log goes: whoever hears it reads the database;
//! * a lost ring costs a poll's time and nothing else, so nothing waits for one to be sent or heard;
//! * rings are sent outside of the units they tell of, and at most one per [`RING_MS`]: a transaction
//!   that notifies takes a lock that every other such one in the server waits for.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Executor as _, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bells::Bells;
use super::metrics;

/// The channel's name; notifications stay within their database.
const CHANNEL: &str = "hostler_events";
/// Milliseconds between two rings of one controller; what is committed meanwhile is one ring.
const RING_MS: u64 = 25;
/// Milliseconds before the listener tries again after an error.
const LISTEN_AGAIN_MS: u64 = 1000;
/// Seconds the two tasks may take to end.
const CLOSE_SECS: u64 = 2;

/// How far the log goes, and how far it goes for those who look for work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ring {
    seq: i64,
    work: i64,
}

/// A handle on the two tasks; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Doorbell {
    told: Arc<watch::Sender<Ring>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Doorbell {
    /// Starts to ring for this store's commits, and to listen for others'.
    pub(super) fn start(pool: &PgPool, options: PgConnectOptions, bells: Arc<Bells>) -> Self {
        let (told, rings) = watch::channel(Ring::default());
        let doorbell = Self {
            told: Arc::new(told),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        doorbell.tasks.spawn(ring(pool.clone(), rings, doorbell.stop.clone()));
        doorbell.tasks.spawn(listen(options, bells, doorbell.stop.clone()));
        doorbell.tasks.close();
        doorbell
    }

    /// Events up to `seq` are committed.
    pub(super) fn ring(&self, seq: i64, work: bool) {
        self.told.send_if_modified(|ring| {
            let before = *ring;
            ring.seq = ring.seq.max(seq);
            ring.work = if work { ring.work.max(seq) } else { ring.work };
            *ring != before
        });
    }

    /// Ends both tasks; what was not told yet, the others find by themselves.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(CLOSE_SECS), self.tasks.wait()).await;
        if ended.is_err() {
            tracing::debug!("the doorbell's connection does not end in time");
        }
    }
}

async fn ring(pool: PgPool, mut rings: watch::Receiver<Ring>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = rings.changed() => if changed.is_err() { return },
        }
        let Ring { seq, work } = *rings.borrow_and_update();
        let payload = format!("{seq} {work}");
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload);
        match pool.execute(notify).await {
            Ok(_) => metrics::rung(),
            // The unit itself may have told why; others look by themselves.
            Err(error) => tracing::debug!(%error, "other controllers cannot be told of a commit"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(RING_MS)) => {}
        }
    }
}

async fn listen(options: PgConnectOptions, bells: Arc<Bells>, stop: CancellationToken) {
    // A connection of its own: it waits for ever, and what it subscribed to must not meet a unit.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options);
    let mut listening = true;
    while !stop.is_cancelled() {
        let heard = tokio::select! {
            () = stop.cancelled() => break,
            heard = hear(&own, &bells, &mut listening) => heard,
        };
        // Once for each time it is lost, not for each time it cannot be had.
        if let (Err(error), true) = (heard, std::mem::take(&mut listening)) {
            metrics::deaf();
            tracing::warn!(
                %error,
                "other controllers' commits are not told here for now: the database is looked at \
                 from time to time instead"
            );
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(Duration::from_millis(LISTEN_AGAIN_MS)) => {}
        }
    }
    own.close().await;
}

/// Listens until the connection is lost.
async fn hear(own: &PgPool, bells: &Bells, listening: &mut bool) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(own).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    *listening = true;
    loop {
        // `None`: the connection was lost. What is missed until the next one, the polls find.
        let Some(notification) = listener.try_recv().await? else {
            return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(Ring { seq, work }) = parse(notification.payload()) {
            metrics::heard();
            bells.tell(seq, false);
            if work > 0 {
                bells.tell(work, true);
            }
        }
    }
}

/// A payload of another build may say more: only its beginning is read.
fn parse(payload: &str) -> Option<Ring> {
    let mut numbers = payload.split(' ').map(str::parse);
    Some(Ring { seq: numbers.next()?.ok()?, work: numbers.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_two_numbers_and_whatever_comes_later() {
        assert_eq!(parse("12 7"), Some(Ring { seq: 12, work: 7 }));
        assert_eq!(parse("12 7 new"), Some(Ring { seq: 12, work: 7 }));
        for rubbish in ["", "12", "x 7", "12 y"] {
            assert_eq!(parse(rubbish), None, "{rubbish:?}");
        }
    }
}
