use super::*;

#[test]
fn what_waits_for_a_host_that_runs_what_is_wanted_again_is_taken_back() {
    let mut world = synced();
    world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
    world.settle();
    let bad = world.job(&host(1)).id.clone();
    world.overview.stacks[0].facts.bundle_digest = Some("d1".to_owned());
    world.settle();
    assert_eq!(world.overview.jobs[&bad].reason.as_deref(), Some("STACK_KEPT"));
    let row = world.row(&host(1));
    assert_eq!((row.status, row.job.is_none(), row.is_out_of_sync()), (Synced, true, false));
    assert_eq!(world.settle(), 0);
}

#[test]
fn a_host_that_had_begun_with_something_else_is_given_what_it_ran_before_again() {
    for failed in [false, true] {
        let mut world = synced();
        world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
        world.settle();
        match failed {
            true => world.fail(&host(1), Code::StackUnhealthy),
            false => world.begin_and_requeue(&host(1)),
        }
        world.settle();
        world.overview.stacks[0].facts.bundle_digest = Some("d1".to_owned());
        world.settle();
        let job = world.job(&host(1));
        assert_eq!(job.request["spec"]["bundle"], "bundle of d1");
        assert_eq!(job.request["why"], "something else was begun there since");
        world.succeed(&host(1));
        world.settle();
        assert_eq!(world.row(&host(1)).status, Synced);
        assert_eq!(world.settle(), 0, "once is enough");
    }
}

#[test]
fn a_first_sync_that_was_begun_is_taken_down_when_the_stack_goes() {
    for begun in [false, true] {
        let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
        world.settle();
        if begun {
            world.begin_and_requeue(&host(1));
        }
        world.overview.stacks[0].present = false;
        world.settle();
        let down = world.overview.jobs.values().any(|job| job.job_type == JobType::StackDown);
        assert_eq!((down, world.overview.rows.len()), (begun, usize::from(begun)));
    }
}

#[test]
fn a_sync_that_was_set_aside_keeps_nothing_newer_waiting() {
    let mut world = synced();
    world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
    world.settle();
    let id = world.job(&host(1)).id.clone();
    world.overview.jobs.get_mut(&id).unwrap().state = JobState::Held;
    assert_eq!(world.settle(), 0, "a person has to look");
    world.overview.stacks[0].facts.bundle_digest = Some("d3".to_owned());
    world.settle();
    assert_eq!(world.job(&host(1)).request["spec"]["bundle"], "bundle of d3");
}

#[test]
fn a_host_that_confirms_something_else_has_failed() {
    for (desired, bundle) in [("other", "bundle of d1"), ("", "a bundle of somebody else")] {
        let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
        world.settle();
        let told = world.job(&host(1)).request["spec"]["desired"].as_str().unwrap().to_owned();
        world.succeed(&host(1));
        let id = world.job(&host(1)).id.clone();
        let said = world.overview.jobs.get_mut(&id).unwrap().outcome.as_mut().unwrap();
        said["result"]["desired"] =
            if desired.is_empty() { told } else { desired.to_owned() }.into();
        said["result"]["bundle"] = bundle.into();
        world.settle();
        let row = world.row(&host(1));
        assert_eq!((row.status, &row.applied, row.job.is_none()), (Missing, &None, true));
        assert_eq!(world.settle(), 0, "it is not asked again and again");
        let error = world.row(&host(1)).outcome.as_ref().and_then(|last| last.error.clone());
        assert_eq!(error.map(|error| error.code), Some("UNDECODABLE".to_owned()));
    }
}

#[test]
fn a_removal_that_failed_is_tried_again_whatever_it_was() {
    let mut world = synced();
    world.overview.stacks[0].present = false;
    world.settle();
    world.fail(&host(1), Code::CommandFailed);
    world.settle();
    assert_eq!((world.row(&host(1)).status, &world.row(&host(1)).job), (Deleting, &None));
    world.now = world.now.plus_secs(RETRY_SECS);
    world.settle();
    assert_eq!(world.job(&host(1)).job_type, JobType::StackDown);
}

