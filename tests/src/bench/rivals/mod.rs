//! What people would use instead, and what the machine can do at best: the other side of each
//! ratio.

pub mod ansible;
pub mod compose;
pub mod fsync;
pub mod git;
pub mod grep;
pub mod header_scan;
pub mod pgbench;
pub mod purge_module;
pub mod quic;
pub mod redis;
pub mod stock;
