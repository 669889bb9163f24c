//! How a job goes and how it ended.

use serde::{Deserialize, Serialize};

use super::code::{Code, Retry};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    Succeeded,
    Failed,
    Cancelled,
}

/// The end of one attempt; written once, delivered until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub state: OutcomeState,
    /// The type's result document (`super::result`), if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    /// Present exactly when the attempt did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    #[serde(default)]
    pub steps: Vec<StepReport>,
    /// By the host's clock: for people, never compared with another machine's.
    pub started_at_us: i64,
    pub finished_at_us: i64,
}

/// A structured failure. No field ever carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable code; see [`Code`]. Kept as text so that newer codes pass through.
    pub code: String,
    /// One sentence a person can act on.
    pub message: String,
    /// Whether trying again may help.
    pub retry: Retry,
    /// The step that failed (`nginx_test`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The command that was run, program and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The last bytes of what it printed, at most [`crate::OUTPUT_TAIL_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl JobError {
    /// An error of that code, with the code's own retry decision and hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.as_str().to_owned(),
            message: message.into(),
            retry: code.retry(),
            step: None,
            command: None,
            exit_status: None,
            output_tail: None,
            hint: (!code.hint().is_empty()).then(|| code.hint().to_owned()),
        }
    }

    /// The same error, naming the step it happened in.
    #[must_use]
    pub fn at_step(mut self, step: &str) -> Self {
        self.step = Some(step.to_owned());
        self
    }
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Started,
    Done,
    Skipped,
    Failed,
    /// Undone after a later step failed.
    RolledBack,
}

/// One step of a job, as it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Stable name (`nginx_test`), the same whichever executor ran it.
    pub step: String,
    pub state: StepState,
    /// What happened, in a sentence.
    #[serde(default)]
    pub message: String,
    /// How long it took, in microseconds of the host's monotonic clock.
    #[serde(default)]
    pub took_us: u64,
}

/// One line of live progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub step: String,
    pub state: StepState,
    #[serde(default)]
    pub message: String,
    /// By the host's clock.
    pub at_us: i64,
}
