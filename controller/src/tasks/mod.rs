//! Loops. They take no input: they wake by a bell or a period, look again, act, and may do so as
//! often as they like. All subscribe before they look.

pub mod dispatch;
mod presence;
pub mod sweep;
