//! From a push to what runs: agents with a Docker Engine each, beside a script with git and compose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bench::clock::{Watch, wall_secs};
use crate::bench::process::status_kb;
use crate::bench::report::{Row, Table};
use crate::bench::rivals::compose::{ComposeCli, up_everywhere};
use crate::bench::stats::{Samples, mb, time, times};
use crate::bench::{Res, Scale};
use crate::servers::docker::{DockerServer, SLEEPER};
use crate::servers::git::Change;
use crate::system::{StackHost, StackSystem};

/// Agents, and in a quick run.
const AGENTS: (usize, usize) = (20, 2);
/// Engines that are started at the same time.
const ENGINES_AT_ONCE: usize = 4;
/// Containers on the first host while its agent is weighed.
const WATCHED: usize = 20;
const AGENT_KB_MAX: u64 = 12 * 1024;
/// As long as in the section about memory.
const SETTLE: Duration = Duration::from_secs(3);
/// The stack on the first host, the one on every host, and the one of many services.
const ONE: &str = "one";
const ALL: &str = "all";
const MANY: &str = "many";

pub(super) fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let agents = scale.pick(AGENTS.0, AGENTS.1);
    let mut table = Table::new("From a push to what runs");
    let watch = Watch::start();
    let mut pushing = Pushing::start(dir, agents)?;
    let ready = watch.secs();
    pushing.weigh(&mut table)?;
    pushing.compare(&mut table, ONE, 1, scale.pick(8, 2))?;
    pushing.compare(&mut table, ALL, agents, scale.pick(3, 1))?;
    let row = Row::new("agent, resident after all this", memory(&pushing.system.hosts[0])?.0);
    table.row(row);
    table.note(format!(
        "Each agent has a Docker Engine of its own, in network, process and mount namespaces of its \
         own on this machine; {agents} of them, their agents and the first sync of everything were \
         there after {}. A push changes a variable of the one service of a stack, so that its \
         container is made anew; it is timed from the webhook until the controller says that every \
         host has confirmed it. Controller and script read the same repository from the disk.",
        time(ready)
    ));
    table.note(
        "The script is `git fetch --depth 1`, `git reset --hard` and `docker compose up --detach` for \
         the same commit on the same engines, on every host at once and begun at once, in a project \
         of its own; it ends when the container is started and proves nothing. An agent watches a \
         container without a health check for 2 s before it says that it is well: that is in the \
         first figure, and not in the second, which is taken from the time Docker says the new \
         container was started at.",
    );
    if cfg!(debug_assertions) {
        table.note("**A debug build: times and sizes say nothing.**");
    }
    Ok(table)
}

struct Pushing {
    system: StackSystem,
    /// One for each host.
    scripts: Vec<ComposeCli>,
    round: usize,
}

/// What one push took, in seconds.
struct Took {
    applied: f64,
    running: f64,
    script: f64,
}

