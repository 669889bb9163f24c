//! Doing what is to be done about one stack, on its fresh rows.

use std::collections::BTreeMap;

use hostler_protocol::id::{HostId, JobId};
use hostler_protocol::job::{StackDoc, StackDownSpec, StackSyncSpec};
use serde_json::json;

use super::leaving::removal_after;
use super::note::{Noted, note, taken_back};
use super::{Around, Step, is_gone, steps};
use crate::domain::decide::job::{JobInput, end, new_job, queued_event};
use crate::domain::desired::{Removal, Stack, StackHost};
use crate::domain::job::{JobEvent, reason};
use crate::domain::stack::{StackEvent, StackStatus};
use crate::domain::{
    Change, Decision, EventKind, Job, Micros, NewEvent, Snapshot, Subject, Template,
};

/// What carrying a stack on needs besides its rows.
#[derive(Debug, Clone)]
pub struct Carry {
    /// The stack's version that was looked at: of another one nothing is done.
    pub version: i64,
    pub around: Around,
    /// The name of the bundle of the stack's facts of this digest, once it is made.
    pub bundle: Option<(String, String)>,
    /// One for each job that may be made.
    pub job_ids: Vec<JobId>,
    pub sync: Template,
    pub down: Template,
    pub now: Micros,
}

/// Carries a stack on as far as it can be. The reply tells whether anything was done.
#[must_use]
pub fn carry(snapshot: &Snapshot, carry: &Carry) -> Decision<bool> {
    let mut done = Doing { carry, changes: Vec::new(), events: Vec::new(), made: 0 };
    let Some(stack) = &snapshot.stack else { return done.decision() };
    if stack.version != carry.version {
        // What is wanted was said of what it was before: it may be there again, or gone. It is looked
        // at anew.
        return Decision { reply: true, ..done.decision() };
    }
    let jobs: BTreeMap<JobId, Job> =
        snapshot.stack_jobs.iter().map(|job| (job.id.clone(), job.clone())).collect();
    let mut rows: BTreeMap<HostId, StackHost> =
        snapshot.stack_hosts.iter().map(|row| (row.host.clone(), row.clone())).collect();
    let before = rows.clone();
    let todo = steps(stack, &snapshot.stack_hosts, &jobs, &carry.around, carry.now);
    for (host, step) in &todo {
        done.step(stack, host, step, &mut rows, &jobs);
    }
    done.rows(stack, &before, &rows);
    let removal = removal_after(stack, &snapshot.stack_hosts, &todo, carry.around.many);
    if removal != stack.removal {
        done.removal(stack, removal);
    }
    if is_gone(stack, rows.len()) {
        done.changes.push(Change::DeleteStack(stack.id.clone()));
        done.tell(stack, None, EventKind::StackGone, json!({ "path": stack.path }));
    }
    done.decision()
}

struct Doing<'c> {
    carry: &'c Carry,
    changes: Vec<Change>,
    events: Vec<NewEvent>,
    made: usize,
}