#[test]
fn nothing_is_done_about_a_stack_that_has_changed_since_it_was_looked_at() {
    let mut world = synced();
    world.overview.stacks[0].present = false;
    let todos = look(&world.overview, &bounds(100), world.now);
    assert_eq!(todos.len(), 1);
    // A look at the repository finds it again before its turn comes.
    (world.overview.stacks[0].present, world.overview.stacks[0].version) = (true, 2);
    assert!(world.carry(&todos[0]), "it is looked at again");
    assert_eq!(world.row(&host(1)).status, Synced);
    assert_eq!(world.settle(), 0);
}

#[test]
fn stacks_that_lost_their_hosts_together_wait_for_a_person() {
    let mut world = synced();
    world.overview.stacks[0].facts.settings.hosts.clear();
    world.overview.stacks[0].removal = Removal::Many;
    world.settle();
    let job = world.job(&host(1));
    assert_eq!((job.state, job.reason.as_deref()), (JobState::Held, Some("REMOVAL_MANY")));
}

#[test]
fn hosts_that_are_away_keep_no_other_waiting() {
    let mut stacks: Vec<Stack> = (1..=9).map(|n| stack(n, &format!("s{n}"))).collect();
    for (n, one) in (1_usize..).zip(&mut stacks) {
        one.facts.settings.hosts = vec![if n <= 5 { "web-1" } else { "web-2" }.to_owned()];
    }
    let mut world = World::of(stacks, vec![place(1, "web"), place(2, "web")]);
    world.overview.away.insert(host(1));
    for _ in 0..9 {
        for todo in look(&world.overview, &bounds(3), world.now) {
            world.carry(&todo);
        }
    }
    let open = |n: u8| {
        let of = |row: &&StackHost| row.host == host(n) && row.job.is_some();
        world.overview.rows.iter().filter(of).count()
    };
    assert_eq!((open(1), open(2)), (5, 3));
}

#[test]
fn a_stack_whose_project_was_renamed_is_taken_down_as_what_it_was_first() {
    let mut world = synced();
    world.overview.stacks[0].facts.project = "store".to_owned();
    world.settle();
    let job = world.job(&host(1));
    assert_eq!(
        (job.job_type, &job.request["down"]["stack"]["project"]),
        (JobType::StackDown, &"shop".into())
    );
    world.end(&host(1), &outcome(OutcomeState::Succeeded, None, None));
    world.settle();
    let job = world.job(&host(1));
    assert_eq!(job.request["spec"]["stack"]["project"], "store");
    world.succeed(&host(1));
    world.settle();
    assert_eq!(world.row(&host(1)).status, Synced);
    assert_eq!(world.settle(), 0);
    // Called off before it began.
    world.overview.stacks[0].facts.project = "shop".to_owned();
    world.settle();
    world.overview.stacks[0].facts.project = "store".to_owned();
    world.settle();
    assert_eq!(world.job(&host(1)).job_type, JobType::StackSync);
    // One that cannot be synced as the new one keeps what it runs.
    let mut world = synced();
    world.overview.stacks[0].facts.project = "store".to_owned();
    world.overview.stacks[0].suspended = true;
    world.settle();
    let row = world.row(&host(1));
    assert_eq!((row.status, row.job.is_none()), (Synced, true));
}

#[test]
fn nobody_is_told_that_a_host_has_what_was_only_just_found() {
    let mut world = synced();
    world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
    assert!(!world.row(&host(1)).is_out_of_sync(), "its row still speaks of before");
    let rows = rows_now(&world.overview);
    assert!(rows[0].is_out_of_sync());
    world.overview.stacks[0].facts.settings.labels =
        [("role".to_owned(), "web".to_owned())].into_iter().collect();
    world.overview.places.push(place(7, "web"));
    let rows = rows_now(&world.overview);
    assert_eq!(rows.iter().filter(|row| row.status == Missing).count(), rows.len() - 1);
    assert!(rows.len() > 1, "a host it is now meant for counts, though it has no row yet");
}
