//! The logs of the run's processes, and which warnings the faults of the run explain.
//!
//! A line at WARN or above that no entry of [`EXPECTED`] names, or whose entry's faults were not at
//! work then, is unexplained; so is a line that is no JSON.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::faults::Fault;
use super::plan::Kind;

/// Seconds after a fault in which its consequences are still told: a silent connection is given
/// up after 45.
pub const AFTERMATH_SECS: f64 = 60.0;
/// The same for what comes of an agent's waiting: it lets up to 60 s pass between two tries, and the
/// lease of what it ran is lost after 60 s.
const LATE_AFTERMATH_SECS: f64 = AFTERMATH_SECS + 75.0;

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Controller,
    /// The agent of that host.
    Agent(usize),
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub writer: Writer,
    /// Seconds since the Unix epoch; 0 where the line is no JSON.
    pub at_secs: f64,
    pub level: String,
    pub message: String,
    pub text: String,
    pub fields: Value,
}

/// Reads a log.
#[must_use]
pub fn read(writer: Writer, text: &str) -> Vec<Line> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|text| {
            let fields: Value = serde_json::from_str(text).unwrap_or_default();
            let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            let (level, message) = (field("level"), field("message"));
            let at_secs = seconds(&field("timestamp"));
            Line { writer, at_secs, level, message, text: text.to_owned(), fields }
        })
        .collect()
}

/// Seconds since the Unix epoch of a time as logs write it; 0 for anything else.
fn seconds(text: &str) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit into 2^53")]
    let micros = |at: OffsetDateTime| (at.unix_timestamp_nanos() / 1000) as f64;
    OffsetDateTime::parse(text, &Rfc3339).map_or(0.0, |at| micros(at) / 1e6)
}

const NETWORK: &[Kind] = &[Kind::Cut, Kind::Loss, Kind::UdpBlock, Kind::Storm, Kind::Freeze];
const DATABASE: &[Kind] = &[Kind::PostgresKill, Kind::PostgresRestart, Kind::ControllerDiskFull];
const CONTROLLER: &[Kind] = &[Kind::ControllerKill, Kind::ControllerStop, Kind::BothKill];
const AGENT: &[Kind] = &[Kind::AgentKill, Kind::AgentStop, Kind::BothKill];

/// A message that faults explain.
struct Expected {
    of_agent: bool,
    begins: &'static str,
    faults: &'static [&'static [Kind]],
    aftermath_secs: f64,
}

impl Expected {
    const fn late(mut self) -> Self {
        self.aftermath_secs = LATE_AFTERMATH_SECS;
        self
    }
}

