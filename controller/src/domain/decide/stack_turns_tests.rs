use super::*;

fn named(hosts: std::ops::RangeInclusive<u8>) -> Vec<String> {
    hosts.map(|n| format!("web-{n}")).collect()
}

fn open(world: &World) -> usize {
    world.overview.jobs.values().filter(|job| !job.state.is_ended()).count()
}

fn waits(world: &World) -> BTreeMap<StackId, crate::domain::desired::StackProblem> {
    waiting(&world.overview, &trouble(&world.overview))
}

/// One round of a controller.
fn round(world: &mut World, syncs_max: usize) {
    for todo in look(&world.overview, &bounds(syncs_max), world.now) {
        world.carry(&todo);
    }
}

/// One job that is open succeeds; of the stack at that path, if it has one.
fn succeed_one(world: &mut World, path: &str) -> Option<String> {
    let open = world.overview.jobs.values().filter(|job| job.state == JobState::Queued);
    let of = |job: &&Job| job.request["spec"]["stack"]["path"] == path;
    let job = open.clone().find(of).or_else(|| open.clone().next())?.clone();
    world.confirm(&job.id);
    Some(job.request["spec"]["stack"]["path"].as_str().unwrap().to_owned())
}

#[test]
fn stacks_come_after_those_they_name_and_a_circle_is_said() {
    let (mut app, db) = (stack(1, "app"), stack(2, "db"));
    app.facts.settings.after = vec!["db".to_owned()];
    let mut world = World::of(vec![app, db], vec![place(1, "web")]);
    world.settle();
    let open = |world: &World, n: u8| {
        let id = StackId::from_parts(1, [n; 10]);
        let row = world.overview.rows.iter().find(|row| row.stack == id).cloned();
        row.and_then(|row| row.job)
    };
    assert!(open(&world, 1).is_none() && open(&world, 2).is_some());
    let job = open(&world, 2).unwrap();
    let desired = world.overview.jobs[&job].request["spec"]["desired"].as_str().unwrap().to_owned();
    let row = world.overview.rows.iter_mut().find(|row| row.job == Some(job.clone())).unwrap();
    row.job = None;
    row.status = Synced;
    row.applied = Some(Applied {
        project: None,
        desired,
        bundle: String::new(),
        revision: String::new(),
        at_us: 0,
        compose_hash: None,
        directory: String::new(),
        compose_files: Vec::new(),
    });
    world.settle();
    assert!(open(&world, 1).is_some(), "what it waited for is there");
    world.overview.stacks[1].facts.settings.after = vec!["app".to_owned()];
    let codes: BTreeMap<_, _> =
        trouble(&world.overview).into_iter().map(|(id, one)| (id, one.code)).collect();
    assert!(codes.values().all(|code| code == "STACK_ORDER_CIRCLE") && codes.len() == 2);
}

#[test]
fn no_more_syncs_are_open_than_may_be() {
    let stacks: Vec<Stack> = (1..=9).map(|n| stack(n, &format!("s{n}"))).collect();
    let mut world = World::of(stacks, vec![place(1, "web")]);
    for _ in 0..9 {
        for todo in look(&world.overview, &bounds(3), world.now) {
            world.carry(&todo);
        }
    }
    assert_eq!(world.overview.rows.len(), 9);
    assert_eq!(world.overview.jobs.len(), 3);
}

#[test]
fn a_stack_on_more_hosts_than_syncs_may_be_open_is_synced_by_turns() {
    let mut large = stack(1, "large");
    large.facts.settings.hosts = named(1..=7);
    let small = (2..=4).map(|n| {
        let mut one = stack(n, &format!("s{n}"));
        one.facts.settings.hosts = named(8..=8);
        one
    });
    // The small ones come first by their path, and always one of theirs is open.
    let stacks: Vec<Stack> = small.chain([large]).collect();
    let mut world = World::of(stacks, (1..=8).map(|n| place(n, "x")).collect());
    let mut ended = Vec::new();
    for _ in 0..40 {
        round(&mut world, 3);
        assert!(open(&world) <= 3, "more are open than may be: {}", open(&world));
        if world.overview.rows.len() == 10 {
            ended.extend(succeed_one(&mut world, "large"));
        }
    }
    assert_eq!(ended.len(), 10, "{ended:?}");
    assert!(world.overview.rows.iter().all(|row| row.status == Synced));
}

