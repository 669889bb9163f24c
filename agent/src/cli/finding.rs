//! What `doctor` finds.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    Warning,
    Error,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<&'static str>,
}

pub(super) fn good(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, state: State::Ok, message: message.into(), hint: None }
}

pub(super) fn bad(
    check: &'static str,
    state: State,
    message: impl Into<String>,
    hint: &'static str,
) -> Finding {
    let hint = (!hint.is_empty()).then_some(hint);
    Finding { check, state, message: message.into(), hint }
}
