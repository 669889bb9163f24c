//! Tokens: one-time enrolment, API access, and the memory of idempotent requests. Only hashes of
//! secrets are ever kept.

use hostler_protocol::id::{ApiTokenId, EnrolmentTokenId, HostId, JobId, RefreshId, StackId};
use serde::{Deserialize, Serialize};

use super::Micros;

/// A one-time enrolment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    pub id: EnrolmentTokenId,
    /// SHA-256 of the secret, hex.
    pub secret_sha256: String,
    /// The name the host gets; `None`: its own hostname.
    pub host_name: Option<String>,
    pub created_at: Micros,
    pub expires_at: Micros,
    /// Set once, with the key that used it: the same key may ask again and gets the same host.
    pub used_at: Option<Micros>,
    pub used_by_key_sha256: Option<String>,
    pub host_id: Option<HostId>,
}

/// What an API token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiScope {
    /// Every GET.
    Read,
    /// Jobs and caches: toggle, purge, reconcile, check, cancel, retry, release.
    Operate,
    /// Sites, environments, hosts, enrolment tokens.
    Admin,
}

impl ApiScope {
    /// Every scope, weakest first; a stronger one includes the weaker.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// The scope's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: ApiTokenId,
    /// What it is for, for people.
    pub name: String,
    /// SHA-256 of the secret, hex.
    pub secret_sha256: String,
    pub scope: ApiScope,
    pub created_at: Micros,
    pub expires_at: Option<Micros>,
    pub revoked_at: Option<Micros>,
}

/// The job of a stack on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackJob {
    pub host: HostId,
    /// The host's name when it was queued.
    pub name: String,
    pub job: JobId,
}

/// What came of a request: who repeats it is told that, and nothing is done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    Job(JobId),
    StackJobs(Vec<StackJob>),
    /// Something of that stack was changed.
    Stack(StackId),
    Refresh(RefreshId),
}

/// A request that carried an `Idempotency-Key`, and what came of it; kept for a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Who asked: an API token's id, or `local`.
    pub principal: String,
    pub key: String,
    /// SHA-256 of method, path and body, hex: another request under the same key is refused.
    pub request_sha256: String,
    pub answered: Answered,
    pub created_at: Micros,
}
