//! Settling attempts: what a host reports is applied once, to the attempt it is about, or kept
//! aside.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{EnvironmentId, JobId};
use hostler_protocol::job::{JobType, OutcomeState};
use serde_json::json;

use super::db::{Tx, json_rows};
use super::error::Failure;
use super::types::{SLICE_MAX, SettleAnswer, Settlement};
use super::unit::{Done, Operation};
use super::{Store, StoreError, change, environments, jobs};
use crate::domain::decide::job::event;
use crate::domain::decide::settle::{ignores_environment, settle};
use crate::domain::decide::warm;
use crate::domain::{Change, Environment, EventKind, Job, JobState, Micros, NewEvent};

impl Store {
    /// Settles attempts by what their hosts report. Answers stand in the order of the settlements
    /// and every one is final: the report may be acknowledged.
    ///
    /// # Errors
    /// [`StoreError`]; of slices longer than [`SLICE_MAX`] the first ones may be settled then,
    /// and settling them again is harmless.
    pub async fn settle(
        &self,
        settlements: &[Settlement],
        now: Micros,
    ) -> Result<Vec<SettleAnswer>, StoreError> {
        let mut answers = Vec::with_capacity(settlements.len());
        for slice in settlements.chunks(SLICE_MAX) {
            answers.extend(self.commit(Settle { settlements: slice.to_vec(), now }).await?);
        }
        Ok(answers)
    }
}

struct Settle {
    settlements: Vec<Settlement>,
    now: Micros,
}

/// What a slice comes to, before it is written.
#[derive(Default)]
struct Outcome {
    answers: Vec<SettleAnswer>,
    job_changes: Vec<Change>,
    other_changes: Vec<Change>,
    outcomes: Vec<(JobId, u32, String)>,
    events: Vec<NewEvent>,
}

impl Operation for Settle {
    type Reply = Vec<SettleAnswer>;

    fn name(&self) -> &'static str {
        "settle"
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Done<Self::Reply>, Failure> {
        let mut environments = lock_environments(tx, &self.settlements).await?;
        let ids: Vec<&JobId> = self.settlements.iter().map(|one| &one.attempt.job).collect();
        let mut rows = jobs::load(tx, jobs::json_ids(ids.iter().copied())).await?;
        let missing: Vec<&JobId> = ids.into_iter().filter(|id| !rows.contains_key(*id)).collect();
        if !missing.is_empty() {
            rows.extend(jobs::load_history(tx, jobs::json_ids(missing)).await?);
        }
        let covered = covered(tx, &self.settlements).await?;
        let mut warm_ups = waiting_warm_ups(tx, &self.settlements, &rows).await?;
        let mut outcome = Outcome::default();
        for settlement in &self.settlements {
            let answer = match rows.get_mut(&settlement.attempt.job) {
                Some(row) => {
                    // Or its environment would not be among those that were loaded.
                    if row.job.job_type != settlement.template.job_type {
                        return Err(Failure::unreadable("a job whose template is of another type"));
                    }
                    let newer_waits = covered.contains(&row.job.id);
                    let answer = one(
                        row,
                        settlement,
                        &mut environments,
                        newer_waits,
                        self.now,
                        &mut outcome,
                    );
                    if answer == SettleAnswer::Settled(JobState::Succeeded) {
                        let job = &row.job;
                        follow(
                            job,
                            settlement,
                            &environments,
                            &mut warm_ups,
                            self.now,
                            &mut outcome,
                        );
                    }
                    answer
                }
                None => SettleAnswer::Unknown,
            };
            outcome.answers.push(answer);
        }
        change::apply(tx, &outcome.job_changes).await?;
        change::apply(tx, &outcome.other_changes).await?;
        jobs::keep_outcomes(tx, &outcome.outcomes).await?;
        Ok(Done { reply: outcome.answers, events: outcome.events })
    }
}

