//! Stacks: directories of the configuration repository that hold a compose file.
//!
//! What a commit says of them follows from its trees and blobs alone: [`discover`] finds the
//! stacks, [`compose`] reads their files, [`fingerprint`] says when two states of one are the same,
//! [`state`] what has become of one on a host. What is wrong with a stack is kept beside it and
//! stops no other stack; only a tree that cannot be read at all is an error, since nothing may be
//! called removed that could not be looked for.

pub mod bundle;
mod cached;
mod candidate;
pub mod compose;
pub mod discover;
mod dotenv;
pub mod fingerprint;
mod found;
pub mod hostler;
mod parallel;
pub mod path;
pub mod problem;
pub mod project;
mod reading;
pub mod state;
pub mod testing;
pub mod tree;
mod volumes;
pub mod yaml;

pub use bundle::Bundle;
pub use compose::{ComposeFile, Reference, ReferenceKind, Service};
pub use discover::{Discovery, Limits, discover};
pub use fingerprint::BundleFile;
pub use found::Found;
pub use hostler::HostlerSection;
pub use problem::Problem;
pub use state::{StackEvent, StackStatus};
pub use tree::{EntryKind, Node, Tree, TreeError};
