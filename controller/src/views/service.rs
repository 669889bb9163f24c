//! The state of the service itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the process lives (`/livez`) or can serve (`/readyz`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub status: HealthStatus,
}

/// The only status a probe answers with 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    Ok,
}
