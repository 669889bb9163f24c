//! Documents as people read them. Nothing here asks or decides anything.

mod cache;
mod environment;
mod fleet;
mod job;
mod pages;
mod purge;
mod result;
mod units;

pub(super) use cache::caches;
pub(super) use environment::{environment, environments, next_steps};
pub(super) use fleet::{host, hosts, sites, tokens};
pub(super) use job::{job, job_outcome, jobs};
pub(super) use pages::facts;
pub(super) use result::found_errors;
pub(super) use units::when;
