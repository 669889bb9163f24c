//! `hostler-agent doctor`: looks at everything the agent needs, changes nothing.

use std::process::ExitCode;

use hostler_protocol::{CLOCK_SKEW_SECS_MAX, RETURN_SECS_MAX};
use serde::Serialize;

use super::finding::{Finding, State, bad, good};
use super::{Common, Failure, age_key, doctor_ansible, doctor_docker, exists, runtime, say};
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::{self, Identity, tls};
use crate::journal::{self, FREE_BYTES_MIN, Glance, reserve_bytes};
use crate::net::{self, DialError};
use crate::observe::Facts;
use crate::policy::{POLICY_FILE, Policy};
use crate::session::chain;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// How the answer looks.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
}

pub(super) fn doctor(args: Args) -> Result<ExitCode, Failure> {
    let config = args.common.load()?;
    let findings = runtime()?.block_on(look(&config));
    let ok = findings.iter().all(|finding| finding.state != State::Error);
    let report = Report { ok, findings };
    match args.output {
        Output::Table => say(&table(&report))?,
        Output::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match identity::load(&config.state_dir) {
        Err(error) => findings.push(bad("identity", State::Error, chain(&error), "")),
        Ok(identity) => {
            let card = &identity.card;
            findings.push(good("identity", format!("{} ({})", card.name, card.host)));
            findings.push(certificate(&identity, Clock::system().now_us()));
            let controllers = match config.controllers.is_empty() {
                true => &card.controllers,
                false => &config.controllers,
            };
            for controller in controllers {
                findings.extend(reach(controller, &identity).await);
            }
        }
    }
    findings.push(time_source());
    findings.push(journal(config));
    findings.push(space(config));
    findings.extend(policy(config));
    findings.push(age_key::look(config));
    findings.extend(programs(&Facts::gather()));
    findings.extend(doctor_docker::look(config).await);
    findings.extend(doctor_ansible::look(config).await);
    findings
}

fn certificate(identity: &Identity, now_us: i64) -> Finding {
    const CHECK: &str = "certificate";
    let validity = identity.chain.first().and_then(|leaf| tls::validity_secs(leaf));
    let Some((from, until)) = validity else {
        return bad(CHECK, State::Error, "it cannot be read", "Enrol again with --replace.");
    };
    let now = now_us / 1_000_000;
    let days = (until - now) / 86_400;
    if now < from {
        let message = format!("not valid for another {} s: this host's clock is slow", from - now);
        return bad(CHECK, State::Error, message, "Set the clock, and keep it set by NTP.");
    }
    let returnable = i64::try_from(RETURN_SECS_MAX).unwrap_or(0);
    match until - now {
        left if left < -returnable => {
            let message = format!("it ended {} days ago", -left / 86_400);
            bad(CHECK, State::Error, message, "Enrol again with --replace and a new token.")
        }
        left if left <= 0 => {
            let message = format!("it ended {} h ago", -left / 3600);
            bad(CHECK, State::Warning, message, "The agent comes back by its key when it runs.")
        }
        left if left < 86_400 => {
            bad(CHECK, State::Warning, format!("valid for {} h more", left / 3600), "")
        }
        _ => good(CHECK, format!("valid for {days} days more")),
    }
}

async fn reach(controller: &str, identity: &Identity) -> Vec<Finding> {
    let addresses = match net::resolve(controller).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let hint = "Check the name and this host's resolver.";
            return vec![bad("dns", State::Error, chain(&error), hint)];
        }
    };
    let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut findings = vec![good("dns", format!("{controller} is {}", listed.join(", ")))];
    // Not as this host: a second session of it would end the one that is at work.
    let clock = Clock::system();
    let config = tls::session_config(identity, &clock)
        .and_then(|_| tls::return_config(&identity.root, &clock));
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            findings.push(bad("handshake", State::Error, chain(&error), ""));
            return findings;
        }
    };
    for address in addresses {
        let since_ms = clock.monotonic_ms();
        match net::dial(controller, address, &config).await {
            Ok((endpoint, connection)) => {
                let took_ms = clock.monotonic_ms() - since_ms;
                let message = format!("{address} answered over QUIC in {took_ms} ms");
                findings.push(good("handshake", message));
                findings.extend(compare_clocks(&connection, identity, &clock).await);
                connection.close(hostler_protocol::message::close::DONE.into(), b"doctor");
                net::settle(&endpoint).await;
            }
            Err(error) => findings.push(unreachable(&error)),
        }
    }
    findings
}

fn unreachable(error: &DialError) -> Finding {
    const CHECK: &str = "handshake";
    let ended = error.connection_error();
    if ended.is_some_and(net::is_unknown_there) {
        let message = "the controller is older than this agent: it cannot take back hosts whose \
                       certificate has ended, nor tell its time";
        return bad(CHECK, State::Warning, message, "Upgrade the controller.");
    }
    let hint = if ended.is_some_and(net::is_their_certificate_ended) {
        "This host's clock is more than a day from the controller's: set it."
    } else if matches!(error, DialError::Silent { .. }) {
        "Is the controller up, and does every firewall between let UDP through?"
    } else {
        ""
    };
    bad(CHECK, State::Error, chain(error), hint)
}

