//! A host: a machine with an agent.

use hostler_protocol::id::HostId;

use super::{Labels, Micros};

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

/// How a host was shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The machine may be enrolled again with a new token, as another host.
    Evict,
    /// Its keys are refused for good, whatever token comes with them.
    Ban,
}

impl Revocation {
    /// The kind's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Ban => "ban",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Evict, Self::Ban].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A key that was certified and has not been proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub key_sha256: String,
    pub certificate_expires_at: Micros,
}

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub id: HostId,
    /// Unique, lower case: letters, digits, dots and hyphens.
    pub name: String,
    pub state: HostState,
    /// SHA-256 of the public key (SPKI, DER) of its committed certificate, hex.
    pub key_sha256: String,
    /// When the certificate it last showed ends.
    pub certificate_expires_at: Micros,
    /// The next key, accepted beside the committed one until a session proves it.
    pub candidate: Option<Candidate>,
    /// When a new key was last committed.
    pub certificate_renewed_at: Option<Micros>,
    /// How often it came back with a certificate that had ended.
    pub recoveries: u32,
    pub recovered_at: Option<Micros>,
    /// How far its clock was ahead of the controller's at its last Hello.
    pub clock_skew_ms: Option<i64>,
    /// What the agent said of the host in its last Hello: a JSON object.
    pub facts: serde_json::Value,
    /// What people call it, and with it every environment on it.
    pub labels: Labels,
    pub agent_build: Option<String>,
    /// When a session of it last began, ended or renewed; `connected` is a row of its own.
    pub last_seen_at: Option<Micros>,
    /// Whether a session is open now (read from the presence row; ignored on write).
    pub connected: bool,
    /// Since when two agents show its identity, so that neither is let in (written when a session
    /// is opened; ignored on write).
    pub held_at: Option<Micros>,
    pub created_at: Micros,
    pub revoked_at: Option<Micros>,
    /// Set together with `revoked_at`.
    pub revoked_as: Option<Revocation>,
}

impl Host {
    /// Whether its name can be nobody else's: an evicted host's may be given away at once, a banned
    /// one's only when it is forgotten, so that the machine does not come back as itself with a
    /// token that names no host.
    #[must_use]
    pub fn holds_name(&self) -> bool {
        self.state == HostState::Enrolled || self.revoked_as == Some(Revocation::Ban)
    }

    /// Whether a certificate of this key opens a session of the host.
    #[must_use]
    pub fn accepts(&self, key_sha256: &str) -> bool {
        let candidate = self.candidate.as_ref().map(|candidate| candidate.key_sha256.as_str());
        self.state == HostState::Enrolled
            && (self.key_sha256 == key_sha256 || candidate == Some(key_sha256))
    }
}

#[cfg(test)]
impl Host {
    /// An enrolled host of key `k1` whose certificate ends then.
    pub(crate) fn sample(certificate_expires_at: Micros) -> Self {
        Self {
            id: HostId::from_parts(1, [1; 10]),
            name: "web-1".to_owned(),
            state: HostState::Enrolled,
            key_sha256: "k1".to_owned(),
            certificate_expires_at,
            candidate: None,
            certificate_renewed_at: None,
            recoveries: 0,
            recovered_at: None,
            clock_skew_ms: None,
            facts: serde_json::json!({}),
            labels: Labels::new(),
            agent_build: None,
            last_seen_at: None,
            connected: true,
            held_at: None,
            created_at: Micros(0),
            revoked_at: None,
            revoked_as: None,
        }
    }
}
