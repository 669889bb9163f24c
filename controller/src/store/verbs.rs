//! The store's operations.

use hostler_protocol::id::{ApiTokenId, ControllerId, EnvironmentId, HostId, JobId, SiteId};

use super::types::*;
use super::{Store, StoreError};
use crate::domain::{
    ApiToken, EnrolmentToken, Environment, Event, Host, Job, Micros, NewJob, Site,
};

macro_rules! verbs {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {
        impl Store {$(
            pub async fn $name(&self, $($arg: $ty),*) -> Result<$ret, StoreError> {
                $(drop($arg);)*
                self.pending(stringify!($name)).await
            }
        )*}
    };
}

verbs! {
    enqueue(jobs: &[NewJob], now: Micros) -> Vec<EnqueueAnswer>;
    claim(hosts: &[ClaimHost], now: Micros, limit: u32) -> Vec<Claimed>;
    accept(attempts: &[AttemptRef], now: Micros) -> Vec<bool>;
    renew(attempts: &[AttemptRef]) -> Vec<bool>;
    settle(settlements: &[Settlement], now: Micros) -> Vec<SettleAnswer>;
    progress(lines: &[ProgressLine]) -> ();
    requeue_unseen(attempts: &[AttemptRef], now: Micros) -> Vec<bool>;
    mark_unknown(attempts: &[AttemptRef], now: Micros) -> Vec<bool>;
    mark_known(attempts: &[AttemptRef], now: Micros) -> Vec<bool>;
    session_open(host: &HostId, controller: &ControllerId, facts: serde_json::Value, build: &str, now: Micros) -> u64;
    session_close(host: &HostId, epoch: u64, now: Micros) -> bool;
    sessions_clear(controller: Option<&ControllerId>, now: Micros) -> u64;
    site(id: &SiteId) -> Option<Site>;
    sites(page: &Page) -> Paged<Site>;
    environment(id: &EnvironmentId) -> Option<Environment>;
    environments(filter: &EnvironmentFilter, page: &Page) -> Paged<Environment>;
    host(id: &HostId) -> Option<Host>;
    hosts(page: &Page) -> Paged<Host>;
    host_by_key(key_sha256: &str) -> Option<Host>;
    job(id: &JobId) -> Option<Job>;
    jobs(filter: &JobFilter, page: &Page) -> Paged<Job>;
    running_on(host: &HostId) -> Vec<Job>;
    running_all() -> Vec<Job>;
    cancel_requested(hosts: &[HostId]) -> Vec<HostAttempt>;
    waiting_for(job: &JobId) -> Vec<WaitsFor>;
    enrolment_tokens(page: &Page) -> Paged<EnrolmentToken>;
    api_tokens(page: &Page) -> Paged<ApiToken>;
    api_token(id: &ApiTokenId) -> Option<ApiToken>;
    events_after(seq: i64, limit: u32, filter: &EventFilter) -> Vec<Event>;
    events_bounds() -> (i64, i64);
    expire_queued(now: Micros, limit: u32) -> u64;
    archive_finished(before: Micros, limit: u32) -> u64;
    prune_events(before: Micros, keep_min: u32, limit: u32) -> u64;
    prune_idempotency(before: Micros) -> u64;
    prune_tokens(before: Micros) -> u64;
    stats() -> QueueStats;
}
