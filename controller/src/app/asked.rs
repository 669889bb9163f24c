//! Who asks, and how often they may have asked before.

use hostler_protocol::id::RequestId;
use hostler_protocol::job::JobType;

use super::{App, AppError};
use crate::domain::IdempotencyRecord;
use crate::domain::decide::enqueue::Making;

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
}

impl App {
    /// What a command that makes a job of this type needs.
    ///
    /// # Errors
    /// [`AppError::Random`] when there are no random bytes for its id.
    pub fn making(&self, asked: &Asked, job_type: JobType) -> Result<Making, AppError> {
        let (job_id, now) = (self.clock.new_job_id()?, self.clock.now());
        let idempotency = asked.idempotency.as_ref().map(|known| IdempotencyRecord {
            principal: asked.principal.clone(),
            key: known.key.clone(),
            request_sha256: known.request_sha256.clone(),
            job_id: job_id.clone(),
            created_at: now,
        });
        let template = self.templates.for_type(job_type).as_ref().clone();
        let request_id = Some(asked.request_id.clone());
        Ok(Making { job_id, request_id, template, idempotency, now })
    }
}
