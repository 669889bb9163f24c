//! What Hostler knows and how it may change: pure types, one `apply` per state machine, and
//! `decide(snapshot, command, now) → changes`.
//!
//! Invariants: no async, no IO, no clock, no randomness here: times and new ids are arguments.
//! What should be, what was tried and what is are different fields, and every change of any of
//! them carries an event.

pub mod batch;
pub mod change;
pub mod decide;
pub mod desired;
pub mod environment;
pub mod event;
pub mod host;
pub mod job;
pub mod label;
pub mod lineage;
pub mod site;
pub mod spec;
pub mod stack;
pub mod template;
pub mod token;
pub mod validate;
pub mod webhook;

pub use batch::{Batch, BatchAction, BatchOptions, BatchState, Seen, Target, TargetState};
pub use change::{BannedKey, Change, Decision, Refusal, RefusalKind, Scope, Snapshot};
pub use environment::{CacheFlag, Environment, EnvironmentState};
pub use event::{Event, EventKind, NewEvent, Subject};
pub use host::{Candidate, Host, HostState, Revocation};
pub use hostler_protocol::time::Micros;
pub use job::{Job, JobState, Lane, NewJob};
pub use label::{LabelChanges, Labels};
pub use lineage::Lineage;
pub use site::Site;
pub use template::Template;
pub use token::{Answered, ApiScope, ApiToken, EnrolmentToken, IdempotencyRecord, StackJob};
