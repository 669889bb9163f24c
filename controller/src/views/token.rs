//! Enrolment tokens: how a new host is let in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;
use super::present::present;

/// What became of an enrolment token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentTokenState {
    /// Nobody has used it yet.
    Waiting,
    Used,
    Expired,
}

/// A one-time enrolment token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentToken {
    #[schema(value_type = super::EnrolmentTokenIdText)]
    pub id: String,
    pub state: EnrolmentTokenState,
    /// The name the host gets; null: its own hostname.
    pub host_name: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
    /// The host that used it.
    #[schema(value_type = Option<super::HostIdText>)]
    pub host_id: Option<String>,
}

/// A new enrolment token with its join string, which is shown this once and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenCreated {
    #[schema(value_type = super::EnrolmentTokenIdText)]
    pub id: String,
    pub host_name: Option<String>,
    pub expires_at: Timestamp,
    /// A secret: `hostler-agent enroll` reads it on the new host.
    #[schema(pattern = "^hostler1\\.")]
    pub join: String,
}

impl std::fmt::Debug for EnrolmentTokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolmentTokenCreated").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One page of enrolment tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenPage {
    pub items: Vec<EnrolmentToken>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// A new enrolment token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrolmentToken {
    /// The name the host gets; left out: its own hostname.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
        max_length = 253,
        example = "web1"
    )]
    pub host_name: Option<String>,
    /// How long it may be used, in seconds; left out: 15 minutes.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 60, maximum = 86400, default = 900)]
    pub ttl_secs: Option<u64>,
}
