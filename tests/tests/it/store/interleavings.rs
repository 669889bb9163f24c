//! Any order of queueing, claiming, accepting, settling and requeueing: no lane ever runs two
//! jobs, no job is lost, and nothing is settled twice.

use std::collections::{BTreeMap, BTreeSet};

use hostler_controller::domain::{JobState, Micros};
use hostler_controller::store::{Claimed, SettleAnswer};
use hostler_protocol::id::JobId;
use hostler_protocol::job::Code;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::world::{
    Connected, NOW, World, attempt, failed, in_lanes, job_id, settlement, succeeded, template,
    with_template,
};

#[derive(Debug, Clone)]
enum Step {
    /// Lanes by number; whether it may pass waiting ones.
    Enqueue(BTreeSet<u8>, bool),
    Claim(u32),
    Accept(prop::sample::Index),
    Succeed(prop::sample::Index),
    FailLater(prop::sample::Index),
    Interrupt(prop::sample::Index),
    Unseen(prop::sample::Index),
    Unknown(prop::sample::Index),
    Archive,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (prop::collection::btree_set(0u8..3, 0..3), any::<bool>())
            .prop_map(|(lanes, passes)| Step::Enqueue(lanes, passes)),
        4 => (1u32..4).prop_map(Step::Claim),
        2 => index().prop_map(Step::Accept),
        3 => index().prop_map(Step::Succeed),
        2 => index().prop_map(Step::FailLater),
        1 => index().prop_map(Step::Interrupt),
        1 => index().prop_map(Step::Unseen),
        1 => index().prop_map(Step::Unknown),
        1 => Just(Step::Archive),
        1 => (1u64..400).prop_map(Step::Wait),
    ]
}

/// What the test knows: every job's lanes, every attempt ever claimed, who was told it is over.
struct Known {
    now: Micros,
    lanes: BTreeMap<JobId, BTreeSet<u8>>,
    claimed: Vec<Claimed>,
    settled: BTreeSet<(JobId, u32)>,
}

pub(crate) async fn random_interleavings_keep_lanes_and_jobs(world: &World) {
    let hosts = world.hosts(1).await;
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(step(), 30);
    let mut known =
        Known { now: NOW, lanes: BTreeMap::new(), claimed: Vec::new(), settled: BTreeSet::new() };
    let mut done: Vec<Step> = Vec::new();
    for _round in 0..6 {
        let steps = strategy.new_tree(&mut runner).expect("steps can be made").current();
        for step in steps {
            done.push(step.clone());
            take(world, &hosts[0], &step, &mut known).await;
            check(world, &known, &done).await;
        }
    }
}

async fn take(world: &World, host: &Connected, step: &Step, known: &mut Known) {
    let store = &world.store;
    let now = known.now;
    let pick = |index: &prop::sample::Index| {
        (!known.claimed.is_empty()).then(|| index.get(&known.claimed).clone())
    };
    match step {
        Step::Enqueue(lanes, passes) => {
            let id = u64::try_from(known.lanes.len()).unwrap() + 1;
            let mut template = template();
            template.may_pass_waiting = *passes;
            let names: Vec<String> = lanes.iter().map(|lane| format!("lane-{lane}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            world.enqueue(&[in_lanes(with_template(id, host, &template), &names)]).await;
            known.lanes.insert(job_id(id), lanes.clone());
        }
        Step::Claim(limit) => {
            let claimed = store.claim(&[host.with_slots(10)], now, *limit).await.unwrap();
            known.claimed.extend(claimed);
        }
        Step::Accept(index) => {
            if let Some(one) = pick(index) {
                store.accept(&[attempt(&one)], now).await.unwrap();
            }
        }
        Step::Succeed(index) => settle(world, pick(index), None, known).await,
        Step::FailLater(index) => {
            settle(world, pick(index), Some(Code::RedisTimeout), known).await;
        }
        Step::Interrupt(index) => settle(world, pick(index), Some(Code::Interrupted), known).await,
        Step::Unseen(index) => {
            if let Some(one) = pick(index) {
                store.requeue_unseen(&[attempt(&one)], now).await.unwrap();
            }
        }
        Step::Unknown(index) => {
            if let Some(one) = pick(index) {
                store.mark_unknown(&[attempt(&one)], now).await.unwrap();
            }
        }
        Step::Archive => {
            store.archive_finished(now, 2).await.unwrap();
        }
        Step::Wait(secs) => known.now = now.plus_secs(*secs),
    }
}

async fn settle(world: &World, one: Option<Claimed>, error: Option<Code>, known: &mut Known) {
    let Some(one) = one else { return };
    let outcome = error.map_or_else(succeeded, failed);
    let report = [settlement(&one, outcome)];
    let answers = world.store.settle(&report, known.now).await.unwrap();
    match answers[0] {
        SettleAnswer::Settled(_) => {
            let fence = (one.job.id.clone(), one.job.attempt);
            assert!(known.settled.insert(fence), "an attempt was settled twice");
        }
        SettleAnswer::AlreadySettled | SettleAnswer::Stale => {}
        SettleAnswer::WrongHost | SettleAnswer::Unknown => panic!("{answers:?} for {one:?}"),
    }
}

async fn check(world: &World, known: &Known, done: &[Step]) {
    let mut held: BTreeMap<u8, JobId> = BTreeMap::new();
    for job in world.store.running_all().await.unwrap() {
        for lane in &known.lanes[&job.id] {
            let other = held.insert(*lane, job.id.clone());
            assert_eq!(other, None, "two jobs run in lane {lane} after {done:?}");
        }
    }
    let stats = world.store.stats().await.unwrap();
    let mut ended = 0;
    for id in known.lanes.keys() {
        let job = world.store.job(id).await.unwrap();
        let job = job.unwrap_or_else(|| panic!("{id} is lost after {done:?}"));
        ended += u64::from(job.state.is_ended());
        if job.state == JobState::Succeeded {
            let fence = (job.id.clone(), job.attempt);
            assert!(known.settled.contains(&fence), "{id} ended without a report after {done:?}");
        }
    }
    let all = u64::try_from(known.lanes.len()).unwrap();
    assert_eq!(stats.queued + stats.running + stats.held + ended, all, "after {done:?}");
}
