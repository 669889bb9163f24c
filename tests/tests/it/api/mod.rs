//! The HTTP API in one process: real routes, a real store, no agent. Every answer any of these
//! tests sees is held against the contract.

mod access;
mod caches;
mod contract;
mod environments;
mod events;
mod hosts;
mod jobs;
mod purges;
mod rig;
mod shape;
mod strict;
mod warming;
