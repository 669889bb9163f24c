//! What a decision is made on, and what it makes.

use hostler_protocol::id::{
    ApiTokenId, BatchId, EnrolmentTokenId, EnvironmentId, HostId, JobId, SiteId, StackId,
};

use super::desired::{DesiredState, Refresh, Stack, StackHost};
use super::{
    ApiToken, Batch, EnrolmentToken, Environment, Host, IdempotencyRecord, Job, Micros, NewEvent,
    NewJob, Seen, Site, Target,
};

/// What has to be loaded before a command can be decided. Everything named and existing is in
/// the [`Snapshot`]; what does not exist is simply absent there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub site: Option<SiteId>,
    pub site_named: Option<String>,
    /// Also loads its site, its host, and every job of it that has not ended.
    pub environment: Option<EnvironmentId>,
    /// All environments of `site` (or of `site_named`).
    pub site_environments: bool,
    /// Also loads every environment on it; together with `job` or `host_jobs` those that can be read.
    pub host: Option<HostId>,
    pub host_named: Option<String>,
    /// A host's key, SHA-256 in hex: who is enrolled with it, and whether it is banned.
    pub key: Option<String>,
    /// All environments whose Redis is at this `host:port` (or `unix:path`) and not loopback.
    pub redis_server: Option<String>,
    /// Also loads its environment, if it has one.
    pub job: Option<JobId>,
    /// Every job of `host` that has not ended.
    pub host_jobs: bool,
    pub enrolment_token: Option<EnrolmentTokenId>,
    pub api_token: Option<ApiTokenId>,
    /// Principal and key.
    pub idempotency: Option<(String, String)>,
    pub batch: Option<BatchId>,
    /// The batch of that principal and key; not together with `batch`.
    pub batch_keyed: Option<(String, String)>,
    /// All targets of `batch`, with what can be seen of them.
    pub batch_seen: bool,
    /// The target of `batch` at this place.
    pub batch_target: Option<u32>,
    /// Also loads its rows on its hosts, and the jobs those name.
    pub stack: Option<StackId>,
    /// Every stack, and the snapshot that holds.
    pub stacks: bool,
    /// The looks that have not ended; nobody else asks for, begins or ends one meanwhile.
    pub refreshes: bool,
    /// The newest look that a webhook's delivery asked for.
    pub refresh_delivered: Option<String>,
}

/// What was loaded, in the same atomic unit the changes are written in.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub site: Option<Site>,
    pub site_named: Option<Site>,
    pub site_environments: Vec<Environment>,
    pub environment: Option<Environment>,
    pub host: Option<Host>,
    pub host_named: Option<Host>,
    pub host_environments: Vec<Environment>,
    /// The enrolled host that accepts the key.
    pub key_holder: Option<HostId>,
    pub key_banned: bool,
    pub redis_environments: Vec<Environment>,
    /// Of the environment, oldest first, not ended.
    pub environment_jobs: Vec<Job>,
    /// Of the host, oldest first, not ended.
    pub host_jobs: Vec<Job>,
    pub job: Option<Job>,
    pub enrolment_token: Option<EnrolmentToken>,
    pub api_token: Option<ApiToken>,
    pub idempotency: Option<IdempotencyRecord>,
    pub batch: Option<Batch>,
    /// In the order of their places.
    pub batch_seen: Vec<Seen>,
    pub batch_target: Option<Target>,
    pub stack: Option<Stack>,
    pub stack_hosts: Vec<StackHost>,
    pub stack_jobs: Vec<Job>,
    pub stacks: Vec<Stack>,
    pub desired: Option<DesiredState>,
    /// Oldest first.
    pub refreshes: Vec<Refresh>,
    pub refresh_delivered: Option<Refresh>,
}

/// One row to write. Updates carry the whole row; environments are guarded by `version` (the row
/// must still have `version - 1`), jobs by the state and attempt they were decided on.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    InsertSite(Site),
    UpdateSite(Site),
    DeleteSite(SiteId),
    InsertEnvironment(Box<Environment>),
    UpdateEnvironment(Box<Environment>),
    DeleteEnvironment(EnvironmentId),
    InsertHost(Box<Host>),
    UpdateHost(Box<Host>),
    /// Only a revoked one without environments.
    DeleteHost(HostId),
    /// A key that is refused from now on, also when its host is forgotten.
    BanKey(BannedKey),
    InsertEnrolmentToken(EnrolmentToken),
    UpdateEnrolmentToken(EnrolmentToken),
    DeleteEnrolmentToken(EnrolmentTokenId),
    InsertApiToken(ApiToken),
    UpdateApiToken(ApiToken),
    EnqueueJob(Box<NewJob>),
    UpdateJob {
        job: Box<Job>,
        was: (super::JobState, u32),
    },
    RecordIdempotency(IdempotencyRecord),
    InsertBatch(Box<Batch>, Vec<Target>),
    UpdateBatch(Box<Batch>),
    /// What became of a target, found by its place; one that has ended stays as it is.
    UpdateTarget(BatchId, Target),
    InsertRefresh(Box<Refresh>),
    UpdateRefresh(Box<Refresh>),
    PutDesiredState(Box<DesiredState>),
    /// New ones, and known ones whose row must still have `version - 1`.
    PutStacks(Vec<Stack>),
    DeleteStack(StackId),
    /// As [`Change::PutStacks`].
    PutStackHosts(Vec<StackHost>),
    DeleteStackHost(StackId, HostId),
}

/// A key that may never again be a host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BannedKey {
    pub key_sha256: String,
    pub host_id: HostId,
    /// The host's name when it was banned, for people.
    pub host_name: String,
    pub banned_at: Micros,
}

/// The outcome of deciding: rows to write, events to append, and what to tell the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<T> {
    pub changes: Vec<Change>,
    pub events: Vec<NewEvent>,
    pub reply: T,
}

impl<T> Decision<T> {
    /// The same changes and events with another reply.
    #[must_use]
    pub fn map<U>(self, reply: impl FnOnce(T) -> U) -> Decision<U> {
        Decision { changes: self.changes, events: self.events, reply: reply(self.reply) }
    }
}

/// Why a command is not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// Stable, upper case (`ENVIRONMENT_DELETING`).
    pub code: &'static str,
    /// A sentence that says what to do.
    pub message: String,
    /// JSON pointers into the request and what is wrong there.
    pub fields: Vec<(String, String)>,
}

/// What sort of refusal; the API maps each to one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request is wrong in itself.
    Invalid,
    NotFound,
    /// A state that waiting cannot cure, or a claim that overlaps another's.
    Conflict,
    /// An `Idempotency-Key` used for another request.
    KeyReused,
    /// A secret or certificate that is not valid (enrolment).
    Denied,
}

impl Refusal {
    /// A refusal about the request as a whole.
    #[must_use]
    pub fn new(kind: RefusalKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), fields: Vec::new() }
    }
}
