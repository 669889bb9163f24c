//! Looks at the config repository: asked for, begun, ended; and what the stacks become by one.
//!
//! At most one look runs and one waits. A request that finds one waiting takes its place, and
//! that one's callers get the answer of the newer: whatever they pushed was there before it began.

use std::collections::BTreeMap;

use hostler_protocol::id::{ControllerId, RefreshId, StackId};
use serde_json::json;

use super::enqueue::nothing;
use crate::domain::desired::{
    Commit, DesiredState, Refresh, RefreshError, RefreshReport, RefreshState, Removal, Stack,
    StackFacts, Trigger,
};
use crate::domain::{
    Change, Decision, EventKind, Micros, NewEvent, Refusal, RefusalKind, Snapshot, Subject,
};

/// A request for a look.
#[derive(Debug, Clone)]
pub struct Ask {
    pub id: RefreshId,
    pub trigger: Trigger,
    pub delivery: Option<String>,
    pub now: Micros,
}

/// Asks for a look; the reply is the one that answers the request. A delivery that was served
/// before, or is about to be, gets that one; one that failed runs again.
#[must_use]
pub fn request(snapshot: &Snapshot, ask: &Ask) -> Decision<Refresh> {
    if let Some(known) = &snapshot.refresh_delivered
        && known.state != RefreshState::Failed
    {
        return nothing(known.clone());
    }
    let new = Refresh {
        id: ask.id.clone(),
        trigger: ask.trigger,
        state: RefreshState::Queued,
        replaced_by: None,
        delivery: ask.delivery.clone(),
        controller: None,
        requested_at: ask.now,
        started_at: None,
        finished_at: None,
        revision: None,
        report: None,
    };
    let mut changes = Vec::new();
    for waiting in snapshot.refreshes.iter().filter(|one| one.state == RefreshState::Queued) {
        changes.push(Change::UpdateRefresh(Box::new(Refresh {
            state: RefreshState::Replaced,
            replaced_by: Some(new.id.clone()),
            finished_at: Some(ask.now),
            ..waiting.clone()
        })));
    }
    changes.push(Change::InsertRefresh(Box::new(new.clone())));
    Decision {
        changes,
        events: vec![event(&new, EventKind::RefreshRequested, json!({}), ask.now)],
        reply: new,
    }
}

/// Begins what waits, if nothing runs. A look of a controller that is gone, or of this very one
/// before it was started again, is over: nobody carries it on.
#[must_use]
pub fn begin(
    snapshot: &Snapshot,
    controller: &ControllerId,
    alive: &dyn Fn(&ControllerId) -> bool,
    now: Micros,
) -> Decision<Option<Refresh>> {
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    let mut waiting = None;
    for one in &snapshot.refreshes {
        match one.state {
            RefreshState::Refreshing => {
                let by = one.controller.as_ref();
                if by.is_some_and(|by| by != controller && alive(by)) {
                    return nothing(None);
                }
                let error = RefreshError {
                    class: "interrupted".to_owned(),
                    code: "REFRESH_INTERRUPTED".to_owned(),
                    message: "its controller ended before it did; another look follows".to_owned(),
                };
                let report = RefreshReport { error: Some(error), ..RefreshReport::default() };
                let over = failed(one, report, now);
                events.push(ended_event(&over, now));
                changes.push(Change::UpdateRefresh(Box::new(over)));
            }
            RefreshState::Queued => waiting = Some(one),
            RefreshState::Completed | RefreshState::Failed | RefreshState::Replaced => {}
        }
    }
    let reply = waiting.map(|one| Refresh {
        state: RefreshState::Refreshing,
        controller: Some(controller.clone()),
        started_at: Some(now),
        ..one.clone()
    });
    if let Some(begun) = &reply {
        events.push(event(begun, EventKind::RefreshStarted, json!({}), now));
        changes.push(Change::UpdateRefresh(Box::new(begun.clone())));
    }
    Decision { changes, events, reply }
}

/// Ends a look that failed: the snapshot stays as it is.
///
/// # Errors
/// `REFRESH_OVERTAKEN` if it is no longer the one that runs.
pub fn fail(
    snapshot: &Snapshot,
    id: &RefreshId,
    report: &RefreshReport,
    now: Micros,
) -> Result<Decision<Refresh>, Refusal> {
    let over = failed(running(snapshot, id)?, report.clone(), now);
    Ok(Decision {
        events: vec![ended_event(&over, now)],
        changes: vec![Change::UpdateRefresh(Box::new(over.clone()))],
        reply: over,
    })
}

fn failed(one: &Refresh, report: RefreshReport, now: Micros) -> Refresh {
    Refresh {
        state: RefreshState::Failed,
        finished_at: Some(now),
        report: Some(report),
        ..one.clone()
    }
}

