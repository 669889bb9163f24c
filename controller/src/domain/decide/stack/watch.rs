//! Actual state: what hosts see of their stacks, and what a person makes of drift.

use hostler_protocol::id::{HostId, StackId};
use hostler_protocol::observed::{NAMED_DRIFT_MAX, ObservedStack};
use serde_json::json;

use crate::domain::decide::enqueue::{missing, nothing};
use crate::domain::desired::{Stack, StackHost};
use crate::domain::{
    Change, Decision, EventKind, Micros, NewEvent, Refusal, RefusalKind, Snapshot, Subject,
};

/// What is seen the same is written again after so long, in seconds, so that its time is true.
pub(super) const SEEN_SECS: u64 = 300;

/// What a host says of a stack.
#[derive(Debug, Clone)]
pub enum Seen {
    Stack(ObservedStack),
    /// Docker could not be asked.
    Unavailable {
        why: String,
        at_us: i64,
    },
    /// Docker could be asked, and nothing was said of the stack.
    Available,
}

/// The row after what its host sees; `None` where that is nothing new. While a job is under way, and
/// when the host looked against something else than it is known to run, the report tells of
/// containers alone.
#[must_use]
pub fn seen(row: &StackHost, seen: &Seen) -> Option<StackHost> {
    let mut after = row.clone();
    let at_us = match seen {
        Seen::Unavailable { why, at_us } => {
            after.watch.unavailable = Some(why.clone());
            *at_us
        }
        Seen::Available => {
            after.watch.unavailable = None;
            return (after != *row).then_some(after);
        }
        Seen::Stack(stack) => {
            after.watch.unavailable = None;
            after.containers.clone_from(&stack.containers);
            let applied = row.applied.as_ref().map(|applied| &applied.desired);
            if row.job.is_none() && applied == Some(&stack.desired) {
                after.watch.drift = stack.drift.iter().take(NAMED_DRIFT_MAX).cloned().collect();
                after.watch.drift.sort();
                after.watch.drift_more = stack.drift_more;
                let drift = &after.watch.drift;
                after.watch.accepted.retain(|one| drift.contains(one));
            }
            stack.seen_at_us
        }
    };
    let before_us = row.watch.seen_at_us.unwrap_or(i64::MIN);
    if at_us < before_us {
        return None;
    }
    let old = Micros(before_us).plus_secs(SEEN_SECS).0 <= at_us;
    (old || after != *row).then(|| {
        after.watch.seen_at_us = Some(at_us);
        after
    })
}

/// Takes in what a host sees of a stack. The reply tells whether anything is written.
#[must_use]
pub fn observe(snapshot: &Snapshot, host: &HostId, what: &Seen, now: Micros) -> Decision<bool> {
    let row = snapshot.stack_hosts.iter().find(|row| row.host == *host);
    let (Some(stack), Some(row)) = (&snapshot.stack, row) else { return nothing(false) };
    let Some(after) = seen(row, what) else { return nothing(false) };
    let quiet = StackHost { watch: row.watch.clone(), ..after.clone() } == *row
        && (&after.watch.drift, &after.watch.unavailable)
            == (&row.watch.drift, &row.watch.unavailable);
    let events = if quiet { Vec::new() } else { vec![observed_event(stack, &after, now)] };
    let put = StackHost { version: row.version + 1, ..after };
    Decision { changes: vec![Change::PutStackHosts(vec![put])], events, reply: true }
}

fn observed_event(stack: &Stack, row: &StackHost, at: Micros) -> NewEvent {
    let running = row.containers.iter().filter(|one| one.state == "running").count();
    let unhealthy = row.containers.iter().filter(|one| one.health.as_deref() == Some("unhealthy"));
    NewEvent {
        at,
        kind: EventKind::StackObserved,
        subject: Subject {
            stack: Some(stack.id.clone()),
            host: Some(row.host.clone()),
            ..Subject::default()
        },
        document: json!({
            "path": stack.path,
            "containers": row.containers.len(),
            "running": running,
            "unhealthy": unhealthy.count(),
            "drift": row.watch.drift,
            "unavailable": row.watch.unavailable,
        }),
    }
}

/// Accepts what differs now on these hosts, or on all: it is neither shown as drift nor put right
/// until it changes. The reply counts the hosts.
///
/// # Errors
/// `NOT_FOUND`; `NO_DRIFT` if nothing differs there.
pub fn accept_drift(
    snapshot: &Snapshot,
    id: &StackId,
    hosts: Option<&[HostId]>,
    now: Micros,
) -> Result<Decision<usize>, Refusal> {
    let stack = snapshot.stack.as_ref().ok_or_else(|| missing("stack", id))?;
    let meant = |row: &&StackHost| hosts.is_none_or(|hosts| hosts.contains(&row.host));
    let drifted = snapshot.stack_hosts.iter().filter(meant).filter(|row| row.watch.is_drifted());
    let differs = snapshot.stack_hosts.iter().filter(meant).any(|row| !row.watch.drift.is_empty());
    let rows: Vec<StackHost> = drifted
        .map(|row| {
            let mut after = StackHost { version: row.version + 1, ..row.clone() };
            after.watch.accepted.clone_from(&row.watch.drift);
            after.watch.begin_anew();
            after
        })
        .collect();
    if rows.is_empty() {
        let path = &stack.path;
        let message = match differs {
            true => format!("all that differs of {path} there has been accepted already"),
            false => format!("nothing of {path} differs from what was applied there"),
        };
        return Err(Refusal::new(RefusalKind::Conflict, "NO_DRIFT", message));
    }
    let events = rows.iter().map(|row| observed_event(stack, row, now)).collect();
    let reply = rows.len();
    Ok(Decision { changes: vec![Change::PutStackHosts(rows)], events, reply })
}

#[cfg(test)]
#[path = "../watch_tests.rs"]
mod tests;
