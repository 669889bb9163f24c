//! `decide(snapshot, command, now) → changes or a refusal`, one file per noun. Pure: new ids come
//! in with the command.

pub mod batch;
pub mod cache;
pub mod draft;
pub mod enqueue;
pub mod enrol;
pub mod environment;
pub mod host;
pub mod job;
pub mod look;
pub mod purge;
pub mod reconcile;
pub mod refresh;
pub mod renew;
pub mod settle;
pub mod site;
pub mod stack;
pub mod token;
pub mod warm;