/// Settles one attempt in memory: the row and its environment are as they will be, for the
/// settlements after it.
fn one(
    row: &mut jobs::JobRow,
    settlement: &Settlement,
    environments: &mut BTreeMap<EnvironmentId, Environment>,
    newer_waits: bool,
    now: Micros,
    outcome: &mut Outcome,
) -> SettleAnswer {
    let Settlement { attempt, host, outcome: report, template, .. } = settlement;
    if row.job.host_id != *host {
        return SettleAnswer::WrongHost;
    }
    let number = i64::from(attempt.attempt);
    if row.job.state != JobState::Running || row.job.attempt != attempt.attempt {
        if row.settled_attempt == Some(number) {
            return SettleAnswer::AlreadySettled;
        }
        let document = json!({ "attempt": attempt.attempt, "outcome": report });
        outcome.events.push(event(&row.job, EventKind::JobLateOutcome, document, now));
        return SettleAnswer::Stale;
    }
    let environment = row.job.environment_id.as_ref().and_then(|id| environments.get(id));
    let decision = settle(&row.job, environment, newer_waits, template, report, now);
    for change in decision.changes {
        match &change {
            Change::UpdateJob { job, .. } if job.id == row.job.id => {
                // It no longer runs: whatever else comes for it is late.
                row.job.state = job.state;
                outcome.job_changes.push(change);
                continue;
            }
            Change::UpdateEnvironment(after) => {
                environments.insert(after.id.clone(), (**after).clone());
            }
            Change::DeleteEnvironment(id) => {
                environments.remove(id);
            }
            Change::InsertSite(_)
            | Change::UpdateSite(_)
            | Change::DeleteHost(_)
            | Change::DeleteEnrolmentToken(_)
            | Change::DeleteSite(_)
            | Change::InsertEnvironment(_)
            | Change::InsertHost(_)
            | Change::UpdateHost(_)
            | Change::InsertEnrolmentToken(_)
            | Change::UpdateEnrolmentToken(_)
            | Change::InsertApiToken(_)
            | Change::UpdateApiToken(_)
            | Change::EnqueueJob(_)
            | Change::UpdateJob { .. }
            | Change::BanKey(_)
            | Change::RecordIdempotency(_)
            | Change::InsertBatch(..)
            | Change::UpdateBatch(_)
            | Change::UpdateTarget(..)
            | Change::InsertRefresh(_)
            | Change::UpdateRefresh(_)
            | Change::PutDesiredState(_)
            | Change::PutStacks(_)
            | Change::DeleteStack(_)
            | Change::PutStackHosts(_)
            | Change::DeleteStackHost(..) => {}
        }
        outcome.other_changes.push(change);
    }
    outcome.events.extend(decision.events);
    row.settled_attempt = Some(number);
    let text = serde_json::to_string(report).unwrap_or_default();
    outcome.outcomes.retain(|(job, _, _)| *job != attempt.job);
    outcome.outcomes.push((attempt.job.clone(), attempt.attempt, text));
    SettleAnswer::Settled(decision.reply)
}

/// Queues what follows from a job that has just succeeded. Being in the unit that settles it, it
/// is queued exactly when the job's end is believed, and never for an outcome that comes again.
fn follow(
    job: &Job,
    settlement: &Settlement,
    environments: &BTreeMap<EnvironmentId, Environment>,
    warm_ups: &mut Vec<Job>,
    now: Micros,
    outcome: &mut Outcome,
) {
    let environment = job.environment_id.as_ref().and_then(|id| environments.get(id));
    let (Some(template), Some(environment)) = (&settlement.warm_template, environment) else {
        return;
    };
    let waiting: Vec<Job> = warm_ups
        .iter()
        .filter(|one| one.environment_id.as_ref() == Some(&environment.id))
        .cloned()
        .collect();
    let report = &settlement.outcome;
    let Some((changes, events)) =
        warm::following(job, environment, report, &waiting, template, now)
    else {
        return;
    };
    for change in &changes {
        if let Change::UpdateJob { job, .. } = change {
            warm_ups.retain(|one| one.id != job.id);
        }
    }
    outcome.other_changes.extend(changes);
    outcome.events.extend(events);
}

