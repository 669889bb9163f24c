//! Looking at all stacks at once: which of them there is something to do about.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, StackId};

use super::giving_way::Leavers;
use super::overview::{Overview, wanted};
use super::trouble::{behind, in_use_by, projects, trouble};
use super::{Around, Step, leaving, steps};
use crate::domain::decide::refresh::RemovalLimits;
use crate::domain::desired::StackHost;
use crate::domain::{JobState, Micros};

/// A stack there is something to do about.
#[derive(Debug, Clone)]
pub struct Todo {
    pub stack: StackId,
    /// Of the stack as it was looked at.
    pub version: i64,
    pub around: Around,
    /// Whether a host is to be given a sync, for which the bundle has to be there.
    pub syncs: bool,
}

/// How much is done unasked at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most syncs open at once.
    pub syncs_max: usize,
    pub removal: RemovalLimits,
}

/// Which stacks there is something to do about, those that come first first. No more syncs are open
/// at once than may be, besides those that cannot begin just now: hosts of a stack that has more of
/// them take turns.
#[must_use]
pub fn look(overview: &Overview, bounds: &Bounds, now: Micros) -> Vec<Todo> {
    let trouble = trouble(overview);
    let mut rows: BTreeMap<&StackId, Vec<StackHost>> = BTreeMap::new();
    for row in &overview.rows {
        rows.entry(&row.stack).or_default().push(row.clone());
    }
    let enrolled: BTreeSet<HostId> = overview.places.iter().map(|p| p.host.clone()).collect();
    let (behind, projects) = (behind(overview), projects(overview));
    let leavers = Leavers::of(overview);
    let many = leaving::are_many(overview, bounds.removal);
    let open = overview.rows.iter().filter(|row| takes_place(overview, row, now)).count();
    let mut room = bounds.syncs_max.saturating_sub(open);
    let mut todos = Vec::new();
    for stack in &overview.stacks {
        let waits_for = |path: &String| behind.contains(path.as_str());
        let wanted = wanted(stack, &overview.places);
        let is_later = |host: &&HostId| {
            in_use_by(&projects, stack, host).is_some() || leavers.before(stack, host).is_some()
        };
        let mut around = Around {
            later: wanted.keys().filter(is_later).cloned().collect(),
            wanted,
            enrolled: enrolled.clone(),
            blocked: trouble.get(&stack.id).cloned(),
            waits: stack.facts.settings.after.iter().any(waits_for),
            many,
        };
        let own = rows.remove(&stack.id).unwrap_or_default();
        let mut found = steps(stack, &own, &overview.jobs, &around, now);
        for (host, step) in &found {
            let row = own.iter().find(|row| row.host == *host);
            // What takes the place of a job that is open already needs no place of its own.
            let free = overview.away.contains(host)
                || row.is_some_and(|row| takes_place(overview, row, now));
            if !is_sync(step) || free {
                continue;
            }
            match room.checked_sub(1) {
                Some(left) => room = left,
                None => {
                    around.later.insert(host.clone());
                }
            }
        }
        found.retain(|(host, step)| !is_sync(step) || !around.later.contains(host));
        let left = leaving::removal_after(stack, &own, &found, many) != stack.removal;
        if !found.is_empty() || left || super::is_gone(stack, own.len()) {
            let syncs = found.iter().any(|(_, step)| is_sync(step));
            let version = stack.version;
            todos.push(Todo { stack: stack.id.clone(), version, around, syncs });
        }
    }
    todos
}

fn is_sync(step: &Step) -> bool {
    matches!(step, Step::Sync { .. } | Step::Revert { .. })
}

/// When there may be something to do though nothing has changed: the next time that is waited for.
#[must_use]
pub fn due(overview: &Overview, now: Micros) -> Option<Micros> {
    let retries = overview.rows.iter().filter_map(|row| row.retry_at);
    let pauses = overview.jobs.values().map(|job| job.run_after);
    retries.chain(pauses).filter(|at| *at > now).min()
}

/// Whether a row's job is one of those that may be open at once. One that waits for its host, for a
/// person or for a time is not: hosts that are away must not keep all others waiting.
fn takes_place(overview: &Overview, row: &StackHost, now: Micros) -> bool {
    let job = row.job.as_ref().and_then(|id| overview.jobs.get(id));
    job.is_some_and(|job| match job.state {
        JobState::Running => true,
        JobState::Queued => !overview.away.contains(&row.host) && !job.waits_for_retry(now),
        JobState::Held | JobState::Succeeded | JobState::Failed | JobState::Cancelled => false,
    })
}
