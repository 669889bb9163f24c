//! Documents as people read them. Nothing here asks or decides anything.

mod batch;
mod cache;
mod environment;
mod fleet;
mod job;
mod pages;
mod purge;
mod refresh;
mod result;
mod stack;
mod sync;
mod units;

pub(super) use batch::{batch, batches, plan, standing, targets};
pub(super) use cache::caches;
pub(super) use environment::{environment, environments, next_steps};
pub(super) use fleet::{host, hosts, sites, tokens};
pub(super) use job::{job, job_outcome, jobs};
pub(super) use pages::facts;
pub(super) use refresh::{refresh, refresh_status, refreshes};
pub(super) use result::found_errors;
pub(super) use stack::{history, stack, stacks};
pub(super) use units::{when, word};
