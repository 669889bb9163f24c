use super::*;

/// A stack that runs on two hosts, and whose directory is renamed in one commit.
fn renamed() -> World {
    let on_both = || vec!["web-1".to_owned(), "web-2".to_owned()];
    let mut old = stack(1, "old");
    old.facts.settings.hosts = on_both();
    old.facts.tree_oid = "t1".to_owned();
    let mut new = Stack { id: stack(2, "new").id, path: "new".to_owned(), ..old.clone() };
    new.facts.project = "new".to_owned();
    new.facts.directory = "new".to_owned();
    let mut world = World::of(vec![old], vec![place(1, "web"), place(2, "web")]);
    world.settle();
    for n in [1, 2] {
        world.succeed(&host(n));
    }
    world.settle();
    world.overview.stacks[0].present = false;
    world.overview.stacks.push(new);
    world
}

/// What is open of a stack on a host.
fn open(world: &World, path: &str, n: u8) -> Option<(JobType, JobState)> {
    let stack = world.overview.stacks.iter().find(|one| one.path == path)?;
    let row = world.overview.rows.iter().find(|r| r.stack == stack.id && r.host == host(n))?;
    let job = &world.overview.jobs[row.job.as_ref()?];
    Some((job.job_type, job.state))
}

fn down(world: &mut World, n: u8, outcome: &Outcome) {
    let old = &world.overview.stacks[0].id;
    let row = world.overview.rows.iter().find(|row| row.stack == *old && row.host == host(n));
    let id = row.and_then(|row| row.job.clone()).expect("a removal that is open");
    let job = world.overview.jobs.get_mut(&id).unwrap();
    assert_eq!(job.job_type, JobType::StackDown);
    let failed = outcome.state == OutcomeState::Failed;
    job.state = if failed { JobState::Failed } else { JobState::Succeeded };
    job.outcome = Some(serde_json::to_value(outcome).unwrap());
}

fn waits(world: &World) -> Option<String> {
    let new = world.overview.stacks.iter().find(|one| one.path == "new").unwrap();
    let why = waiting(&world.overview, &trouble(&world.overview)).remove(&new.id)?;
    assert_eq!(why.code, "WAITS_FOR_REMOVAL");
    Some(why.message)
}

const SYNC: Option<(JobType, JobState)> = Some((JobType::StackSync, JobState::Queued));
const DOWN: Option<(JobType, JobState)> = Some((JobType::StackDown, JobState::Queued));

#[test]
fn what_is_new_on_a_host_comes_after_what_leaves_it() {
    let mut world = renamed();
    // Whoever looks at any time in between comes to the same end.
    while let Some(todo) = look(&world.overview, &bounds(100), world.now).last().cloned() {
        world.carry(&todo);
    }
    for n in [1, 2] {
        assert_eq!((open(&world, "old", n), open(&world, "new", n)), (DOWN, None), "{n}");
    }
    assert!(waits(&world).unwrap().contains("old is taken down on web-1 first"));
    down(&mut world, 1, &outcome(OutcomeState::Succeeded, None, None));
    world.settle();
    assert_eq!(open(&world, "new", 1), SYNC, "host by host");
    assert_eq!((open(&world, "old", 2), open(&world, "new", 2)), (DOWN, None));
    down(&mut world, 2, &outcome(OutcomeState::Succeeded, None, None));
    world.settle();
    assert_eq!((open(&world, "new", 2), waits(&world)), (SYNC, None));
}

#[test]
fn what_runs_there_already_waits_for_no_removal() {
    let mut world = renamed();
    world.overview.stacks.pop();
    world.overview.stacks.push(stack(3, "stays"));
    world.overview.stacks[0].present = true;
    world.settle();
    let job = world.overview.jobs.values().find(|job| job.state == JobState::Queued);
    let job = job.expect("the one that stays is new, and nothing leaves").id.clone();
    world.confirm(&job);
    world.settle();
    world.overview.stacks[0].present = false;
    world.overview.stacks[1].facts.bundle_digest = Some("d2".to_owned());
    world.settle();
    assert_eq!((open(&world, "old", 1), open(&world, "stays", 1)), (DOWN, SYNC));
}

#[test]
fn a_removal_that_waits_for_a_person_keeps_nothing_waiting() {
    for removal in [Removal::Many, Removal::Protected] {
        let mut world = renamed();
        world.overview.stacks[0].removal = removal;
        world.settle();
        assert_eq!(open(&world, "old", 1), Some((JobType::StackDown, JobState::Held)));
        assert_eq!((open(&world, "new", 1), waits(&world)), (SYNC, None));
    }
    let mut world = renamed();
    world.overview.stacks[0].suspended = true;
    world.settle();
    assert_eq!(open(&world, "new", 2), SYNC);
}

#[test]
fn only_its_double_waits_for_a_removal_that_failed() {
    for (oid, begun) in [("t1", None), ("t2", SYNC)] {
        let mut world = renamed();
        world.overview.stacks[1].facts.tree_oid = oid.to_owned();
        world.settle();
        for n in [1, 2] {
            let failed = outcome(OutcomeState::Failed, None, Some(Code::CommandFailed));
            down(&mut world, n, &failed);
        }
        world.settle();
        assert_eq!((open(&world, "old", 1), open(&world, "new", 1)), (None, begun), "{oid}");
        let says = waits(&world).is_some_and(|says| says.contains("could not be taken down"));
        assert_eq!(says, begun.is_none());
    }
}

#[test]
fn a_stack_that_comes_back_waits_for_the_one_that_took_its_place() {
    let mut world = renamed();
    // The old one cannot be taken down, and the new one, of other files, runs beside it.
    world.overview.stacks[1].facts.tree_oid = "t2".to_owned();
    world.settle();
    for n in [1, 2] {
        down(&mut world, n, &outcome(OutcomeState::Failed, None, Some(Code::CommandFailed)));
    }
    world.settle();
    let queued = |job: &&Job| job.state == JobState::Queued;
    let jobs = world.overview.jobs.values().filter(queued).map(|job| job.id.clone());
    for job in jobs.collect::<Vec<_>>() {
        world.confirm(&job);
    }
    world.settle();
    // The commit is taken back.
    world.overview.stacks[0].present = true;
    world.overview.stacks[1].present = false;
    world.settle();
    assert_eq!((open(&world, "old", 1), open(&world, "new", 1)), (None, DOWN));
}
