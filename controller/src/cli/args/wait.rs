//! Whether and how long to wait for a job.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// A length of time: `90`, `90s`, `15m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Span(pub(in crate::cli) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time: write 90, 90s, 15m or 2h");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let unit_secs = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        match count.checked_mul(unit_secs) {
            Some(secs @ 1..=31_536_000) => Ok(Self(Duration::from_secs(secs))),
            Some(_) | None => Err(wrong()),
        }
    }
}

/// How long `--wait` waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Limit {
    Forever,
    At(Duration),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        text.parse::<Span>().map(|span| Self::At(span.0))
    }
}

/// What to do about a job that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Wait {
    /// Print its id and go.
    No,
    /// Follow it to its end, or for so long.
    Follow(Option<Duration>),
}

/// Options of everything that queues a job.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct WaitArgs {
    /// Follow the job to its end, or for SECS at most (also 5m, 1h)
    #[arg(
        long,
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "forever"
    )]
    wait: Option<Limit>,
    /// Print the job's id and do not wait
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// The same key again answers with the same job instead of a second one
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) idempotency_key: Option<String>,
}

impl WaitArgs {
    /// What was asked, `default` if nothing was.
    pub(in crate::cli) fn or(&self, default: Wait) -> Wait {
        asked(self.wait, self.no_wait, default)
    }
}

/// Options of what queues a job on each of several hosts.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct WaitAllArgs {
    /// Follow the jobs to their end, or for SECS at most (also 5m, 1h)
    #[arg(
        long,
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "forever"
    )]
    wait: Option<Limit>,
    /// Print the jobs' ids and do not wait
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// The same key again answers with the same jobs instead of others
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) idempotency_key: Option<String>,
}

impl WaitAllArgs {
    /// What was asked, `default` if nothing was.
    pub(in crate::cli) fn or(&self, default: Wait) -> Wait {
        asked(self.wait, self.no_wait, default)
    }
}

/// What two options say together, `default` if neither was given.
pub(super) fn asked(wait: Option<Limit>, no_wait: bool, default: Wait) -> Wait {
    match wait {
        Some(Limit::Forever) => Wait::Follow(None),
        Some(Limit::At(limit)) => Wait::Follow(Some(limit)),
        None if no_wait => Wait::No,
        None => default,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    }

    fn asked(line: &str) -> Wait {
        Line::try_parse_from(line.split(' ')).unwrap().wait.or(Wait::Follow(None))
    }

    #[test]
    fn waiting_is_asked_in_three_ways() {
        assert_eq!(asked("x --no-wait a"), Wait::No);
        assert_eq!(asked("x --wait a"), Wait::Follow(None));
        assert_eq!(asked("x a --wait=90"), Wait::Follow(Some(Duration::from_secs(90))));
        assert_eq!(asked("x a --wait=2m"), Wait::Follow(Some(Duration::from_secs(120))));
        assert!(Line::try_parse_from(["x", "a", "--wait", "--no-wait"]).is_err());
    }

    #[test]
    fn spans_have_units_and_limits() {
        for bad in ["", "0", "-1", "1d", "m", "1.5h", "99999999999999999999", "400000000"] {
            assert!(bad.parse::<Span>().is_err(), "`{bad}` should be refused");
        }
        assert_eq!("15m".parse::<Span>(), Ok(Span(Duration::from_secs(900))));
    }
}
