//! Random histories with a crash at any moment: between two journal states, between the disk and
//! the answer, between the answer and the next step.
//!
//! The world: a disk that keeps what it confirmed (and, at a crash, perhaps what it had not
//! confirmed yet), actions that end when they like, a controller that repeats itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::journal::{JournalFault, Unfinished};

#[derive(Debug, Clone)]
enum Step {
    Controller(Box<Input>),
    /// The oldest request to the disk is done, and its answer arrives.
    Disk {
        fails: bool,
    },
    /// A running action ends; which one, and how.
    End {
        pick: usize,
        state: OutcomeState,
    },
    Reconnect,
    Later {
        ms: u64,
    },
    /// The agent dies and starts again. The first `reached` unanswered requests had reached the disk.
    Crash {
        reached: usize,
    },
}

#[derive(Debug, Clone)]
enum Request {
    Accept(AttemptRef),
    Finish(AttemptRef),
    Forget(AttemptRef),
}

#[derive(Default)]
struct Disk {
    running: BTreeSet<AttemptRef>,
    finished: BTreeSet<AttemptRef>,
    settled: Vec<AttemptRef>,
}

impl Disk {
    fn write(&mut self, request: &Request) {
        match request {
            Request::Accept(a) => {
                self.running.insert(a.clone());
            }
            Request::Finish(a) => {
                self.running.remove(a);
                self.finished.insert(a.clone());
            }
            Request::Forget(a) => {
                self.finished.remove(a);
                self.settled.push(a.clone());
            }
        }
    }

    fn knows(&self, a: &AttemptRef) -> bool {
        self.running.contains(a) || self.finished.contains(a) || self.settled.contains(a)
    }

    fn contents(&self) -> Contents {
        let unfinished = self.running.iter().map(|attempt| Unfinished {
            spec: Vec::new(),
            attempt: attempt.clone(),
            accepted_at_us: 1,
            crashes: 1,
        });
        Contents {
            unfinished: unfinished.collect(),
            finished: self.finished.iter().map(kept).collect(),
            settled: self.settled.clone(),
        }
    }
}

struct World {
    core: Core,
    disk: Disk,
    requests: VecDeque<Request>,
    actions: Vec<AttemptRef>,
    now_ms: u64,
    starts: BTreeMap<AttemptRef, u32>,
    promised: BTreeSet<AttemptRef>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            core: core(Contents::default()),
            disk: Disk::default(),
            requests: VecDeque::new(),
            actions: Vec::new(),
            now_ms: 0,
            starts: BTreeMap::new(),
            promised: BTreeSet::new(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.handle(Input::Recovered { steps: Vec::new(), proven: Vec::new() });
        self.reconnect();
    }

    fn reconnect(&mut self) {
        self.handle(Input::Introduce);
        self.handle(Input::Online);
    }

