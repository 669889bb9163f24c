//! What happens to a running attempt before it is settled: accepted, renewed, its progress told,
//! lost sight of, found again, or found never to have arrived.

use std::collections::BTreeSet;

use hostler_protocol::id::JobId;
use serde_json::json;

use super::db::{Tx, json_rows};
use super::error::Failure;
use super::jobs::{self, JobRow, Update};
use super::types::{AttemptRef, ProgressLine};
use super::unit::{Done, Operation};
use super::{Store, StoreError};
use crate::domain::decide::job::event;
use crate::domain::job::{JobEvent, reason};
use crate::domain::{EventKind, Job, JobState, Micros, NewEvent};

impl Store {
    /// The hosts have these attempts in their journals. True where that is so by now, false for
    /// an attempt that is not its job's running one.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn accept(
        &self,
        attempts: &[AttemptRef],
        now: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        self.amend("accept", Amendment::Accept, attempts, now).await
    }

    /// Claimed, but the host never saw it: queued again, and the next claim is a new attempt (or
    /// cancelled, if that was asked meanwhile). False where the attempt is not its job's running
    /// one, or was accepted.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn requeue_unseen(
        &self,
        attempts: &[AttemptRef],
        now: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        self.amend("requeue_unseen", Amendment::Unseen, attempts, now).await
    }

    /// Nobody knows how far these attempts came: they stay running, with reason `UNKNOWN`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn mark_unknown(
        &self,
        attempts: &[AttemptRef],
        now: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        self.amend("mark_unknown", Amendment::Unknown, attempts, now).await
    }

    /// The hosts have said that these attempts go on.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn mark_known(
        &self,
        attempts: &[AttemptRef],
        now: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        self.amend("mark_known", Amendment::Known, attempts, now).await
    }

    /// Bumps the lease of attempts that their hosts report as alive.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn renew(&self, attempts: &[AttemptRef]) -> Result<Vec<bool>, StoreError> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(Renew { attempts: attempts.to_vec() }).await
    }

    /// Appends lines of progress as events. A line of another attempt than its job's running one,
    /// of another host, or not past the last line stored, is dropped.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn progress(&self, lines: &[ProgressLine]) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.commit(AppendProgress { lines: lines.to_vec() }).await
    }

    async fn amend(
        &self,
        name: &'static str,
        amendment: Amendment,
        attempts: &[AttemptRef],
        now: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        if attempts.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(Amend { name, amendment, attempts: attempts.to_vec(), now }).await
    }
}

#[derive(Debug, Clone, Copy)]
enum Amendment {
    Accept,
    Unseen,
    Unknown,
    Known,
}

/// What an amendment makes of a running job of that attempt.
enum Amended {
    Refused,
    /// It is so already.
    Same,
    Changed(Box<Job>, Option<NewEvent>),
}

fn amend(amendment: Amendment, job: &Job, now: Micros) -> Amended {
    let mut after = job.clone();
    let document = json!({ "attempt": job.attempt });
    let kind = match amendment {
        Amendment::Accept if job.accepted_at.is_some() => return Amended::Same,
        Amendment::Accept => {
            after.accepted_at = Some(now);
            EventKind::JobAccepted
        }
        Amendment::Unseen if job.accepted_at.is_some() => return Amended::Refused,
        Amendment::Unseen => return unseen(job, after, now),
        Amendment::Unknown if job.reason.as_deref() == Some(reason::UNKNOWN) => {
            return Amended::Same;
        }
        Amendment::Unknown => {
            after.reason = Some(reason::UNKNOWN.to_owned());
            EventKind::JobUnknown
        }
        Amendment::Known if job.reason.as_deref() != Some(reason::UNKNOWN) => {
            return Amended::Same;
        }
        Amendment::Known => {
            after.reason = None;
            EventKind::JobKnown
        }
    };
    let told = event(&after, kind, document, now);
    Amended::Changed(Box::new(after), Some(told))
}

fn unseen(job: &Job, mut after: Job, now: Micros) -> Amended {
    let cancelled = job.cancel_requested_at.is_some();
    let (happened, kind) = if cancelled {
        (JobEvent::Cancel, EventKind::JobCancelled)
    } else {
        (JobEvent::Requeue, EventKind::JobRetrying)
    };
    let Some(state) = job.state.apply(happened) else { return Amended::Refused };
    after.state = state;
    // It has begun nowhere unless an earlier attempt did: its time to live counts as before.
    if job.is_first_begun() {
        after.started_at = None;
    }
    after.reason = cancelled.then(|| reason::CANCELLED.to_owned());
    after.finished_at = cancelled.then_some(now);
    let document = json!({ "attempt": job.attempt, "reason": "UNSEEN" });
    let told = event(&after, kind, document, now);
    Amended::Changed(Box::new(after), Some(told))
}

struct Amend {
    name: &'static str,
    amendment: Amendment,
    attempts: Vec<AttemptRef>,
    now: Micros,
}

impl Operation for Amend {
    type Reply = Vec<bool>;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Vec<bool>>, Failure> {
        apply(tx, self.amendment, &self.attempts, self.now).await
    }
}