fn running<'s>(snapshot: &'s Snapshot, id: &RefreshId) -> Result<&'s Refresh, Refusal> {
    let found = snapshot.refreshes.iter().find(|one| one.id == *id);
    found.filter(|one| one.state == RefreshState::Refreshing).ok_or_else(|| {
        let message = "another controller took the look for given up and ended it";
        Refusal::new(RefusalKind::Conflict, "REFRESH_OVERTAKEN", message)
    })
}

/// How many stacks may go away at once and be taken down unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalLimits {
    /// So many are never too many, unless none are left.
    pub free: usize,
    /// Of all stacks there were, in percent.
    pub share_percent: usize,
}

impl Default for RemovalLimits {
    fn default() -> Self {
        Self { free: 1, share_percent: 20 }
    }
}

/// What a look found.
#[derive(Debug, Clone)]
pub struct Taken {
    pub refresh: RefreshId,
    pub source: String,
    pub revision: String,
    pub commit: Commit,
    /// By path.
    pub found: BTreeMap<String, StackFacts>,
    /// At least as many as stacks were found.
    pub new_ids: Vec<StackId>,
    pub limits: RemovalLimits,
    /// With the times and bytes; the counts are filled in here.
    pub report: RefreshReport,
    pub now: Micros,
}

/// Makes what was found the snapshot: all of it, or nothing.
///
/// # Errors
/// `REFRESH_OVERTAKEN` if the look is no longer the one that runs.
pub fn take(snapshot: &Snapshot, taken: &Taken) -> Result<Decision<Refresh>, Refusal> {
    let run = running(snapshot, &taken.refresh)?;
    let mut merge = Merge::new(snapshot, taken);
    merge.found();
    merge.gone();
    let before = snapshot.desired.as_ref();
    let report = RefreshReport {
        moved: before.is_none_or(|before| before.revision != taken.revision),
        stacks: count(taken.found.len()),
        problems: count(taken.found.values().filter(|facts| facts.problem.is_some()).count()),
        error: None,
        ..merge.report
    };
    let done = Refresh {
        state: RefreshState::Completed,
        finished_at: Some(taken.now),
        revision: Some(taken.revision.clone()),
        report: Some(report),
        ..run.clone()
    };
    let mut changes = vec![
        Change::PutStacks(merge.stacks),
        Change::PutDesiredState(Box::new(DesiredState {
            source: taken.source.clone(),
            revision: taken.revision.clone(),
            commit: taken.commit.clone(),
            refresh: taken.refresh.clone(),
            taken_at: taken.now,
        })),
    ];
    changes.push(Change::UpdateRefresh(Box::new(done.clone())));
    let mut events = merge.events;
    events.push(ended_event(&done, taken.now));
    Ok(Decision { changes, events, reply: done })
}

/// The stacks that are known against those that were found.
struct Merge<'a> {
    taken: &'a Taken,
    /// Of the same source as what was found.
    same_source: bool,
    known: BTreeMap<&'a str, &'a Stack>,
    /// Present until now, and not found.
    vanished: Vec<&'a Stack>,
    present: usize,
    /// Places in `stacks` of those that named hosts until now, and name none.
    homeless: Vec<usize>,
    stacks: Vec<Stack>,
    events: Vec<NewEvent>,
    report: RefreshReport,
}

impl<'a> Merge<'a> {
    fn new(snapshot: &'a Snapshot, taken: &'a Taken) -> Self {
        let known: BTreeMap<&str, &Stack> =
            snapshot.stacks.iter().map(|stack| (stack.path.as_str(), stack)).collect();
        let present = snapshot.stacks.iter().filter(|stack| stack.present);
        let vanished =
            present.clone().filter(|stack| !taken.found.contains_key(&stack.path)).collect();
        Self {
            taken,
            same_source: snapshot.desired.as_ref().is_none_or(|was| was.source == taken.source),
            known,
            vanished,
            present: present.count(),
            homeless: Vec::new(),
            stacks: Vec::new(),
            events: Vec::new(),
            report: taken.report.clone(),
        }
    }

    fn found(&mut self) {
        let mut ids = self.taken.new_ids.iter();
        for (path, facts) in &self.taken.found {
            match self.known.get(path.as_str()).copied() {
                Some(known) => {
                    let facts = kept(&known.facts, facts);
                    if !known.present || known.facts != facts {
                        self.update(known, path, &facts);
                    }
                }
                None => match self.moved(facts) {
                    Some(known) => self.update(known, path, &kept(&known.facts, facts)),
                    None => {
                        if let Some(id) = ids.next() {
                            self.add(id, path, facts);
                        }
                    }
                },
            }
        }
    }