    fn handle(&mut self, input: Input) {
        for effect in self.core.handle(input, at(self.now_ms)) {
            match effect {
                Effect::JournalAccept { attempt, .. } => {
                    assert!(!self.disk.knows(&attempt), "{attempt:?} is accepted twice");
                    self.requests.push_back(Request::Accept(attempt));
                }
                Effect::JournalFinish { attempt, .. } => {
                    self.requests.push_back(Request::Finish(attempt));
                }
                Effect::JournalForget { attempt } => {
                    self.requests.push_back(Request::Forget(attempt));
                }
                Effect::Start { attempt, .. } => {
                    assert!(
                        self.disk.running.contains(&attempt),
                        "{attempt:?} starts off the record"
                    );
                    self.actions.push(attempt.clone());
                    *self.starts.entry(attempt).or_default() += 1;
                }
                Effect::Send(ToController::Accepted { attempt }) => {
                    assert!(self.disk.knows(&attempt), "{attempt:?} is promised off the record");
                    self.promised.insert(attempt);
                }
                Effect::Deliver { attempt } => {
                    assert!(self.disk.finished.contains(&attempt), "{attempt:?} has no outcome");
                }
                Effect::Abort { attempt } => {
                    self.actions.retain(|running| *running != attempt);
                    self.handle(Input::Vanished { attempt, steps: Vec::new() });
                }
                Effect::Cancel { .. } | Effect::Introduce(_) | Effect::Send(_) => {}
            }
        }
        assert!(self.actions.len() <= 2, "more jobs run than may");
        let changes = self.actions.iter().filter(|attempt| changes(attempt)).count();
        assert!(changes <= 1, "two jobs change one environment at once");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Controller(input) => self.handle(*input),
            Step::Disk { fails } => {
                let Some(request) = self.requests.pop_front() else { return };
                let done = if fails { Err(JournalFault::Failed) } else { Ok(()) };
                if done.is_ok() {
                    self.disk.write(&request);
                }
                match request {
                    Request::Accept(attempt) => self.handle(Input::Accepted { attempt, done }),
                    Request::Finish(attempt) => self.handle(Input::Stored { attempt, done }),
                    // A lost forget is delivered and acknowledged again after a restart.
                    Request::Forget(_) => {}
                }
            }
            Step::End { pick, state } => {
                if !self.actions.is_empty() {
                    let attempt = self.actions.remove(pick % self.actions.len());
                    self.handle(Input::Ended { attempt, outcome: outcome(state) });
                }
            }
            Step::Reconnect => self.reconnect(),
            Step::Later { ms } => {
                self.now_ms += ms;
                self.handle(Input::Timeout);
            }
            Step::Crash { reached } => {
                for request in std::mem::take(&mut self.requests).into_iter().take(reached) {
                    self.disk.write(&request);
                }
                self.actions.clear();
                self.core = core(self.disk.contents());
                self.begin();
            }
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.step(Step::Disk { fails: false });
            self.step(Step::End { pick: 0, state: OutcomeState::Succeeded });
            self.step(Step::Later { ms: 1000 });
            for attempt in self.disk.finished.clone() {
                self.handle(ack(&attempt));
            }
            if self.core.load().unsettled == 0 && self.requests.is_empty() {
                if self.disk.finished.is_empty() {
                    return;
                }
                // A forget that the disk lost: the next start delivers once more.
                self.step(Step::Crash { reached: 0 });
            }
        }
        panic!("something never ends: {:?}", self.core);
    }
}

/// Jobs 2 and 3 change the environment, 0 and 1 look at it.
fn changes(attempt: &AttemptRef) -> bool {
    attempt.job.as_str() > self::attempt(1, 0).job.as_str()
}

fn run_some(attempt: &AttemptRef) -> Input {
    run_with(attempt, if changes(attempt) { purge_spec() } else { check_spec() })
}

fn any_step() -> impl Strategy<Value = Step> {
    let some = || (0u8..4, 1u32..4).prop_map(|(job, number)| attempt(job, number));
    prop_oneof![
        4 => some().prop_map(|a| Step::Controller(Box::new(run_some(&a)))),
        1 => some().prop_map(|a| Step::Controller(Box::new(cancel(&a)))),
        2 => some().prop_map(|a| Step::Controller(Box::new(ack(&a)))),
        6 => prop::bool::weighted(0.1).prop_map(|fails| Step::Disk { fails }),
        3 => (0usize..4, prop_oneof![
            Just(OutcomeState::Succeeded), Just(OutcomeState::Failed), Just(OutcomeState::Cancelled)
        ]).prop_map(|(pick, state)| Step::End { pick, state }),
        1 => Just(Step::Reconnect),
        1 => (0u64..40_000).prop_map(|ms| Step::Later { ms }),
        1 => (0usize..4).prop_map(|reached| Step::Crash { reached }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_runs_twice_and_everything_promised_comes_to_an_end(
        steps in proptest::collection::vec(any_step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        for (attempt, starts) in &world.starts {
            prop_assert_eq!(*starts, 1, "{:?} was started more than once", attempt);
        }
        for attempt in &world.promised {
            prop_assert!(world.disk.settled.contains(attempt), "{:?} was lost", attempt);
        }
    }
}

fn kept(attempt: &AttemptRef) -> crate::journal::Kept {
    crate::journal::Kept { attempt: attempt.clone(), bytes: 1 }
}
