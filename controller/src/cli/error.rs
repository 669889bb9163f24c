//! Why a command could not do its work, what that means for the exit code, and what may help.

use std::io;
use std::path::PathBuf;

use hostler_controller::views::Problem;

use super::exit::Exit;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The controller answered with a problem.
    #[error("{}", sentence(.0))]
    Problem(Box<Problem>),
    /// Something answered that does not speak like the controller.
    #[error("the server answered {status} without saying why")]
    Status { status: u16 },
    #[error("the controller at {server} cannot be reached")]
    Unreachable {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    /// The certificate is none that can be trusted, or not for this server, or not now.
    #[error("the server at {server} is not trusted")]
    Untrusted {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("what answers at {server} does not speak TLS")]
    NotTls {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the controller at {server} did not answer within {secs} s")]
    TimedOut { server: String, secs: u64 },
    #[error("the connection to {server} broke")]
    Broken {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the server's answer cannot be read")]
    Answer(#[source] serde_json::Error),
    #[error("the server's answer is longer than {limit_bytes} bytes")]
    AnswerTooLong { limit_bytes: usize },
    #[error("no {kind} is called `{name}`")]
    UnknownName { kind: &'static str, name: String, suggestion: Option<String> },
    #[error("{0}")]
    Usage(String),
    #[error("{0}; without a terminal to ask on, this needs --yes")]
    NotConfirmed(String),
    #[error("nothing was changed")]
    Declined,
    #[error("cannot read {}", .path.display())]
    ReadFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{what} is not JSON")]
    Json {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    #[error("the program cannot start its runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

fn sentence(problem: &Problem) -> &str {
    if problem.detail.is_empty() { &problem.title } else { &problem.detail }
}

impl CliError {
    /// The exit code this error stands for.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Problem(problem) => Exit::of_status(problem.status),
            // What stands before a controller says these when it is gone.
            Self::Status { status: 502..=504 } => Exit::Unreachable,
            Self::Status { status } => Exit::of_status(*status),
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::NotTls { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. } => Exit::Unreachable,
            Self::UnknownName { .. } => Exit::NotFound,
            Self::Usage(_) | Self::NotConfirmed(_) | Self::ReadFile { .. } | Self::Json { .. } => {
                Exit::Usage
            }
            // Whoever read our output has enough (`hostler job list | head -1`).
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Answer(_)
            | Self::AnswerTooLong { .. }
            | Self::Declined
            | Self::Client(_)
            | Self::Runtime(_)
            | Self::Output(_) => Exit::Failure,
        }
    }

    /// Whether asking again in a while may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::Status { status } => matches!(status, 429 | 500..=599),
            Self::Problem(problem) => matches!(problem.status, 429 | 500..=599),
            Self::Untrusted { .. }
            | Self::NotTls { .. }
            | Self::Answer(_)
            | Self::AnswerTooLong { .. }
            | Self::UnknownName { .. }
            | Self::Usage(_)
            | Self::NotConfirmed(_)
            | Self::Declined
            | Self::ReadFile { .. }
            | Self::Json { .. }
            | Self::Client(_)
            | Self::Runtime(_)
            | Self::Output(_) => false,
        }
    }

    /// What the reader could do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { suggestion: Some(name), .. } => {
                Some(format!("did you mean `{name}`?"))
            }
            Self::UnknownName { kind, suggestion: None, .. } => {
                Some(format!("`hostler {} list` shows what there is", noun(kind)))
            }
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Status { status: 502..=504 } => {
                Some("is it running there? --server or HOSTLER_SERVER names another one".to_owned())
            }
            Self::Untrusted { .. } => Some(
                "--ca-file or HOSTLER_CA_FILE names the certificates to trust instead of the \
                 system's; nothing was sent"
                    .to_owned(),
            ),
            Self::NotTls { .. } => Some("is it http:// instead of https://?".to_owned()),
            Self::TimedOut { .. } => Some("--timeout allows it more time".to_owned()),
            Self::Problem(problem) => match problem.status {
                401 => Some("give a token by HOSTLER_TOKEN or --token-file".to_owned()),
                403 => Some("use a token with the scope this needs".to_owned()),
                500..=599 => Some("the controller's log has more, under the request id".to_owned()),
                _ => None,
            },
            Self::Status { status: 401 | 403 } => {
                Some("give a token by HOSTLER_TOKEN or --token-file".to_owned())
            }
            Self::Status { .. } | Self::Answer(_) => {
                Some("does --server name a Hostler controller, of this version?".to_owned())
            }
            Self::AnswerTooLong { .. }
            | Self::Usage(_)
            | Self::NotConfirmed(_)
            | Self::Declined
            | Self::ReadFile { .. }
            | Self::Json { .. }
            | Self::Client(_)
            | Self::Runtime(_)
            | Self::Output(_) => None,
        }
    }
}

fn noun(kind: &str) -> &str {
    if ["environment", "domain"].contains(&kind) { "env" } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> CliError {
        CliError::Problem(Box::new(Problem {
            kind: format!("urn:hostler:problem:{}", code.to_lowercase()),
            title: "No such thing".to_owned(),
            status,
            detail: "No site has this id.".to_owned(),
            instance: "req_01kah2m3n4p5q6r7s8t9v0w1x2".to_owned(),
            code: code.to_owned(),
            errors: vec![],
        }))
    }

    #[test]
    fn each_status_has_its_exit_code() {
        for (status, exit) in [
            (400, Exit::Refused),
            (401, Exit::Auth),
            (403, Exit::Auth),
            (404, Exit::NotFound),
            (409, Exit::Refused),
            (422, Exit::Refused),
            (500, Exit::Failure),
            (503, Exit::Failure),
        ] {
            assert_eq!(problem(status, "X").exit(), exit, "status {status}");
        }
        assert_eq!(CliError::Status { status: 502 }.exit(), Exit::Unreachable);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = CliError::Output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit(), Exit::Ok);
    }
}
