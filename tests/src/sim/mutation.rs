//! Guards that can be taken away, to show that the oracle misses them.

/// A guard that is missing. Each is taken away in the simulator's own glue or in its disk; the
/// product has no such switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The journal's syncs do nothing, so that `Accepted` and `Finished` promise what a power cut
    /// takes back.
    SyncsLie,
    /// An attempt starts when its acceptance is asked for, not when the journal has it.
    StartsUnjournalled,
    /// What a host says of any attempt is taken for word on the current one.
    NoFence,
    /// An outcome is acknowledged before it is committed.
    AcknowledgesEarly,
    /// A restarted agent knows nothing of what it settled or finished before.
    ForgetsSettled,
}

impl Mutation {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::SyncsLie,
        Self::StartsUnjournalled,
        Self::NoFence,
        Self::AcknowledgesEarly,
        Self::ForgetsSettled,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SyncsLie => "syncs-lie",
            Self::StartsUnjournalled => "starts-unjournalled",
            Self::NoFence => "no-fence",
            Self::AcknowledgesEarly => "acknowledges-early",
            Self::ForgetsSettled => "forgets-settled",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| mutation.as_str() == name)
    }
}
