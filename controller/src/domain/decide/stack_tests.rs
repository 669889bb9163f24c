use std::collections::BTreeMap;

use hostler_protocol::id::StackId;
use hostler_protocol::job::{Code, JobError, JobType, Outcome, OutcomeState, StackSyncResult};

use super::*;
use crate::domain::decide::refresh::RemovalLimits;
use crate::domain::desired::{Applied, Attempted, Removal, StackFacts, StackSettings};
use crate::domain::job::JobEvent;
use crate::domain::job::reason;
use crate::domain::stack::StackStatus::{Deleting, Missing, Synced, Syncing};
use crate::domain::template::{Executor, LaneKind, OnInterrupt};
use crate::domain::{Change, Snapshot, Template};

fn host(n: u8) -> HostId {
    HostId::from_parts(1, [n; 10])
}

fn place(n: u8, label: &str) -> Place {
    let labels = [("role".to_owned(), label.to_owned())].into_iter().collect();
    Place { host: host(n), name: format!("web-{n}"), labels }
}

pub(super) fn stack(n: u8, path: &str) -> Stack {
    Stack {
        id: StackId::from_parts(1, [n; 10]),
        path: path.to_owned(),
        present: true,
        suspended: false,
        removal: Removal::Free,
        revision: "r1".to_owned(),
        facts: StackFacts {
            project: path.to_owned(),
            compose_file: "docker-compose.yml".to_owned(),
            directory: path.to_owned(),
            compose_hash: Some("c1".to_owned()),
            bundle_digest: Some("d1".to_owned()),
            settings: StackSettings {
                hosts: vec!["web-1".to_owned()],
                health_secs: 60,
                ..StackSettings::default()
            },
            ..StackFacts::default()
        },
        created_at: Micros(0),
        updated_at: Micros(0),
        version: 1,
    }
}

fn bounds(syncs_max: usize) -> Bounds {
    Bounds { syncs_max, removal: RemovalLimits::default() }
}

fn template(job_type: JobType) -> Template {
    Template {
        namespace: "core".to_owned(),
        name: job_type.as_str().replace('_', "-"),
        version: "1".to_owned(),
        job_type,
        executor: Executor::Native,
        timeout_secs: 900,
        retry_after_secs: vec![60, 300, 900],
        lane: LaneKind::Stack,
        may_pass_waiting: false,
        supersedes_queued: true,
        on_interrupt: OnInterrupt::Rerun,
        crashes_max: 3,
        ttl_secs: 604_800,
        priority: 0,
    }
}

/// Stacks, their rows and jobs, carried on by the decisions alone.
struct World {
    overview: Overview,
    made: u64,
    now: Micros,
}

impl World {
    fn of(stacks: Vec<Stack>, places: Vec<Place>) -> Self {
        let overview = Overview { stacks, places, ..Overview::default() };
        Self { overview, made: 0, now: Micros(1) }
    }

    /// Looks and does until there is nothing to do; how often something was done.
    fn settle(&mut self) -> usize {
        for round in 0..20 {
            let todos = look(&self.overview, &bounds(100), self.now);
            let done: Vec<bool> = todos.iter().map(|todo| self.carry(todo)).collect();
            if !done.contains(&true) {
                return round;
            }
        }
        panic!(
            "there is always something to do: {:?}",
            look(&self.overview, &bounds(100), self.now)
        );
    }