/// Whether a warm-up may follow from what is settled: then its environment is looked at.
fn may_be_followed(settlement: &Settlement) -> bool {
    settlement.outcome.state == OutcomeState::Succeeded && settlement.warm_template.is_some()
}

/// The warm-ups that wait in environments whose purges may be followed by one.
async fn waiting_warm_ups(
    tx: &mut Tx<'_>,
    settlements: &[Settlement],
    rows: &BTreeMap<JobId, jobs::JobRow>,
) -> Result<Vec<Job>, Failure> {
    let followed = settlements
        .iter()
        .filter(|one| may_be_followed(one))
        .filter_map(|one| rows.get(&one.attempt.job))
        .filter(|row| row.job.state == JobState::Running && warm::is_followed(&row.job))
        .filter_map(|row| row.job.environment_id.as_ref());
    let ids: BTreeSet<&EnvironmentId> = followed.collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = json_rows(ids.into_iter().map(|id| [id.as_str().into()]));
    let dialect = tx.dialect();
    let sql = format!(
        "{} WHERE j.environment_id IN (SELECT v.id FROM {}) AND j.job_type = $2 \
         AND j.state = $3 ORDER BY j.id{}",
        jobs::select("jobs j"),
        dialect.source(1, &["id"]),
        dialect.for_update()
    );
    let (warm, queued) = (JobType::CacheWarm.as_str(), JobState::Queued.as_str());
    tx.fetch_as(sql, &[ids, warm.into(), queued.into()], jobs::read_job).await
}

/// Of the jobs that may be tried again, those behind which a newer one of their type and
/// environment waits. Their environments are locked, so none can come meanwhile.
async fn covered(tx: &mut Tx<'_>, settlements: &[Settlement]) -> Result<BTreeSet<JobId>, Failure> {
    let failed = settlements
        .iter()
        .filter(|one| one.template.supersedes_queued)
        .filter(|one| one.outcome.state == OutcomeState::Failed);
    let ids: Vec<&JobId> = failed.map(|one| &one.attempt.job).collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = format!(
        "SELECT j.id FROM jobs j WHERE j.id IN (SELECT v.id FROM {}) AND EXISTS (SELECT 1 \
         FROM jobs n WHERE n.environment_id = j.environment_id AND n.job_type = j.job_type \
         AND n.position > j.position AND n.state = 'queued')",
        tx.dialect().source(1, &["id"])
    );
    let found = tx.fetch_as(sql, &[jobs::json_ids(ids)], |row| row.parsed()).await?;
    Ok(found.into_iter().collect())
}

/// The environments that settling looks at, locked before the jobs are, as everywhere.
async fn lock_environments(
    tx: &mut Tx<'_>,
    settlements: &[Settlement],
) -> Result<BTreeMap<EnvironmentId, Environment>, Failure> {
    let mut jobs = Vec::with_capacity(settlements.len());
    for one in settlements {
        let looked = !ignores_environment(one.template.job_type, &one.outcome);
        if looked || may_be_followed(one) {
            jobs.push([one.attempt.job.as_str().into(), looked.into()]);
        }
    }
    if jobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let dialect = tx.dialect();
    // Only a job that asks for a warm-up is followed by one: of most purges nothing is read here.
    let sql = format!(
        "SELECT {} FROM environments e WHERE e.id IN (SELECT j.environment_id FROM jobs j \
         JOIN {} ON j.id = v.id WHERE v.looked = 1 OR {}){}",
        dialect.packed(environments::COLUMNS),
        dialect.source(1, &["id", "looked:i"]),
        dialect.says("j.request", "warm"),
        dialect.ordered_for_update("e.id")
    );
    let found = tx.fetch_packed(sql, &[json_rows(jobs)], environments::read_or_id).await?;
    Ok(found.into_iter().filter_map(|(id, environment)| Some((id, environment?))).collect())
}
