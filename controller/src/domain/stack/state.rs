//! What has become of a stack on a host, and of a stack over all its hosts.
//!
//! The status is what is so; how the last attempt ended stands beside it, not in it.

/// What state a stack is in, on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StackStatus {
    /// It has never been synced there.
    Missing,
    /// A sync runs.
    Syncing,
    /// What was last synced is there; that may be older than what should be.
    Synced,
    /// Its removal waits or runs; the row goes when the host has confirmed.
    Deleting,
}

/// What can happen to a stack on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StackEvent {
    Begin,
    Succeed,
    /// A sync that began from `missing` failed.
    FailFirst,
    /// A sync that began from `synced` failed.
    FailAgain,
    /// The stack is not in the repository, or not for this host, any more.
    Remove,
    /// It is there again before it was gone.
    PutBack,
}

impl StackEvent {
    /// Every event.
    pub const ALL: [Self; 6] =
        [Self::Begin, Self::Succeed, Self::FailFirst, Self::FailAgain, Self::Remove, Self::PutBack];

    /// The event's name in charts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Succeed => "succeed",
            Self::FailFirst => "fail (never synced)",
            Self::FailAgain => "fail (synced before)",
            Self::Remove => "remove",
            Self::PutBack => "put back",
        }
    }

    /// The failure of a sync, by whether the stack had been synced there before.
    #[must_use]
    pub fn failure(synced_before: bool) -> Self {
        if synced_before { Self::FailAgain } else { Self::FailFirst }
    }
}

impl StackStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Syncing, Self::Synced, Self::Deleting];

    /// The status's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Deleting => "deleting",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether the row goes from here.
    #[must_use]
    pub fn may_vanish(self) -> bool {
        match self {
            Self::Deleting => true,
            Self::Missing | Self::Syncing | Self::Synced => false,
        }
    }

    /// The status after an event, or `None` where the event cannot happen.
    #[must_use]
    pub fn apply(self, event: StackEvent) -> Option<Self> {
        match (self, event) {
            (Self::Missing | Self::Synced, StackEvent::Begin) => Some(Self::Syncing),
            (Self::Syncing, StackEvent::Succeed | StackEvent::FailAgain) => Some(Self::Synced),
            (Self::Syncing, StackEvent::FailFirst) | (Self::Deleting, StackEvent::PutBack) => {
                Some(Self::Missing)
            }
            (Self::Missing | Self::Syncing | Self::Synced, StackEvent::Remove) => {
                Some(Self::Deleting)
            }
            (
                Self::Missing | Self::Synced,
                StackEvent::Succeed
                | StackEvent::FailFirst
                | StackEvent::FailAgain
                | StackEvent::PutBack,
            )
            | (Self::Syncing, StackEvent::Begin | StackEvent::PutBack)
            | (
                Self::Deleting,
                StackEvent::Begin
                | StackEvent::Succeed
                | StackEvent::FailFirst
                | StackEvent::FailAgain
                | StackEvent::Remove,
            ) => None,
        }
    }
}

/// One status of a stack over all the hosts that have a row for it. `present` says whether the
/// snapshot has it. A host it is being removed from is no longer one of its targets.
#[must_use]
pub fn overall(hosts: &[StackStatus], present: bool) -> StackStatus {
    if !present {
        return StackStatus::Deleting;
    }
    let any = |status| hosts.contains(&status);
    if any(StackStatus::Syncing) {
        StackStatus::Syncing
    } else if any(StackStatus::Synced) && !any(StackStatus::Missing) {
        StackStatus::Synced
    } else {
        StackStatus::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::StackEvent::{Begin, FailAgain, FailFirst, PutBack, Remove, Succeed};
    use super::StackStatus::{Deleting, Missing, Synced, Syncing};
    use super::*;

    #[test]
    fn all_pairs_of_status_and_event_are_decided() {
        let allowed = [
            (Missing, Begin, Syncing),
            (Synced, Begin, Syncing),
            (Syncing, Succeed, Synced),
            (Syncing, FailFirst, Missing),
            (Syncing, FailAgain, Synced),
            (Missing, Remove, Deleting),
            (Syncing, Remove, Deleting),
            (Synced, Remove, Deleting),
            (Deleting, PutBack, Missing),
        ];
        for status in StackStatus::ALL {
            for event in StackEvent::ALL {
                let expected = allowed.iter().find(|(from, on, _)| (*from, *on) == (status, event));
                let after = status.apply(event);
                assert_eq!(after, expected.map(|(_, _, to)| *to), "{status:?} {event:?}");
            }
            assert_eq!(StackStatus::parse(status.as_str()), Some(status));
        }
    }

    #[test]
    fn a_failed_sync_leaves_the_status_it_began_from() {
        for (before, synced) in [(Missing, false), (Synced, true)] {
            let running = before.apply(Begin).unwrap();
            assert_eq!(running.apply(StackEvent::failure(synced)), Some(before));
        }
    }

    #[test]
    fn a_stack_has_one_status_over_all_its_hosts() {
        for (hosts, present, status) in [
            (&[][..], true, Missing),
            (&[Synced, Synced], true, Synced),
            (&[Synced, Missing], true, Missing),
            (&[Synced, Missing, Syncing], true, Syncing),
            (&[Synced, Deleting], true, Synced),
            (&[Deleting], true, Missing),
            (&[Synced, Syncing], false, Deleting),
            (&[], false, Deleting),
        ] {
            assert_eq!(overall(hosts, present), status, "{hosts:?} {present}");
        }
    }
}
