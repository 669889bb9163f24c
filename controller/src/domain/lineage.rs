//! Whether one agent shows a host's identity, or two.
//!
//! A restart gives an agent a new boot id, and a process that is gone does not come back. Each
//! `Hello` says in which epoch its very process was last welcomed: then that process was alive
//! after the epoch began. Where a process was welcomed, then another, and then the first again,
//! both were alive at once: the machine is a copy, or its identity was copied. A `Hello` that was
//! long on its way proves nothing of that kind, since it tells of no welcome after the other's.

use hostler_protocol::id::BootId;
use serde::{Deserialize, Serialize};

/// Sessions remembered of a host.
const SESSIONS_MAX: usize = 16;

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Opened {
    epoch: u64,
    boot: BootId,
    /// Its process has said that the welcome reached it.
    welcomed: bool,
}

/// A host's last sessions, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage {
    sessions: Vec<Opened>,
}

impl Lineage {
    /// Takes in a session that is opened under `epoch` by a process that was last welcomed in that
    /// other epoch, if in any. True: two agents are alive.
    pub fn open(&mut self, boot: &BootId, welcomed: Option<u64>, epoch: u64) -> bool {
        for session in &mut self.sessions {
            session.welcomed |= Some(session.epoch) == welcomed && session.boot == *boot;
        }
        self.sessions.push(Opened { epoch, boot: boot.clone(), welcomed: false });
        if self.sessions.len() > SESSIONS_MAX {
            self.sessions.remove(0);
        }
        self.two()
    }

    /// Whether a process was welcomed before and after another one was.
    fn two(&self) -> bool {
        let welcomed: Vec<&BootId> =
            self.sessions.iter().filter(|one| one.welcomed).map(|one| &one.boot).collect();
        welcomed.iter().enumerate().any(|(place, boot)| {
            let before = welcomed[..place].iter().any(|other| other == boot);
            before && welcomed.get(place.wrapping_sub(1)) != Some(boot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(number: u8) -> BootId {
        BootId::from_parts(1, [number; 10])
    }

    /// Opens sessions under 1, 2, 3…; each says which one its process was welcomed in last.
    fn two(sessions: &[(u8, Option<u64>)]) -> bool {
        let mut lineage = Lineage::default();
        let opened = (1..).zip(sessions);
        opened.fold(false, |two, (epoch, (process, welcomed))| {
            lineage.open(&boot(*process), *welcomed, epoch) || two
        })
    }

    #[test]
    fn two_that_take_turns_are_told_from_one() {
        let turns = [(1, None), (2, None), (1, Some(1)), (2, Some(2)), (1, Some(3))];
        assert!(!two(&turns[..4]));
        assert!(two(&turns));
    }

    #[test]
    fn one_that_restarts_and_reconnects_is_one() {
        assert!(!two(&[(1, None), (1, Some(1)), (2, None), (2, Some(3)), (3, None), (3, Some(5))]));
    }

    #[test]
    fn a_hello_that_was_long_on_its_way_proves_nothing() {
        // The first process is gone; its last words come when the second is long there.
        let late = [(1, None), (2, None), (1, Some(1)), (2, Some(2)), (2, Some(4)), (2, Some(5))];
        assert!(!two(&late));
        // A welcome that was another's, or of a time the database has lost, proves nothing either.
        assert!(!two(&[(1, None), (2, None), (1, Some(2)), (2, Some(9)), (1, Some(9))]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut lineage = Lineage::default();
        for epoch in 1..100 {
            assert!(!lineage.open(&boot(1), Some(epoch - 1), epoch));
        }
        assert_eq!(lineage.sessions.len(), SESSIONS_MAX);
        let text = serde_json::to_string(&lineage).unwrap();
        assert_eq!(serde_json::from_str::<Lineage>(&text).unwrap(), lineage);
        assert_eq!(serde_json::from_str::<Lineage>("[]").unwrap(), Lineage::default());
    }
}
