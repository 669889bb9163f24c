//! A controller and its stacks: what it weighs, how soon it knows of a push, and how it answers in
//! the midst of all that.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::bench::clock::Watch;
use crate::bench::http::Visitor;
use crate::bench::process::{cpu_secs_of, status_kb};
use crate::bench::report::{Row, Table};
use crate::bench::rivals::git::GitCli;
use crate::bench::settled::settle;
use crate::bench::stacks::Stacks;
use crate::bench::stats::{Samples, mb, time, times};
use crate::bench::{Res, Scale};
use crate::servers::git::GitServer;
use crate::servers::wait_for;
use crate::system::{Controller, WEBHOOK_SECRET, push_headers, webhook_signature};

/// Aims: from a webhook to the snapshot, and to its answer.
const SNAPSHOT_SECS_MAX: f64 = 1.0;
const ANSWER_SECS_MAX: f64 = 0.050;
/// How long a look at the repository may take.
const LOOK_SECS_MAX: u64 = 120;
/// Between two questions whether a push has been read.
const ASK_AGAIN: Duration = Duration::from_millis(2);
/// Who sends webhooks at once.
const CLIENTS: usize = 4;
/// Between two commits meanwhile.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// Commits a push tells of, as they come when work of a day is merged.
const COMMITS: usize = 20;
/// Once in so many pushes the script runs, too.
const SCRIPT_EVERY: usize = 4;

pub(super) fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let sizes: &[usize] = if scale.quick { &[50, 200] } else { &[200, 2_000, 10_000] };
    // Webhooks are sent in numbers to the second; the last and largest is asked for its stacks.
    let (middle, largest) = (sizes[1], sizes[sizes.len() - 1]);
    let server = GitServer::https(None)?;
    let mut table = Table::new("A controller and its stacks: webhooks, answers, memory");
    for count in sizes {
        let stacks = Stacks::create(&server, *count)?;
        let dir = dir.join(count.to_string());
        let mut running = Running::start(&mut table, &server, stacks, dir, scale)?;
        running.settle()?;
        if *count == largest {
            running.reads(&mut table)?;
            running.rest(&mut table)?;
        }
        running.pushes(&mut table, &server)?;
        if *count == middle {
            running.answers(&mut table)?;
        }
        running.memory(&mut table, "controller, resident after all this")?;
    }
    table.note(
        "The controller is a process of its own with its embedded database, the git server nginx with \
         `git http-backend`, over HTTPS. After the first snapshot every stack is noted as synced, with \
         its containers, on one of 20 hosts that are away, and the controller is started again. The \
         snapshot is there when `GET /api/refresh-status`, asked every 2 ms, names the commit that was \
         pushed just before the webhook. The script is `git fetch --depth 1`, `git ls-tree -r`, `git \
         archive` and `sha256sum` for the same commits.",
    );
    table.note(format!(
        "Webhooks are GitHub's, signed, each with an id of its own and {COMMITS} commits. {CLIENTS} \
         clients send the next one as soon as the last is answered, while the repository gets about \
         ten commits a second. The list is all of them. Nothing is asked and the repository is \
         not polled while the controller is idle: what it uses are its loops."
    ));
    if cfg!(debug_assertions) {
        table.note("**A debug build: times say nothing.**");
    }
    Ok(table)
}

/// A controller over one repository.
struct Running {
    controller: Controller,
    stacks: Stacks,
    dir: PathBuf,
    scale: Scale,
}