    /// The stack that ran under that project's name and has lost its directory: it was moved.
    fn moved(&mut self, facts: &StackFacts) -> Option<&'a Stack> {
        if facts.project.is_empty() {
            return None;
        }
        let place = self.vanished.iter().position(|stack| stack.facts.project == facts.project)?;
        Some(self.vanished.remove(place))
    }

    fn add(&mut self, id: &StackId, path: &str, facts: &StackFacts) {
        self.report.added += 1;
        let stack = Stack {
            id: id.clone(),
            path: path.to_owned(),
            present: true,
            suspended: false,
            removal: Removal::Free,
            revision: self.taken.revision.clone(),
            facts: facts.clone(),
            created_at: self.taken.now,
            updated_at: self.taken.now,
            version: 1,
        };
        self.put(stack, EventKind::StackAdded);
    }

    fn update(&mut self, known: &Stack, path: &str, facts: &StackFacts) {
        let kind = if known.present { EventKind::StackChanged } else { EventKind::StackAdded };
        if known.present {
            self.report.changed += 1;
        } else {
            self.report.added += 1;
        }
        let stack = Stack {
            path: path.to_owned(),
            present: true,
            // What has left its hosts with too much else still waits, whatever else is said of it.
            removal: if known.present { known.removal } else { Removal::Free },
            revision: self.taken.revision.clone(),
            facts: facts.clone(),
            updated_at: self.taken.now,
            version: known.version + 1,
            ..known.clone()
        };
        if known.present && names_hosts(&known.facts) && !names_hosts(facts) {
            self.homeless.push(self.stacks.len());
        }
        self.put(stack, kind);
    }

    fn gone(&mut self) {
        let vanished = std::mem::take(&mut self.vanished);
        // Whatever is said to run nowhere is taken down as well.
        let going = vanished.len() + self.homeless.len();
        let RemovalLimits { free, share_percent } = self.taken.limits;
        let share = going * 100 > self.present * share_percent;
        let many = going > 0
            && (self.taken.found.is_empty() || !self.same_source || (going > free && share));
        for place in std::mem::take(&mut self.homeless) {
            if many && let Some(stack) = self.stacks.get_mut(place) {
                stack.removal = Removal::Many;
            }
        }
        for known in vanished {
            self.report.removed += 1;
            let removal = match (many, known.facts.settings.protected) {
                (_, true) => Removal::Protected,
                (true, false) => Removal::Many,
                (false, false) => Removal::Free,
            };
            let stack = Stack {
                present: false,
                removal,
                updated_at: self.taken.now,
                version: known.version + 1,
                ..known.clone()
            };
            self.put(stack, EventKind::StackRemoved);
        }
    }

    fn put(&mut self, stack: Stack, kind: EventKind) {
        let document = json!({
            "path": stack.path,
            "revision": self.taken.revision,
            "compose_hash": stack.facts.compose_hash,
            "problem": stack.facts.problem.as_ref().map(|problem| problem.code.as_str()),
            "removal": (!stack.present).then(|| stack.removal.as_str()),
        });
        self.events.push(NewEvent {
            at: self.taken.now,
            kind,
            subject: Subject { stack: Some(stack.id.clone()), ..Subject::default() },
            document,
        });
        self.stacks.push(stack);
    }
}

fn names_hosts(facts: &StackFacts) -> bool {
    !facts.settings.hosts.is_empty() || !facts.settings.labels.is_empty()
}

/// What is kept of a stack that was found. One with a problem says nothing that may be acted on: where
/// and as what it runs stays as it was last said, or a file that cannot be read would take it down.
fn kept(known: &StackFacts, found: &StackFacts) -> StackFacts {
    if found.problem.is_none() || known.project.is_empty() {
        return found.clone();
    }
    StackFacts { settings: known.settings.clone(), project: known.project.clone(), ..found.clone() }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn ended_event(refresh: &Refresh, at: Micros) -> NewEvent {
    let kind = match refresh.state {
        RefreshState::Completed => EventKind::RefreshCompleted,
        RefreshState::Queued
        | RefreshState::Refreshing
        | RefreshState::Failed
        | RefreshState::Replaced => EventKind::RefreshFailed,
    };
    event(refresh, kind, json!({ "revision": refresh.revision, "report": refresh.report }), at)
}

fn event(
    refresh: &Refresh,
    kind: EventKind,
    mut document: serde_json::Value,
    at: Micros,
) -> NewEvent {
    document["refresh_id"] = refresh.id.as_str().into();
    document["trigger"] = refresh.trigger.as_str().into();
    NewEvent { at, kind, subject: Subject::default(), document }
}

#[cfg(test)]
#[path = "refresh_tests.rs"]
mod tests;
