//! What the programs weigh: the agent at rest, the controller per connected host.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::bench::clock::Watch;
use crate::bench::process::status_kb;
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, mb, median, time};
use crate::bench::{Res, Scale};
use crate::servers::{Process, command, wait_for};
use crate::system::{Controller, Host, System, program};

const AGENT_KB_MAX: u64 = 12 * 1024;
const AGENT_BYTES_MAX: u64 = 12 * 1024 * 1024;
const CONNECT_SECS_MAX: f64 = 0.100;
const HOST_KB_MAX: f64 = 45.0;
/// How long the swarm may take to enrol and connect.
const SWARM_SECS_MAX: u64 = 240;
/// Hosts connected before the first look, so that what is made once is not counted per host.
const FIRST: usize = 20;
const SETTLE: Duration = Duration::from_secs(3);

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let mut table = Table::new("Memory, size and start");
    agent(&mut table, dir, scale)?;
    controller(&mut table, dir, scale).await?;
    if cfg!(debug_assertions) {
        table.note("**A debug build: sizes and times say nothing.**");
    }
    Ok(table)
}

fn agent(table: &mut Table, dir: &Path, scale: Scale) -> Res<()> {
    let mut system = System::start()?;
    system.host.stop_agent();
    let (mut starts, mut rss) = (Vec::new(), Vec::new());
    for run in 0..scale.pick(7, 2) {
        let socket = dir.join(format!("notify-{run}"));
        let (secs, agent) = start_agent(&system.host, &socket, &dir.join("agent.log"))?;
        starts.push(secs);
        if run == 0 {
            std::thread::sleep(SETTLE);
            rss.push(status_kb(agent.pid(), "VmRSS")?);
            rss.push(status_kb(agent.pid(), "RssAnon")?);
        }
    }
    let bytes = std::fs::metadata(program("hostler-agent")?)?.len();
    let (resident, private) = (rss[0], rss[1]);
    table.row(
        Row::new(
            "agent, resident when idle",
            format!("{} ({} its own)", mb(resident), mb(private)),
        )
        .aim("≤ 12 MB", resident <= AGENT_KB_MAX),
    );
    table.row(
        Row::new("agent, stripped binary", mb(bytes / 1024))
            .aim("≤ 12 MB", bytes <= AGENT_BYTES_MAX),
    );
    let worst = Samples::new(starts.clone()).worst();
    let start = median(starts);
    table.row(
        Row::new("agent, start to connected", format!("{}, worst {}", time(start), time(worst)))
            .aim("≤ 100 ms", start <= CONNECT_SECS_MAX),
    );
    table.row(Row::new(
        "controller, one host, resident",
        mb(status_kb(system.controller.pid().ok_or("the controller is gone")?, "VmRSS")?),
    ));
    Ok(())
}

/// Starts the agent and waits until it tells the service manager that it is connected.
fn start_agent(host: &Host, socket: &Path, log: &Path) -> Res<(f64, Process)> {
    let notified = UnixDatagram::bind(socket)?;
    notified.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut start = command(program("hostler-agent")?);
    start.arg("run").arg("--state-dir").arg(host.state_dir());
    start.arg("--policy").arg(host.dir().join("policy.toml"));
    start.env("NOTIFY_SOCKET", socket);
    let watch = Watch::start();
    let agent = Process::start("the agent", &mut start, log)?;
    let mut bytes = [0; 4096];
    loop {
        let length = notified.recv(&mut bytes).map_err(|error| {
            let told = std::fs::read_to_string(log).unwrap_or_default();
            format!("the agent did not connect ({error}): {told}")
        })?;
        if String::from_utf8_lossy(&bytes[..length]).contains("STATUS=connected") {
            return Ok((watch.secs(), agent));
        }
    }
}

async fn controller(table: &mut Table, dir: &Path, scale: Scale) -> Res<()> {
    let hosts = scale.pick(1_000, 50);
    let controller = Controller::start(None)?;
    let pid = controller.pid().ok_or("the controller is gone")?;
    let _first = swarm(&controller, dir, "first", FIRST)?;
    tokio::time::sleep(SETTLE).await;
    let before = status_kb(pid, "VmRSS")?;
    let watch = Watch::start();
    let _rest = swarm(&controller, dir, "rest", hosts)?;
    let joined = watch.secs();
    tokio::time::sleep(SETTLE).await;
    let after = status_kb(pid, "VmRSS")?;
    #[expect(clippy::cast_precision_loss, reason = "kilobytes and hosts")]
    let each = after.saturating_sub(before) as f64 / hosts as f64;
    table.row(
        Row::new(format!("controller, per idle host, {hosts} more hosts"), format!("{each:.1} KB"))
            .aim("≤ 45 KB", each <= HOST_KB_MAX),
    );
    let all = format!("{} (before: {})", mb(after), mb(before));
    table.row(Row::new(format!("controller, {} hosts, resident", hosts + FIRST), all));
    table.row(Row::new(format!("{hosts} hosts made, enrolled and connected"), time(joined)));
    Ok(())
}

/// A process of as many simulated hosts, all connected when this returns.
fn swarm(controller: &Controller, dir: &Path, name: &str, hosts: usize) -> Res<Process> {
    let joins: Vec<String> = (0..hosts)
        .map(|number| controller.join_string(&format!("{name}-{number}.test")))
        .collect::<Result<_, _>>()?;
    let (file, log) = (dir.join(format!("{name}.join")), dir.join(format!("{name}.log")));
    std::fs::write(&file, joins.join("\n"))?;
    let mut start = command(std::env::current_exe()?);
    start.arg("swarm").arg(&file);
    let mut process = Process::start("the swarm", &mut start, &log)?;
    let done = format!("{hosts} connected");
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    let ready = wait_for("the swarm to connect", SWARM_SECS_MAX, || {
        if !process.is_running() {
            return Some(false);
        }
        told().contains(&done).then_some(true)
    });
    match ready {
        Ok(true) => Ok(process),
        Ok(false) => Err(format!("the swarm ended: {}", told()).into()),
        Err(error) => Err(format!("{error}: {}", told()).into()),
    }
}
