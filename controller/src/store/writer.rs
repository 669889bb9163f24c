//! SQLite's one writer: a task with a connection of its own that takes all waiting operations and
//! commits them as a group, so that many callers share one fsync.
//!
//! Invariants:
//! * nobody else writes; readers have connections of their own;
//! * an answer is given only after the commit that holds its writes;
//! * operations of a group share nothing but the commit: when the database fails one of them, the
//!   group is rolled back and each runs by itself.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::bells::{Bells, ring_for_work};
use super::db::{Dialect, Tx};
use super::error::Failure;
use super::unit::{Operation, begin};
use super::{events, metrics};
use crate::domain::NewEvent;

/// Operations that may wait for the writer; more callers wait for a place.
const QUEUE_OPERATIONS_MAX: usize = 4_096;
/// Operations committed together.
const GROUP_OPERATIONS_MAX: usize = 256;

/// The writer's door.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Unit(Box<dyn Unit>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the task on a connection; `bells` ring after each commit.
    pub(super) fn start(connection: SqliteConnection, bells: Arc<Bells>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_OPERATIONS_MAX);
        tokio::spawn(work(connection, waiting, bells));
        Self { queue }
    }

    /// Queues an operation and waits for its commit.
    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Reply, Failure> {
        let (answer, answered) = oneshot::channel();
        let unit = Waiting { operation, reply: None, answer };
        self.queue.send(Message::Unit(Box::new(unit))).await.map_err(|_| Failure::Closed)?;
        let (reply, _operation) = answered.await.map_err(|_| Failure::Closed)??;
        Ok(reply)
    }

    /// Lets everything queued so far finish, then closes the connection.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            closed.await.ok();
        }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<NewEvent>, Failure>> + Send + 'a>>;

/// An operation of any kind, with the one who waits for it.
trait Unit: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Running<'a>;
    /// It is committed; its first event has this `seq`.
    fn committed(self: Box<Self>, first_seq: i64);
    fn failed(self: Box<Self>, failure: Failure);
}

struct Waiting<O: Operation> {
    operation: O,
    reply: Option<O::Reply>,
    /// The operation goes back with its reply: taking it apart is not the writer's work.
    answer: oneshot::Sender<Result<(O::Reply, O), Failure>>,
}

impl<O: Operation> Unit for Waiting<O> {
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> Running<'a> {
        Box::pin(async move {
            let done = self.operation.run(tx).await?;
            self.reply = Some(done.reply);
            Ok(done.events)
        })
    }

    fn committed(self: Box<Self>, first_seq: i64) {
        let Self { operation, reply, answer } = *self;
        if let Some(mut reply) = reply {
            operation.seal(&mut reply, first_seq);
            // Whoever asked may have gone away; what is committed stays committed.
            answer.send(Ok((reply, operation))).ok();
        }
    }

    fn failed(self: Box<Self>, failure: Failure) {
        self.answer.send(Err(failure)).ok();
    }
}

async fn work(
    mut connection: SqliteConnection,
    mut waiting: mpsc::Receiver<Message>,
    bells: Arc<Bells>,
) {
    let mut closer = None;
    while let Some(first) = waiting.recv().await {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Unit(unit) => group.push(unit),
                Message::Close(done) => {
                    waiting.close();
                    closer = Some(done);
                }
            }
            if group.len() < GROUP_OPERATIONS_MAX {
                next = waiting.try_recv().ok();
            }
        }
        commit(&mut connection, group, &bells).await;
    }
    // Closing writes the log back into the file; failing that, the next open does it.
    connection.close().await.ok();
    if let Some(done) = closer {
        done.send(()).ok();
    }
}

/// A group inside its transaction: who refused or is unharmed, and with how many events.
struct Group {
    ready: Vec<(Box<dyn Unit>, usize)>,
    refused: Vec<(Box<dyn Unit>, Failure)>,
    events: Vec<NewEvent>,
}

async fn commit(connection: &mut SqliteConnection, units: Vec<Box<dyn Unit>>, bells: &Bells) {
    metrics::group(units.len());
    let alone = units.len() == 1;
    match together(connection, units).await {
        Ok((group, last_seq)) => answer(group, last_seq, bells),
        Err((units, failure)) if alone => {
            for (unit, failure) in units.into_iter().zip([failure]) {
                unit.failed(failure);
            }
        }
        Err((units, _failure_of_one)) => {
            for unit in units {
                match together(connection, vec![unit]).await {
                    Ok((group, last_seq)) => answer(group, last_seq, bells),
                    Err((units, failure)) => {
                        for (unit, failure) in units.into_iter().zip([failure]) {
                            unit.failed(failure);
                        }
                    }
                }
            }
        }
    }
}

fn answer(group: Group, last_seq: i64, bells: &Bells) {
    // First, so that who has an answer in hand finds its events told already.
    bells.tell(last_seq, ring_for_work(&group.events));
    let mut first_seq = last_seq + 1 - as_i64(group.events.len());
    for (unit, events) in group.ready {
        unit.committed(first_seq);
        first_seq += as_i64(events);
    }
    for (unit, failure) in group.refused {
        unit.failed(failure);
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

type Failed = (Vec<Box<dyn Unit>>, Failure);

/// Runs units in one transaction. On failure nothing is written and all units are given back.
async fn together(
    connection: &mut SqliteConnection,
    units: Vec<Box<dyn Unit>>,
) -> Result<(Group, i64), Failed> {
    let mut tx = Tx::Sqlite(connection);
    if let Err(failure) = tx.execute(begin(Dialect::Sqlite), &[]).await {
        return Err((units, failure));
    }
    let mut group = Group { ready: Vec::new(), refused: Vec::new(), events: Vec::new() };
    let mut units = units.into_iter();
    let mut failure = None;
    for mut unit in units.by_ref() {
        // A defect in one operation must not end the writer, and with it every other's.
        let ran = AssertUnwindSafe(unit.run(&mut tx)).catch_unwind().await;
        match ran.unwrap_or(Err(Failure::Panicked)) {
            Ok(mut events) => {
                group.ready.push((unit, events.len()));
                group.events.append(&mut events);
            }
            Err(Failure::Refused(refusal)) => {
                group.refused.push((unit, Failure::Refused(refusal)));
            }
            Err(other) => {
                group.ready.push((unit, 0));
                failure = Some(other);
                break;
            }
        }
    }
    let result = match failure {
        Some(failure) => Err(failure),
        None => finish(&mut tx, &group.events).await,
    };
    match result {
        Ok(last_seq) => Ok((group, last_seq)),
        Err(failure) => {
            // SQLite has rolled back by itself after some errors; then this says so, no more.
            tx.execute("ROLLBACK", &[]).await.ok();
            let back = group.ready.into_iter().map(|(unit, _)| unit);
            let refused = group.refused.into_iter().map(|(unit, _)| unit);
            Err((back.chain(refused).chain(units).collect(), failure))
        }
    }
}

async fn finish(tx: &mut Tx<'_>, events: &[NewEvent]) -> Result<i64, Failure> {
    let last_seq = events::append(tx, events).await?;
    tx.execute("COMMIT", &[]).await?;
    Ok(last_seq)
}
