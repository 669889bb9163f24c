//! Who asks, and how often they may have asked before.

use hostler_protocol::id::RequestId;
use hostler_protocol::job::JobType;

use super::{App, AppError};
use crate::domain::decide::enqueue::{self, Making};
use crate::domain::{Answered, Change, IdempotencyRecord, Micros, Refusal};

/// The request behind a command.
#[derive(Debug, Clone)]
pub struct Asked {
    /// An API token's id, or `local`.
    pub principal: String,
    pub request_id: RequestId,
    /// Its `Idempotency-Key`, if it carried one.
    pub idempotency: Option<IdempotencyKey>,
}

/// A request that must not be carried out twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 of method, path and body, hex.
    pub request_sha256: String,
}

impl Asked {
    /// What the store has to look up to recognise the request.
    #[must_use]
    pub fn scope(&self) -> Option<(String, String)> {
        self.idempotency.as_ref().map(|known| (self.principal.clone(), known.key.clone()))
    }

    /// What came of the request when it was made before.
    ///
    /// # Errors
    /// `KEY_REUSED` when its key came with another request.
    pub fn answered<'s>(
        &self,
        known: Option<&'s IdempotencyRecord>,
    ) -> Result<Option<&'s Answered>, Refusal> {
        let asked = self.idempotency.as_ref().map(|asked| asked.request_sha256.as_str());
        enqueue::answered(asked, known)
    }

    /// What is to be remembered of it, if it carried a key.
    fn record(&self, answered: Answered, now: Micros) -> Option<IdempotencyRecord> {
        self.idempotency.as_ref().map(|asked| IdempotencyRecord {
            principal: self.principal.clone(),
            key: asked.key.clone(),
            request_sha256: asked.request_sha256.clone(),
            answered,
            created_at: now,
        })
    }

    /// The change that remembers what came of it.
    #[must_use]
    pub fn remember(&self, answered: Answered, now: Micros) -> Option<Change> {
        self.record(answered, now).map(Change::RecordIdempotency)
    }
}

/// What a request is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<T> {
    pub what: T,
    /// The same request was carried out before, and this is what came of it.
    pub replayed: bool,
}

impl App {
    /// What a command that makes a job of this type needs.
    ///
    /// # Errors
    /// [`AppError::Random`] when there are no random bytes for its id.
    pub fn making(&self, asked: &Asked, job_type: JobType) -> Result<Making, AppError> {
        let (job_id, now) = (self.clock.new_job_id()?, self.clock.now());
        let idempotency = asked.record(Answered::Job(job_id.clone()), now);
        let template = self.templates.for_type(job_type).as_ref().clone();
        let request_id = Some(asked.request_id.clone());
        Ok(Making { job_id, request_id, template, idempotency, now })
    }

    /// What came of the request when it was made before: asked before what it names is looked up,
    /// which may be gone by now. The unit that carries it out asks again.
    ///
    /// # Errors
    /// `KEY_REUSED`, [`AppError::Store`].
    pub(super) async fn answered(&self, asked: &Asked) -> Result<Option<Answered>, AppError> {
        let Some((principal, key)) = asked.scope() else { return Ok(None) };
        let known = self.store.idempotent_request(&principal, &key).await?;
        Ok(asked.answered(known.as_ref())?.cloned())
    }
}
