//! A host is back: what its agent carries against what the database runs there.

use std::collections::BTreeSet;

use hostler_protocol::message::{AttemptRef, Verdict};

use crate::domain::Job;

/// What is to be done with each attempt either side knows of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// For the agent: one for each attempt it named as running.
    pub verdicts: Vec<(AttemptRef, Verdict)>,
    /// Reported running or finished: no longer unknown.
    pub known: Vec<AttemptRef>,
    /// Never seen by the agent: a new attempt may begin.
    pub unseen: Vec<AttemptRef>,
    /// Never seen by the agent and no longer wanted: over.
    pub cancelled: Vec<AttemptRef>,
    /// Once accepted, and the agent no longer knows of it: cut off.
    pub lost: Vec<AttemptRef>,
}

impl Reconciled {
    /// Of the known attempts only those marked `still` are their jobs' running ones: the others
    /// ended between the look and the word (somebody gave them up), and nobody wants them now.
    pub fn overtaken(&mut self, still: &[bool]) {
        let (mut known, mut ended) = (Vec::with_capacity(self.known.len()), BTreeSet::new());
        for (attempt, still) in std::mem::take(&mut self.known).into_iter().zip(still) {
            if *still {
                known.push(attempt);
            } else {
                ended.insert(attempt);
            }
        }
        self.known = known;
        for (attempt, verdict) in &mut self.verdicts {
            if ended.contains(attempt) {
                *verdict = Verdict::Stale;
            }
        }
    }
}

/// Compares the host's running jobs with what its agent named.
#[must_use]
pub fn reconcile(
    jobs: &[Job],
    running: &[AttemptRef],
    unacknowledged: &[AttemptRef],
) -> Reconciled {
    let mut reconciled = Reconciled::default();
    let named_running: BTreeSet<_> = running.iter().collect();
    let named_finished: BTreeSet<_> = unacknowledged.iter().collect();
    let mut current = BTreeSet::new();
    let mut unwanted = BTreeSet::new();
    for job in jobs {
        let attempt = AttemptRef { job: job.id.clone(), attempt: job.attempt };
        let stop = job.cancel_requested_at.is_some();
        if named_running.contains(&attempt) || named_finished.contains(&attempt) {
            reconciled.known.push(attempt.clone());
        } else if job.accepted_at.is_some() {
            reconciled.lost.push(attempt.clone());
        } else if stop {
            reconciled.cancelled.push(attempt.clone());
        } else {
            reconciled.unseen.push(attempt.clone());
        }
        if stop {
            unwanted.insert(attempt.clone());
        }
        current.insert(attempt);
    }
    reconciled.verdicts = named_running
        .into_iter()
        .map(|attempt| {
            let verdict = match (current.contains(attempt), unwanted.contains(attempt)) {
                (false, _) => Verdict::Stale,
                (true, true) => Verdict::Cancel,
                (true, false) => Verdict::Continue,
            };
            (attempt.clone(), verdict)
        })
        .collect();
    reconciled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Template;
    use crate::domain::decide::job::{JobInput, new_job};
    use crate::domain::template::{Executor, LaneKind, OnInterrupt};
    use crate::domain::{JobState, Micros};
    use hostler_protocol::id::{HostId, JobId};
    use hostler_protocol::job::JobType;

    fn job(number: u8) -> Job {
        let input = JobInput {
            id: JobId::from_parts(1, [number; 10]),
            host_id: HostId::from_parts(1, [0; 10]),
            site_id: None,
            environment_id: None,
            stack_id: None,
            request: serde_json::json!({}),
            request_id: None,
            retry_of: None,
            parent_id: None,
            executor: None,
        };
        let template = Template {
            namespace: "core".to_owned(),
            name: "env-check".to_owned(),
            version: "1".to_owned(),
            job_type: JobType::EnvCheck,
            executor: Executor::Native,
            timeout_secs: 1,
            retry_after_secs: Vec::new(),
            lane: LaneKind::None,
            may_pass_waiting: true,
            supersedes_queued: false,
            on_interrupt: OnInterrupt::Rerun,
            crashes_max: 1,
            ttl_secs: 1,
            priority: 0,
        };
        let mut job = new_job(input, &template, Micros(0)).job;
        job.state = JobState::Running;
        job.attempt = 2;
        job
    }

    fn attempt(number: u8, attempt: u32) -> AttemptRef {
        AttemptRef { job: JobId::from_parts(1, [number; 10]), attempt }
    }

    #[test]
    fn each_attempt_has_one_fate() {
        let asked = Job { cancel_requested_at: Some(Micros(1)), ..job(3) };
        let accepted = Job { accepted_at: Some(Micros(1)), ..job(4) };
        let unseen_and_asked = Job { cancel_requested_at: Some(Micros(1)), ..job(6) };
        let jobs = [job(1), job(2), asked, accepted, job(5), unseen_and_asked];
        let running = [attempt(1, 2), attempt(3, 2), attempt(5, 1), attempt(9, 1)];
        let reconciled = reconcile(&jobs, &running, &[attempt(2, 2)]);
        assert_eq!(reconciled.known, [attempt(1, 2), attempt(2, 2), attempt(3, 2)]);
        assert_eq!(reconciled.unseen, [attempt(5, 2)]);
        assert_eq!(reconciled.lost, [attempt(4, 2)]);
        assert_eq!(reconciled.cancelled, [attempt(6, 2)]);
        assert_eq!(
            reconciled.verdicts,
            [
                (attempt(1, 2), Verdict::Continue),
                (attempt(3, 2), Verdict::Cancel),
                (attempt(5, 1), Verdict::Stale),
                (attempt(9, 1), Verdict::Stale),
            ]
        );
    }
    #[test]
    fn what_ended_meanwhile_is_stale() {
        let mut reconciled = reconcile(&[job(1), job(2)], &[attempt(1, 2), attempt(2, 2)], &[]);
        reconciled.overtaken(&[true, false]);
        assert_eq!(reconciled.known, [attempt(1, 2)], "it takes up no slot");
        assert_eq!(
            reconciled.verdicts,
            [(attempt(1, 2), Verdict::Continue), (attempt(2, 2), Verdict::Stale)]
        );
    }
}
