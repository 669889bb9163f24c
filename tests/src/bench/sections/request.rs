//! From the HTTP request to the job's end: purge of one URL through real processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::bench::clock::{Watch, wall_secs};
use crate::bench::http::Visitor;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale, cache_files, rivals};
use crate::servers::{Process, SERVER_SECS_MAX, command, wait_for};
use crate::system::{Site, System};

/// Between jobs of the counted runs, so that what follows a job is not counted with the next.
const QUIET: Duration = Duration::from_millis(40);

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let system = System::start()?;
    let site = Site::create(&system.controller, &system.host, "shop")?;
    let switched = site.set_caches(&system.controller, true, false)?;
    if switched["state"] != "succeeded" {
        return Err(format!("the cache could not be switched on: {switched:#}").into());
    }
    let mut bench = Bench::new(&system, &site)?;
    for _ in 0..scale.pick(20, 3) {
        bench.purge()?;
    }

    let syncs = rivals::fsync::append_and_sync(dir, scale.pick(300, 50))?;
    let (mut whole, mut action) = (Vec::new(), Vec::new());
    for _ in 0..scale.pick(300, 20) {
        let purge = bench.purge()?;
        whole.push(purge.secs);
        action.push(purge.action_secs);
    }
    let (whole, action) = (Samples::new(whole), Samples::new(action));
    let after = rivals::fsync::append_and_sync(dir, scale.pick(300, 50))?;
    let sync = f64::midpoint(syncs.p50(), after.p50());

    let counted = bench.count_syncs(dir, scale.pick(20, 5))?;
    let echo = rivals::quic::echo(scale.pick(3_000, 300)).await?;
    let ansible: Res<Vec<f64>> =
        (0..scale.pick(3, 1)).map(|_| bench.purge_by_ansible(dir)).collect();
    let ansible = median(ansible?);

    let mut table = Table::new("Purge of one URL, from the HTTP request to the job's result");
    let floor = counted.on_path * sync;
    let ratio = whole.p50() / floor;
    let ours = format!("p50 {}, p99 {}", time(whole.p50()), time(whole.p99()));
    let against = format!("{:.1} syncs on its path, {} in all", counted.on_path, time(floor));
    table.row(
        Row::new("request sent → result in hand (SQLite)", ours)
            .against(against, times(ratio))
            .aim("≤ 2 × its syncs", ratio <= 2.0),
    );
    table.row(Row::new("the same", time(whole.p50())).against(
        format!("bare QUIC request and answer {}", time(echo.p50())),
        times(whole.p50() / echo.p50()),
    ));
    let faster = ansible / whole.p50();
    table.row(
        Row::new("the same", time(whole.p50()))
            .against(format!("ansible-playbook {}", time(ansible)), times(faster))
            .aim("≥ 100 × faster", faster >= 100.0),
    );
    table.row(Row::new("of which the agent's action", time(action.p50())));
    table.row(Row::new("worst of all", time(whole.worst())));
    table.note(format!(
        "Controller, agent, nginx and PHP-FPM are processes of their own. The client waits with \
         `Prefer: wait`, so its time includes the acceptance (202) and the way back. Syncs were \
         counted with strace in runs of their own: {:.1} by the controller and {:.1} by the agent \
         between request and answer, {:.1} more after the answer. One sync (append 512 B, \
         fdatasync) took {} before and {} after these runs (p50). Ansible ran on this machine, \
         without SSH and without gathering facts, and proves nothing.",
        counted.controller,
        counted.agent,
        counted.later,
        time(syncs.p50()),
        time(after.p50()),
    ));
    Ok(table)
}

struct Bench<'a> {
    system: &'a System,
    site: &'a Site,
    api: Visitor,
    page: usize,
}

struct Purge {
    secs: f64,
    action_secs: f64,
}

/// Syncs to disk per job.
struct Syncs {
    on_path: f64,
    controller: f64,
    agent: f64,
    later: f64,
}

impl<'a> Bench<'a> {
    fn new(system: &'a System, site: &'a Site) -> Res<Self> {
        let port = system.controller.api_port;
        let api = Visitor::connect(([127, 0, 0, 1], port).into(), &format!("127.0.0.1:{port}"))?;
        Ok(Self { system, site, api, page: 0 })
    }

    /// A page that was not used before, in the cache.
    fn cached_page(&mut self) -> Res<String> {
        self.page += 1;
        let page = cache_files::uri(self.page);
        self.site.get(&page)?;
        match self.site.cache_status(&page)?.as_str() {
            "HIT" => Ok(page),
            other => Err(format!("{page} is {other} at its second request").into()),
        }
    }

