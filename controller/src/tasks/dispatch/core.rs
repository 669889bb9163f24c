//! What dispatch asks for and what it does with the answer, without IO.

use hostler_protocol::job::{Code, JobError};
use hostler_protocol::message::AttemptRef;

use crate::domain::{Micros, Template, spec};
use crate::fleet::Connected;
use crate::store::{ClaimHost, Claimed};

/// Jobs a host runs at once.
pub const HOST_SLOTS: usize = 4;
/// Jobs claimed in one unit.
pub const CLAIM_MAX: u32 = 256;

/// The hosts with room, and how much.
#[must_use]
pub(super) fn hosts_with_room(connected: Vec<Connected>) -> Vec<ClaimHost> {
    let mut hosts: Vec<ClaimHost> = connected
        .into_iter()
        .filter(|session| session.in_flight < HOST_SLOTS)
        .map(|session| ClaimHost {
            slots: u32::try_from(HOST_SLOTS - session.in_flight).unwrap_or(1),
            host: session.host,
            epoch: session.epoch,
        })
        .collect();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    hosts
}

/// A claimed job on its way to its host.
#[derive(Debug)]
pub(super) enum Plan {
    /// Hand it to the session of this epoch.
    Run { attempt: AttemptRef, epoch: u64, spec: Vec<u8> },
    /// It can never run: settle it with this error.
    Fail { attempt: AttemptRef, error: JobError },
    /// Its session is gone by now: queue it again.
    Return { attempt: AttemptRef },
}

/// Decides what becomes of a claimed job.
#[must_use]
pub(super) fn plan(
    claimed: &Claimed,
    template: &Template,
    hosts: &[ClaimHost],
    now: Micros,
) -> Plan {
    let job = &claimed.job;
    let attempt = AttemptRef { job: job.id.clone(), attempt: job.attempt };
    let Some(host) = hosts.iter().find(|host| host.host == job.host_id) else {
        return Plan::Return { attempt };
    };
    if claimed.unreadable {
        let message = "what the controller knows of the job's environment cannot be read";
        let error = JobError::new(Code::Undecodable, message);
        return Plan::Fail { attempt, error };
    }
    let environment = claimed.environment.as_ref();
    match spec::resolve(job, environment, template, claimed.generation, now) {
        Ok(doc) => {
            let spec = hostler_protocol::job::write(&doc);
            if spec.len() > hostler_protocol::SPEC_BYTES_MAX {
                let message = format!("the job's specification has {} bytes", spec.len());
                let error = JobError::new(Code::SpecInvalid, message);
                return Plan::Fail { attempt, error };
            }
            Plan::Run { attempt, epoch: host.epoch, spec }
        }
        Err(error) => Plan::Fail { attempt, error },
    }
}

/// Whether there may be more to claim at once: the last claim came back full.
#[must_use]
pub(super) fn look_again(claimed: usize) -> bool {
    claimed >= CLAIM_MAX as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_protocol::id::HostId;

    #[test]
    fn only_hosts_with_room_are_asked_for() {
        let host = |number: u8| HostId::from_parts(1, [number; 10]);
        let connected = |number, in_flight| Connected { host: host(number), epoch: 7, in_flight };
        let asked = hosts_with_room(vec![
            connected(3, 1),
            connected(2, HOST_SLOTS),
            connected(1, 0),
            connected(4, HOST_SLOTS + 3),
        ]);
        let slots: Vec<_> = asked.iter().map(|ask| (ask.host.clone(), ask.slots)).collect();
        assert_eq!(slots, [(host(1), 4), (host(3), 3)]);
    }
}
