//! Frames in a few words, for traces.

use hostler_protocol::message::{AttemptRef, ToAgent, ToController};

fn about(what: &str, attempt: &AttemptRef) -> String {
    format!("{what} {} {}", attempt.job, attempt.attempt)
}

pub(super) fn up(message: &ToController) -> String {
    match message {
        ToController::Hello(hello) => format!(
            "Hello, versions {}-{}, running {:?}, unacknowledged {:?}",
            hello.version_min,
            hello.version_max,
            hello.running.iter().map(|one| about("", one)).collect::<Vec<_>>(),
            hello.unacknowledged.iter().map(|one| about("", one)).collect::<Vec<_>>(),
        ),
        ToController::Heartbeat { sequence, running } => {
            format!("Heartbeat {sequence}, running {}", running.len())
        }
        ToController::Accepted { attempt } => about("Accepted", attempt),
        ToController::Rejected { attempt, error } => {
            format!("{} {}", about("Rejected", attempt), String::from_utf8_lossy(error))
        }
        ToController::Progress { attempt, sequence, .. } => {
            format!("{} line {sequence}", about("Progress", attempt))
        }
        ToController::Finished { attempt, .. } => about("Finished", attempt),
        ToController::Goodbye { reason } => format!("Goodbye: {reason}"),
        ToController::Renew { .. } => "Renew".to_owned(),
        ToController::Observed { .. } => "Observed".to_owned(),
        ToController::Enrol(_) | ToController::Recover(_) | ToController::Prove(_) => {
            "something of enrolment".to_owned()
        }
    }
}

pub(super) fn down(message: &ToAgent) -> String {
    match message {
        ToAgent::Welcome(welcome) => {
            format!("Welcome, epoch {}, verdicts {:?}", welcome.epoch, welcome.verdicts)
        }
        ToAgent::Refused { code, .. } => format!("Refused {code}"),
        ToAgent::HeartbeatAck { sequence } => format!("HeartbeatAck {sequence}"),
        ToAgent::Run { attempt, .. } => about("Run", attempt),
        ToAgent::Cancel { attempt } => about("Cancel", attempt),
        ToAgent::Ack { attempt } => about("Ack", attempt),
        ToAgent::Drain { retry_after_ms } => format!("Drain {retry_after_ms}"),
        ToAgent::Renewed(_) => "Renewed".to_owned(),
        ToAgent::RenewRefused { code, .. } => format!("RenewRefused {code}"),
        ToAgent::Enrolled(_) | ToAgent::EnrolRefused { .. } | ToAgent::Challenge(_) => {
            "something of enrolment".to_owned()
        }
    }
}
