use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::desired::{StackProblem, StackSettings};

fn refresh_id(n: u32) -> RefreshId {
    RefreshId::from_parts(u64::from(n), [0; 10])
}

fn controller() -> ControllerId {
    ControllerId::from_parts(1, [1; 10])
}

/// The rows of looks, as a store would keep them.
#[derive(Default)]
struct Rows {
    all: BTreeMap<RefreshId, Refresh>,
}

impl Rows {
    fn snapshot(&self) -> Snapshot {
        let refreshes =
            self.all.values().filter(|one| one.finished_at.is_none()).cloned().collect();
        Snapshot { refreshes, ..Snapshot::default() }
    }

    fn apply<T>(&mut self, decision: Decision<T>) -> T {
        for change in decision.changes {
            if let Change::InsertRefresh(row) | Change::UpdateRefresh(row) = change {
                self.all.insert(row.id.clone(), *row);
            }
        }
        decision.reply
    }

    fn ask(&mut self, n: u32, at: i64) -> Refresh {
        let ask =
            Ask { id: refresh_id(n), trigger: Trigger::Manual, delivery: None, now: Micros(at) };
        let decision = request(&self.snapshot(), &ask);
        self.apply(decision)
    }

    fn begin(&mut self, at: i64) -> Option<Refresh> {
        let decision = begin(&self.snapshot(), &controller(), &|_| true, Micros(at));
        self.apply(decision)
    }

    /// The look that answers for a request in the end.
    fn answer(&self, n: u32) -> &Refresh {
        let mut one = &self.all[&refresh_id(n)];
        while let Some(next) = &one.replaced_by {
            one = &self.all[next];
        }
        one
    }

    fn in_state(&self, state: RefreshState) -> usize {
        self.all.values().filter(|one| one.state == state).count()
    }
}

fn facts(project: &str) -> StackFacts {
    StackFacts {
        project: project.to_owned(),
        compose_file: "docker-compose.yml".to_owned(),
        ..StackFacts::default()
    }
}

fn taken(n: u32, found: &[(&str, StackFacts)]) -> Taken {
    Taken {
        refresh: refresh_id(n),
        source: "here".to_owned(),
        revision: format!("{n:040x}"),
        commit: Commit::default(),
        found: found.iter().map(|(path, facts)| ((*path).to_owned(), facts.clone())).collect(),
        new_ids: (0..found.len())
            .map(|place| StackId::from_parts(u64::from(n) * 1000 + place as u64, [0; 10]))
            .collect(),
        limits: RemovalLimits { free: 1, share_percent: 20 },
        report: RefreshReport::default(),
        now: Micros(i64::from(n) * 10),
    }
}

/// Runs looks one after the other; the stacks after the last.
fn after(looks: &[&[(&str, StackFacts)]]) -> (Vec<Stack>, Refresh, Vec<NewEvent>) {
    let mut stacks: BTreeMap<StackId, Stack> = BTreeMap::new();
    let (mut desired, mut last) = (None, None);
    for (n, found) in (1..).zip(looks) {
        let mut rows = Rows::default();
        rows.ask(n, 0);
        rows.begin(1);
        let snapshot = Snapshot {
            stacks: stacks.values().cloned().collect(),
            desired: desired.clone(),
            ..rows.snapshot()
        };
        let decision = take(&snapshot, &taken(n, found)).unwrap();
        for change in &decision.changes {
            if let Change::PutStacks(put) = change {
                for stack in put {
                    let before = stacks.insert(stack.id.clone(), stack.clone());
                    assert_eq!(before.map_or(0, |was| was.version) + 1, stack.version);
                }
            } else if let Change::PutDesiredState(state) = change {
                desired = Some((**state).clone());
            }
        }
        last = Some((decision.reply, decision.events));
    }
    let (reply, events) = last.unwrap();
    (stacks.into_values().collect(), reply, events)
}

fn by_path<'s>(stacks: &'s [Stack], path: &str) -> &'s Stack {
    stacks.iter().find(|stack| stack.path == path).expect("such a stack")
}

#[test]
fn the_newest_request_takes_the_waiting_ones_place() {
    let mut rows = Rows::default();
    assert_eq!(rows.ask(1, 1).state, RefreshState::Queued);
    assert_eq!(rows.begin(2).unwrap().id, refresh_id(1));
    rows.ask(2, 3);
    rows.ask(3, 4);
    assert_eq!(rows.answer(2).id, refresh_id(3));
    let other = ControllerId::from_parts(2, [2; 10]);
    let decision = begin(&rows.snapshot(), &other, &|_| true, Micros(5));
    assert_eq!(rows.apply(decision), None, "one runs already");
    assert_eq!(rows.in_state(RefreshState::Queued), 1);
}