#[test]
fn what_is_newer_takes_its_own_sync_s_place_when_no_other_is_free() {
    let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
    round(&mut world, 1);
    round(&mut world, 1);
    assert_eq!(open(&world), 1);
    world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
    round(&mut world, 1);
    assert_eq!(world.job(&host(1)).request["spec"]["bundle"], "bundle of d2");
}

/// Two stacks that run on one host, of which each is to be the other's project.
fn swapped() -> World {
    let mut world = World::of(vec![stack(1, "a"), stack(2, "b")], vec![place(1, "web")]);
    world.settle();
    while succeed_one(&mut world, "a").is_some() {}
    world.settle();
    assert!(world.overview.rows.iter().all(|row| row.status == Synced));
    world.overview.stacks[0].facts.project = "b".to_owned();
    world.overview.stacks[1].facts.project = "a".to_owned();
    world
}

fn row(world: &World, n: u8) -> &StackHost {
    let id = StackId::from_parts(1, [n; 10]);
    world.overview.rows.iter().find(|row| row.stack == id).expect("a row of the stack")
}

fn job(world: &World, n: u8) -> Option<&Job> {
    row(world, n).job.as_ref().map(|id| &world.overview.jobs[id])
}

fn down(world: &mut World, n: u8) {
    let id = job(world, n).filter(|job| job.job_type == JobType::StackDown).unwrap().id.clone();
    world.overview.jobs.get_mut(&id).unwrap().state = JobState::Succeeded;
}

#[test]
fn a_project_s_name_is_taken_over_only_once_the_other_has_left() {
    let mut world = swapped();
    world.settle();
    down(&mut world, 1);
    world.settle();
    assert_eq!(job(&world, 1), None, "the other still runs as the project it is to be");
    let why = waits(&world);
    assert_eq!(why[&row(&world, 1).stack].code, "WAITS_FOR_PROJECT", "{why:?}");
    down(&mut world, 2);
    world.settle();
    for (n, project) in [(1, "b"), (2, "a")] {
        assert_eq!(job(&world, n).unwrap().request["spec"]["stack"]["project"], project);
    }
    assert_eq!(waits(&world).len(), 0);
}

#[test]
fn a_name_that_moves_to_a_new_stack_is_waited_for() {
    let mut world = World::of(vec![stack(1, "a")], vec![place(1, "web")]);
    world.settle();
    succeed_one(&mut world, "a");
    world.settle();
    world.overview.stacks[0].facts.project = "other".to_owned();
    let mut new = stack(2, "b");
    new.facts.project = "a".to_owned();
    world.overview.stacks.push(new);
    world.settle();
    assert_eq!(job(&world, 2), None);
    down(&mut world, 1);
    world.settle();
    assert!(job(&world, 1).is_some() && job(&world, 2).is_some());
}

#[test]
fn a_project_that_is_somebody_else_s_is_tried_again_after_a_while() {
    let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
    world.settle();
    world.fail(&host(1), Code::ProjectTaken);
    world.settle();
    assert_eq!(world.settle(), 0);
    world.now = world.now.plus_secs(RETRY_SECS);
    world.settle();
    assert_eq!(world.row(&host(1)).status, Syncing);
}

#[test]
fn who_comes_after_a_suspended_stack_says_so() {
    let (mut app, mut db) = (stack(1, "app"), stack(2, "db"));
    app.facts.settings.after = vec!["db".to_owned()];
    db.suspended = true;
    let mut world = World::of(vec![app, db], vec![place(1, "web")]);
    world.settle();
    assert!(world.overview.jobs.is_empty());
    let why = waits(&world);
    let of = |n: u8| why.get(&StackId::from_parts(1, [n; 10]));
    let said = of(1).expect("it waits");
    assert_eq!(said.code, "WAITS_FOR_STACK");
    assert!(said.message.contains("suspended") && said.message.contains("db"), "{said:?}");
    assert_eq!(of(2), None, "it is left alone: it waits for nothing");
    world.overview.stacks[1].suspended = false;
    assert!(!waits(&world)[&StackId::from_parts(1, [1; 10])].message.contains("susp"));
    while world.settle() > 0 || succeed_one(&mut world, "db").is_some() {}
    assert_eq!(waits(&world).len(), 0);
}
