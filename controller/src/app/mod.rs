//! Everything that can be *done* here: one file per noun, actor and command in, answer or job out.
//!
//! [`App`] holds what doing needs. The API, the fleet and the loops all go through it; none of
//! them speaks to another.

mod asked;
mod batch_targets;
mod batch_view;
mod batches;
mod bundles;
mod caches;
mod certificates;
pub mod desired;
mod environments;
mod error;
pub mod fleet;
mod hosts;
mod jobs;
mod refreshes;
mod sites;
mod stack_acts;
mod stack_loop;
mod stack_view;
mod stacks;
mod tokens;
pub mod view;
mod watch;

pub use asked::{Asked, IdempotencyKey, Told};
pub use batches::BatchAnswer;
pub use bundles::CollectError;
pub use error::AppError;
pub use stacks::StackFilter;
pub use tokens::{API_TOKEN_PREFIX, ShownToken};

use std::sync::Arc;

use hostler_protocol::id::ControllerId;

use crate::app::desired::Desired;
use crate::clock::Clock;
use crate::events::Events;
use crate::store::Store;
use crate::templates::Templates;

/// What doing anything needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    pub store: Store,
    pub clock: Clock,
    pub templates: Templates,
    pub events: Events,
    pub desired: Desired,
    /// This process.
    pub controller: ControllerId,
    /// What a join string says about this installation.
    pub join: Arc<JoinTarget>,
}

/// Where a new host finds this installation, and how it knows it is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTarget {
    /// `host:port`, at least one.
    pub addresses: Vec<String>,
    /// SHA-256 of the root's public key info (DER).
    pub pin: [u8; 32],
}