/// How far this host's clock is from the controller's, if that tells.
async fn compare_clocks(
    connection: &net::Connection,
    identity: &Identity,
    clock: &Clock,
) -> Option<Finding> {
    const CHECK: &str = "clock";
    let asked_us = clock.now_us();
    let told = identity::controller_clock_us(connection, &identity.card.host).await;
    let answered_us = clock.now_us();
    let theirs_us = match told {
        Ok(theirs_us) => theirs_us,
        Err(error) => {
            let message = format!("the controller does not tell its time: {}", chain(&error));
            return Some(bad(CHECK, State::Warning, message, ""));
        }
    };
    // Its answer was on its way for about half of that time.
    let ours_us = asked_us.midpoint(answered_us);
    let ahead_ms = ours_us.saturating_sub(theirs_us) / 1000;
    let way = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let message = format!("{} ms {way} the controller's", ahead_ms.unsigned_abs());
    let is_far = ahead_ms.unsigned_abs() > CLOCK_SKEW_SECS_MAX * 1000;
    Some(match is_far {
        true => bad(CHECK, State::Warning, message, "Set the clock, and keep it set by NTP."),
        false => good(CHECK, message),
    })
}

fn time_source() -> Finding {
    let marks = ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"];
    match marks.iter().find(|mark| exists(mark.as_ref())) {
        Some(mark) => good("clock", format!("kept by a time service ({mark})")),
        None => bad(
            "clock",
            State::Warning,
            "no time service was found on this host",
            "Certificates need a clock that is right; run systemd-timesyncd or chrony.",
        ),
    }
}

fn journal(config: &Config) -> Finding {
    const CHECK: &str = "journal";
    match journal::glance(&config.state_dir) {
        Ok(Glance::Missing) => good(CHECK, "none yet"),
        Ok(Glance::InUse) => good(CHECK, "in use by a running agent"),
        Ok(Glance::Unclosed) => {
            bad(CHECK, State::Warning, "it was not closed; the next start repairs it", "")
        }
        Ok(Glance::Whole { unfinished, unacknowledged }) => {
            let message = format!("{unfinished} unfinished, {unacknowledged} unacknowledged");
            good(CHECK, message)
        }
        Err(error) => bad(CHECK, State::Error, chain(&error), ""),
    }
}

fn space(config: &Config) -> Finding {
    const CHECK: &str = "space";
    let directory = match exists(&config.state_dir) {
        true => config.state_dir.as_path(),
        false => config.state_dir.parent().unwrap_or(std::path::Path::new("/")),
    };
    let mib = |bytes: u64| bytes / (1024 * 1024);
    match journal::disk_bytes(directory) {
        Ok((free, _)) if free < FREE_BYTES_MIN + reserve_bytes(config.jobs_max) => bad(
            CHECK,
            State::Error,
            format!("{} MiB free for {}", mib(free), directory.display()),
            "The agent refuses new jobs until there is room.",
        ),
        Ok((free, total)) => good(
            CHECK,
            format!("{} of {} MiB free for {}", mib(free), mib(total), directory.display()),
        ),
        Err(error) => bad(CHECK, State::Error, error.to_string(), ""),
    }
}

fn policy(config: &Config) -> Vec<Finding> {
    let policy = match Policy::load(config.policy.as_deref()) {
        Ok(policy) => policy,
        Err(error) => return vec![bad("policy", State::Error, chain(&error), "")],
    };
    let (there, missing): (Vec<_>, Vec<_>) = policy.roots.iter().partition(|root| exists(root));
    let list = |roots: Vec<&std::path::PathBuf>| {
        roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut findings = Vec::new();
    match there.is_empty() {
        true => {
            findings.push(bad("policy", State::Error, "no root exists", "Jobs can touch nothing."))
        }
        false => {
            let roots = list(there);
            findings.push(good("policy", format!("{}; roots: {roots}", policy_source(config))));
        }
    }
    // Missing defaults are normal; roots somebody wrote down should be there.
    let written = config.policy.is_some() || exists(POLICY_FILE.as_ref());
    if written && !missing.is_empty() {
        let message = format!("roots that do not exist: {}", list(missing));
        findings.push(bad("policy", State::Warning, message, ""));
    }
    findings
}

/// Which policy holds: an operator who wrote one must see that it is read.
fn policy_source(config: &Config) -> String {
    match &config.policy {
        Some(path) => path.display().to_string(),
        None if exists(POLICY_FILE.as_ref()) => POLICY_FILE.to_owned(),
        None => format!("the built-in one ({POLICY_FILE} does not exist)"),
    }
}

fn programs(facts: &Facts) -> Vec<Finding> {
    ["nginx", "redis-server"]
        .into_iter()
        .map(|name| match facts.programs.iter().find(|program| program.name == name) {
            Some(program) => good("programs", format!("{name}: {}", program.path)),
            None => bad(
                "programs",
                State::Warning,
                format!("{name} was not found in its usual places"),
                "",
            ),
        })
        .collect()
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Error => "ERROR",
        };
        text.push_str(&format!("{state:<8} {:<12} {}\n", finding.check, finding.message));
        if let Some(hint) = finding.hint {
            text.push_str(&format!("{:<21} {hint}\n", ""));
        }
    }
    text.push_str(if report.ok { "all is well\n" } else { "something is wrong\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_that_holds_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        std::fs::write(&file, format!("roots = [{:?}]\n", dir.path())).unwrap();
        let config = Config { policy: Some(file.clone()), ..Config::default() };
        let findings = policy(&config);
        let told = &findings[0].message;
        assert!(told.starts_with(file.to_str().unwrap()) && findings.len() == 1, "{told}");
    }

    #[test]
    fn a_host_that_is_not_enrolled_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let findings = runtime.block_on(look(&config));
        let identity = findings.iter().find(|finding| finding.check == "identity").unwrap();
        assert_eq!(identity.state, State::Error);
        let text = table(&Report { ok: false, findings });
        assert!(text.contains("hostler-agent enroll") && text.ends_with("something is wrong\n"));
        // What it has left there keeps nobody from doing so.
        crate::identity::prepare_state_dir(dir.path()).unwrap();
    }
}
