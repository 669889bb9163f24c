//! A thousand hosts at once: a batch to all of them, and their return after the controller was
//! killed in the middle of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, time};
use crate::bench::{Res, Scale};
use crate::servers::{Process, command, wait_for};
use crate::system::Controller;

/// How long the fleet may take to enrol, connect or answer.
const FLEET_SECS_MAX: u64 = 240;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Rows of a page.
const PAGE: usize = 200;

pub(super) fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let hosts = scale.pick(1_000, 40);
    let mut table = Table::new(format!("A fleet of {hosts} hosts"));
    let mut controller = Controller::start(None)?;
    let fleet = Fleet::start(&controller, dir, hosts)?;
    fan_out(&mut table, &controller, hosts, scale)?;
    recovery(&mut table, &mut controller, &fleet, hosts)?;
    table.note(
        "The hosts are simulated, all in one process beside the controller on the same two \
         processors: QUIC, TLS and messages are real, and so is the work of the controller; each \
         job takes up to 200 ms and touches nothing. Hosts back off as the real agent does. The \
         controller has its embedded database.",
    );
    Ok(table)
}

struct Fleet {
    begun: PathBuf,
    _process: Process,
}

impl Fleet {
    /// Hosts with an environment each, all connected.
    fn start(controller: &Controller, dir: &Path, hosts: usize) -> Res<Self> {
        let name = |number: usize| format!("host-{number}.test");
        let joins: Vec<String> = (0..hosts)
            .map(|number| controller.join_string(&name(number)))
            .collect::<Result<_, _>>()?;
        let (joins_file, log) = (dir.join("joins"), dir.join("fleet.log"));
        let begun = dir.join("begun");
        std::fs::write(&joins_file, joins.join("\n"))?;
        let mut start = command(std::env::current_exe()?);
        start.arg("fleet").arg(&joins_file).arg(&begun);
        let mut process = Process::start("the fleet", &mut start, &log)?;
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        let done = format!("{hosts} connected");
        let ready = wait_for("the fleet to connect", FLEET_SECS_MAX, || {
            if !process.is_running() {
                return Some(false);
            }
            told().contains(&done).then_some(true)
        });
        if !ready? {
            return Err(format!("the fleet ended: {}", told()).into());
        }
        let site = json!({ "name": "fleet" });
        let site = controller.call("POST", "/api/sites", Some(&site))?.expect(201)?;
        let path = format!("/api/sites/{}/environments", site["id"].as_str().unwrap_or_default());
        for number in 0..hosts {
            let environment = json!({
                "name": format!("e{number}"), "host": name(number), "kind": "php",
                "domain": format!("e{number}.test"), "docroot": "/srv/www", "user": "www-data",
                "fastcgi": {},
            });
            controller.call("POST", &path, Some(&environment))?.expect(201)?;
        }
        Ok(Self { begun, _process: process })
    }

    /// What was begun: host, job and attempt; each line once.
    fn begun(&self) -> Res<(usize, usize)> {
        let text = std::fs::read_to_string(&self.begun)?;
        let lines: Vec<&str> = text.lines().collect();
        let different: BTreeSet<&str> = lines.iter().copied().collect();
        Ok((lines.len(), different.len()))
    }
}

fn make(controller: &Controller) -> Res<String> {
    let body = json!({
        "action": { "type": "env_check" }, "targets": { "all": true }, "concurrency": 1000,
    });
    let made = controller.call("POST", "/api/batches", Some(&body))?.expect(202)?;
    Ok(made["batch_id"].as_str().unwrap_or_default().to_owned())
}