impl Pushing {
    /// Everything, with every stack synced and brought up by the script once.
    fn start(dir: &Path, agents: usize) -> Res<Self> {
        let engines = engines(agents)?;
        let many: Vec<String> = (1..=WATCHED).map(|number| format!("app{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let files = [(ONE, compose(&["app"], 1, 0)), (ALL, compose(&["app"], agents, 0))]
            .into_iter()
            .chain([(MANY, compose(&many, 1, 0))])
            .map(|(stack, text)| (compose_file(stack), text));
        let files: Vec<(String, String)> = files.collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let system = StackSystem::start(None, engines, &files)?;
        let url = system.git.url("config");
        let scripts = system
            .hosts
            .iter()
            .map(|host| ComposeCli::new(&dir.join(&host.name), Arc::clone(&host.engine), &url))
            .collect::<Res<Vec<_>>>()?;
        let head = system.work.git(&["rev-parse", "HEAD"])?;
        for stack in [ONE, ALL, MANY] {
            system.wait_synced(stack, &head)?;
        }
        up_everywhere(&scripts[..1], ONE)?;
        up_everywhere(&scripts, ALL)?;
        Ok(Self { system, scripts, round: 0 })
    }

    /// The memory of an agent that watches many containers and has done nothing else yet. That it
    /// watches is seen by one that is stopped while nobody looks, and started again.
    fn weigh(&mut self, table: &mut Table) -> Res<()> {
        let host = &mut self.system.hosts[0];
        let containers = host.containers(MANY)?;
        let (service, id) = containers.first().ok_or("nothing is there to be watched")?;
        if containers.len() != WATCHED {
            return Err(format!("{MANY} has {} containers", containers.len()).into());
        }
        host.stop_agent();
        host.engine.docker(&["stop", id])?;
        host.run_agent()?;
        self.see(service, "exited")?;
        self.system.hosts[0].engine.docker(&["start", id])?;
        self.see(service, "running")?;
        std::thread::sleep(SETTLE);
        let (figures, all_kb) = memory(&self.system.hosts[0])?;
        // Those of the other stacks are watched, too.
        table.row(
            Row::new(format!("agent, resident, {WATCHED} containers watched"), figures)
                .aim("≤ 12 MB", all_kb <= AGENT_KB_MAX),
        );
        Ok(())
    }

    /// Waits until the agent has said that a service's container is so.
    fn see(&self, service: &str, state: &str) -> Res<()> {
        self.system.wait_stack(MANY, &format!("seen with {service} {state}"), |stack| {
            let shown = stack.and_then(|stack| stack["on"][0]["containers"].as_array());
            let own = shown.into_iter().flatten().find(|one| one["service"] == service);
            own.is_some_and(|own| own["state"] == state)
        })?;
        Ok(())
    }

    fn compare(&mut self, table: &mut Table, stack: &str, agents: usize, rounds: usize) -> Res<()> {
        let took = (0..rounds).map(|_| self.push(stack, agents)).collect::<Res<Vec<_>>>()?;
        let of = |which: fn(&Took) -> f64| Samples::new(took.iter().map(which).collect());
        let script = of(|took| took.script);
        let on = if agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") };
        for (what, ours) in [
            (format!("push → applied on {on}, and watched"), of(|took| took.applied)),
            (format!("push → the new container runs, {on}"), of(|took| took.running)),
        ] {
            let figures = format!("p50 {}, worst {}", time(ours.p50()), time(ours.worst()));
            let ratio = times(script.p50() / ours.p50());
            let against = format!("script p50 {}", time(script.p50()));
            table.row(Row::new(what, figures).against(against, ratio));
        }
        Ok(())
    }

    /// Pushes a change of a stack, waits until it is applied, and has the script do the same.
    fn push(&mut self, stack: &str, agents: usize) -> Res<Took> {
        self.round += 1;
        let text = compose(&["app"], agents, self.round);
        self.system.work.set(compose_file(stack), Change::File(text.as_bytes()))?;
        let revision = self.system.work.commit(&format!("Change {stack}"))?;
        self.system.work.push("refs/heads/main")?;
        let body = json!({ "ref": "refs/heads/main", "after": revision, "deleted": false });
        let (watch, began) = (Watch::start(), wall_secs());
        self.system.webhook(&revision, &body)?.expect(202)?;
        self.system.wait_synced(stack, &revision)?;
        let applied = watch.secs();
        let mut running: f64 = 0.0;
        for host in &self.system.hosts[..agents] {
            running = running.max(started_secs(host, stack)? - began);
        }
        if running <= 0.0 {
            return Err(format!("a container of {stack} is older than the push").into());
        }
        let script = up_everywhere(&self.scripts[..agents], stack)?;
        Ok(Took { applied, running, script })
    }
}

/// Engines of their own with the one image that is needed.
fn engines(count: usize) -> Res<Vec<Arc<DockerServer>>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let more = (count - all.len()).min(ENGINES_AT_ONCE);
        let started = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..more).map(|_| scope.spawn(|| DockerServer::start_with(&[SLEEPER]))).collect();
            threads
                .into_iter()
                .map(|thread| Ok(thread.join().map_err(|_| "an engine's start panicked")??))
                .collect::<Res<Vec<_>>>()
        })?;
        all.extend(started.into_iter().map(Arc::new));
    }
    Ok(all)
}

fn compose_file(stack: &str) -> String {
    format!("{stack}/docker-compose.yml")
}

/// These services, on so many of the hosts; another round is another variable.
fn compose(services: &[&str], agents: usize, round: usize) -> String {
    let hosts: Vec<String> = (1..=agents).map(|number| format!("web{number}")).collect();
    let mut text = format!("x-hostler:\n  hosts: [{}]\nservices:\n", hosts.join(", "));
    for service in services {
        text.push_str(&format!(
            "  {service}:\n    image: {SLEEPER}\n    environment:\n      ROUND: \"{round}\"\n"
        ));
    }
    text
}

/// When the container of a stack was started, in seconds since the Unix epoch.
fn started_secs(host: &StackHost, stack: &str) -> Res<f64> {
    let containers = host.containers(stack)?;
    let [(_, id)] = containers.as_slice() else {
        return Err(format!("{} has other containers of {stack}: {containers:?}", host.name).into());
    };
    let answer = host.engine.api("GET", &format!("/containers/{id}/json"), None)?;
    let container: Value = serde_json::from_str(&answer.body)?;
    let at = container["State"]["StartedAt"].as_str().ok_or("a container was never started")?;
    let nanos = OffsetDateTime::parse(at, &Rfc3339)?.unix_timestamp_nanos();
    #[expect(clippy::cast_precision_loss, reason = "microseconds are enough")]
    Ok(nanos as f64 / 1e9)
}

/// What a host's agent weighs: for people, and in kilobytes.
fn memory(host: &StackHost) -> Res<(String, u64)> {
    let pid = host.agent_pid().ok_or("the agent is gone")?;
    let (all, own) = (status_kb(pid, "VmRSS")?, status_kb(pid, "RssAnon")?);
    Ok((format!("{} ({} its own)", mb(all), mb(own)), all))
}
