//! Each kind of wrong is found, and nothing else.

use serde_json::json;

use super::super::clients::Wanted;
use super::super::logs::read;
use super::*;

fn accepted(number: usize) -> Accepted {
    let wanted = Wanted { number, host: 0, site: 1, asked: Asked::Purge, at_ms: 0 };
    let entry = Some((std::path::PathBuf::from(format!("/cache/{number}")), 7));
    Accepted { wanted, job: format!("job_{number}"), entry }
}

fn job(number: usize, state: &str, reason: Option<&str>) -> Value {
    json!({
        "id": format!("job_{number}"), "state": state, "reason": reason, "attempt": 1,
        "host": "host-00", "created_at": 1_000_000, "finished_at": 9_000_000,
    })
}

fn starts(host: usize, number: usize, attempt: i64) -> Line {
    let line = json!({
        "timestamp": "1970-01-01T00:00:05Z", "level": "INFO", "message": "job starts",
        "job": format!("job_{number}"), "attempt": attempt,
    });
    read(Writer::Agent(host), &line.to_string()).remove(0)
}

fn event(seq: i64, kind: &str, number: usize) -> Value {
    json!({ "seq": seq, "kind": kind, "job_id": format!("job_{number}"), "attempt": 1 })
}

/// One job that was accepted, claimed, begun, and has succeeded.
fn good() -> Evidence {
    Evidence {
        accepted: vec![accepted(1)],
        jobs: vec![job(1, "succeeded", None)],
        events: vec![
            event(1, "job.queued", 1),
            event(2, "job.started", 1),
            event(3, "job.succeeded", 1),
        ],
        lines: vec![starts(0, 1, 1)],
        ..Evidence::default()
    }
}

#[test]
fn what_went_well_is_not_complained_of() {
    assert_eq!(judge(&good()), Verdict::default());
    let held = Evidence { jobs: vec![job(1, "held", Some("QUARANTINED"))], ..good() };
    assert_eq!(judge(&held).lost, Vec::<String>::new());
}

#[test]
fn a_job_that_is_gone_or_has_no_end_is_lost() {
    let gone = Evidence { jobs: vec![], lines: vec![], ..good() };
    assert_eq!(judge(&gone).lost.len(), 1);
    for job in [job(1, "queued", None), job(1, "running", Some("UNKNOWN")), job(1, "held", None)] {
        assert_eq!(judge(&Evidence { jobs: vec![job], ..good() }).lost.len(), 1);
    }
}

#[test]
fn a_job_nobody_sent_has_to_end_too_and_no_job_at_all_is_no_run() {
    let mut child = good();
    child.jobs.push(job(2, "queued", None));
    assert_eq!(judge(&child).unexplained.len(), 1);
    assert_eq!(judge(&Evidence::default()).unexplained.len(), 1);
}

#[test]
fn an_attempt_that_began_twice_or_too_late_or_elsewhere_is_doubled() {
    let twice = Evidence { lines: vec![starts(0, 1, 1), starts(0, 1, 1)], ..good() };
    assert_eq!(judge(&twice).doubled.len(), 1);
    let mut row = job(1, "succeeded", None);
    row["finished_at"] = json!(4_000_000);
    assert_eq!(judge(&Evidence { jobs: vec![row], ..good() }).doubled.len(), 1);
    let elsewhere = Evidence { lines: vec![starts(3, 1, 1)], ..good() };
    assert_eq!(judge(&elsewhere).doubled.len(), 1);
    let mut again = good();
    again.events.push(event(4, "job.succeeded", 1));
    assert_eq!(judge(&again).doubled.len(), 1);
    let mut reclaimed = good();
    reclaimed.events.push(json!({
        "seq": 4, "kind": "job.started", "job_id": "job_1", "attempt": 2,
    }));
    assert_eq!(judge(&reclaimed).doubled.len(), 1);
}

#[test]
fn what_nothing_explains_is_told() {
    let unexplained = |evidence: Evidence| judge(&evidence).unexplained.len();
    let left = Evidence { left: HashSet::from(["job_1".to_owned()]), ..good() };
    assert_eq!(unexplained(left), 1, "an entry that is still there");
    assert_eq!(unexplained(Evidence { lines: vec![], ..good() }), 1, "never begun");
    let mut unclaimed = good();
    unclaimed.lines.push(starts(0, 1, 2));
    assert_eq!(unexplained(unclaimed), 1, "begun without a claim");
    let mut gap = good();
    gap.events[2]["seq"] = json!(4);
    assert_eq!(unexplained(gap), 1, "a gap in the event log");
    let failed = Evidence { jobs: vec![job(1, "failed", Some("PROBE_FAILED"))], ..good() };
    assert_eq!(unexplained(failed), 1, "a failed job");
    let mut warned = good();
    let line = r#"{"timestamp":"1970-01-01T00:00:05Z","level":"WARN","message":"odd"}"#;
    warned.lines.extend(read(Writer::Controller, line));
    assert_eq!(unexplained(warned), 1, "a warning");
    let exit = Exit { name: "controller-0".to_owned(), at_secs: 5.0, code: Some(1) };
    assert_eq!(unexplained(Evidence { exits: vec![exit], ..good() }), 1, "an end");
}

#[test]
fn faults_explain_what_is_theirs() {
    let full =
        |target| Fault { kind: Kind::AgentDiskFull, target, from_secs: 4.0, until_secs: 6.0 };
    let failed =
        |faults| Evidence { jobs: vec![job(1, "failed", Some("NO_SPACE"))], faults, ..good() };
    assert_eq!(judge(&failed(vec![full(0)])), Verdict::default());
    assert_eq!(judge(&failed(vec![full(1)])).unexplained.len(), 1, "another host's disk");
    let mut down = good();
    down.lines.extend(read(Writer::Controller, "hostler-controller: the database is not there"));
    assert_eq!(judge(&down).unexplained.len(), 1);
    let postgres = Fault { kind: Kind::PostgresKill, target: 0, from_secs: 4.0, until_secs: 6.0 };
    down.faults.push(postgres);
    down.exits.push(Exit { name: "controller-0".to_owned(), at_secs: 5.0, code: Some(1) });
    assert_eq!(judge(&down), Verdict::default());
}
