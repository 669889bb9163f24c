//! Hosts, enrolment tokens, sites.

use comfy_table::Color;
use hostler_controller::views::{EnrolmentToken, Host, HostState, Revocation, Site};

use crate::cli::output::{Output, cell, colored};

use super::units::{labels, took, when, when_if, word, yes_no};

pub(in crate::cli) fn hosts(out: &Output, hosts: &[Host]) -> String {
    let rows = hosts.iter().map(|host| {
        vec![
            cell(&host.name),
            state(host),
            connected(host),
            cell(host.agent_build.as_deref().unwrap_or("-")),
            cell(when_if(host.last_seen_at)),
            cell(&host.id),
        ]
    });
    out.table(&["NAME", "STATE", "CONNECTED", "AGENT", "LAST SEEN", "ID"], rows.collect())
}

pub(in crate::cli) fn host(out: &Output, host: &Host) -> String {
    let mut pairs = vec![
        ("Name", cell(&host.name)),
        ("Id", cell(&host.id)),
        ("State", state(host)),
        ("Connected", connected(host)),
        ("Last seen", cell(when_if(host.last_seen_at))),
        ("Agent", cell(host.agent_build.as_deref().unwrap_or("-"))),
        ("Certificate until", cell(when(host.certificate_expires_at))),
        ("Renewed", cell(when_if(host.certificate_renewed_at))),
        ("Came back expired", cell(recoveries(host))),
        ("Clock", clock(host)),
        ("Key SHA-256", cell(&host.key_sha256)),
        ("Labels", cell(labels(&host.labels))),
        ("Enrolled", cell(when(host.created_at))),
    ];
    if let Some(at) = host.held_at {
        let what = "revoke it, and enrol each machine anew";
        pairs.push(("Held since", colored(format!("{}: {what}", when(at)), Color::Red)));
    }
    if let Some(at) = host.revoked_at {
        pairs.push(("Revoked", cell(when(at))));
    }
    let facts = host.facts.as_object().map(|facts| {
        facts.iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            vec![cell(name), cell(value)]
        })
    });
    let mut text = out.pairs(pairs);
    if let Some(rows) = facts.map(Iterator::collect::<Vec<_>>).filter(|rows| !rows.is_empty()) {
        text.push_str("\n\n");
        text.push_str(&out.table(&["FACT", "VALUE"], rows));
    }
    text
}

fn state(host: &Host) -> comfy_table::Cell {
    match (host.state, host.revoked_as) {
        (HostState::Enrolled, _) => cell("enrolled"),
        (HostState::Revoked, Some(Revocation::Ban)) => colored("banned", Color::Red),
        (HostState::Revoked, Some(Revocation::Evict)) => colored("evicted", Color::Red),
        (HostState::Revoked, None) => colored("revoked", Color::Red),
    }
}

fn recoveries(host: &Host) -> String {
    match (host.recoveries, host.recovered_at) {
        (0, _) | (_, None) => "never".to_owned(),
        (1, Some(at)) => format!("once, {}", when(at)),
        (times, Some(at)) => format!("{times} times, last {}", when(at)),
    }
}

/// A clock that is further off than this is worth a colour, in milliseconds.
const CLOCK_SKEW_MS_MAX: u64 = 30_000;

fn clock(host: &Host) -> comfy_table::Cell {
    let Some(skew_ms) = host.clock_skew_ms else { return cell("-") };
    if skew_ms.unsigned_abs() < 1000 {
        return cell("within a second of the controller's");
    }
    let way = if skew_ms < 0 { "behind" } else { "ahead" };
    let text = format!("{} {way}", took(skew_ms.unsigned_abs().saturating_mul(1000)));
    if skew_ms.unsigned_abs() > CLOCK_SKEW_MS_MAX { colored(&text, Color::Red) } else { cell(text) }
}

fn connected(host: &Host) -> comfy_table::Cell {
    if host.held_at.is_some() {
        return colored("held: two agents", Color::Red);
    }
    let color = if host.connected { Color::Green } else { Color::Yellow };
    colored(yes_no(host.connected), color)
}

pub(in crate::cli) fn tokens(out: &Output, tokens: &[EnrolmentToken]) -> String {
    let rows = tokens.iter().map(|token| {
        vec![
            cell(&token.id),
            cell(word(&token.state)),
            cell(token.host_name.as_deref().unwrap_or("-")),
            cell(when(token.created_at)),
            cell(when(token.expires_at)),
            cell(token.host_id.as_deref().unwrap_or("-")),
        ]
    });
    out.table(&["ID", "STATE", "HOST NAME", "CREATED", "EXPIRES", "USED BY"], rows.collect())
}

pub(in crate::cli) fn sites(out: &Output, sites: &[Site]) -> String {
    let rows = sites
        .iter()
        .map(|site| vec![cell(&site.name), cell(when(site.created_at)), cell(&site.id)]);
    out.table(&["NAME", "CREATED", "ID"], rows.collect())
}
