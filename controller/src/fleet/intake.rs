//! What sessions report, gathered: many sessions' words in one atomic unit.
//!
//! Each writer takes what has come while it wrote the last lot, so that nothing but progress waits
//! for a timer and a burst costs few units.

use hostler_protocol::id::HostId;
use hostler_protocol::message::AttemptRef;
use tokio::sync::{mpsc, oneshot};

use super::progress::{Lines, ProgressQueue};
use crate::app::App;
use crate::app::fleet::{Report, store_attempt};
use crate::store::{self, ProgressLine, SettleAnswer};

/// Reports that may wait to be written, of each kind.
const REPORTS_WAITING_MAX: usize = 4096;
/// Reports written in one unit.
const REPORTS_PER_UNIT_MAX: usize = 256;
/// What hosts see of themselves that may wait to be written; each says it anew on a period.
const SEEN_WAITING_MAX: usize = 256;
/// Renewals written in one unit.
const RENEWALS_PER_UNIT_MAX: usize = 1000;

/// The database did not take it; the agent keeps it and will say it again.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the database does not take reports just now")]
pub(super) struct NotTaken;

type Asked<T, A> = (T, oneshot::Sender<Result<A, NotTaken>>);

/// Where sessions leave what agents report; cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    settle: mpsc::Sender<Asked<Report, SettleAnswer>>,
    accept: mpsc::Sender<Asked<AttemptRef, bool>>,
    renew: mpsc::Sender<AttemptRef>,
    seen: mpsc::Sender<(HostId, Vec<u8>)>,
    progress: ProgressQueue,
}

impl Intake {
    pub(super) fn start(app: &App) -> Self {
        let (settle, reports) = mpsc::channel(REPORTS_WAITING_MAX);
        let (accept, accepted) = mpsc::channel(REPORTS_WAITING_MAX);
        let (renew, renewals) = mpsc::channel(REPORTS_WAITING_MAX);
        let (seen, reports_of_hosts) = mpsc::channel(SEEN_WAITING_MAX);
        let (progress, lines) = ProgressQueue::new();
        tokio::spawn(settle_all(app.clone(), reports, progress.clone()));
        tokio::spawn(accept_all(app.clone(), accepted));
        tokio::spawn(renew_all(app.clone(), renewals));
        tokio::spawn(write_seen(app.clone(), reports_of_hosts));
        tokio::spawn(write_progress(app.clone(), lines));
        Self { settle, accept, renew, seen, progress }
    }

    /// Settles one attempt; returns after the commit.
    pub(super) async fn settle(&self, report: Report) -> Result<SettleAnswer, NotTaken> {
        ask(&self.settle, report).await
    }

    /// Notes that an attempt is journalled; `false`: it is not the job's current one.
    pub(super) async fn accept(&self, attempt: AttemptRef) -> Result<bool, NotTaken> {
        ask(&self.accept, attempt).await
    }

    /// Renews leases; under pressure some wait for the next heartbeat.
    pub(super) fn renew(&self, attempts: Vec<AttemptRef>) {
        for attempt in attempts {
            if self.renew.try_send(attempt).is_err() {
                metrics::counter!("hostler_renewals_dropped_total").increment(1);
            }
        }
    }

    /// Takes in what a host sees of itself; under pressure that waits for its next report.
    pub(super) fn observed(&self, host: &HostId, document: Vec<u8>) {
        if self.seen.try_send((host.clone(), document)).is_err() {
            metrics::counter!("hostler_observations_dropped_total").increment(1);
        }
    }

    /// Appends a line of progress; under pressure the oldest waiting lines go.
    pub(super) fn progress(
        &self,
        host: &HostId,
        attempt: &AttemptRef,
        sequence: u64,
        document: &[u8],
    ) {
        if let Some(line) = crate::app::fleet::progress_line(host, attempt, sequence, document) {
            self.progress.push(line);
        } else {
            tracing::warn!(host.id = %host, job.id = %attempt.job, "unreadable progress is dropped");
        }
    }
}

async fn ask<T, A>(sender: &mpsc::Sender<Asked<T, A>>, item: T) -> Result<A, NotTaken> {
    let (answer, answered) = oneshot::channel();
    sender.send((item, answer)).await.map_err(|_| NotTaken)?;
    answered.await.map_err(|_| NotTaken)?
}