/// Marks attempts as unknown within a unit; answers as [`Store::mark_unknown`] does.
pub(super) async fn unknown(
    tx: &mut Tx<'_>,
    attempts: &[AttemptRef],
    now: Micros,
) -> Result<Done<Vec<bool>>, Failure> {
    apply(tx, Amendment::Unknown, attempts, now).await
}

async fn apply(
    tx: &mut Tx<'_>,
    amendment: Amendment,
    attempts: &[AttemptRef],
    now: Micros,
) -> Result<Done<Vec<bool>>, Failure> {
    let ids = jobs::json_ids(attempts.iter().map(|one| &one.job));
    let mut rows = jobs::load(tx, ids).await?;
    let mut answers = Vec::with_capacity(attempts.len());
    let mut changed: Vec<(Job, (JobState, u32))> = Vec::new();
    let mut events = Vec::new();
    for attempt in attempts {
        let Some(row) = current(rows.get_mut(&attempt.job), attempt) else {
            answers.push(false);
            continue;
        };
        match amend(amendment, &row.job, now) {
            Amended::Refused => answers.push(false),
            Amended::Same => answers.push(true),
            Amended::Changed(after, told) => {
                changed.push(((*after).clone(), (row.job.state, row.job.attempt)));
                row.job = *after;
                events.extend(told);
                answers.push(true);
            }
        }
    }
    let updates: Vec<Update<'_>> =
        changed.iter().map(|(job, was)| Update { job, was: *was }).collect();
    jobs::update(tx, &updates).await?;
    Ok(Done { reply: answers, events })
}

/// The row, if the attempt is its job's and runs.
fn current<'r>(row: Option<&'r mut JobRow>, attempt: &AttemptRef) -> Option<&'r mut JobRow> {
    row.filter(|row| row.job.state == JobState::Running && row.job.attempt == attempt.attempt)
}

struct Renew {
    attempts: Vec<AttemptRef>,
}

impl Operation for Renew {
    type Reply = Vec<bool>;

    fn name(&self) -> &'static str {
        "renew"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Vec<bool>>, Failure> {
        let mut sorted: Vec<&AttemptRef> = self.attempts.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let rows =
            json_rows(sorted.iter().map(|one| [one.job.as_str().into(), one.attempt.into()]));
        let sql = format!(
            "UPDATE jobs SET lease = lease + 1 FROM {} WHERE jobs.id = v.id \
             AND jobs.attempt = v.attempt AND {} RETURNING jobs.id, jobs.attempt",
            tx.dialect().source(1, &["id", "attempt:i"]),
            jobs::is("jobs", JobState::Running)
        );
        let renewed: BTreeSet<AttemptRef> = tx
            .fetch_as(sql, &[rows], |row| {
                Ok(AttemptRef { job: row.parsed()?, attempt: row.u32()? })
            })
            .await?
            .into_iter()
            .collect();
        Ok(Done::silent(self.attempts.iter().map(|one| renewed.contains(one)).collect()))
    }
}

struct AppendProgress {
    lines: Vec<ProgressLine>,
}

impl Operation for AppendProgress {
    type Reply = ();

    fn name(&self) -> &'static str {
        "progress"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<()>, Failure> {
        let ids = jobs::json_ids(self.lines.iter().map(|line| &line.attempt.job));
        let mut rows = jobs::load(tx, ids).await?;
        let mut events = Vec::new();
        let mut seen: Vec<(JobId, i64)> = Vec::new();
        for line in &self.lines {
            let sequence = i64::try_from(line.sequence).unwrap_or(i64::MAX);
            let Some(row) = current(rows.get_mut(&line.attempt.job), &line.attempt)
                .filter(|row| row.job.host_id == line.host && row.progress_seen < sequence)
            else {
                continue;
            };
            row.progress_seen = sequence;
            events.push(told(&row.job, line));
        }
        for row in rows.into_values() {
            let wanted = events.iter().any(|event| event.subject.job.as_ref() == Some(&row.job.id));
            if wanted {
                seen.push((row.job.id, row.progress_seen));
            }
        }
        if !seen.is_empty() {
            let sql = format!(
                "UPDATE jobs SET progress_seen = v.seen FROM {} WHERE jobs.id = v.id",
                tx.dialect().source(1, &["id", "seen:i"])
            );
            let rows = seen.iter().map(|(job, seen)| [job.as_str().into(), (*seen).into()]);
            tx.execute(sql, &[json_rows(rows)]).await?;
        }
        Ok(Done { reply: (), events })
    }
}

fn told(job: &Job, line: &ProgressLine) -> NewEvent {
    let progress = &line.progress;
    let document = json!({
        "attempt": job.attempt,
        "sequence": line.sequence,
        "step": progress.step,
        "state": progress.state,
        "message": progress.message,
        "at_us": progress.at_us,
    });
    // The log's own time is when the controller heard of it; the host's stands in the document.
    event(job, EventKind::JobProgress, document, Micros(progress.at_us))
}
