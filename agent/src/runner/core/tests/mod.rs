//! The runner's rules, case by case ([`cases`]) and over random histories ([`histories`]).

mod cases;
mod histories;

use hostler_protocol::id::{BootId, JobId};
use hostler_protocol::job::{Code, JobError, Outcome, OutcomeState};
use hostler_protocol::message::{AttemptRef, ToAgent, ToController};

use super::{Core, Effect, Input, Limits, Now};
use crate::journal::Contents;

fn attempt(job: u8, number: u32) -> AttemptRef {
    AttemptRef { job: JobId::from_parts(u64::from(job), [job; 10]), attempt: number }
}

fn at(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, wall_us: 1000 }
}

fn check_spec() -> Vec<u8> {
    br#"{"type":"env_check","environment":{
        "id":"env_00000000000000000000000001","site":"shop","name":"production",
        "domain":"shop.example","kind":"php","docroot":"/srv/shop","user":"www-data",
        "nginx":{"http_file":"/a","server_file":"/b","location_file":"/c",
                 "probe_origin":"http://127.0.0.1:80"},
        "health":{"path":"/","status":200,"timeout_ms":1000}}}"#
        .to_vec()
}

/// A job that changes the environment every check looks at.
fn purge_spec() -> Vec<u8> {
    let check = String::from_utf8(check_spec()).unwrap();
    let what = r#""caches":{"fastcgi":true,"redis":false},"scope":{"kind":"all"}}"#;
    let head = check.strip_suffix('}').unwrap().replace("env_check", "cache_purge");
    format!("{head},{what}").into_bytes()
}

fn run(attempt: &AttemptRef) -> Input {
    run_with(attempt, check_spec())
}

fn run_with(attempt: &AttemptRef, spec: Vec<u8>) -> Input {
    Input::Message(ToAgent::Run { attempt: attempt.clone(), timeout_secs: 60, spec })
}

fn cancel(attempt: &AttemptRef) -> Input {
    Input::Message(ToAgent::Cancel { attempt: attempt.clone() })
}

fn ack(attempt: &AttemptRef) -> Input {
    Input::Message(ToAgent::Ack { attempt: attempt.clone() })
}

fn outcome(state: OutcomeState) -> Outcome {
    let error = match state {
        OutcomeState::Succeeded => None,
        OutcomeState::Failed => Some(JobError::new(Code::CommandFailed, "no").at_step("test")),
        OutcomeState::Cancelled => Some(JobError::new(Code::Cancelled, "stopped")),
    };
    Outcome { state, result: None, error, steps: Vec::new(), started_at_us: 1, finished_at_us: 2 }
}

fn core(contents: Contents) -> Core {
    let limits = Limits { jobs_max: 2, stop_ms_max: 5000 };
    Core::new(limits, BootId::from_parts(0, [0; 10]), contents)
}

/// A core with an empty journal, recovered and online.
fn ready() -> Core {
    let mut core = core(Contents::default());
    core.handle(Input::Recovered { steps: Vec::new(), proven: Vec::new() }, at(0));
    core.handle(Input::Introduce, at(0));
    core.handle(Input::Online, at(0));
    core
}

/// A core that runs this attempt.
fn running(attempt: &AttemptRef) -> Core {
    let mut core = ready();
    core.handle(run(attempt), at(0));
    let accepted = Input::Accepted { attempt: attempt.clone(), done: Ok(()) };
    let effects = core.handle(accepted, at(0));
    assert!(matches!(effects[1], Effect::Start { .. }), "{effects:?}");
    core
}

/// The error code of a rejection.
fn rejection(effects: &[Effect]) -> String {
    match effects {
        [Effect::Send(ToController::Rejected { error, .. })] => {
            serde_json::from_slice::<JobError>(error).unwrap().code
        }
        other => panic!("a rejection was expected, not {other:?}"),
    }
}

/// The outcome on its way to the disk.
fn journalled(effects: &[Effect]) -> Outcome {
    match effects {
        [Effect::JournalFinish { outcome, .. }] => serde_json::from_slice(outcome).unwrap(),
        other => panic!("an outcome was expected, not {other:?}"),
    }
}

fn code(outcome: &Outcome) -> &str {
    outcome.error.as_ref().map_or("", |error| error.code.as_str())
}