/// The asker may be gone: then nobody needs the answer.
fn reply<A>(to: oneshot::Sender<Result<A, NotTaken>>, answer: Result<A, NotTaken>) {
    drop(to.send(answer));
}

async fn settle_all(
    app: App,
    mut reports: mpsc::Receiver<Asked<Report, SettleAnswer>>,
    progress: ProgressQueue,
) {
    let mut waiting = Vec::with_capacity(REPORTS_PER_UNIT_MAX);
    while reports.recv_many(&mut waiting, REPORTS_PER_UNIT_MAX).await > 0 {
        let (batch, askers): (Vec<Report>, Vec<_>) = waiting.drain(..).unzip();
        // Asked for in one breath, and this first: where there is one writer they share a commit,
        // and a job's last lines stand before its end.
        let (lines, reports) = (progress.take(), batch.clone());
        let ((), settled) = tokio::join!(write_lines(&app, lines), app.settle(reports));
        match settled {
            Ok(answers) => {
                for (asker, answer) in askers.into_iter().zip(answers) {
                    count(answer);
                    reply(asker, Ok(answer));
                }
            }
            // One report the database chokes on must not keep the others from being settled.
            Err(error) => {
                tracing::error!(%error, reports = batch.len(), "reports could not be settled");
                for (report, asker) in batch.into_iter().zip(askers) {
                    reply(asker, settle_one(&app, report).await);
                }
            }
        }
    }
}

async fn settle_one(app: &App, report: Report) -> Result<SettleAnswer, NotTaken> {
    match app.settle(vec![report]).await.map(|answers| answers.first().copied()) {
        Ok(Some(answer)) => {
            count(answer);
            Ok(answer)
        }
        Ok(None) | Err(_) => Err(NotTaken),
    }
}

fn count(answer: SettleAnswer) {
    let answer = match answer {
        SettleAnswer::Settled(state) => state.as_str(),
        SettleAnswer::AlreadySettled => "repeated",
        SettleAnswer::Stale => "stale",
        SettleAnswer::WrongHost => "wrong_host",
        SettleAnswer::Unknown => "unknown",
    };
    metrics::counter!("hostler_reports_total", "answer" => answer).increment(1);
}

async fn write_seen(app: App, mut reports: mpsc::Receiver<(HostId, Vec<u8>)>) {
    while let Some((host, document)) = reports.recv().await {
        if let Err(error) = app.observed(&host, &document).await {
            tracing::warn!(
                host.id = %host,
                error = &error as &dyn std::error::Error,
                "what a host sees of its stacks could not be written; it says it anew"
            );
        }
    }
}

async fn accept_all(app: App, mut accepted: mpsc::Receiver<Asked<AttemptRef, bool>>) {
    let mut waiting = Vec::with_capacity(REPORTS_PER_UNIT_MAX);
    while accepted.recv_many(&mut waiting, REPORTS_PER_UNIT_MAX).await > 0 {
        let (batch, askers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|(attempt, asker)| (store_attempt(&attempt), asker)).unzip();
        match app.store.accept(&batch, app.clock.now()).await {
            Ok(answers) => {
                for (asker, answer) in askers.into_iter().zip(answers) {
                    reply(asker, Ok(answer));
                }
            }
            Err(error) => {
                tracing::error!(%error, "acceptances could not be written");
                for asker in askers {
                    reply(asker, Err(NotTaken));
                }
            }
        }
    }
}

async fn renew_all(app: App, mut renewals: mpsc::Receiver<AttemptRef>) {
    let mut waiting = Vec::with_capacity(RENEWALS_PER_UNIT_MAX);
    while renewals.recv_many(&mut waiting, RENEWALS_PER_UNIT_MAX).await > 0 {
        let mut batch: Vec<store::AttemptRef> =
            waiting.drain(..).map(|attempt| store_attempt(&attempt)).collect();
        batch.sort();
        batch.dedup();
        if let Err(error) = app.store.renew(&batch).await {
            tracing::warn!(%error, "leases could not be renewed; the next heartbeat will");
        }
    }
}

async fn write_progress(app: App, mut lines: Lines) {
    while let Some(batch) = lines.next().await {
        write_lines(&app, batch).await;
    }
}

async fn write_lines(app: &App, lines: Vec<ProgressLine>) {
    if let Err(error) = app.store.progress(&lines).await {
        tracing::warn!(%error, lines = lines.len(), "progress could not be written");
        metrics::counter!("hostler_progress_dropped_total").increment(lines.len() as u64);
    }
}
