//! The HTTP API in one process: real routes, a real store, no agent. Every answer any of these
//! tests sees is held against the contract.

mod access;
mod batches;
mod caches;
mod contract;
mod environments;
mod events;
mod hosts;
mod jobs;
mod purges;
mod refreshes;
pub(crate) mod repository;
mod rig;
mod shape;
mod stack_acts;
mod stack_faults;
mod stack_keys;
mod stack_leaves;
mod stacks;
mod strict;
mod warming;
mod webhooks;