    fn carry(&mut self, todo: &Todo) -> bool {
        let stack = self.overview.stacks.iter().find(|one| one.id == todo.stack).cloned();
        let digest = stack.as_ref().and_then(|stack| stack.facts.bundle_digest.clone());
        self.made += 100;
        let carry = Carry {
            version: todo.version,
            around: todo.around.clone(),
            bundle: digest.map(|digest| (digest.clone(), format!("bundle of {digest}"))),
            job_ids: (0..10).map(|n| JobId::from_parts(self.made + n, [0; 10])).collect(),
            sync: template(JobType::StackSync),
            down: template(JobType::StackDown),
            now: self.now,
        };
        let own = |row: &&StackHost| row.stack == todo.stack;
        let snapshot = Snapshot {
            stack,
            stack_hosts: self.overview.rows.iter().filter(own).cloned().collect(),
            stack_jobs: self.overview.jobs.values().cloned().collect(),
            ..Snapshot::default()
        };
        let decision = carry::carry(&snapshot, &carry);
        for change in decision.changes {
            self.apply(change);
        }
        decision.reply
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "any other change fails the test")]
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutStackHosts(rows) => {
                for row in rows {
                    self.overview.rows.retain(|o| (&o.stack, &o.host) != (&row.stack, &row.host));
                    self.overview.rows.push(row);
                }
            }
            Change::DeleteStackHost(stack, host) => {
                self.overview.rows.retain(|o| (&o.stack, &o.host) != (&stack, &host));
            }
            Change::DeleteStack(id) => self.overview.stacks.retain(|stack| stack.id != id),
            Change::EnqueueJob(new) => {
                self.overview.jobs.insert(new.job.id.clone(), new.job);
            }
            Change::UpdateJob { job, was } => {
                let known = &self.overview.jobs[&job.id];
                assert_eq!((known.state, known.attempt), was);
                self.overview.jobs.insert(job.id.clone(), *job);
            }
            Change::PutStacks(stacks) => {
                for after in stacks {
                    let known = self.overview.stacks.iter_mut().find(|one| one.id == after.id);
                    *known.expect("a stack that is known") = after;
                }
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn row(&self, host: &HostId) -> &StackHost {
        self.overview.rows.iter().find(|row| row.host == *host).expect("a row of the host")
    }

    fn job(&self, host: &HostId) -> &Job {
        &self.overview.jobs[self.row(host).job.as_ref().expect("an open job")]
    }

    /// The host begins with its job and is cut off, or fails in a way that may pass.
    fn begin_and_requeue(&mut self, host: &HostId) {
        let id = self.row(host).job.clone().expect("an open job");
        let job = self.overview.jobs.get_mut(&id).unwrap();
        job.attempt += 1;
    }

    /// The host's job runs, and ends so.
    fn end(&mut self, host: &HostId, outcome: &Outcome) {
        let id = self.row(host).job.clone().expect("an open job");
        let job = self.overview.jobs.get_mut(&id).unwrap();
        job.state = job.state.apply(JobEvent::Claim).unwrap();
        job.state = match outcome.state {
            OutcomeState::Succeeded => JobState::Succeeded,
            OutcomeState::Failed => JobState::Failed,
            OutcomeState::Cancelled => JobState::Cancelled,
        };
        job.finished_at = Some(self.now);
        job.outcome = Some(serde_json::to_value(outcome).unwrap());
    }

    fn succeed(&mut self, host: &HostId) {
        let said = confirmed(self.job(host));
        self.end(host, &said);
    }

    /// That job succeeds, wherever it is.
    fn confirm(&mut self, id: &JobId) {
        let known = self.overview.jobs.get_mut(id).unwrap();
        known.state = JobState::Succeeded;
        known.outcome = Some(serde_json::to_value(confirmed(known)).unwrap());
    }

    fn fail(&mut self, host: &HostId, code: Code) {
        self.end(host, &outcome(OutcomeState::Failed, None, Some(code)));
    }
}

/// What a host says that did as it was told.
fn confirmed(job: &Job) -> Outcome {
    let spec = &job.request["spec"];
    let text = |name: &str| spec[name].as_str().unwrap_or_default().to_owned();
    let result = spec.is_object().then(|| StackSyncResult {
        desired: text("desired"),
        bundle: text("bundle"),
        changed: true,
        services: Vec::new(),
        files: Vec::new(),
        files_more: 0,
        containers: Vec::new(),
        compose: "docker compose".to_owned(),
    });
    outcome(OutcomeState::Succeeded, result, None)
}