#[test]
fn a_delivery_that_was_served_is_answered_with_its_look_and_a_failed_one_runs_again() {
    let mut rows = Rows::default();
    let first = rows.ask(1, 1);
    for (state, served) in [
        (RefreshState::Completed, true),
        (RefreshState::Refreshing, true),
        (RefreshState::Failed, false),
    ] {
        let delivered = Refresh { state, ..first.clone() };
        let snapshot =
            Snapshot { refresh_delivered: Some(delivered.clone()), ..Snapshot::default() };
        let ask = Ask {
            id: refresh_id(2),
            trigger: Trigger::Webhook,
            delivery: Some("github:1".to_owned()),
            now: Micros(9),
        };
        let decision = request(&snapshot, &ask);
        assert_eq!(decision.changes.is_empty(), served, "{state:?}");
        assert_eq!(decision.reply.id, if served { delivered.id } else { refresh_id(2) });
    }
}

#[test]
fn a_look_whose_controller_is_gone_is_over() {
    let mut rows = Rows::default();
    rows.ask(1, 1);
    rows.begin(2);
    rows.ask(2, 3);
    let other = ControllerId::from_parts(2, [2; 10]);
    let decision = begin(&rows.snapshot(), &other, &|_| true, Micros(4));
    assert_eq!(decision.reply, None, "its controller lives");
    let decision = begin(&rows.snapshot(), &other, &|_| false, Micros(4));
    let begun = rows.apply(decision).unwrap();
    assert_eq!(begun.id, refresh_id(2));
    let over = rows.answer(1);
    let code = over.report.as_ref().and_then(|report| report.error.as_ref()).map(|e| &*e.code);
    assert_eq!((over.state, code), (RefreshState::Failed, Some("REFRESH_INTERRUPTED")));
}

#[test]
fn a_look_that_was_given_up_cannot_write_the_snapshot() {
    let mut rows = Rows::default();
    rows.ask(1, 1);
    let refused = take(&rows.snapshot(), &taken(1, &[])).unwrap_err();
    assert_eq!(refused.code, "REFRESH_OVERTAKEN");
}

#[test]
fn stacks_come_change_and_go() {
    let broken = StackFacts {
        problem: Some(StackProblem { code: "X".to_owned(), message: String::new() }),
        ..facts("b")
    };
    let (stacks, ended, _) = after(&[
        &[("a", facts("a")), ("b", facts("b")), ("c", facts("c"))],
        &[("a", facts("a")), ("b", broken), ("d", facts("d"))],
    ]);
    let report = ended.report.unwrap();
    let counts = (report.stacks, report.added, report.changed, report.removed, report.problems);
    assert_eq!(counts, (3, 1, 1, 1, 1));
    assert_eq!(by_path(&stacks, "a").revision, format!("{:040x}", 1), "nothing new");
    assert_eq!(by_path(&stacks, "b").revision, format!("{:040x}", 2));
    assert!(!by_path(&stacks, "c").present);
    assert_eq!(by_path(&stacks, "c").removal, Removal::Free, "one alone is not too many");
}