impl Doing<'_> {
    fn decision(self) -> Decision<bool> {
        let reply = !self.changes.is_empty();
        Decision { changes: self.changes, events: self.events, reply }
    }

    fn step(
        &mut self,
        stack: &Stack,
        host: &HostId,
        step: &Step,
        rows: &mut BTreeMap<HostId, StackHost>,
        jobs: &BTreeMap<JobId, Job>,
    ) {
        let wanted = self.carry.around.wanted.get(host).cloned().flatten();
        if let Step::Target = step {
            let fresh = || StackHost::new(stack.id.clone(), host.clone());
            let row = rows.entry(host.clone()).or_insert_with(fresh);
            row.targeted = true;
            row.status = row.status.apply(StackEvent::PutBack).unwrap_or(row.status);
            row.outcome = row.outcome.take().filter(|last| last.desired.is_some());
            row.wanted = wanted;
            return;
        }
        let Some(row) = rows.get_mut(host) else { return };
        match step {
            Step::Target => {}
            Step::Want => {
                row.wanted = wanted;
                row.watch.begin_anew();
            }
            Step::Trip => row.watch.tripped_us = Some(self.carry.now.0),
            Step::Note(id) => match jobs.get(id).map(|job| note(row, job, self.carry.now)) {
                Some(Noted::Row(after)) => *row = *after,
                Some(Noted::Gone) => {
                    rows.remove(host);
                }
                None => {}
            },
            Step::Untarget => {
                row.targeted = false;
                row.status = row.status.apply(StackEvent::Remove).unwrap_or(row.status);
            }
            Step::Withdraw(id) => {
                let ended =
                    jobs.get(id).and_then(|job| end(job, reason::STACK_KEPT, self.carry.now));
                if let Some((change, told)) = ended {
                    self.changes.push(change);
                    self.events.push(told);
                    row.job = None;
                    self.leave(row, jobs.get(id));
                }
            }
            Step::Sync { why } | Step::Revert { why } => {
                if let (Some(wanted), Some(bundle)) = (wanted, self.bundle_of(stack)) {
                    self.supersede(row, jobs);
                    let spec = sync_spec(stack, &bundle, &wanted);
                    let request = sync_request(stack, &spec, why);
                    self.queue(stack, row, &self.carry.sync.clone(), request, None);
                    if matches!(step, Step::Revert { .. }) {
                        row.watch.reverting(self.carry.now);
                    }
                    row.wanted = Some(wanted);
                    row.status = row.status.apply(StackEvent::Begin).unwrap_or(row.status);
                }
            }
            Step::Down { held } => {
                let request = down_request(stack, row, "it is no longer wanted there");
                self.queue(stack, row, &self.carry.down.clone(), request, *held);
            }
            Step::Vanish => {
                rows.remove(host);
            }
        }
    }

    /// The bundle of what the stack is now, if that is the one that was made.
    fn bundle_of(&self, stack: &Stack) -> Option<String> {
        let (digest, name) = self.carry.bundle.as_ref()?;
        (stack.facts.bundle_digest.as_ref() == Some(digest)).then(|| name.clone())
    }

    /// Ends an older sync that still waits for its host.
    fn supersede(&mut self, row: &mut StackHost, jobs: &BTreeMap<JobId, Job>) {
        let waiting = row.job.as_ref().and_then(|id| jobs.get(id));
        let ended = waiting.and_then(|job| end(job, reason::SUPERSEDED, self.carry.now));
        if let Some((change, told)) = ended {
            self.changes.push(change);
            self.events.push(told);
            self.leave(row, waiting);
        }
    }

    /// What a job leaves that was taken back. One that its host had begun may have left something there,
    /// which is to be put right or taken down.
    fn leave(&self, row: &mut StackHost, job: Option<&Job>) {
        if row.status == StackStatus::Syncing {
            let failed = StackEvent::failure(row.applied.is_some());
            row.status = row.status.apply(failed).unwrap_or(row.status);
        }
        if let Some(begun) = job.and_then(|job| taken_back(job, self.carry.now)) {
            row.outcome = Some(begun);
            row.retry_at = Some(self.carry.now);
        }
    }

    fn queue(
        &mut self,
        stack: &Stack,
        row: &mut StackHost,
        template: &Template,
        request: serde_json::Value,
        held: Option<&'static str>,
    ) {
        let Some(id) = self.carry.job_ids.get(self.made).cloned() else { return };
        self.made += 1;
        let input = JobInput {
            id: id.clone(),
            host_id: row.host.clone(),
            site_id: None,
            environment_id: None,
            stack_id: Some(stack.id.clone()),
            request,
            request_id: None,
            retry_of: None,
            parent_id: None,
            executor: None,
        };
        let new = new_job(input, template, self.carry.now);
        self.events.push(queued_event(&new.job, self.carry.now));
        let was = (new.job.state, new.job.attempt);
        let mut waits = new.job.clone();
        self.changes.push(Change::EnqueueJob(Box::new(new)));
        if let (Some(why), Some(state)) = (held, waits.state.apply(JobEvent::Hold)) {
            waits.state = state;
            waits.reason = Some(why.to_owned());
            let document = json!({ "reason": why });
            let kind = EventKind::JobHeld;
            let told = crate::domain::decide::job::event(&waits, kind, document, self.carry.now);
            self.events.push(told);
            self.changes.push(Change::UpdateJob { job: Box::new(waits), was });
        }
        row.job = Some(id);
    }

    /// From here on what left its hosts waits for a person, or no longer does.
    fn removal(&mut self, stack: &Stack, removal: Removal) {
        let version = stack.version + 1;
        let after = Stack { removal, updated_at: self.carry.now, version, ..stack.clone() };
        let document = json!({ "path": stack.path, "removal": removal.as_str() });
        self.tell(stack, None, EventKind::StackChanged, document);
        self.changes.push(Change::PutStacks(vec![after]));
    }

    /// Writes the rows that changed, and tells of those whose status did.
    fn rows(
        &mut self,
        stack: &Stack,
        before: &BTreeMap<HostId, StackHost>,
        after: &BTreeMap<HostId, StackHost>,
    ) {
        let mut put = Vec::new();
        for (host, row) in after {
            let was = before.get(host);
            if was == Some(row) {
                continue;
            }
            put.push(StackHost { version: row.version + 1, ..row.clone() });
            if was.map(|was| was.status) != Some(row.status) {
                self.tell_status(stack, host, was.map(|was| was.status), Some(row));
            }
        }
        if !put.is_empty() {
            self.changes.push(Change::PutStackHosts(put));
        }
        for (host, was) in before.iter().filter(|(host, _)| !after.contains_key(host)) {
            self.changes.push(Change::DeleteStackHost(stack.id.clone(), host.clone()));
            self.tell_status(stack, host, Some(was.status), None);
        }
    }

    fn tell_status(
        &mut self,
        stack: &Stack,
        host: &HostId,
        was: Option<StackStatus>,
        row: Option<&StackHost>,
    ) {
        let last = row.and_then(|row| row.outcome.as_ref());
        let document = json!({
            "path": stack.path,
            "was": was.map(StackStatus::as_str),
            "status": row.map_or("gone", |row| row.status.as_str()),
            "job_id": row.and_then(|row| row.job.as_ref()).map(|id| id.as_str()),
            "code": last.and_then(|last| last.error.as_ref()).map(|error| error.code.as_str()),
        });
        self.tell(stack, Some(host), EventKind::StackStatusChanged, document);
    }

    fn tell(
        &mut self,
        stack: &Stack,
        host: Option<&HostId>,
        kind: EventKind,
        document: serde_json::Value,
    ) {
        let subject =
            Subject { stack: Some(stack.id.clone()), host: host.cloned(), ..Subject::default() };
        self.events.push(NewEvent { at: self.carry.now, kind, subject, document });
    }
}

