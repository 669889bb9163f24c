//! Makes an outcome fit its limit, keeping what decides and dropping what merely details.

use hostler_protocol::OUTCOME_BYTES_MAX;
use hostler_protocol::job::{self, Outcome, StepReport, StepState};
use serde_json::Value;

/// The outcome as a document of at most [`OUTCOME_BYTES_MAX`]. State and error always survive;
/// first long lists inside the result go, then the steps, then the result.
pub(super) fn document(outcome: &Outcome) -> Vec<u8> {
    let bytes = job::write(outcome);
    if bytes.len() <= OUTCOME_BYTES_MAX {
        return bytes;
    }
    let mut smaller = outcome.clone();
    if let Some(result) = &mut smaller.result {
        let left_out = empty_lists(result);
        smaller.steps.push(StepReport {
            step: "result".to_owned(),
            state: StepState::Skipped,
            message: format!(
                "{left_out} lines of the result are left out: it has more than {OUTCOME_BYTES_MAX} bytes; the sums count them"
            ),
            took_us: 0,
        });
    }
    let cuts: [fn(&mut Outcome); 4] = [
        |_| {},
        |outcome| outcome.steps.clear(),
        |outcome| outcome.result = None,
        |outcome| {
            if let Some(error) = &mut outcome.error {
                (error.command, error.output_tail, error.hint) = (None, None, None);
                error.message = error.message.chars().take(4096).collect();
            }
        },
    ];
    let mut bytes = Vec::new();
    for cut in cuts {
        cut(&mut smaller);
        bytes = job::write(&smaller);
        if bytes.len() <= OUTCOME_BYTES_MAX {
            break;
        }
    }
    bytes
}

/// Empties each list longer than a screenful and says how many items went; the sums beside them
/// stay.
fn empty_lists(value: &mut Value) -> usize {
    match value {
        Value::Array(items) if items.len() > 50 => std::mem::take(items).len(),
        Value::Array(items) => items.iter_mut().map(empty_lists).sum(),
        Value::Object(fields) => fields.values_mut().map(empty_lists).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_protocol::job::{Code, JobError, OutcomeState};

    fn outcome(result: Option<Value>, error: Option<JobError>) -> Outcome {
        let state = OutcomeState::Succeeded;
        Outcome { state, result, error, steps: Vec::new(), started_at_us: 1, finished_at_us: 2 }
    }

    #[test]
    fn a_long_list_goes_and_its_sums_stay() {
        let urls: Vec<_> = (0..20_000).map(|n| format!("https://a.example/{n:040}")).collect();
        let result = serde_json::json!({"fastcgi": {"removed": 20_000, "urls": urls}});
        let bytes = document(&outcome(Some(result), None));
        assert!(bytes.len() < 1000);
        let read: Outcome = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read.result.unwrap()["fastcgi"]["removed"], 20_000);
        assert!(read.steps[0].message.starts_with("20000 lines"), "{:?}", read.steps);
    }

    #[test]
    fn whatever_else_is_too_long_the_state_and_code_survive() {
        let long = "x".repeat(OUTCOME_BYTES_MAX);
        let error = JobError::new(Code::CommandFailed, long.clone());
        let bytes = document(&outcome(Some(Value::String(long)), Some(error)));
        assert!(bytes.len() <= OUTCOME_BYTES_MAX);
        let read: Outcome = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read.error.unwrap().code, "COMMAND_FAILED");
    }
}
