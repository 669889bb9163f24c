//! The envelope: what is said on a stream.
//!
//! Append-only: the encoding names variants by position, so a new or changed message is a new
//! variant at the end, never an insertion, and no serde attribute may stand on these types.
//! `contracts/wire/` holds the golden bytes of one example of each.

use serde::{Deserialize, Serialize};

use crate::id::{BootId, ControllerId, EnrolmentTokenId, HostId, JobId};

/// One attempt of one job: the fence. Nothing about a job is believed unless both match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    pub job: JobId,
    pub attempt: u32,
}

/// From an agent to a controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToController {
    /// First on the control stream.
    Hello(Hello),
    /// On the control stream, every [`crate::KEEP_ALIVE_SECS`]; renews the lease of what runs.
    Heartbeat { sequence: u64, running: Vec<AttemptRef> },
    /// On the job's stream: the attempt is journalled and will run.
    Accepted { attempt: AttemptRef },
    /// On the job's stream: nothing was done and nothing will be; `error` is a `JobError` document.
    Rejected { attempt: AttemptRef, error: Vec<u8> },
    /// On the job's stream: a `Progress` document; `sequence` counts from 0 within the attempt.
    Progress { attempt: AttemptRef, sequence: u64, document: Vec<u8> },
    /// On the job's stream: an `Outcome` document; repeated on each session until `Ack`.
    Finished { attempt: AttemptRef, outcome: Vec<u8> },
    /// On the enrolment stream.
    Enrol(EnrolRequest),
    /// On the control stream: the agent stops; what it accepted stays in its journal.
    Goodbye { reason: String },
    /// On the control stream, from version [`crate::VERSION_RENEWAL`] on: certify this new key of
    /// the session's host. PKCS#10, DER; its subject is ignored.
    Renew { csr: Vec<u8> },
    /// First on the stream of a returning host.
    Recover(RecoverRequest),
    /// Answer to `Challenge`.
    Prove(RecoverProof),
    /// On the control stream, from version [`crate::VERSION_OBSERVED`] on: an
    /// [`crate::observed::Observed`] document. Not repeated: the next one says it anew.
    Observed { document: Vec<u8> },
}

/// From a controller to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// Instead of `Welcome`: a stable code and a sentence that says which side must change.
    Refused { code: String, message: String },
    /// Answer to a heartbeat.
    HeartbeatAck { sequence: u64 },
    /// First on a job's stream: a `JobSpec` document.
    Run { attempt: AttemptRef, timeout_secs: u32, spec: Vec<u8> },
    /// On the job's stream: stop, leave a defined state, report.
    Cancel { attempt: AttemptRef },
    /// On the job's stream: the outcome is committed (or stale); forget all but the id.
    Ack { attempt: AttemptRef },
    /// On the control stream: the controller goes away; come back after this long.
    Drain { retry_after_ms: u64 },
    /// Answer to `Enrol`.
    Enrolled(Enrolled),
    /// Instead of `Enrolled`.
    EnrolRefused { code: String, message: String },
    /// Answer to `Renew` and to `Prove`: the certificate of the new key. The old key is accepted
    /// until a session with the new one was welcomed.
    Renewed(Renewed),
    /// Instead of `Renewed`, and instead of `Challenge`.
    RenewRefused { code: String, message: String },
    /// Answer to `Recover`.
    Challenge(Challenge),
}

/// How an agent introduces itself on each new connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest and newest protocol version the agent speaks.
    pub version_min: u16,
    pub version_max: u16,
    /// The agent's build version, for people.
    pub build: String,
    pub boot: BootId,
    /// The host's wall clock, microseconds UTC: reported when far off, never relied on.
    pub clock_us: i64,
    /// Attempts accepted and not finished.
    pub running: Vec<AttemptRef>,
    /// Attempts finished whose `Ack` has not come; their `Finished` follows on job streams.
    pub unacknowledged: Vec<AttemptRef>,
    /// A JSON document of what the host is (`hostname`, `os`, `arch`, versions found).
    pub facts: Vec<u8>,
}

/// The controller's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both sides use from now on.
    pub version: u16,
    pub controller: ControllerId,
    /// Counts the host's sessions; a larger one replaces a smaller one.
    pub epoch: u64,
    /// One for each attempt the `Hello` named as running.
    pub verdicts: Vec<(AttemptRef, Verdict)>,
}

/// What becomes of an attempt the agent named as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is the current attempt: go on and report.
    Continue,
    /// It is the current attempt and was asked to stop.
    Cancel,
    /// It is no longer wanted: stop it; its outcome will be kept as late and never applied.
    Stale,
}

/// Ask for an identity with a one-time token. Sent only after the root pin was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    pub version_min: u16,
    pub version_max: u16,
    pub token: EnrolmentTokenId,
    /// The token's secret, 32 bytes.
    pub secret: Vec<u8>,
    /// PKCS#10 certificate signing request, DER; its subject is ignored.
    pub csr: Vec<u8>,
    /// The host's own name, used when the token does not name one.
    pub hostname: String,
    pub facts: Vec<u8>,
}

/// An identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub host: HostId,
    /// The name the host has now.
    pub name: String,
    /// The host's certificate first, then its issuer; DER.
    pub chain: Vec<Vec<u8>>,
    /// The root to pin from now on; DER.
    pub root: Vec<u8>,
}

/// A host whose certificate has ended asks to be taken back. It shows no certificate: it proves
/// the key of its last one, on this connection, see [`crate::recovery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverRequest {
    pub version_min: u16,
    pub version_max: u16,
    pub host: HostId,
}

/// What the returning host has to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// [`crate::recovery::NONCE_BYTES`] random bytes.
    pub nonce: Vec<u8>,
    /// The controller's wall clock, microseconds UTC: for people, to see how far apart clocks are.
    pub clock_us: i64,
}

/// The proof, and the new key to certify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverProof {
    /// Public key info (DER) of the host's last certificate.
    pub public_key: Vec<u8>,
    /// Signature over [`crate::recovery::statement`] with that key.
    pub signature: Vec<u8>,
    /// PKCS#10 request for a new key, DER; its subject is ignored.
    pub csr: Vec<u8>,
}

/// A host's new certificate, below the root it already trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The host's certificate first, then its issuer; DER.
    pub chain: Vec<Vec<u8>>,
}

/// QUIC application close codes. Append-only.
pub mod close {
    /// Nothing is wrong.
    pub const DONE: u32 = 0;
    /// A frame could not be read or came at the wrong time.
    pub const PROTOCOL: u32 = 1;
    /// No common protocol version; the reason says which side to upgrade.
    pub const VERSION: u32 = 2;
    /// No client certificate, or one that is not an enrolled host's.
    pub const UNAUTHENTICATED: u32 = 3;
    /// The host was revoked.
    pub const REVOKED: u32 = 4;
    /// A newer session of the same host replaced this one.
    pub const REPLACED: u32 = 5;
    /// The controller shuts down; reconnect.
    pub const DRAINING: u32 = 6;
    /// The controller cannot serve just now; reconnect with back-off.
    pub const UNAVAILABLE: u32 = 7;
    /// Two agents show the host's identity: neither is let in until a person has seen to it.
    pub const HELD: u32 = 8;
}
