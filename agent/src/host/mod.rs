//! Every side effect the agent has on its host, one file per thing.
//!
//! Invariants:
//! * nothing here decides what should be: it does one thing and says how that went;
//! * [`process`] is the only place that starts programs, [`redis`] the only one that names the
//!   Redis client, [`probe`] and [`docker`] the only ones that speak HTTP;
//! * no path a job named is touched except through [`fs::Roots`] or, in a bundle's directory,
//!   [`tree::Tree`];
//! * no clock and no randomness: deadlines come in as durations, names as arguments.

pub mod age;
pub mod ansible;
pub mod docker;
pub mod fake;
pub mod fastcgi;
pub mod fpm;
pub mod fs;
pub mod links;
pub mod load;
pub mod nginx;
pub mod probe;
pub mod process;
pub mod redis;
pub mod tree;
