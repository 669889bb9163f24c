//! What agents' sessions and the loops can do: enrol, open a session, report, ask for work.

use std::sync::Arc;

use hostler_protocol::facts::take_welcomed;
use hostler_protocol::id::{EnrolmentTokenId, HostId};
use hostler_protocol::job::{Code, JobError, JobType, Outcome, OutcomeState, Progress};
use hostler_protocol::message::{AttemptRef, Hello, Verdict};
use hostler_protocol::{
    CLOCK_SKEW_SECS_MAX, FACTS_BYTES_MAX, OUTCOME_BYTES_MAX, PROGRESS_BYTES_MAX,
};
use sha2::{Digest as _, Sha256};

use super::App;
use crate::clock::RandomError;
use crate::domain::decide::{enrol, reconcile};
use crate::domain::{Decision, Host, HostState, Micros, Refusal, Scope, Template};
use crate::pki::ClaimedIdentity;
use crate::store::{
    self, Opening, ProgressLine, SettleAnswer, Settlement, StoreError, TransactError,
};

/// A host that wants to enrol and has proven its key.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub token: EnrolmentTokenId,
    pub secret: Vec<u8>,
    /// SHA-256 of its public key info, lower-case hex.
    pub key_sha256: String,
    pub hostname: String,
    /// A JSON object; anything else counts as empty.
    pub facts: Vec<u8>,
    pub certificate_expires_at: Micros,
}

/// Why nobody was enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A session that is entered.
#[derive(Debug, Clone)]
pub struct Admission {
    pub epoch: u64,
    pub verdicts: Vec<(AttemptRef, Verdict)>,
    /// The attempts that go on: they take up the host's slots.
    pub running: Vec<AttemptRef>,
}

/// A host's word on the end of an attempt.
#[derive(Debug, Clone)]
pub struct Report {
    pub host: HostId,
    pub attempt: AttemptRef,
    pub outcome: Outcome,
    /// The template the attempt runs, where the session knows it.
    pub template: Option<Arc<Template>>,
}

impl App {
    /// Turns a one-time token and a proven key into a host; see [`enrol`].
    ///
    /// # Errors
    /// [`EnrolError::Refused`] with a stable code, or what went wrong here.
    pub async fn enrol(&self, enrolment: Enrolment) -> Result<Host, EnrolError> {
        let scope = Scope { enrolment_token: Some(enrolment.token.clone()), ..Scope::default() };
        let named = self
            .store
            .transact("enrol_name", scope.clone(), |snapshot| {
                let name = snapshot.enrolment_token.as_ref().and_then(|t| t.host_name.clone());
                Ok(Decision { changes: Vec::new(), events: Vec::new(), reply: name })
            })
            .await
            .map_err(enrol_error)?;
        let name = named.reply.unwrap_or_else(|| enrolment.hostname.to_ascii_lowercase());
        let now = self.clock.now();
        let asked = enrol::Enrol {
            secret_sha256: hex::encode(Sha256::digest(&enrolment.secret)),
            key_sha256: enrolment.key_sha256.clone(),
            name: name.clone(),
            new_host: self.clock.new_host_id()?,
            certificate_expires_at: enrolment.certificate_expires_at,
            facts: facts(&enrolment.facts),
        };
        let scope = Scope { host_named: Some(name), key: Some(enrolment.key_sha256), ..scope };
        let host = self
            .store
            .transact("enrol", scope, move |snapshot| enrol::enrol(snapshot, &asked, now))
            .await
            .map_err(enrol_error)?
            .reply;
        let host = self.store.host(&host).await?;
        host.filter(|host| host.state == HostState::Enrolled).ok_or_else(|| {
            EnrolError::Refused(Refusal::new(
                crate::domain::RefusalKind::Denied,
                "HOST_REVOKED",
                "this host was revoked: enrol it anew with another token",
            ))
        })
    }

