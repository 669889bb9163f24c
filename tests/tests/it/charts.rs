//! The charts of the state machines in `contracts/`, drawn by asking the machines themselves.

use std::fmt::Write as _;
use std::path::Path;

use hostler_controller::domain::JobState;
use hostler_controller::domain::environment::{EnvironmentEvent, EnvironmentState};
use hostler_controller::domain::job::{JobEvent, reason};
use hostler_controller::domain::stack::{StackEvent, StackStatus};

/// A chart of all there is: GitHub and most editors draw Mermaid.
fn chart<S: Copy, E: Copy>(
    states: &[(S, &str)],
    events: &[(E, &str)],
    first: &str,
    ended: impl Fn(S) -> bool,
    apply: impl Fn(S, E) -> Option<S>,
    name: impl Fn(S) -> &'static str,
) -> String {
    let mut text = format!("```mermaid\nstateDiagram-v2\n    [*] --> {first}\n");
    for (state, from) in states {
        for (event, label) in events {
            if let Some(next) = apply(*state, *event) {
                writeln!(text, "    {from} --> {}: {label}", name(next)).unwrap();
            }
        }
        if ended(*state) {
            writeln!(text, "    {from} --> [*]").unwrap();
        }
    }
    text + "```\n"
}

fn charts() -> String {
    let states = JobState::ALL.map(|state| (state, state.as_str()));
    let events = JobEvent::ALL.map(|event| (event, event.as_str()));
    let jobs = chart(
        &states,
        &events,
        JobState::Queued.as_str(),
        JobState::is_ended,
        JobState::apply,
        JobState::as_str,
    );
    let states = EnvironmentState::ALL.map(|state| (state, state.as_str()));
    let events = [
        (EnvironmentEvent::DeleteRequested, "delete"),
        (EnvironmentEvent::Broke, "break"),
        (EnvironmentEvent::Reset, "reset"),
    ];
    let environments = chart(
        &states,
        &events,
        EnvironmentState::Active.as_str(),
        |_| false,
        EnvironmentState::apply,
        EnvironmentState::as_str,
    );
    let states = StackStatus::ALL.map(|status| (status, status.as_str()));
    let events = StackEvent::ALL.map(|event| (event, event.as_str()));
    let stacks = chart(
        &states,
        &events,
        StackStatus::Missing.as_str(),
        StackStatus::may_vanish,
        StackStatus::apply,
        StackStatus::as_str,
    );
    let mut text = format!(
        "# State machines\n\nMade from the code: `make contracts`.\n\n## A job\n\n{jobs}\n\
         What is not drawn cannot happen. Beside the state stands a reason, where there is more to \
         say:\n\n| reason | beside | it says |\n|---|---|---|\n"
    );
    for (code, state, says) in reason::ALL {
        let says = says.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(text, "| `{code}` | {state} | {says} |").unwrap();
    }
    write!(
        text,
        "\nA job that failed by itself carries its error's code as its reason.\n\n## An environment\n\n\
         {environments}\nOne that is `deleting` is gone when its host has confirmed.\n\n\
         ## A stack on a host\n\n{stacks}\nOne that is `deleting` is gone when its host has \
         confirmed. How the last sync ended stands beside the status.\n"
    )
    .unwrap();
    text
}

#[test]
fn the_contracts_charts_are_what_the_code_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/states.md");
    let text = charts();
    if std::env::var_os("UPDATE_CONTRACTS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "contracts/states.md is not what the code does: run `make contracts`, look at it"
    );
}