impl Running {
    /// From its start to the first snapshot, and what it weighs then.
    fn start(
        table: &mut Table,
        server: &GitServer,
        stacks: Stacks,
        dir: PathBuf,
        scale: Scale,
    ) -> Res<Self> {
        let settings = server.settings(&stacks.name, "main")?;
        let ca = settings.ca_file.ok_or("the repository has no CA")?;
        let (url, ca) = (settings.url.to_string(), ca.to_string_lossy().into_owned());
        let mut controller = Controller::new(None)?;
        for (name, value) in [
            ("HOSTLER_GIT_URL", url.as_str()),
            ("HOSTLER_GIT_REF", "main"),
            ("HOSTLER_GIT_CA_FILE", &ca),
            ("HOSTLER_GIT_POLL_INTERVAL", "off"),
            ("HOSTLER_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ] {
            controller.set_variable(name, value);
        }
        let running = Self { controller, stacks, dir, scale };
        running.first_snapshot(table)
    }

    fn first_snapshot(mut self, table: &mut Table) -> Res<Self> {
        let watch = Watch::start();
        self.controller.run()?;
        let status = wait_for("the first snapshot", LOOK_SECS_MAX, || {
            let reply = self.controller.call("GET", "/api/refresh-status", None).ok()?;
            Some(reply.json()).filter(|status| !status["outcome"].is_null())
        })?;
        let secs = watch.secs();
        if status["outcome"] != "completed" {
            return Err(format!("the controller's refresh failed: {status}").into());
        }
        table.row(Row::new(self.what("controller, start to first snapshot"), time(secs)));
        self.memory(table, "controller, resident then")?;
        Ok(self)
    }

    fn what(&self, what: &str) -> String {
        format!("{} stacks: {what}", self.stacks.count)
    }

    fn pid(&self) -> Res<u32> {
        self.controller.pid().ok_or_else(|| "the controller is gone".into())
    }

    fn visitor(&self) -> Res<Visitor> {
        let port = self.controller.api_port;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Visitor::connect(address, &format!("127.0.0.1:{port}"))
    }

    fn memory(&self, table: &mut Table, what: &str) -> Res<()> {
        let figure = |field| Res::Ok(mb(status_kb(self.pid()?, field)?));
        let (all, own, most) = (figure("VmRSS")?, figure("RssAnon")?, figure("VmHWM")?);
        let figures = format!("{all} ({own} its own), {most} at most");
        table.row(Row::new(self.what(what), figures));
        Ok(())
    }

    /// Starts it again with every stack synced, and has it look once.
    fn settle(&mut self) -> Res<()> {
        self.controller.stop();
        let database = self.controller.data_dir().join("hostler.db");
        let settled = Handle::current().block_on(settle(&database))?;
        self.controller.run()?;
        let mut visitor = self.visitor()?;
        let asked = visitor.send("POST", "/api/refresh", &[], None)?.json()?;
        let look = format!("/api/refreshes/{}", asked["id"].as_str().unwrap_or_default());
        let looked = wait_for("a look with nothing new", LOOK_SECS_MAX, || {
            let look = visitor.get(&look).ok()?.json().ok()?;
            Some(look).filter(|look| !look["finished_at"].is_null())
        })?;
        let behind = visitor.get("/api/stacks?limit=1&out_of_sync=true")?.json()?;
        let nothing_behind = behind["items"].as_array().is_some_and(Vec::is_empty);
        if looked["status"] != "completed" || settled != self.stacks.count || !nothing_behind {
            return Err(format!("{settled} stacks are noted as synced: {looked} {behind}").into());
        }
        Ok(())
    }

    /// How soon after a webhook the snapshot is the commit it told of.
    fn pushes(&mut self, table: &mut Table, server: &GitServer) -> Res<()> {
        let rounds = if self.stacks.count > 2_000 { 20 } else { 40 };
        let settings = server.settings(&self.stacks.name, "main")?;
        let script = GitCli::new(&self.dir.join("script"), &settings)?;
        script.empty()?;
        script.fetch_and_hash()?;
        let (mut ours, mut theirs, mut visitor) = (Vec::new(), Vec::new(), self.visitor()?);
        for round in 0..self.scale.pick(rounds, 3) {
            let revision = self.stacks.change_one()?;
            let delivery = Delivery::of(&revision, &revision);
            let watch = Watch::start();
            delivery.send(&mut visitor)?;
            while visitor.get("/api/refresh-status")?.json()?["revision"] != revision {
                if watch.elapsed().as_secs() > LOOK_SECS_MAX {
                    return Err(format!("{revision} was never read").into());
                }
                std::thread::sleep(ASK_AGAIN);
            }
            ours.push(watch.secs());
            if round % SCRIPT_EVERY == 0 {
                theirs.push(script.fetch_and_hash()?.0);
            }
        }
        let (ours, theirs) = (Samples::new(ours), Samples::new(theirs));
        let row = Row::new(self.what("webhook to snapshot"), spread(&ours))
            .against(format!("script p50 {}", time(theirs.p50())), times(theirs.p50() / ours.p50()))
            .aim("p95 < 1 s", ours.p95() < SNAPSHOT_SECS_MAX);
        table.row(row);
        Ok(())
    }

    /// How soon webhooks are answered while looks are under way.
    fn answers(&mut self, table: &mut Table) -> Res<()> {
        let each = self.scale.pick(250, 10);
        let alone = Samples::new(deliver(self.visitor()?, "alone", each)?);
        let what = self.what("a webhook answered, one after the other");
        table.row(met(Row::new(what, spread(&alone)), &alone));
        let before = self.looks()?;
        let visitors: Vec<Visitor> =
            (0..CLIENTS).map(|_| self.visitor()).collect::<Result<_, _>>()?;
        let watch = Watch::start();
        let took = std::thread::scope(|scope| -> Res<Vec<f64>> {
            let clients: Vec<_> = visitors
                .into_iter()
                .enumerate()
                .map(|(n, visitor)| scope.spawn(move || deliver(visitor, &n.to_string(), each)))
                .collect();
            while !clients.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                self.stacks.change_one()?;
                std::thread::sleep(COMMIT_EVERY);
            }
            let mut all = Vec::new();
            for client in clients {
                all.extend(client.join().map_err(|_| "a client panicked")??);
            }
            Ok(all)
        })?;
        let secs = watch.secs();
        let (took, looks) = (Samples::new(took), self.looks()? - before);
        let what = self.what(&format!("the same, {CLIENTS} clients at once"));
        table.row(met(Row::new(what, spread(&took)), &took));
        table.note(self.what(&format!(
            "{} webhooks from {CLIENTS} clients in {}, and {looks} looks at the repository completed \
             meanwhile",
            took.count(),
            time(secs)
        )));
        Ok(())
    }

