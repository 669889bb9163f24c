//! What a stack's `.env` would tell compose of compose itself.
//!
//! Compose reads variables of its own from the file; the agent names files and project to it, so
//! that these two say nothing there. A person who wrote them should know.

use super::problem::{Problem, warning};

/// Most bytes of a `.env` that are read for this.
pub(super) const BYTES_MAX: usize = 256 * 1024;

/// Warnings about variables that are not followed.
pub(super) fn warnings(bytes: &[u8]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (variable, instead) in [
        (
            "COMPOSE_FILE",
            "the compose file and the override file beside it make the stack; `include` takes in others",
        ),
        (
            "COMPOSE_PROJECT_NAME",
            "`x-hostler.project` or the compose file's `name` names the project",
        ),
    ] {
        if bytes.split(|byte| *byte == b'\n').any(|line| sets(line, variable)) {
            let message = format!(".env sets {variable}, which is not followed: {instead}");
            found.push(Problem::new(warning::VARIABLE_UNUSED, message));
        }
    }
    found
}

/// Whether a line gives a variable a value.
fn sets(line: &[u8], variable: &str) -> bool {
    let line = line.trim_ascii();
    let line = line.strip_prefix(b"export ").map_or(line, <[u8]>::trim_ascii_start);
    let Some(rest) = line.strip_prefix(variable.as_bytes()) else { return false };
    let value = rest.trim_ascii_start().strip_prefix(b"=").or_else(|| rest.strip_prefix(b":"));
    value.is_some_and(|value| !value.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_warned_of() {
        let told = |text: &str| {
            let found = warnings(text.as_bytes());
            let named = |one: &Problem| one.message.split(' ').nth(2).map(str::to_owned);
            found.iter().filter_map(named).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told("A=1\nCOMPOSE_FILE=a.yml:b.yml\n"), "COMPOSE_FILE,");
        assert_eq!(told("\u{20}export COMPOSE_PROJECT_NAME = x\r\n"), "COMPOSE_PROJECT_NAME,");
        for quiet in
            ["", "#COMPOSE_FILE=a", "COMPOSE_FILE=\r\n", "COMPOSE_FILES=a", "X=COMPOSE_FILE=a"]
        {
            assert_eq!(told(quiet), "", "{quiet:?}");
        }
    }
}
