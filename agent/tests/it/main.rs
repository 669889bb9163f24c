//! A real agent against a controller of few words: enrolment, sessions, and what survives them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controller;
mod enrolment;
mod kills;
mod renewal;
mod sessions;
mod worker;
