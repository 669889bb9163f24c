use super::*;
use crate::domain::Refusal;

/// As many stacks as hosts are named for each, all on all, all synced.
fn full(stacks: u8, hosts: u8) -> World {
    let named: Vec<String> = (1..=hosts).map(|n| format!("web-{n}")).collect();
    let all = (1..=stacks).map(|n| {
        let mut one = stack(n, &format!("s{n}"));
        one.facts.settings.hosts.clone_from(&named);
        one
    });
    let mut world = World::of(all.collect(), (1..=hosts).map(|n| place(n, "web")).collect());
    world.settle();
    world.confirm_all();
    assert!(world.overview.rows.iter().all(|row| row.status == Synced));
    world
}

impl World {
    /// Whatever is queued succeeds.
    fn confirm_all(&mut self) {
        let queued = |job: &&Job| job.state == JobState::Queued;
        let jobs = self.overview.jobs.values().filter(queued).map(|job| job.id.clone());
        for job in jobs.collect::<Vec<_>>() {
            self.confirm(&job);
        }
        self.settle();
    }

    /// What is held, by the reason why.
    fn held(&self) -> Vec<&str> {
        let held = self.overview.jobs.values().filter(|job| job.state == JobState::Held);
        held.map(|job| job.reason.as_deref().unwrap_or_default()).collect()
    }

    fn waits_to_go(&self) -> Option<&'static str> {
        removal_waits(self.row(&host(1)), &self.overview.jobs)
    }

    fn first(&self) -> Snapshot {
        let stack = &self.overview.stacks[0];
        let own = |row: &&StackHost| row.stack == stack.id;
        Snapshot {
            stack: Some(stack.clone()),
            stack_hosts: self.overview.rows.iter().filter(own).cloned().collect(),
            stack_jobs: self.overview.jobs.values().cloned().collect(),
            ..Snapshot::default()
        }
    }

    /// A person asks that the first stack is taken down where it is to go.
    fn remove(&mut self, hosts: Option<Vec<HostId>>) -> Result<Vec<(HostId, JobId)>, Refusal> {
        self.made += 100;
        let asked = Removing {
            stack: self.overview.stacks[0].id.clone(),
            hosts,
            job_ids: (0..10).map(|n| JobId::from_parts(self.made + n, [0; 10])).collect(),
            template: template(JobType::StackDown),
            request_id: None,
            now: self.now,
        };
        let decision = remove_now(&self.first(), &asked)?;
        for change in decision.changes {
            self.apply(change);
        }
        Ok(decision.reply)
    }

    fn decline(&mut self, host: &HostId) {
        let id = self.row(host).job.clone().expect("an open job");
        let job = self.overview.jobs.get_mut(&id).unwrap();
        job.state = job.state.apply(JobEvent::Cancel).unwrap();
        job.reason = Some(reason::CANCELLED.to_owned());
    }
}

#[test]
fn an_edit_that_takes_many_stacks_off_some_of_their_hosts_waits_for_a_person() {
    let mut world = full(2, 5);
    for one in &mut world.overview.stacks {
        one.facts.settings.hosts.truncate(3);
    }
    world.settle();
    assert_eq!(world.held(), ["REMOVAL_MANY"; 4], "no stack has lost all its hosts");
    // What else is said of such a stack does not let it go.
    world.overview.stacks[0].facts.settings.hosts.truncate(2);
    world.settle();
    assert_eq!(world.held(), ["REMOVAL_MANY"; 5]);
    // The hosts are named again: everything is as it was, and the next one that leaves may.
    for one in &mut world.overview.stacks {
        one.facts.settings.hosts = (1..=5).map(|n| format!("web-{n}")).collect();
    }
    world.settle();
    world.confirm_all();
    assert!(world.overview.stacks.iter().all(|one| one.removal == Removal::Free));
    world.overview.stacks[0].facts.settings.hosts.truncate(4);
    world.settle();
    assert_eq!(world.held(), [""; 0], "one of ten is not too much");
}

#[test]
fn a_host_that_loses_a_label_takes_no_more_along_than_may_go() {
    let labelled = || [("role".to_owned(), "web".to_owned())].into_iter().collect();
    let mut world = full(4, 3);
    for one in &mut world.overview.stacks {
        one.facts.settings.labels = labelled();
        one.facts.settings.hosts.clear();
    }
    world.settle();
    world.confirm_all();
    world.overview.places[0].labels.clear();
    world.settle();
    assert_eq!(world.held(), ["REMOVAL_MANY"; 4], "a third of all is on that host");
    world.overview.places[0].labels = labelled();
    world.settle();
    assert_eq!(world.held(), [""; 0]);
}

