//! What a person may ask of a stack that is to leave hosts: that it is taken down now, whatever its
//! removal waits for.

use hostler_protocol::id::{HostId, JobId, RequestId, StackId};

use super::asked_for;
use super::carry::down_request;
use super::person::{busy, input, job_of, noted};
use crate::domain::decide::enqueue::missing;
use crate::domain::decide::job::{new_job, queued_event, release};
use crate::domain::desired::{Stack, StackHost};
use crate::domain::stack::StackStatus;
use crate::domain::{Change, Decision, JobState, Micros, Refusal, RefusalKind, Snapshot, Template};

/// A wish that a stack is taken down where it is not wanted any more, with what that needs.
#[derive(Debug, Clone)]
pub struct Removing {
    pub stack: StackId,
    /// The hosts that are meant; `None`: all it is to leave.
    pub hosts: Option<Vec<HostId>>,
    /// One for each host.
    pub job_ids: Vec<JobId>,
    pub template: Template,
    pub request_id: Option<RequestId>,
    pub now: Micros,
}

/// Takes a stack down where it is to go: a removal that waits for a person is let go, one that was
/// declined or has failed is queued again, one that is under way is left to it. The reply names the job
/// for each host.
///
/// # Errors
/// `NOT_FOUND`; `STACK_WANTED` where it is not to go; `STACK_BUSY` where a sync has not ended.
pub fn remove_now(
    snapshot: &Snapshot,
    asked: &Removing,
) -> Result<Decision<Vec<(HostId, JobId)>>, Refusal> {
    let stack = snapshot.stack.as_ref().ok_or_else(|| missing("stack", &asked.stack))?;
    let goes = |row: &&StackHost| row.status == StackStatus::Deleting;
    let going: Vec<&StackHost> = snapshot.stack_hosts.iter().filter(goes).collect();
    let stays = |host: &HostId| !going.iter().any(|row| row.host == *host);
    let named = asked.hosts.as_deref();
    if going.is_empty() || named.is_some_and(|named| named.is_empty() || named.iter().any(stays)) {
        return Err(wanted(stack));
    }
    let meant = |row: &&&StackHost| named.is_none_or(|named| named.contains(&row.host));
    let (mut changes, mut events) = (Vec::new(), Vec::new());
    let (mut rows, mut reply) = (Vec::new(), Vec::new());
    for (known, id) in going.iter().filter(meant).zip(&asked.job_ids) {
        let mut row = noted((*known).clone(), snapshot, asked.now);
        if row.status != StackStatus::Deleting {
            // Its host has just said that it is gone.
            continue;
        }
        let open = row.job.as_ref().and_then(|id| job_of(snapshot, id));
        let job = match open.map(|job| (job, job.state)) {
            Some((job, _)) if asked_for(job).is_some() => return Err(busy(stack)),
            Some((job, JobState::Held)) => {
                let released = release(job, asked.now)?;
                changes.extend(released.changes);
                events.extend(released.events);
                job.id.clone()
            }
            Some((job, JobState::Queued | JobState::Running)) => job.id.clone(),
            Some((_, JobState::Succeeded | JobState::Failed | JobState::Cancelled)) | None => {
                let request = down_request(stack, &row, "somebody asked for it");
                let input = input(stack, asked.request_id.clone(), &row.host, id, request);
                let new = new_job(input, &asked.template, asked.now);
                events.push(queued_event(&new.job, asked.now));
                changes.push(Change::EnqueueJob(Box::new(new)));
                row.job = Some(id.clone());
                row.version += 1;
                rows.push(row);
                id.clone()
            }
        };
        reply.push((known.host.clone(), job));
    }
    if !rows.is_empty() {
        changes.push(Change::PutStackHosts(rows));
    }
    Ok(Decision { changes, events, reply })
}

fn wanted(stack: &Stack) -> Refusal {
    let message = format!(
        "{} is not to leave that host: take it out of the repository, or the host out of what its \
         `x-hostler` or a rule of the controller's configuration says, and wait for the refresh",
        stack.path
    );
    Refusal::new(RefusalKind::Conflict, "STACK_WANTED", message)
}
