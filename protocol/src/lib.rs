//! What a Hostler controller and its agents say to each other: ids, job documents, messages,
//! frames and the session rules of both sides.
//!
//! Invariants:
//! * no async, no IO, no clock, no randomness: everything comes in as an argument;
//! * only [`codec`] knows how a message becomes bytes;
//! * envelope enums ([`message`]) are append-only: a changed message is a *new* variant at the
//!   end, since the encoding names variants by position;
//! * what may grow (job specs, progress, outcomes, facts) travels inside the envelope as JSON
//!   documents that tolerate unknown fields ([`job`]).

pub mod bulk;
pub mod bundle;
pub mod codec;
pub mod facts;
pub mod id;
pub mod job;
pub mod join;
pub mod message;
pub mod observed;
pub mod recovery;
pub mod session;
pub mod time;

/// ALPN of a session between an enrolled agent and a controller (client certificate required).
pub const ALPN_SESSION: &[u8] = b"hostler/1";
/// ALPN of a first enrolment (no client certificate yet).
pub const ALPN_ENROL: &[u8] = b"hostler-enrol/1";
/// ALPN of the return of a host whose certificate has ended (no client certificate: [`recovery`]).
pub const ALPN_RENEW: &[u8] = b"hostler-renew/1";
/// ALPN of a connection that bundles come over (client certificate required: [`bulk`]).
pub const ALPN_BULK: &[u8] = b"hostler-bulk/1";

/// The name in every controller certificate; agents pin the root, so the name never varies.
pub const CONTROLLER_NAME: &str = "controller.hostler.internal";

/// The protocol version this build speaks.
pub const PROTOCOL_VERSION: u16 = 3;
/// The oldest protocol version this build still speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// From this version on an agent may ask for a new certificate; to a controller of an older one
/// the request would be no message at all.
pub const VERSION_RENEWAL: u16 = 2;
/// From this version on an agent reports what it sees of its host; a controller of an older one
/// could not read that.
pub const VERSION_OBSERVED: u16 = 3;

/// Largest frame payload on any stream, in bytes; a longer one is refused before it is read.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Largest job document (spec) in bytes: must fit a frame with room for the envelope.
pub const SPEC_BYTES_MAX: usize = 1000 * 1024;
const _: () = assert!(SPEC_BYTES_MAX + 16 * 1024 < FRAME_BYTES_MAX);
/// Largest outcome document in bytes: must fit a frame with room for the envelope.
pub const OUTCOME_BYTES_MAX: usize = 768 * 1024;
/// Largest progress document in bytes.
pub const PROGRESS_BYTES_MAX: usize = 16 * 1024;
/// Largest document of what an agent sees of its host ([`observed`]), in bytes.
pub const OBSERVED_BYTES_MAX: usize = 512 * 1024;
/// Largest facts document in a `Hello`, in bytes.
pub const FACTS_BYTES_MAX: usize = 64 * 1024;
/// Most attempts (in flight plus unacknowledged) one `Hello` may name.
pub const HELLO_ATTEMPTS_MAX: usize = 4096;
/// Streams an agent may hold open at once: the control stream, running jobs it goes on reporting, and
/// outcomes it delivers anew. QUIC keeps state for each stream it permits, on every idle session.
pub const AGENT_STREAMS_MAX: u32 = 24;
/// Job streams a controller may hold open at once on one session.
pub const JOB_STREAMS_MAX: u32 = 64;
/// Seconds between keep-alive packets and between heartbeats on the control stream.
pub const KEEP_ALIVE_SECS: u64 = 15;
/// Seconds of silence after which either side calls the connection gone.
pub const IDLE_SECS: u64 = 45;
/// How far certificates are backdated, for hosts whose clock is behind, in seconds: a host's
/// certificate was issued this long after it begins to be valid.
pub const CERTIFICATE_BACKDATE_SECS: u64 = 300;
/// For how long after the end of its certificate a host may come back by its key, in seconds:
/// ninety days.
pub const RETURN_SECS_MAX: u64 = 90 * 86_400;
/// Clocks further apart than this are reported, in seconds.
pub const CLOCK_SKEW_SECS_MAX: u64 = 30;
/// Largest certificate signing request, in bytes.
pub const CSR_BYTES_MAX: usize = 8 * 1024;
/// Bytes kept of a command's output: the last ones.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 10 * 1024;