    /// Looks that webhooks asked for and that completed.
    fn looks(&self) -> Res<u64> {
        let metrics = self.controller.metrics_port;
        let reply = crate::system::request(metrics, "GET", "/metrics", &[], None)?;
        let lines = reply.text.lines().filter(|line| {
            line.starts_with("hostler_refresh_total{")
                && line.contains("trigger=\"webhook\"")
                && line.contains("outcome=\"completed\"")
        });
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<u64>());
        Ok(counts.sum::<Result<_, _>>()?)
    }

    /// How soon it says what it knows.
    fn reads(&self, table: &mut Table) -> Res<()> {
        let mut visitor = self.visitor()?;
        let list = visitor.get("/api/stacks")?.json()?;
        let id = list["items"][0]["id"].as_str().ok_or("the list is empty")?;
        for (what, uri) in [
            ("GET /api/stacks", "/api/stacks".to_owned()),
            ("GET /api/stacks/{id}", format!("/api/stacks/{id}")),
        ] {
            let mut took = Vec::new();
            for _ in 0..self.scale.pick(60, 5) {
                let watch = Watch::start();
                visitor.get(&uri)?.json()?;
                took.push(watch.secs());
            }
            table.row(Row::new(self.what(what), spread(&Samples::new(took))));
        }
        Ok(())
    }

    /// What it uses when nobody wants anything.
    fn rest(&self, table: &mut Table) -> Res<()> {
        let (pid, rest) = (self.pid()?, Duration::from_secs(self.scale.pick(10, 6) as u64));
        let (before, watch) = (cpu_secs_of(pid)?.0, Watch::start());
        std::thread::sleep(rest);
        let (used, secs) = (cpu_secs_of(pid)?.0 - before, watch.secs());
        let what = self.what(&format!("controller, processor time in {} at rest", time(secs)));
        let share = format!("{:.1} % of one processor", 100.0 * used / secs);
        let figures =
            if used > 0.0 { format!("{}, {share}", time(used)) } else { "< 10 ms".into() };
        table.row(Row::new(what, figures));
        Ok(())
    }
}

fn spread(samples: &Samples) -> String {
    let [p50, p95, worst] = [samples.p50(), samples.p95(), samples.worst()].map(time);
    format!("p50 {p50}, p95 {p95}, worst {worst}")
}

fn met(row: Row, samples: &Samples) -> Row {
    row.aim("p95 ≤ 50 ms", samples.p95() <= ANSWER_SECS_MAX)
}

/// Sends so many webhooks one after the other: how long each took to be answered.
fn deliver(mut visitor: Visitor, sender: &str, count: usize) -> Res<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    for number in 0..count {
        let delivery = Delivery::of(&format!("{sender}-{number}"), &"1".repeat(40));
        let watch = Watch::start();
        delivery.send(&mut visitor)?;
        took.push(watch.secs());
    }
    Ok(took)
}

/// A push as GitHub tells it.
struct Delivery {
    id: String,
    body: Value,
    signature: String,
}

impl Delivery {
    fn of(id: &str, revision: &str) -> Self {
        let commits: Vec<Value> = (0..COMMITS)
            .map(|number| {
                json!({
                    "id": format!("{number:040x}"),
                    "message": format!("Change stack {number}\n\n{}", "It needs more room. ".repeat(5)),
                    "timestamp": "2024-02-29T12:00:00+01:00",
                    "author": { "name": "Ada", "email": "ada@example.test", "username": "ada" },
                    "added": [],
                    "removed": [],
                    "modified": [format!("group-000/stack-{number:05}/docker-compose.yml")],
                })
            })
            .collect();
        let body = json!({
            "ref": "refs/heads/main", "before": "0".repeat(40), "after": revision,
            "deleted": false, "commits": commits,
        });
        let signature = webhook_signature(WEBHOOK_SECRET, body.to_string().as_bytes());
        Self { id: id.to_owned(), body, signature }
    }

    fn send(&self, visitor: &mut Visitor) -> Res<()> {
        let headers = push_headers(&self.id, &self.signature);
        let answer = visitor.send("POST", "/api/webhook", &headers, Some(&self.body))?;
        if answer.status == 202 {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&answer.body);
        Err(format!("a webhook got {}: {told}", answer.status).into())
    }
}
