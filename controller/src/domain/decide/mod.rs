//! `decide(snapshot, command, now) → changes or a refusal`, one file per noun. Pure: new ids come
//! in with the command.

pub mod enrol;
pub mod job;
pub mod reconcile;
pub mod settle;
