//! The rules of a session, for both sides, without IO: `handle(input, now)` in, effects out.
//!
//! The cores know channels and messages, not QUIC: a channel is whatever carries one ordered
//! stream of frames each way. The agent opens the control channel first; either side opens a job
//! channel, whose first frame names the attempt. `now` is milliseconds of a monotonic clock of
//! the caller's own choosing; no two machines' clocks are ever compared.

pub mod agent;
pub mod controller;

/// A carrier of frames within one session; numbered by whoever runs the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

/// Milliseconds of a monotonic clock.
pub type MonotonicMs = u64;

/// The version both ranges share, or which side has to be upgraded.
///
/// # Errors
/// [`VersionMismatch`] when the ranges do not meet.
pub fn negotiate(
    ours: (u16, u16),
    theirs: (u16, u16),
    their_name: &'static str,
) -> Result<u16, VersionMismatch> {
    if theirs.0 > theirs.1 || theirs.1 < ours.0 {
        return Err(VersionMismatch { ours, theirs, upgrade: their_name });
    }
    if theirs.0 > ours.1 {
        return Err(VersionMismatch { ours, theirs, upgrade: "this side" });
    }
    Ok(ours.1.min(theirs.1))
}

/// No common protocol version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no common protocol version (here {}-{}, there {}-{}): upgrade {upgrade}", ours.0, ours.1, theirs.0, theirs.1)]
pub struct VersionMismatch {
    pub ours: (u16, u16),
    pub theirs: (u16, u16),
    /// Which side is too old.
    pub upgrade: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins() {
        assert_eq!(negotiate((1, 3), (2, 5), "the agent"), Ok(3));
        assert_eq!(negotiate((1, 3), (1, 2), "the agent"), Ok(2));
    }

    #[test]
    fn the_older_side_is_named() {
        assert_eq!(negotiate((2, 3), (1, 1), "the agent").unwrap_err().upgrade, "the agent");
        assert_eq!(negotiate((1, 1), (2, 3), "the agent").unwrap_err().upgrade, "this side");
        assert_eq!(negotiate((1, 2), (2, 1), "the agent").unwrap_err().upgrade, "the agent");
    }
}