fn outcome(state: OutcomeState, result: Option<StackSyncResult>, code: Option<Code>) -> Outcome {
    Outcome {
        state,
        result: result.map(|result| serde_json::to_value(result).unwrap()),
        error: code.map(|code| JobError::new(code, "it failed")),
        steps: Vec::new(),
        started_at_us: 0,
        finished_at_us: 0,
    }
}

fn synced() -> World {
    let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web"), place(2, "db")]);
    world.settle();
    world.succeed(&host(1));
    world.settle();
    assert_eq!(world.row(&host(1)).status, Synced);
    world
}

#[test]
fn a_new_stack_is_synced_to_the_hosts_it_names_and_to_those_with_its_labels() {
    let mut one = stack(1, "shop");
    one.facts.settings.labels = [("role".to_owned(), "db".to_owned())].into_iter().collect();
    let mut world = World::of(vec![one], vec![place(1, "web"), place(2, "db"), place(3, "x")]);
    world.settle();
    let hosts: Vec<&HostId> = world.overview.rows.iter().map(|row| &row.host).collect();
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    for host in [host(1), host(2)] {
        assert_eq!(world.row(&host).status, Syncing);
        assert_eq!(world.job(&host).request["spec"]["bundle"], "bundle of d1");
        assert_eq!(world.job(&host).request["why"], "it has not run there yet");
        world.succeed(&host);
    }
    world.settle();
    assert!(world.overview.rows.iter().all(|row| row.status == Synced && !row.is_out_of_sync()));
    assert_eq!(world.settle(), 0, "nothing more to do");
}

#[test]
fn only_what_a_host_confirmed_is_applied_and_what_fails_for_good_waits_for_a_commit() {
    let mut world = synced();
    let before = world.row(&host(1)).applied.clone();
    world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
    world.settle();
    assert_eq!(world.row(&host(1)).status, Syncing);
    world.fail(&host(1), Code::StackUnhealthy);
    world.settle();
    let row = world.row(&host(1));
    assert_eq!((row.status, &row.applied), (Synced, &before));
    assert!(row.is_out_of_sync() && row.job.is_none());
    world.now = Micros(i64::MAX / 2);
    assert_eq!(world.settle(), 0, "time alone does not help");
    world.overview.stacks[0].facts.bundle_digest = Some("d3".to_owned());
    world.settle();
    assert_eq!(world.job(&host(1)).request["spec"]["bundle"], "bundle of d3");
}

#[test]
fn a_failure_that_may_pass_is_tried_again_after_a_while() {
    let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
    world.settle();
    world.fail(&host(1), Code::DockerUnavailable);
    world.settle();
    assert_eq!(world.row(&host(1)).status, Missing);
    assert_eq!(world.settle(), 0);
    world.now = world.now.plus_secs(RETRY_SECS);
    world.settle();
    assert_eq!(world.row(&host(1)).status, Syncing);
}

#[test]
fn a_host_that_is_away_gets_the_newest_alone() {
    let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
    world.settle();
    let first = world.job(&host(1)).id.clone();
    world.overview.stacks[0].facts.bundle_digest = Some("d2".to_owned());
    world.settle();
    assert_eq!(world.overview.jobs[&first].reason.as_deref(), Some("SUPERSEDED"));
    assert_eq!(world.job(&host(1)).request["spec"]["bundle"], "bundle of d2");
    let open = world.overview.jobs.values().filter(|job| !job.state.is_ended()).count();
    assert_eq!(open, 1);
}

#[test]
fn a_stack_that_went_away_is_taken_down_and_then_forgotten() {
    let mut world = synced();
    world.overview.stacks[0].present = false;
    world.settle();
    assert_eq!(world.row(&host(1)).status, Deleting);
    let job = world.job(&host(1));
    assert_eq!((job.job_type, job.state), (JobType::StackDown, JobState::Queued));
    assert_eq!(job.request["down"]["volumes"], false);
    world.end(&host(1), &outcome(OutcomeState::Succeeded, None, None));
    world.settle();
    assert!(world.overview.rows.is_empty() && world.overview.stacks.is_empty());
}

