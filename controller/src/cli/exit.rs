//! Exit codes: what a script learns without reading a word. They are a contract (docs/CLI.md).

use hostler_controller::views::JobState;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Ok,
    /// Something failed that has no code of its own; `env check` found errors.
    Failure,
    /// The command line, or a file it names, is not usable.
    Usage,
    NotFound,
    /// No token, a wrong one, or one that may not do this.
    Auth,
    /// The controller understood the request and refused it.
    Refused,
    JobFailed,
    JobCancelled,
    /// The job goes on: waiting ended before it did, or it waits for a person.
    Pending,
    Unreachable,
    /// Ctrl-C: detached, the job goes on.
    Interrupted,
}

impl Exit {
    /// The process's exit code.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Auth => 4,
            Self::Refused => 5,
            Self::JobFailed => 6,
            Self::JobCancelled => 7,
            Self::Pending => 8,
            Self::Unreachable => 9,
            Self::Interrupted => 130,
        }
    }

    /// What an answer's status that is no success means.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            404 => Self::NotFound,
            400..=499 => Self::Refused,
            _ => Self::Failure,
        }
    }

    /// What a job's state means to whoever waited for it.
    pub(super) fn of_job(state: JobState) -> Self {
        match state {
            JobState::Succeeded => Self::Ok,
            JobState::Failed => Self::JobFailed,
            JobState::Cancelled => Self::JobCancelled,
            JobState::Queued | JobState::Running | JobState::Held => Self::Pending,
        }
    }
}
