//! How a run went, from its events. No IO: lines in, a verdict out.

use super::events::{Ended, Event, Stats};

/// What has been heard of a run so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recital {
    started: bool,
    no_hosts: bool,
    unreachable: Option<String>,
    /// The failure the run stopped at, not one of putting things right afterwards.
    failed: Option<Ended>,
    /// A failure of the step `rollback`.
    rollback_failed: Option<Ended>,
    stats: Option<Stats>,
    /// Lines that were no events, or too long to be.
    broken_lines: u64,
}

/// Why a run is no success.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Ansible could not load the playbook, or its hosts mean nobody.
    Invalid { message: String },
    /// Ansible could not connect.
    Unreachable { message: String },
    /// A task failed.
    Failed { failed: Box<Ended> },
    /// A task failed, and so did putting things right.
    RollbackFailed { failed: Option<Box<Ended>>, second: Box<Ended> },
    /// The run ended without saying how it went, or says one thing and does another.
    Aborted { message: String },
}

const ROLLBACK: &str = "rollback";

impl Recital {
    /// Hears one event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Start => self.started = true,
            Event::NoHosts => self.no_hosts = true,
            Event::Unreachable(ended) => {
                self.unreachable.get_or_insert_with(|| ended.message.clone());
            }
            Event::Failed(ended) if !ended.ignored => {
                let place = match ended.named.step.as_deref() == Some(ROLLBACK) {
                    true => &mut self.rollback_failed,
                    false => &mut self.failed,
                };
                place.get_or_insert_with(|| ended.clone());
            }
            Event::Stats(stats) => self.stats = Some(*stats),
            Event::Failed(_)
            | Event::Task(_)
            | Event::Ok(_)
            | Event::Skipped(_)
            | Event::Unknown => {}
        }
    }

    /// Whether the playbook's own `rescue` took care of every failure: only Ansible knows what belongs
    /// to what, and says so at the end.
    fn made_good(&self, status: Option<i32>) -> bool {
        status == Some(0)
            && self.stats.is_some_and(|stats| stats.failures == 0 && stats.rescued > 0)
    }

    /// Hears a line that is no event.
    pub fn hear_rubbish(&mut self) {
        self.broken_lines += 1;
    }

    /// What to make of it all, once the program has ended with that status (`None`: by a signal)
    /// having printed `tail` last.
    #[must_use]
    pub fn verdict(&self, status: Option<i32>, tail: &str) -> Option<Trouble> {
        if let Some(second) = &self.rollback_failed {
            let failed = self.failed.clone().map(Box::new);
            return Some(Trouble::RollbackFailed { failed, second: Box::new(second.clone()) });
        }
        if let Some(failed) = &self.failed
            && !self.made_good(status)
        {
            return Some(Trouble::Failed { failed: Box::new(failed.clone()) });
        }
        if let Some(message) = &self.unreachable {
            return Some(Trouble::Unreachable { message: message.clone() });
        }
        if self.no_hosts {
            let message = "no host is meant by the playbook's `hosts`".to_owned();
            return Some(Trouble::Invalid { message });
        }
        if !self.started && status.is_some_and(|status| status != 0) {
            return Some(Trouble::Invalid { message: last_words(tail) });
        }
        let ended = match (self.stats, status) {
            (Some(Stats { ok: 0, .. }), _) => "no task was run",
            (Some(_), Some(0)) if self.broken_lines > 0 => "parts of what it told cannot be read",
            (Some(_), Some(0)) => return None,
            (Some(_), _) => "it says that all went well and ended with an error",
            (None, None) => "it was killed",
            (None, Some(_)) => "it ended without statistics",
        };
        let lost = match self.broken_lines {
            0 => String::new(),
            lines => format!(" ({lines} lines of its events cannot be read)"),
        };
        Some(Trouble::Aborted { message: format!("{ended}{lost}") })
    }
}

