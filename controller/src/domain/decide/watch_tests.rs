use hostler_protocol::id::HostId;
use hostler_protocol::job::ContainerDoc;
use hostler_protocol::observed::{Drift, DriftKind};

use super::*;
use crate::domain::desired::{Applied, REVERTS_MAX, REVERTS_SECS, Watch};

fn row() -> StackHost {
    let (stack, host) = (StackId::from_parts(1, [1; 10]), HostId::from_parts(1, [1; 10]));
    StackHost {
        applied: Some(Applied {
            project: None,
            desired: "d1".to_owned(),
            bundle: "b".to_owned(),
            revision: "r".to_owned(),
            at_us: 0,
            compose_hash: None,
            directory: String::new(),
            compose_files: Vec::new(),
        }),
        ..StackHost::new(stack, host)
    }
}

fn drift(subject: &str) -> Drift {
    Drift { kind: DriftKind::ServiceStopped, subject: subject.to_owned() }
}

fn report(desired: &str, drift: Vec<Drift>, at_us: i64) -> Seen {
    Seen::Stack(ObservedStack {
        stack: row().stack,
        desired: desired.to_owned(),
        seen_at_us: at_us,
        containers: vec![ContainerDoc {
            name: "a-web-1".to_owned(),
            id: "0123456789ab".to_owned(),
            service: "web".to_owned(),
            image: "web:1".to_owned(),
            image_id: "sha256:00".to_owned(),
            state: "running".to_owned(),
            health: None,
            exit_code: None,
            restarts: 0,
        }],
        drift,
        drift_more: 0,
    })
}

#[test]
fn what_is_seen_is_kept_and_the_same_again_is_not_written() {
    let first = seen(&row(), &report("d1", vec![drift("b"), drift("a")], 10)).unwrap();
    assert_eq!(first.watch.drift, [drift("a"), drift("b")], "sorted");
    assert!(first.watch.is_drifted() && first.containers.len() == 1);
    assert_eq!(seen(&first, &report("d1", vec![drift("a"), drift("b")], 11)), None);
    let later = 10 + i64::try_from(SEEN_SECS).unwrap() * 1_000_000;
    let again = seen(&first, &report("d1", vec![drift("a"), drift("b")], later)).unwrap();
    assert_eq!(again.watch.seen_at_us, Some(later), "its time stays true");
    assert_eq!(seen(&again, &report("d1", Vec::new(), 12)), None, "an older one came late");
}

#[test]
fn what_was_seen_against_something_else_tells_of_containers_alone() {
    let other = seen(&row(), &report("d0", vec![drift("a")], 10)).unwrap();
    assert!(other.watch.drift.is_empty() && other.containers.len() == 1);
    let busy =
        StackHost { job: Some(hostler_protocol::id::JobId::from_parts(1, [0; 10])), ..row() };
    let during = seen(&busy, &report("d1", vec![drift("a")], 10)).unwrap();
    assert!(during.watch.drift.is_empty(), "a job is at work there");
}

#[test]
fn docker_that_is_down_says_so_and_takes_nothing_back() {
    let known = seen(&row(), &report("d1", vec![drift("a")], 10)).unwrap();
    let down = Seen::Unavailable { why: "no such socket".to_owned(), at_us: 20 };
    let after = seen(&known, &down).unwrap();
    assert_eq!(after.watch.unavailable.as_deref(), Some("no such socket"));
    assert_eq!((&after.containers, &after.watch.drift), (&known.containers, &known.watch.drift));
    let up = seen(&after, &report("d1", Vec::new(), 30)).unwrap();
    assert_eq!(up.watch.unavailable, None);
    let back = seen(&after, &Seen::Available).unwrap();
    assert_eq!((&back.watch.unavailable, &back.containers), (&None, &known.containers));
    assert_eq!(seen(&back, &Seen::Available), None);
}

#[test]
fn accepted_drift_is_none_until_it_changes() {
    let mut watch = Watch { drift: vec![drift("a")], ..Watch::default() };
    assert!(watch.is_drifted());
    watch.accepted.clone_from(&watch.drift);
    assert!(!watch.is_drifted());
    let known = StackHost { watch, ..row() };
    let more = seen(&known, &report("d1", vec![drift("a"), drift("b")], 10)).unwrap();
    assert!(more.watch.is_drifted());
    assert_eq!(more.watch.open_drift().collect::<Vec<_>>(), [&drift("b")]);
    let none = seen(&more, &report("d1", Vec::new(), 20)).unwrap();
    let back = seen(&none, &report("d1", vec![drift("a")], 30)).unwrap();
    assert!(back.watch.is_drifted(), "it had gone away: nobody accepted that it comes back");
}

#[test]
fn only_what_differs_can_be_accepted() {
    let stack = crate::domain::decide::stack::tests::stack(1, "shop");
    let mut known = StackHost { stack: stack.id.clone(), ..row() };
    let of = |row: &StackHost| Snapshot {
        stack: Some(stack.clone()),
        stack_hosts: vec![row.clone()],
        ..Snapshot::default()
    };
    let refused = accept_drift(&of(&known), &stack.id, None, Micros(1)).unwrap_err();
    assert_eq!(refused.code, "NO_DRIFT");
    known.watch.drift = vec![drift("a")];
    let elsewhere = [HostId::from_parts(9, [9; 10])];
    assert!(accept_drift(&of(&known), &stack.id, Some(&elsewhere), Micros(1)).is_err());
    let accepted = accept_drift(&of(&known), &stack.id, None, Micros(1)).unwrap();
    let [Change::PutStackHosts(rows)] = &accepted.changes[..] else {
        panic!("one row is written: {:?}", accepted.changes)
    };
    assert!(!rows[0].watch.is_drifted());
    assert_eq!((accepted.reply, accepted.events.len()), (1, 1));
}

#[test]
fn a_loop_is_so_many_reverts_in_so_short_a_time() {
    let mut watch = Watch::default();
    for n in 0..REVERTS_MAX {
        let now = Micros(0).plus_secs(u64::try_from(n).unwrap() * 60);
        assert!(!watch.loops(now));
        watch.reverting(now);
    }
    let last = Micros(0).plus_secs(u64::try_from(REVERTS_MAX).unwrap() * 60);
    assert!(watch.loops(last));
    assert!(!watch.loops(last.plus_secs(REVERTS_SECS)));
    watch.begin_anew();
    assert!(!watch.loops(last));
}
