//! What the outside sends and reads: request and response documents of the HTTP API, with their
//! schemas, shared by the API, the page at `/` and the operator CLI.
//!
//! Invariants: plain data, no other room of the controller is imported; requests refuse unknown
//! fields and explicit nulls, answers may grow; ids are text, times RFC 3339 UTC; no document ever
//! carries a secret, except the two answers that hand out a token once.

mod batch;
mod cache;
mod environment;
mod environment_request;
mod event;
mod host;
mod ids;
mod job;
mod label;
mod present;
mod problem;
mod service;
mod site;
mod stack;
mod time;
mod token;

pub use batch::{
    Batch, BatchAccepted, BatchAction, BatchCounts, BatchPage, BatchPlan, BatchState, BatchTarget,
    BatchTargetPage, BatchTargets, CreateBatch, PlannedRefusal, PlannedTarget, TargetState,
};
pub use cache::{
    CacheFlag, CacheName, CacheState, ExplainUrl, PurgeCaches, PurgeMode, SetCaches, WarmCache,
};
pub use environment::{
    AppKind, Environment, EnvironmentPage, EnvironmentState, Executor, FastcgiSettings,
    HealthSettings, NginxSettings, RedisSettings,
};
pub use environment_request::{
    ChangeEnvironment, ChangeFastcgi, ChangeHealth, ChangeNginx, ChangeRedis, CreateEnvironment,
    NewFastcgi, NewHealth, NewNginx, NewRedis,
};
pub use event::{EndOfStream, Event};
pub use host::{ChangeHost, Host, HostPage, HostState, Revocation, RevokeHost};
pub use ids::{
    BatchIdText, EnrolmentTokenIdText, EnvironmentIdText, HostIdText, JobIdText, RefreshIdText,
    RequestIdText, SiteIdText, StackIdText,
};
pub use job::{
    CancelJob, Job, JobAccepted, JobError, JobPage, JobState, JobStep, JobType, Retry, StepState,
    WaitKind, WaitsFor,
};
pub use label::{LabelChanges, Labels};
pub use problem::{FieldProblem, Problem};
pub use service::{Health, HealthStatus};
pub use site::{CreateSite, RenameSite, Site, SitePage};
pub use stack::{
    AcceptDrift, Commit, Container, Drift, PlanStack, Refresh, RefreshCounts, RefreshError,
    RefreshPage, RefreshState, RefreshStatus, RefreshTrigger, RollBackStack, ServiceChange, Stack,
    StackAttempt, StackJob, StackJobs, StackOnHost, StackPage, StackProblem, StackRow, StackStatus,
    StackTargets, SyncStack, WebhookAnswer,
};
pub use time::Timestamp;
pub use token::{
    CreateEnrolmentToken, EnrolmentToken, EnrolmentTokenCreated, EnrolmentTokenPage,
    EnrolmentTokenState,
};
