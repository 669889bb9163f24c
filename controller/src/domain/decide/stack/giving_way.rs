//! What is new on a host gives way to what leaves it: the one that leaves may have the ports, the names
//! and the files that the other needs, most of all where a directory was renamed.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, StackId};

use super::Place;
use super::leaving::{held, is_declined, may_be_there};
use super::overview::{Overview, targets};
use crate::domain::JobState;
use crate::domain::desired::{Stack, StackHost};
use crate::domain::stack::StackStatus;

/// Who leaves which hosts, and who is there and stays.
pub(super) struct Leavers<'o> {
    by_host: BTreeMap<&'o HostId, Vec<Leaver<'o>>>,
    /// On the hosts that something leaves: whoever runs there and is not new.
    there: BTreeSet<(&'o HostId, &'o StackId)>,
}

/// One that leaves a host, and waits for no person to do so.
#[derive(Clone, Copy)]
pub(super) struct Leaver<'o> {
    pub(super) stack: &'o Stack,
    /// It could not be taken down, and nothing is tried just now: only its very double waits on.
    pub(super) failed: bool,
}

impl<'o> Leavers<'o> {
    pub(super) fn of(overview: &'o Overview) -> Self {
        let stacks: BTreeMap<&StackId, &Stack> =
            overview.stacks.iter().map(|stack| (&stack.id, stack)).collect();
        let places: BTreeMap<&HostId, &Place> =
            overview.places.iter().map(|place| (&place.host, place)).collect();
        let mut by_host: BTreeMap<&HostId, Vec<Leaver<'_>>> = BTreeMap::new();
        for row in &overview.rows {
            let stack = stacks.get(&row.stack).copied();
            let (Some(stack), Some(place)) = (stack, places.get(&row.host).copied()) else {
                continue;
            };
            let is_meant = stack.present
                && !targets(&stack.facts.settings, std::slice::from_ref(place)).is_empty();
            if !is_meant
                && may_be_there(row, overview)
                && let Some(leaver) = leaver(stack, row, overview)
            {
                by_host.entry(&row.host).or_default().push(leaver);
            }
        }
        let runs = |row: &&StackHost| {
            by_host.contains_key(&row.host)
                && row.applied.is_some()
                && row.status != StackStatus::Missing
        };
        let rows = overview.rows.iter().filter(runs);
        let there = rows.map(|row| (&row.host, &row.stack)).collect();
        Self { by_host, there }
    }

    /// Whether nothing leaves any host.
    pub(super) fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// The one that is to leave the host before that stack begins there.
    pub(super) fn before(&self, stack: &Stack, host: &HostId) -> Option<Leaver<'o>> {
        let leavers = self.by_host.get(host)?;
        if self.there.contains(&(host, &stack.id)) {
            return None;
        }
        let own = &stack.facts.tree_oid;
        let is_double = |other: &Stack| !own.is_empty() && other.facts.tree_oid == *own;
        let goes_first = |leaver: &&Leaver<'_>| {
            leaver.stack.id != stack.id && (!leaver.failed || is_double(leaver.stack))
        };
        leavers.iter().find(goes_first).copied()
    }
}

/// A held removal, or one that was declined, keeps nothing waiting: it may be so for good.
fn leaver<'o>(stack: &'o Stack, row: &StackHost, overview: &Overview) -> Option<Leaver<'o>> {
    let failed = row.outcome.as_ref().is_some_and(|last| last.desired.is_none());
    let job = row.job.as_ref().and_then(|id| overview.jobs.get(id));
    let waits = match job {
        Some(job) => job.state == JobState::Held,
        None => is_declined(row) || held(stack, failed).is_some(),
    };
    (!waits).then_some(Leaver { stack, failed: failed && job.is_none() })
}
