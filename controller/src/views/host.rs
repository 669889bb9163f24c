//! Hosts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::present::present;
use super::{Labels, Timestamp};

/// Whether a host may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    Enrolled,
    /// Its certificate is refused; `revoked_as` says how it was shut out.
    Revoked,
}

/// How a host is shut out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The machine may be enrolled again with a new token, as another host.
    #[default]
    Evict,
    /// Its keys are refused for good, whatever token comes with them.
    Ban,
}

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    #[schema(value_type = super::HostIdText)]
    pub id: String,
    pub name: String,
    pub state: HostState,
    /// Whether its agent is connected now.
    pub connected: bool,
    /// SHA-256 of the public key in its certificate, lower-case hex.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub key_sha256: String,
    /// When the certificate it last showed ends.
    pub certificate_expires_at: Timestamp,
    /// When it last took a new key and certificate into use; null: it has those it enrolled with.
    pub certificate_renewed_at: Option<Timestamp>,
    /// How often it came back with a certificate that had ended, by its key.
    pub recoveries: u32,
    pub recovered_at: Option<Timestamp>,
    /// How far its clock was ahead of the controller's (behind, if negative) when it last
    /// connected, in milliseconds.
    pub clock_skew_ms: Option<i64>,
    /// The agent's version, if it ever connected.
    pub agent_build: Option<String>,
    /// What the agent said of the host when it last connected.
    #[schema(value_type = Object)]
    pub facts: serde_json::Value,
    /// What people call it, and with it every environment on it.
    #[serde(default)]
    #[schema(required)]
    pub labels: Labels,
    /// When a session of it last began or ended.
    pub last_seen_at: Option<Timestamp>,
    /// Since when two agents show its identity and neither is let in: revoke it, and enrol each
    /// machine anew. Null: it is not held.
    pub held_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub revoked_as: Option<Revocation>,
}

/// One page of hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostPage {
    pub items: Vec<Host>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// Shuts a host out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeHost {
    /// Left out: `evict`.
    #[serde(rename = "as", default)]
    pub kind: Revocation,
}

/// A change of a host; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeHost {
    /// Unique; a host name: lower-case letters, digits, hyphens and dots between labels.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$",
        max_length = 253,
        example = "web1"
    )]
    pub name: Option<String>,
    /// Labels to set, and (as null) to take away; others stay. Every environment on the host has
    /// them too, unless it says otherwise itself.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub labels: Option<super::LabelChanges>,
}