#[test]
fn a_removal_that_is_not_free_waits_for_a_person() {
    for (removal, why) in
        [(Removal::Protected, "REMOVAL_PROTECTED"), (Removal::Many, "REMOVAL_MANY")]
    {
        let mut world = synced();
        let gone = &mut world.overview.stacks[0];
        (gone.present, gone.removal) = (false, removal);
        world.settle();
        let job = world.job(&host(1));
        assert_eq!((job.state, job.reason.as_deref()), (JobState::Held, Some(why)));
        // Put back before anybody let it go.
        world.overview.stacks[0].present = true;
        world.settle();
        let row = world.row(&host(1));
        assert_eq!(row.status, Syncing, "nobody knows what was done meanwhile: it is synced");
        let kept = world.overview.jobs.values().find(|job| job.job_type == JobType::StackDown);
        assert_eq!(kept.unwrap().reason.as_deref(), Some("STACK_KEPT"));
    }
}

#[test]
fn a_host_that_is_no_longer_meant_follows_the_rules_of_removal() {
    let mut world = synced();
    world.overview.stacks[0].facts.settings.hosts = vec!["web-2".to_owned()];
    world.settle();
    assert_eq!(world.job(&host(1)).job_type, JobType::StackDown);
    assert_eq!(world.job(&host(2)).job_type, JobType::StackSync);
    world.end(&host(1), &outcome(OutcomeState::Succeeded, None, None));
    world.settle();
    assert_eq!(world.overview.rows.len(), 1);
}

#[test]
fn what_never_ran_anywhere_or_ran_on_a_host_that_is_gone_leaves_without_a_job() {
    let mut broken = stack(1, "shop");
    broken.facts.bundle_digest = None;
    let mut world = World::of(vec![broken], vec![place(1, "web")]);
    world.settle();
    assert_eq!(world.row(&host(1)).status, Missing, "a stack that cannot be read has a status");
    assert!(world.overview.jobs.is_empty());
    world.overview.stacks[0].present = false;
    world.settle();
    assert!(world.overview.stacks.is_empty() && world.overview.jobs.is_empty());
    let mut world = synced();
    world.overview.places.clear();
    world.overview.stacks[0].present = false;
    world.settle();
    assert!(world.overview.stacks.is_empty());
}

#[test]
fn a_suspended_stack_is_left_alone() {
    let mut world = World::of(vec![stack(1, "shop")], vec![place(1, "web")]);
    world.overview.stacks[0].suspended = true;
    world.settle();
    assert_eq!((world.row(&host(1)).status, world.overview.jobs.len()), (Missing, 0));
    let mut world = synced();
    world.overview.stacks[0].suspended = true;
    world.overview.stacks[0].present = false;
    world.settle();
    let job = world.job(&host(1));
    assert_eq!((job.state, job.reason.as_deref()), (JobState::Held, Some("REMOVAL_SUSPENDED")));
}

#[test]
fn two_of_one_project_on_one_host_are_neither_synced() {
    let mut other = stack(2, "shop2");
    other.facts.project = "shop".to_owned();
    let mut world = World::of(vec![stack(1, "shop"), other], vec![place(1, "web")]);
    world.settle();
    assert!(world.overview.jobs.is_empty());
    let trouble = trouble(&world.overview);
    assert_eq!(trouble.len(), 2);
    assert!(trouble.values().all(|one| one.code == "PROJECT_COLLISION"), "{trouble:?}");
}

