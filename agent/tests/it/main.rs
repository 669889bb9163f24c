//! A real agent against a controller of few words: enrolment, sessions, and what survives them.

mod controller;
mod enrolment;
mod sessions;
mod worker;
