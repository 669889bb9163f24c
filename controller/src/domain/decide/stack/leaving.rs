//! Stacks that leave hosts: whether so many leave at once that a person is asked first, and why one
//! that is to leave stays for now.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, JobId, StackId};
use hostler_protocol::job::Code;

use super::overview::{Overview, targets};
use super::{Step, has_begun, is_suspended};
use crate::domain::decide::refresh::RemovalLimits;
use crate::domain::desired::{Removal, Stack, StackHost};
use crate::domain::job::reason;
use crate::domain::stack::StackStatus;
use crate::domain::{Job, JobState};

/// Why a removal waits for a person. One that has failed had been let go, and is tried again without
/// asking once more, unless somebody has suspended the stack.
pub(super) fn held(stack: &Stack, has_failed: bool) -> Option<&'static str> {
    let suspended = is_suspended(stack).then_some(reason::REMOVAL_SUSPENDED);
    if has_failed {
        return suspended;
    }
    // The stack may live on elsewhere: its file says it is not meant to run here.
    if stack.present && stack.facts.settings.protected {
        return Some(reason::REMOVAL_PROTECTED);
    }
    match stack.removal {
        Removal::Free => suspended,
        Removal::Protected => Some(reason::REMOVAL_PROTECTED),
        Removal::Many => Some(reason::REMOVAL_MANY),
    }
}

/// Whether a removal waits because the stack was suspended, and it no longer is.
pub(super) fn is_resumed(stack: &Stack, job: &Job) -> bool {
    job.state == JobState::Held
        && job.reason.as_deref() == Some(reason::REMOVAL_SUSPENDED)
        && !is_suspended(stack)
}

/// Whether a person cancelled the removal: only a person asks for it again.
pub(super) fn is_declined(row: &StackHost) -> bool {
    let code = row.outcome.as_ref().filter(|last| last.desired.is_none() && !last.succeeded);
    let code = code.and_then(|last| last.error.as_ref()).map(|error| error.code.as_str());
    row.status == StackStatus::Deleting
        && row.job.is_none()
        && code == Some(Code::Cancelled.as_str())
}

/// Why a stack's removal from a host does not go on by itself, for people: `protected`, `many`,
/// `suspended`, `declined`.
#[must_use]
pub fn removal_waits(row: &StackHost, jobs: &BTreeMap<JobId, Job>) -> Option<&'static str> {
    if row.status != StackStatus::Deleting {
        return None;
    }
    if is_declined(row) {
        return Some("declined");
    }
    let job = row.job.as_ref().and_then(|id| jobs.get(id))?;
    match job.reason.as_deref().filter(|_| job.state == JobState::Held)? {
        reason::REMOVAL_PROTECTED => Some("protected"),
        reason::REMOVAL_MANY => Some("many"),
        reason::REMOVAL_SUSPENDED => Some("suspended"),
        _ => None,
    }
}

/// Whether more leaves hosts just now than may leave unasked: stacks on hosts are counted, whatever the
/// reason that they leave. What waits for a person since it left with too much else counts until it
/// is gone or declined: controllers that look while another carries stacks on come to the same end.
pub(super) fn are_many(overview: &Overview, limits: RemovalLimits) -> bool {
    let enrolled: BTreeSet<&HostId> = overview.places.iter().map(|place| &place.host).collect();
    let mut rows: BTreeMap<&StackId, Vec<&StackHost>> = BTreeMap::new();
    for row in overview.rows.iter().filter(|row| enrolled.contains(&row.host)) {
        if may_be_there(row, overview) {
            rows.entry(&row.stack).or_default().push(row);
        }
    }
    let (mut there, mut leave, mut with_stacks, mut stacks_gone) = (0, 0, 0, 0);
    for stack in &overview.stacks {
        let Some(rows) = rows.get(&stack.id) else { continue };
        there += rows.len();
        let places = targets(&stack.facts.settings, &overview.places);
        let meant: BTreeSet<&HostId> = places.into_iter().map(|place| &place.host).collect();
        let leaves = |row: &&&StackHost| match row.status {
            StackStatus::Deleting => stack.removal == Removal::Many && !is_declined(row),
            StackStatus::Missing | StackStatus::Syncing | StackStatus::Synced => {
                !stack.present || !meant.contains(&row.host)
            }
        };
        let count = rows.iter().filter(leaves).count();
        match stack.present {
            true => leave += count,
            false => {
                with_stacks += count;
                stacks_gone += usize::from(count > 0);
            }
        }
    }
    // A stack that was taken out of the repository alone is meant to go, on however many hosts it is.
    if stacks_gone > limits.free {
        leave += with_stacks;
    }
    leave > limits.free && leave * 100 > there * limits.share_percent
}

/// Whether there is anything of it that would be taken down.
pub(super) fn may_be_there(row: &StackHost, overview: &Overview) -> bool {
    let job = row.job.as_ref().and_then(|id| overview.jobs.get(id));
    row.applied.is_some() || row.outcome.is_some() || job.is_some_and(has_begun)
}

/// Whether the stack's removals may go on by themselves, after these steps. What left a stack that is
/// still there is forgotten once it has gone, or is there again.
pub(super) fn removal_after(
    stack: &Stack,
    rows: &[StackHost],
    steps: &[(HostId, Step)],
    many: bool,
) -> Removal {
    let leaves = steps.iter().any(|(_, step)| *step == Step::Untarget);
    let left = || rows.iter().any(|row| row.status == StackStatus::Deleting);
    match stack.removal {
        Removal::Free if leaves && many => Removal::Many,
        Removal::Many if stack.present && !leaves && !left() => Removal::Free,
        Removal::Free | Removal::Protected | Removal::Many => stack.removal,
    }
}
