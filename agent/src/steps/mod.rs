//! What several actions share: one file per thing that can be done to an environment.
//!
//! Invariants:
//! * a step leaves the host as it was or says what it changed to the [`swap`] it was given;
//! * nothing is written that [`swap`] or [`state`] has not made recoverable first;
//! * what is rendered or judged is a pure function ([`render`], [`wp_config`], [`php`], [`keys`],
//!   [`origin`], [`tracking`]) with tests of its own.

pub mod bundle;
pub mod effect;
pub mod health;
pub mod keys;
pub mod leftover;
pub mod live;
pub mod made;
pub mod nginx;
pub mod object_cache;
pub mod origin;
pub mod page_url;
pub mod php;
pub mod playbook;
pub mod purge;
pub mod redis_switch;
pub mod refresh;
pub mod render;
pub mod run;
pub mod seen;
pub mod soft;
pub mod stack;
pub mod state;
pub mod swap;
pub mod tools;
pub mod tracking;
pub mod verdict;
pub mod warm;
pub mod watch;
pub mod wp_config;