#[test]
fn many_that_go_at_once_and_protected_ones_wait_for_a_person() {
    let protected = StackFacts {
        settings: StackSettings { protected: true, ..StackSettings::default() },
        ..facts("p")
    };
    let full = [("a", facts("a")), ("b", facts("b")), ("c", facts("c")), ("p", protected)];
    let (stacks, _, _) = after(&[&full, &full[..2]]);
    assert_eq!(by_path(&stacks, "c").removal, Removal::Many);
    assert_eq!(by_path(&stacks, "p").removal, Removal::Protected);
    let (stacks, _, _) = after(&[&full[..1], &[]]);
    assert_eq!(by_path(&stacks, "a").removal, Removal::Many, "none are left");
    let (stacks, _, events) = after(&[&full, &full[..2], &full]);
    assert!(by_path(&stacks, "c").present, "put back");
    assert_eq!(by_path(&stacks, "c").removal, Removal::Free);
    assert_eq!(events.iter().filter(|event| event.kind == EventKind::StackAdded).count(), 2);
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing_of_where_its_stack_runs() {
    let on = |hosts: &[&str], facts: StackFacts| StackFacts {
        settings: StackSettings {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..StackSettings::default()
        },
        ..facts
    };
    let unread = || StackFacts {
        problem: Some(StackProblem { code: "COMPOSE_INVALID".to_owned(), message: String::new() }),
        compose_hash: Some("new".to_owned()),
        ..facts("")
    };
    let good = on(&["web-1"], facts("shop"));
    let looks: [&[(&str, StackFacts)]; 3] =
        [&[("a", good.clone())], &[("a", unread())], &[("a", unread()), ("b", unread())]];
    let (stacks, ended, _) = after(&looks[..2]);
    let broken = &by_path(&stacks, "a").facts;
    assert_eq!((&broken.settings, &broken.project), (&good.settings, &good.project));
    assert!(broken.problem.is_some() && broken.compose_hash.as_deref() == Some("new"));
    assert_eq!(ended.report.unwrap().changed, 1);
    let (stacks, ended, _) = after(&looks);
    assert_eq!(by_path(&stacks, "a").version, 2, "still broken is nothing new");
    assert_eq!(ended.report.unwrap().changed, 0);
    let (stacks, _, _) = after(&[looks[2], &[("c", unread())]]);
    let ids: BTreeSet<_> = stacks.iter().map(|stack| &stack.id).collect();
    assert_eq!((ids.len(), stacks.iter().filter(|stack| stack.present).count()), (3, 1));
    let mended = on(&["web-2"], facts("shop"));
    let (stacks, _, _) = after(&[looks[0], looks[1], &[("a", mended.clone())]]);
    assert_eq!(by_path(&stacks, "a").facts, mended);
}

#[test]
fn many_that_lose_their_hosts_at_once_wait_for_a_person() {
    let on = |project: &str| StackFacts {
        settings: StackSettings {
            labels: [("role".to_owned(), "web".to_owned())].into_iter().collect(),
            ..StackSettings::default()
        },
        ..facts(project)
    };
    let all = [("a", on("a")), ("b", on("b")), ("c", on("c")), ("d", facts("d"))];
    let none = [("a", facts("a")), ("b", facts("b")), ("c", on("c")), ("d", facts("d"))];
    let (stacks, _, _) = after(&[&all, &none]);
    let removal = |path: &str| by_path(&stacks, path).removal;
    assert_eq!((removal("a"), removal("b")), (Removal::Many, Removal::Many));
    assert_eq!((removal("c"), removal("d")), (Removal::Free, Removal::Free));
    let one = [("a", facts("a")), ("b", on("b")), ("c", on("c")), ("d", facts("d"))];
    let (stacks, _, _) = after(&[&all, &one]);
    assert_eq!(by_path(&stacks, "a").removal, Removal::Free, "one alone is not too many");
}

#[test]
fn a_directory_that_was_renamed_stays_the_same_stack() {
    let (before, _, _) = after(&[&[("old", facts("shop")), ("x", facts("x"))]]);
    let (stacks, ended, _) = after(&[
        &[("old", facts("shop")), ("x", facts("x"))],
        &[("new", facts("shop")), ("x", facts("x"))],
    ]);
    assert_eq!(by_path(&stacks, "new").id, by_path(&before, "old").id);
    let report = ended.report.unwrap();
    assert_eq!((report.added, report.changed, report.removed), (0, 1, 0));
}

proptest! {
    /// Whatever comes when: one runs, one waits, and every request is answered by a look that
    /// began after it.
    #[test]
    fn no_request_is_lost(steps in proptest::collection::vec(0_u8..3, 1..60)) {
        let mut rows = Rows::default();
        let (mut asked, mut running) = (Vec::new(), None::<RefreshId>);
        let finish = |rows: &mut Rows, running: &mut Option<RefreshId>, at: i64| {
            if let Some(id) = running.take() {
                let report = RefreshReport::default();
                let decision = fail(&rows.snapshot(), &id, &report, Micros(at)).unwrap();
                rows.apply(decision);
            }
        };
        let mut at = 0;
        for (n, step) in (1..).zip(&steps) {
            at += 10;
            match step {
                0 => {
                    rows.ask(n, at);
                    asked.push((n, at));
                }
                1 if running.is_none() => running = rows.begin(at).map(|begun| begun.id),
                _ => finish(&mut rows, &mut running, at),
            }
            prop_assert!(rows.in_state(RefreshState::Refreshing) <= 1);
            prop_assert!(rows.in_state(RefreshState::Queued) <= 1);
        }
        finish(&mut rows, &mut running, at + 1);
        running = rows.begin(at + 2).map(|begun| begun.id);
        finish(&mut rows, &mut running, at + 3);
        let mut answers = BTreeSet::new();
        for (n, at) in asked {
            let answer = rows.answer(n);
            prop_assert!(answer.finished_at.is_some(), "{n} was never answered");
            prop_assert!(answer.started_at.unwrap() >= Micros(at), "{n} got an older look");
            answers.insert(answer.id.clone());
        }
        prop_assert!(answers.len() <= steps.len());
    }
}