    /// The enrolled, unrevoked host that this id and this key belong to: its committed key, or the
    /// candidate beside it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn peer(&self, id: &HostId, key_sha256: &str) -> Result<Option<Host>, StoreError> {
        let host = self.store.host(id).await?;
        Ok(host.filter(|host| host.accepts(key_sha256)))
    }

    /// Opens a session of a host and settles what both sides know differently. A candidate key is
    /// committed by it.
    ///
    /// # Errors
    /// [`StoreError::HostHeld`] where two agents show the host's identity; [`StoreError`]: the
    /// session may then be open in the database and has to be closed.
    pub async fn admit(
        &self,
        shown: &ClaimedIdentity,
        hello: &Hello,
    ) -> Result<Admission, StoreError> {
        let (now, host) = (self.clock.now(), &shown.host);
        let clock_skew_ms = hello.clock_us.saturating_sub(now.0) / 1000;
        if clock_skew_ms.unsigned_abs() > CLOCK_SKEW_SECS_MAX * 1000 {
            tracing::warn!(host.id = %host, clock_skew_ms, "a host's clock is far from this one");
        }
        let mut facts = facts(&hello.facts);
        let welcomed = take_welcomed(&mut facts);
        let opening = Opening {
            host: host.clone(),
            controller: self.controller.clone(),
            key_sha256: shown.key_sha256.clone(),
            certificate_expires_at: shown.expires_at,
            facts,
            build: hello.build.clone(),
            clock_skew_ms,
            boot: hello.boot.clone(),
            welcomed,
            now,
        };
        let epoch = self.store.session_open(opening).await?;
        let jobs = self.store.running_on(host).await?;
        let mut found = reconcile::reconcile(&jobs, &hello.running, &hello.unacknowledged);
        let still = self.store.mark_known(&to_store(&found.known), now).await?;
        found.overtaken(&still);
        self.store.requeue_unseen(&to_store(&found.unseen), now).await?;
        let lost = found.lost.into_iter().map(|attempt| {
            let message = "the agent no longer knows this attempt: its journal was lost";
            (attempt, OutcomeState::Failed, JobError::new(Code::Interrupted, message))
        });
        let cancelled = found.cancelled.into_iter().map(|attempt| {
            let message = "cancelled before the agent had seen it";
            (attempt, OutcomeState::Cancelled, JobError::new(Code::Cancelled, message))
        });
        let reports: Vec<Report> = lost
            .chain(cancelled)
            .map(|(attempt, state, error)| Report {
                host: host.clone(),
                attempt,
                outcome: without_result(state, error, now),
                template: None,
            })
            .collect();
        self.settle(reports).await?;
        Ok(Admission { epoch, verdicts: found.verdicts, running: found.known })
    }

    /// Ends a session; unless a newer one is open, what runs on the host is unknown from now on.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub async fn disconnected(&self, host: &HostId, epoch: u64) -> Result<(), StoreError> {
        self.store.session_close(host, epoch, self.clock.now()).await.map(|_| ())
    }

    /// Settles reports; one answer for each, in their order. Every answer is final.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was settled then.
    pub async fn settle(&self, reports: Vec<Report>) -> Result<Vec<SettleAnswer>, StoreError> {
        let mut answers = vec![SettleAnswer::Unknown; reports.len()];
        let mut places = Vec::with_capacity(reports.len());
        let mut settlements = Vec::with_capacity(reports.len());
        for (place, report) in reports.into_iter().enumerate() {
            let template = match report.template {
                Some(template) => template,
                None => {
                    let Some(job) = self.store.job(&report.attempt.job).await? else {
                        // All that is left of a job that a restored copy never knew.
                        tracing::warn!(
                            host.id = %report.host,
                            job.id = %report.attempt.job,
                            attempt = report.attempt.attempt,
                            state = ?report.outcome.state,
                            "a host reports the outcome of a job that this database does not know"
                        );
                        continue;
                    };
                    self.templates.for_job(&job.template, job.job_type)
                }
            };
            places.push(place);
            let followed = template.job_type == JobType::CachePurge;
            settlements.push(Settlement {
                attempt: store_attempt(&report.attempt),
                host: report.host,
                outcome: report.outcome,
                template,
                warm_template: followed.then(|| self.templates.for_type(JobType::CacheWarm)),
            });
        }
        if !settlements.is_empty() {
            let settled = self.store.settle(&settlements, self.clock.now()).await?;
            for (place, answer) in places.into_iter().zip(settled) {
                answers[place] = answer;
            }
        }
        Ok(answers)
    }

    /// The outcome in a `Finished` frame. A job whose outcome cannot be read is held for a person.
    #[must_use]
    pub fn outcome(&self, document: &[u8]) -> Outcome {
        let read: Result<Outcome, _> =
            hostler_protocol::job::read("outcome", document, OUTCOME_BYTES_MAX);
        let wrong = match read {
            Ok(outcome) if outcome.error.as_ref().is_none_or(|error| is_code(&error.code)) => {
                return outcome;
            }
            Ok(_) => "its error's code is none".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!(
            "the agent sent an outcome that cannot be read, so nobody knows how it went: {wrong}"
        );
        let error = JobError::new(Code::Undecodable, message);
        without_result(OutcomeState::Failed, error, self.clock.now())
    }

    /// The outcome of an attempt that an agent refused to begin.
    #[must_use]
    pub fn rejection(&self, document: &[u8]) -> Outcome {
        let read = hostler_protocol::job::read("error", document, OUTCOME_BYTES_MAX);
        let mut error =
            read.ok().filter(|error: &JobError| is_code(&error.code)).unwrap_or_else(|| {
                let message = "the agent refused the job without a readable reason";
                JobError::new(Code::InternalError, message)
            });
        // Before it began an agent says so of nothing but a document it could not read.
        if error.code == Code::SpecInvalid.as_str() {
            error =
                JobError { retry: error.retry, ..JobError::new(Code::Undecodable, error.message) };
        }
        without_result(OutcomeState::Failed, error, self.clock.now())
    }
}

