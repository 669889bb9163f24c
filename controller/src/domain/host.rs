//! A host: a machine with an agent.

use hostler_protocol::id::HostId;

use super::Micros;

/// Whether a host may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    Enrolled,
    /// Never again: its certificate is refused and its live session closed.
    Revoked,
}

impl HostState {
    /// The state's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Enrolled, Self::Revoked].into_iter().find(|state| state.as_str() == text)
    }
}

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub id: HostId,
    /// Unique, lower case: letters, digits, dots and hyphens.
    pub name: String,
    pub state: HostState,
    /// SHA-256 of the public key (SPKI, DER) of its current certificate, hex.
    pub key_sha256: String,
    pub certificate_expires_at: Micros,
    /// What the agent said of the host in its last Hello: a JSON object.
    pub facts: serde_json::Value,
    pub agent_build: Option<String>,
    /// When a session of it last began, ended or renewed; `connected` is a row of its own.
    pub last_seen_at: Option<Micros>,
    /// Whether a session is open now (read from the presence row; ignored on write).
    pub connected: bool,
    pub created_at: Micros,
    pub revoked_at: Option<Micros>,
}