    /// Purges one page and waits for the job's result.
    fn purge(&mut self) -> Res<Purge> {
        let page = self.cached_page()?;
        let path = format!("/api/environments/{}/cache/purge", self.site.environment);
        let body = json!({ "urls": [self.site.url(&page)] });
        let watch = Watch::start();
        let answer = self.api.send("POST", &path, &[("Prefer", "wait=30")], Some(&body))?;
        let secs = watch.secs();
        let job = answer.json()?;
        let removed = &job["result"]["fastcgi"]["removed"];
        if job["state"] != "succeeded" || *removed != 1 {
            return Err(format!("{page} was not purged: {job:#}").into());
        }
        let steps = job["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let action_us: f64 = steps.iter().filter_map(|step| step["took_us"].as_f64()).sum();
        Ok(Purge { secs, action_secs: action_us / 1e6 })
    }

    fn purge_by_ansible(&mut self, dir: &Path) -> Res<f64> {
        let page = self.cached_page()?;
        let key = cache_files::key(&self.site.domain, &page);
        rivals::ansible::purge_one(&self.site.cache_dir, &key, dir)
    }

    /// Counts the calls of fsync and fdatasync of both programs between requests and answers.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred calls")]
    fn count_syncs(&mut self, dir: &Path, jobs: usize) -> Res<Syncs> {
        let controller = self.system.controller.pid().ok_or("the controller is gone")?;
        let agent = self.system.host.agent().ok_or("the agent is gone")?.pid();
        let (trace, log) = (dir.join("syncs.trace"), dir.join("strace.log"));
        let mut strace = command("strace");
        strace.args(["-f", "-ttt", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace);
        for pid in [controller, agent] {
            strace.arg("-p").arg(pid.to_string());
        }
        let mut strace = Process::start("strace", &mut strace, &log)?;
        wait_for("strace to attach to both programs", SERVER_SECS_MAX, || {
            let told = std::fs::read_to_string(&log).ok()?;
            [controller, agent]
                .iter()
                .all(|pid| told.contains(&format!("Process {pid} attached")))
                .then_some(())
        })?;
        // Threads made later are attached as they come; these two purges make them.
        for _ in 0..2 {
            self.purge()?;
            std::thread::sleep(QUIET);
        }
        let mut spans = Vec::new();
        for _ in 0..jobs {
            let page_ready = wall_secs();
            let purge = self.purge()?;
            let end = wall_secs();
            spans.push(((end - purge.secs).max(page_ready), end));
            std::thread::sleep(QUIET);
        }
        let agents = threads(agent)?;
        strace.signal(Signal::INT);
        strace.stop();

        let first = spans.first().map_or(0.0, |span| span.0);
        let (mut on_controller, mut on_agent, mut later) = (0_usize, 0_usize, 0_usize);
        for (thread, at) in calls(&std::fs::read_to_string(&trace)?) {
            let on_path = spans.iter().any(|(start, end)| (*start..=*end).contains(&at));
            match (at >= first, on_path, agents.contains(&thread)) {
                (true, true, true) => on_agent += 1,
                (true, true, false) => on_controller += 1,
                (true, false, _) => later += 1,
                (false, _, _) => {}
            }
        }
        let each = |count: usize| count as f64 / jobs as f64;
        Ok(Syncs {
            on_path: each(on_controller + on_agent),
            controller: each(on_controller),
            agent: each(on_agent),
            later: each(later),
        })
    }
}

/// The threads of a process.
fn threads(pid: u32) -> Res<BTreeSet<u32>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Thread and start time of each call in a trace; the second half of a call that was cut in two by
/// another thread's is no call of its own.
fn calls(trace: &str) -> Vec<(u32, f64)> {
    let call = |line: &str| {
        let mut words = line.split_whitespace();
        let (thread, at, what) = (words.next()?, words.next()?, words.next()?);
        let begins = what.starts_with("fsync(") || what.starts_with("fdatasync(");
        if begins { Some((thread.parse().ok()?, at.parse().ok()?)) } else { None }
    };
    trace.lines().filter_map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_call_by_call() {
        let trace = "17 100.5 fdatasync(9)                    = 0\n\
                     18 100.6 fsync(3 <unfinished ...>\n\
                     17 100.7 fdatasync(9 <unfinished ...>\n\
                     18 100.8 <... fsync resumed>)             = 0\n\
                     17 100.9 <... fdatasync resumed>)         = 0\n\
                     17 101.0 +++ exited with 0 +++\n";
        assert_eq!(calls(trace), [(17, 100.5), (18, 100.6), (17, 100.7)]);
    }
}