/// The line of Ansible's complaint that says most.
fn last_words(tail: &str) -> String {
    let lines = || tail.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.starts_with("ERROR!") || line.starts_with("[ERROR]"));
    error.or_else(|| lines().next_back()).unwrap_or("it printed nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ansible::events::read;

    fn heard(lines: &[&str]) -> Recital {
        let mut recital = Recital::default();
        for line in lines {
            match read(line.as_bytes(), &[]) {
                Some(event) => recital.hear(&event),
                None => recital.hear_rubbish(),
            }
        }
        recital
    }

    const START: &str = r#"{"event":"start"}"#;
    const OK: &str = r#"{"event":"ok","task":"a"}"#;
    const STATS: &str = r#"{"event":"stats","ok":3,"failures":0}"#;
    const FAILED: &str =
        r#"{"event":"failed","task":"[reload] b","step":"reload","message":"no","ignored":false}"#;

    #[test]
    fn a_run_is_good_when_it_says_so_in_every_way() {
        assert_eq!(heard(&[START, OK, STATS]).verdict(Some(0), ""), None);
        let cases: [(&[&str], Option<i32>, &str); 6] = [
            (&[START, OK], Some(0), "without statistics"),
            (&[START, OK], None, "killed"),
            (&[], Some(0), "without statistics"),
            (&[START, OK, STATS], Some(2), "ended with an error"),
            (&[START, r#"{"event":"stats","ok":0,"failures":0}"#], Some(0), "no task"),
            (&[START, "rubbish", OK, STATS], Some(0), "1 lines of its events"),
        ];
        for (lines, status, expected) in cases {
            let verdict = heard(lines).verdict(status, "");
            let Some(Trouble::Aborted { message }) = &verdict else { panic!("{verdict:?}") };
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn failures_come_from_events_and_not_from_the_status() {
        for status in [Some(0), Some(2), None] {
            let verdict = heard(&[START, FAILED, STATS]).verdict(status, "");
            assert!(matches!(verdict, Some(Trouble::Failed { .. })), "{verdict:?}");
        }
        let ignored = FAILED.replace("false", "true");
        assert_eq!(heard(&[START, &ignored, OK, STATS]).verdict(Some(0), ""), None);
        let unreachable = r#"{"event":"unreachable","task":"a","message":"gone"}"#;
        let verdict = heard(&[START, unreachable, STATS]).verdict(Some(4), "");
        assert_eq!(verdict, Some(Trouble::Unreachable { message: "gone".to_owned() }));
    }

    #[test]
    fn a_failure_the_playbook_itself_made_good_is_none() {
        let rescued = r#"{"event":"stats","ok":3,"failures":0,"rescued":1}"#;
        assert_eq!(heard(&[START, FAILED, OK, rescued]).verdict(Some(0), ""), None);
        let failing = r#"{"event":"stats","ok":3,"failures":1,"rescued":1}"#;
        let rollback = FAILED.replace("\"reload\"", "\"rollback\"");
        for (lines, status) in [
            ([START, FAILED, OK, failing], Some(0)),
            ([START, FAILED, OK, rescued], Some(2)),
            ([START, FAILED, OK, rescued], None),
            ([START, FAILED, OK, OK], Some(0)),
            ([START, FAILED, &rollback, rescued], Some(0)),
        ] {
            assert!(heard(&lines).verdict(status, "").is_some(), "{lines:?} {status:?}");
        }
    }

    #[test]
    fn the_first_failure_counts_and_one_of_the_rollback_outweighs_it() {
        let later = FAILED.replace("reload", "later");
        let Some(Trouble::Failed { failed }) = heard(&[START, FAILED, &later]).verdict(Some(2), "")
        else {
            panic!("no failure")
        };
        assert_eq!(failed.named.step.as_deref(), Some("reload"));
        let rollback = FAILED.replace("\"reload\"", "\"rollback\"");
        let verdict = heard(&[START, FAILED, &rollback]).verdict(Some(2), "");
        let Some(Trouble::RollbackFailed { failed: Some(first), .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(first.named.step.as_deref(), Some("reload"));
    }

    #[test]
    fn what_cannot_be_loaded_is_invalid_in_ansible_s_own_words() {
        let tail = "warning\nERROR! couldn't resolve module/action 'a.b.c'. This often\n\nmore\n";
        let Some(Trouble::Invalid { message }) = heard(&[]).verdict(Some(4), tail) else {
            panic!("not invalid")
        };
        assert!(message.contains("a.b.c"), "{message}");
        let verdict = heard(&[START, r#"{"event":"no_hosts"}"#, STATS]).verdict(Some(0), "");
        assert!(matches!(verdict, Some(Trouble::Invalid { .. })), "{verdict:?}");
    }
}