/// What hosts are told of a stack.
#[must_use]
pub(super) fn stack_doc(stack: &Stack) -> StackDoc {
    StackDoc {
        id: stack.id.clone(),
        path: stack.path.clone(),
        project: stack.facts.project.clone(),
    }
}

/// What a host is asked that is to take a stack down: as the project it runs it as.
pub(super) fn down_request(stack: &Stack, row: &StackHost, why: &str) -> serde_json::Value {
    let was = row.applied.as_ref().and_then(|applied| applied.project.clone());
    let mut doc = stack_doc(stack);
    doc.project = was.unwrap_or(doc.project);
    json!({ "down": StackDownSpec { stack: doc, volumes: false }, "why": why })
}

pub(super) fn sync_spec(stack: &Stack, bundle: &str, desired: &str) -> StackSyncSpec {
    let facts = &stack.facts;
    let inside = |name: &String| match facts.directory.as_str() {
        "" => name.clone(),
        directory => format!("{directory}/{name}"),
    };
    let files = std::iter::once(&facts.compose_file).chain(facts.override_file.as_ref());
    StackSyncSpec {
        stack: stack_doc(stack),
        bundle: bundle.to_owned(),
        directory: facts.directory.clone(),
        compose_files: files.map(inside).collect(),
        desired: desired.to_owned(),
        pull: facts.settings.pull,
        health_secs: facts.settings.health_secs,
        user_stopped: facts.settings.user_stopped,
        adopt: false,
        force: false,
    }
}

pub(super) fn sync_request(stack: &Stack, spec: &StackSyncSpec, why: &str) -> serde_json::Value {
    json!({
        "spec": spec,
        "revision": stack.revision,
        "compose_hash": stack.facts.compose_hash,
        "why": why,
    })
}
