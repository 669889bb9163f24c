//! Loops. They take no input: they wake by a bell or a period, look again, act, and may do so as
//! often as they like. All subscribe before they look.

pub mod batches;
pub mod bundles;
pub mod cluster;
pub mod dispatch;
pub mod presence;
pub mod refresh;
pub mod stacks;
pub mod sweep;