/// Waits for a batch's end; seconds since `watch` began.
fn ended(controller: &Controller, id: &str, watch: &Watch) -> Res<(f64, Value)> {
    loop {
        if let Ok(reply) = controller.call("GET", &format!("/api/batches/{id}"), None) {
            let batch = reply.expect(200)?;
            if batch["state"] != "running" {
                return Ok((watch.secs(), batch));
            }
            if watch.secs() > FLEET_SECS_MAX as f64 {
                return Err(format!("the batch does not end: {:#}", batch["counts"]).into());
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Seconds from the making of each job to its end.
fn answers(controller: &Controller, id: &str) -> Res<Vec<f64>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/jobs?batch={id}&limit={PAGE}{after}");
        let page = controller.call("GET", &path, None)?.expect(200)?;
        for job in page["items"].as_array().into_iter().flatten() {
            let at = |field: &str| seconds(job[field].as_str().unwrap_or_default());
            all.push(at("finished_at")? - at("created_at")?);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(all),
        }
    }
}

fn seconds(text: &str) -> Res<f64> {
    let format = &time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(text, format)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a minute matter, not of an era"
    )]
    Ok(at.unix_timestamp_nanos() as f64 / 1e9)
}

/// Datagrams the system dropped at a UDP port because its receive buffer was full.
fn dropped(port: u16) -> Res<u64> {
    let text = std::fs::read_to_string("/proc/net/udp")?;
    let wanted = format!(":{port:04X}");
    let line = text
        .lines()
        .find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&wanted)));
    let last = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    last.ok_or_else(|| format!("no UDP port {port} in /proc/net/udp").into())
}

fn fan_out(table: &mut Table, controller: &Controller, hosts: usize, scale: Scale) -> Res<()> {
    let before = dropped(controller.agent_port)?;
    let (mut last, mut each) = (Vec::new(), Vec::new());
    for _ in 0..scale.pick(20, 3) {
        let watch = Watch::start();
        let id = make(controller)?;
        let (secs, batch) = ended(controller, &id, &watch)?;
        if batch["counts"]["succeeded"] != hosts {
            return Err(format!("not everybody answered: {:#}", batch["counts"]).into());
        }
        last.push(secs);
        each.extend(answers(controller, &id)?);
    }
    let runs = last.len();
    let (last, each) = (Samples::new(last), Samples::new(each));
    table.row(Row::new(
        format!("a batch to {hosts} hosts, last answer, {runs} runs"),
        format!("p50 {}, p99 {}", time(last.p50()), time(last.p99())),
    ));
    table.row(Row::new(
        "the same, one job from queued to ended",
        format!("p50 {}, p99 {}", time(each.p50()), time(each.p99())),
    ));
    let lost = dropped(controller.agent_port)? - before;
    table.row(
        Row::new("UDP datagrams dropped by the receive buffer", lost.to_string())
            .aim("0", lost == 0),
    );
    Ok(())
}

fn recovery(
    table: &mut Table,
    controller: &mut Controller,
    fleet: &Fleet,
    hosts: usize,
) -> Res<()> {
    let (_, before) = fleet.begun()?;
    let id = make(controller)?;
    // In the middle: some have answered, some have not been asked.
    wait_for("a part of the fleet to have answered", FLEET_SECS_MAX, || {
        let reply = controller.call("GET", &format!("/api/batches/{id}"), None).ok()?;
        let batch = reply.expect(200).ok()?;
        (batch["counts"]["succeeded"].as_u64()? >= hosts as u64 / 10).then_some(())
    })?;
    controller.kill();
    let watch = Watch::start();
    controller.run()?;
    let up = watch.secs();
    let back = wait_for("every host to be back", FLEET_SECS_MAX, || {
        let metrics = crate::system::request(controller.metrics_port, "GET", "/metrics", &[], None);
        let text = metrics.ok()?.text;
        let line = text.lines().find_map(|line| line.strip_prefix("hostler_sessions "))?;
        let sessions: f64 = line.trim().parse().ok()?;
        (sessions >= hosts as f64).then(|| watch.secs())
    })?;
    let (secs, batch) = ended(controller, &id, &watch)?;
    let (lines, different) = fleet.begun()?;
    let lost = hosts as u64 - batch["counts"]["succeeded"].as_u64().unwrap_or(0);
    let doubled = lines - different;
    table.row(Row::new("controller killed in the middle: it serves again after", time(up)));
    table.row(Row::new(format!("… all {hosts} hosts are back after"), time(back)));
    table.row(
        Row::new(
            "… every job of the batch has ended after",
            format!("{}; lost {lost}, begun twice {doubled}", time(secs)),
        )
        .aim("lost 0, begun twice 0", lost == 0 && doubled == 0 && different - before >= hosts),
    );
    Ok(())
}