#[test]
fn a_controller_that_looks_while_another_carries_on_comes_to_the_same_end() {
    let mut world = full(4, 3);
    for one in &mut world.overview.stacks {
        one.facts.settings.hosts.truncate(2);
    }
    // One stack after the other, each looked at anew: what is left by and by would be few enough.
    while let Some(todo) = look(&world.overview, &bounds(100), world.now).first().cloned() {
        world.carry(&todo);
    }
    assert_eq!(world.held(), ["REMOVAL_MANY"; 4]);
}

#[test]
fn a_stack_that_is_taken_out_alone_goes_from_all_its_hosts() {
    let mut world = full(2, 5);
    world.overview.stacks[0].present = false;
    world.settle();
    assert_eq!(world.held(), [""; 0]);
    let downs = world.overview.jobs.values().filter(|job| job.job_type == JobType::StackDown);
    assert_eq!(downs.count(), 5);
}

#[test]
fn a_removal_that_was_declined_waits_until_a_person_asks_for_it() {
    let mut world = synced();
    (world.overview.stacks[0].present, world.overview.stacks[0].removal) = (false, Removal::Many);
    world.settle();
    assert_eq!(world.waits_to_go(), Some("many"));
    world.decline(&host(1));
    world.settle();
    world.now = world.now.plus_secs(30 * RETRY_SECS);
    assert_eq!(world.settle(), 0, "nobody asks again");
    assert_eq!((world.waits_to_go(), world.row(&host(1)).status), (Some("declined"), Deleting));
    let asked = world.remove(Some(vec![host(1)])).unwrap();
    assert_eq!(asked.len(), 1);
    world.settle();
    let job = world.job(&host(1));
    assert_eq!(
        (job.state, job.job_type, &job.id),
        (JobState::Queued, JobType::StackDown, &asked[0].1)
    );
    assert_eq!(world.waits_to_go(), None);
    // It was let go: what fails is tried again without asking once more.
    world.fail(&host(1), Code::CommandFailed);
    world.settle();
    world.now = world.now.plus_secs(RETRY_SECS);
    world.settle();
    assert_eq!(world.job(&host(1)).state, JobState::Queued);
    // Suspended while it waits to be tried again: it waits for a person once more.
    world.fail(&host(1), Code::CommandFailed);
    world.settle();
    world.overview.stacks[0].suspended = true;
    world.now = world.now.plus_secs(RETRY_SECS);
    world.settle();
    assert_eq!(world.waits_to_go(), Some("suspended"));
    world.overview.stacks[0].suspended = false;
    world.settle();
    let queued = world.job(&host(1)).id.clone();
    assert_eq!(world.remove(None).unwrap(), [(host(1), queued.clone())], "it is on its way");
    world.confirm(&queued);
    world.settle();
    assert!(world.overview.stacks.is_empty());
}

#[test]
fn what_is_held_is_let_go_and_what_is_wanted_is_not_removed() {
    let mut world = synced();
    assert_eq!(world.remove(None).unwrap_err().code, "STACK_WANTED");
    world.overview.stacks[0].facts.settings.protected = true;
    world.overview.stacks[0].facts.settings.hosts.clear();
    world.settle();
    assert_eq!(world.waits_to_go(), Some("protected"));
    assert_eq!(world.remove(Some(vec![host(2)])).unwrap_err().code, "STACK_WANTED");
    assert_eq!(world.remove(Some(Vec::new())).unwrap_err().code, "STACK_WANTED");
    let held = world.job(&host(1)).id.clone();
    assert_eq!(world.remove(None).unwrap(), [(host(1), held)]);
    assert_eq!(world.job(&host(1)).state, JobState::Queued);
}

#[test]
fn a_declined_removal_keeps_no_other_waiting() {
    let mut world = full(2, 5);
    world.overview.stacks[0].facts.settings.hosts.truncate(1);
    world.settle();
    assert_eq!(world.held().len(), 4);
    for n in 2..=5 {
        let row = world.overview.rows.iter().find(|row| row.host == host(n) && row.job.is_some());
        let id = row.unwrap().job.clone().unwrap();
        let job = world.overview.jobs.get_mut(&id).unwrap();
        job.state = JobState::Cancelled;
        job.reason = Some(reason::CANCELLED.to_owned());
    }
    world.settle();
    world.overview.stacks[1].facts.settings.hosts.truncate(4);
    world.settle();
    assert_eq!(world.held(), [""; 0]);
}

#[test]
fn a_suspended_stack_that_goes_waits_for_a_person_or_for_being_resumed() {
    for by_file in [true, false] {
        let mut world = synced();
        let gone = &mut world.overview.stacks[0];
        gone.present = false;
        match by_file {
            true => gone.facts.settings.suspend = true,
            false => gone.suspended = true,
        }
        world.settle();
        assert_eq!(world.waits_to_go(), Some("suspended"), "{by_file}");
        if !by_file {
            world.overview.stacks[0].suspended = false;
            world.settle();
            assert_eq!(world.job(&host(1)).state, JobState::Queued);
        }
    }
}