/// Whether a text has the shape of an error's code. It becomes a job's reason, in a unit with what
/// other hosts report: a text that a database does not take must not keep theirs from being written.
fn is_code(text: &str) -> bool {
    let shape = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(shape)
}

/// A line of progress, unless it cannot be read.
#[must_use]
pub fn progress_line(
    host: &HostId,
    attempt: &AttemptRef,
    sequence: u64,
    document: &[u8],
) -> Option<ProgressLine> {
    let progress: Progress =
        hostler_protocol::job::read("progress", document, PROGRESS_BYTES_MAX).ok()?;
    // The wire counts from 0, the store from 1.
    let sequence = sequence.saturating_add(1);
    Some(ProgressLine { attempt: store_attempt(attempt), host: host.clone(), sequence, progress })
}

/// An outcome made here, for an attempt that has no result of its own.
#[must_use]
pub fn without_result(state: OutcomeState, error: JobError, now: Micros) -> Outcome {
    Outcome {
        state,
        result: None,
        error: Some(error),
        steps: Vec::new(),
        started_at_us: now.0,
        finished_at_us: now.0,
    }
}

/// The wire's attempt as the store names it.
#[must_use]
pub fn store_attempt(attempt: &AttemptRef) -> store::AttemptRef {
    store::AttemptRef { job: attempt.job.clone(), attempt: attempt.attempt }
}

/// Many attempts as the store names them.
#[must_use]
pub fn to_store(attempts: &[AttemptRef]) -> Vec<store::AttemptRef> {
    attempts.iter().map(store_attempt).collect()
}

fn facts(document: &[u8]) -> serde_json::Value {
    hostler_protocol::job::read("facts", document, FACTS_BYTES_MAX)
        .ok()
        .filter(serde_json::Value::is_object)
        .unwrap_or_else(|| serde_json::json!({}))
}

fn enrol_error(error: TransactError) -> EnrolError {
    match error {
        TransactError::Refused(refusal) => EnrolError::Refused(refusal),
        TransactError::Store(error) => EnrolError::Store(error),
    }
}