#[test]
fn it_is_said_when_there_may_be_something_to_do_again() {
    let mut world = World::of(vec![stack(1, "web")], vec![place(1, "web")]);
    world.settle();
    assert_eq!(due(&world.overview, world.now), None, "its host has it to do");
    let row = &mut world.overview.rows[0];
    row.retry_at = Some(Micros(500));
    let job = row.job.clone().unwrap();
    world.overview.jobs.get_mut(&job).unwrap().run_after = Micros(300);
    assert_eq!(due(&world.overview, Micros(1)), Some(Micros(300)));
    assert_eq!(due(&world.overview, Micros(300)), Some(Micros(500)));
    assert_eq!(due(&world.overview, Micros(500)), None);
}

#[test]
fn a_person_s_sync_goes_past_a_failure_and_a_rollback_suspends() {
    let mut world = synced();
    let row = world.row(&host(1)).clone();
    let stack = world.overview.stacks[0].clone();
    let snapshot = Snapshot {
        stack: Some(stack.clone()),
        stack_hosts: vec![row.clone()],
        ..Snapshot::default()
    };
    let wished = |wish: Wish| Wished {
        stack: stack.id.clone(),
        wish,
        hosts: None,
        wanted: wanted(&stack, &world.overview.places),
        bundle: Some(("d1".to_owned(), "bundle of d1".to_owned())),
        job_ids: vec![JobId::from_parts(77, [7; 10])],
        template: template(JobType::StackSync),
        request_id: None,
        now: Micros(5),
    };
    let forced = sync_now(&snapshot, &wished(Wish::Sync { force: true, adopt: false })).unwrap();
    assert_eq!(forced.reply, [(host(1), JobId::from_parts(77, [7; 10]))]);
    // What has ended and nobody has taken in yet is not forgotten for it.
    let mut ended = World::of(vec![stack.clone()], vec![place(1, "web")]);
    ended.settle();
    ended.succeed(&host(1));
    let unseen = Snapshot {
        stack: Some(stack.clone()),
        stack_hosts: ended.overview.rows.clone(),
        stack_jobs: ended.overview.jobs.values().cloned().collect(),
        ..Snapshot::default()
    };
    let asked = sync_now(&unseen, &wished(Wish::Sync { force: false, adopt: false })).unwrap();
    let kept = asked
        .changes
        .iter()
        .any(|change| matches!(change, Change::PutStackHosts(rows) if rows[0].applied.is_some()));
    assert!(kept, "{:?}", asked.changes);
    let planned = sync_now(&snapshot, &wished(Wish::Plan)).unwrap();
    assert!(!planned.changes.iter().any(|one| matches!(one, Change::PutStackHosts(_))));
    let spec = carry::sync_spec(&stack, "old", "before");
    let back = Wish::Back { to: Box::new(spec), revision: "r0".to_owned(), compose_hash: None };
    let back = sync_now(&snapshot, &wished(back)).unwrap();
    let suspended = back
        .changes
        .iter()
        .any(|one| matches!(one, Change::PutStacks(stacks) if stacks[0].suspended));
    assert!(suspended, "{:?}", back.changes);
    let mut nowhere = wished(Wish::Sync { force: false, adopt: false });
    nowhere.hosts = Some(vec![host(9)]);
    assert_eq!(sync_now(&snapshot, &nowhere).unwrap_err().code, "STACK_UNTARGETED");
    let failed = Attempted {
        job: JobId::from_parts(3, [3; 10]),
        desired: row.wanted.clone(),
        succeeded: false,
        at_us: 0,
        error: None,
        services: Vec::new(),
        reason: String::new(),
    };
    world.overview.rows[0].outcome = Some(failed);
    assert_eq!(world.settle(), 0, "what runs already needs no other try");
}

#[path = "stack_drift_tests.rs"]
mod drift;

#[path = "stack_leaving_tests.rs"]
mod leaving_hosts;

#[path = "stack_turns_tests.rs"]
mod turns;

#[path = "stack_faults_tests.rs"]
mod faults;

#[path = "stack_giving_way_tests.rs"]
mod giving_way;