const fn controller(begins: &'static str, faults: &'static [&'static [Kind]]) -> Expected {
    Expected { of_agent: false, begins, faults, aftermath_secs: AFTERMATH_SECS }
}

const fn agent(begins: &'static str, faults: &'static [&'static [Kind]]) -> Expected {
    Expected { of_agent: true, begins, faults, aftermath_secs: AFTERMATH_SECS }
}

const EXPECTED: &[Expected] = &[
    // The database does not answer, or refuses to write.
    controller("dispatch failed", &[DATABASE]),
    controller("a request failed at the database", &[DATABASE]),
    controller("sessions cannot be compared with the database", &[DATABASE]),
    controller("leases cannot be looked at", &[DATABASE]),
    controller("leases could not be renewed", &[DATABASE]),
    controller("a sweep failed", &[DATABASE]),
    controller("reports could not be settled", &[DATABASE]),
    controller("acceptances could not be written", &[DATABASE]),
    controller("progress could not be written", &[DATABASE]),
    controller("the event log cannot be read", &[DATABASE]),
    controller("not ready: the database does not answer", &[DATABASE]),
    controller("a host's new key could not be entered", &[DATABASE]),
    controller("a host cannot be looked up", &[DATABASE]),
    controller("a session's end could not be entered", &[DATABASE]),
    controller("a session could not be entered", &[DATABASE]),
    controller("an older session of this host does not end", &[DATABASE]),
    controller("unsent jobs wait for their host's next session", &[DATABASE]),
    controller("a host got no new certificate", &[DATABASE]),
    controller("batches cannot be carried on", &[DATABASE]),
    controller("stacks cannot be carried on", &[DATABASE]),
    controller("bundles nobody needs could not be removed", &[DATABASE]),
    controller("what a host sees of its stacks could not be written", &[DATABASE]),
    controller("this controller cannot give signs of life", &[DATABASE]),
    controller("this controller's end cannot be entered", &[DATABASE]),
    controller("other controllers' commits are not told here for now", &[DATABASE]),
    controller("some agents' sessions did not end in time", &[&[Kind::ControllerStop]]),
    // The driver's own words for the same.
    controller("error occurred while testing the connection on-release", &[DATABASE]),
    controller("acquired connection, but time to acquire exceeded slow threshold", &[DATABASE]),
    // Certificates are good for seconds here, and end while a host is away.
    controller(
        "a host is back whose certificate had ended",
        &[NETWORK, DATABASE, CONTROLLER, AGENT],
    )
    .late(),
    // Which of its two keys was taken last an agent may not know; it tries the other one, too.
    controller("a host's return was refused", &[NETWORK, DATABASE, CONTROLLER, AGENT]).late(),
    // An attempt whose host says nothing for a minute, and what is done about it.
    controller("leases were lost", &[NETWORK, DATABASE, CONTROLLER, AGENT]).late(),
    controller("a session is closed to learn what its host runs", &[NETWORK, DATABASE]).late(),
    // Its end was written to no database: the comparison finds it. Behind the entry above, whose
    // words begin like these.
    controller("a session is closed", &[DATABASE]),
    agent("no session with the controller", &[NETWORK, DATABASE, CONTROLLER]),
    agent("the controller does not answer for a new certificate", &[NETWORK, DATABASE, CONTROLLER]),
    agent("the controller gives no new certificate", &[DATABASE]),
    // A packet filter of the host itself tells the sender.
    agent("sendmsg error", &[&[Kind::Loss, Kind::UdpBlock]]),
    // It is told again, and forgotten then.
    agent(
        "an acknowledged outcome stays in the journal",
        &[&[Kind::AgentStop, Kind::AgentDiskFull]],
    ),
    agent("a new certificate is of no use", &[&[Kind::AgentDiskFull]]),
    agent("the journal could not be used", &[&[Kind::AgentDiskFull]]),
    agent("cannot hold back disk space", &[&[Kind::AgentDiskFull]]),
    agent("cannot give up reserved disk space", &[&[Kind::AgentDiskFull]]),
    // Its code is told with it: the job is tried again.
    agent("job refused", &[AGENT, &[Kind::AgentDiskFull]]),
];

impl Line {
    /// Whether somebody has to explain it.
    #[must_use]
    pub fn is_remarkable(&self) -> bool {
        !matches!(self.level.as_str(), "INFO" | "DEBUG" | "TRACE")
    }

    /// Whether a fault of the run explains it.
    #[must_use]
    pub fn is_explained(&self, faults: &[Fault]) -> bool {
        let of_agent = matches!(self.writer, Writer::Agent(_));
        let expected = EXPECTED
            .iter()
            .find(|entry| entry.of_agent == of_agent && self.message.starts_with(entry.begins));
        let Some(expected) = expected else { return false };
        faults.iter().any(|fault| {
            expected.faults.iter().any(|kinds| kinds.contains(&fault.kind))
                && explains(fault, self.writer, self.at_secs, expected.aftermath_secs)
        })
    }
}

/// Whether a fault was at work for that writer then, or so many seconds before.
#[must_use]
pub fn explains(fault: &Fault, writer: Writer, at_secs: f64, aftermath_secs: f64) -> bool {
    let on_host = matches!(
        fault.kind,
        Kind::AgentKill
            | Kind::AgentStop
            | Kind::Cut
            | Kind::Loss
            | Kind::UdpBlock
            | Kind::Freeze
            | Kind::AgentDiskFull
    );
    let elsewhere = matches!(writer, Writer::Agent(host) if on_host && host != fault.target);
    // The record is written a moment before or after the deed.
    !elsewhere && (fault.from_secs - 0.5..fault.until_secs + aftermath_secs).contains(&at_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, target: usize) -> Fault {
        Fault { kind, target, from_secs: 1000.0, until_secs: 1005.0 }
    }

    fn line(message: &str, at: &str) -> Line {
        let text = format!(r#"{{"timestamp":"{at}","level":"WARN","message":"{message}"}}"#);
        read(Writer::Agent(3), &text).remove(0)
    }

    #[test]
    fn a_warning_is_explained_by_a_fault_of_its_host_and_its_time() {
        let in_time = line("no session with the controller", "1970-01-01T00:16:42.5Z");
        assert!((in_time.at_secs - 1002.5).abs() < 1e-6);
        assert!(in_time.is_remarkable());
        assert!(in_time.is_explained(&[fault(Kind::Cut, 3)]));
        assert!(!in_time.is_explained(&[fault(Kind::Cut, 4)]), "another host's link");
        assert!(!in_time.is_explained(&[fault(Kind::AgentDiskFull, 3)]), "another fault");
        assert!(in_time.is_explained(&[fault(Kind::ControllerKill, 0)]));
        let late = line("no session with the controller", "1970-01-01T00:18:42Z");
        assert!(!late.is_explained(&[fault(Kind::Cut, 3)]), "long after");
        let early = line("no session with the controller", "1970-01-01T00:16:00Z");
        assert!(!early.is_explained(&[fault(Kind::Cut, 3)]), "before");
        let unknown = line("something new", "1970-01-01T00:16:42Z");
        assert!(!unknown.is_explained(&[fault(Kind::Cut, 3)]));
    }

    /// Words that libraries and not the programs say.
    const OF_LIBRARIES: [&str; 3] = [
        "error occurred while testing the connection on-release",
        "acquired connection, but time to acquire exceeded slow threshold",
        "sendmsg error",
    ];

    fn source(dir: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                source(&path, text);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }

    /// A program whose words change takes its excuse with it: the run would fail for nothing.
    #[test]
    fn what_is_expected_is_what_the_programs_say() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (mut of_agent, mut of_controller) = (String::new(), String::new());
        source(&root.join("agent/src"), &mut of_agent);
        source(&root.join("controller/src"), &mut of_controller);
        for Expected { of_agent: agents, begins, .. } in EXPECTED {
            let text = if *agents { &of_agent } else { &of_controller };
            let said = text.contains(&format!("\"{begins}"));
            assert!(said || OF_LIBRARIES.contains(begins), "nobody says: {begins}");
        }
    }

    #[test]
    fn the_words_that_go_further_are_looked_for_first() {
        let text = r#"{"timestamp":"1970-01-01T00:17:30Z","level":"WARN","message":"a session is closed to learn what its host runs"}"#;
        let told = read(Writer::Controller, text).remove(0);
        assert!(told.is_explained(&[fault(Kind::Cut, 3)]), "{told:?}");
        let other = read(Writer::Controller, &text.replace(" to learn what its host runs", ""));
        assert!(!other[0].is_explained(&[fault(Kind::Cut, 3)]));
    }

    #[test]
    fn what_is_no_json_is_remarkable_and_never_explained() {
        let panic = &read(Writer::Controller, "thread 'main' panicked at src/lib.rs\n\n")[0];
        assert!(panic.is_remarkable());
        assert!(!panic.is_explained(&[fault(Kind::PostgresKill, 0)]));
        let info = r#"{"timestamp":"1970-01-01T00:00:00Z","level":"INFO","message":"x"}"#;
        assert!(!read(Writer::Controller, info)[0].is_remarkable());
    }
}
