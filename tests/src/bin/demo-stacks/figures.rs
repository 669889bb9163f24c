//! What is measured on the way.

use hostler_tests::bench::process::status_kb;
use hostler_tests::bench::stats::{Samples, time};
use hostler_tests::servers::git::Change;
use hostler_tests::servers::{ServerError, instant};

use super::parts::First;
use super::repository::{STACKS, app, settings};
use super::show::{Show, ensure};

/// Pushes of one changed file each.
const PUSHES: usize = 12;
/// The first small stack that is pushed; behind those the other parts change.
const PUSHED_FIRST: usize = 20;
/// Looks at a repository that has nothing new.
const LOOKS: usize = 10;

/// How long an agent looks whether a container without a health check stays up.
const WATCHED: &str = "2 s";

/// Times in seconds.
pub(crate) struct Times {
    push_to_synced: Samples,
    look: Samples,
}

/// Pushes one mounted file of one stack again and again, and looks where nothing is new.
pub(crate) fn measure(show: &mut Show<'_>) -> Result<Times, ServerError> {
    show.teller.say(&format!("measuring {PUSHES} pushes of one file of one stack each"));
    let mut pushes = Vec::new();
    for number in PUSHED_FIRST..PUSHED_FIRST + PUSHES {
        let (path, text) = (app(number), settings(number, 1));
        show.system.work.set(format!("{path}/settings.conf"), Change::File(text.as_bytes()))?;
        let pushed = show.push(&format!("Change {path}"))?;
        let (stack, took) = show.synced(&path, &pushed)?;
        let last = &stack["on"][0]["last"];
        ensure(last["services"][0]["action"] == "restarted", || format!("{stack:#}"))?;
        pushes.push(took.as_secs_f64());
    }
    let mut looks = Vec::new();
    for _ in 0..LOOKS {
        show.stop.check()?;
        let began = instant();
        let looked = show.system.refresh()?;
        ensure(looked["status"] == "completed", || format!("{looked:#}"))?;
        looks.push(began.elapsed().as_secs_f64());
    }
    Ok(Times { push_to_synced: Samples::new(pushes), look: Samples::new(looks) })
}

/// Everything that was measured, as a table.
pub(crate) fn table(show: &Show<'_>, first: &First, times: &Times) -> Result<String, ServerError> {
    let ms = |key: &str| first.refresh[key].as_u64();
    let read = ms("fetch_ms").zip(ms("read_ms")).ok_or_else(|| {
        ServerError(format!("the first look did not say how long it took: {:#}", first.refresh))
    })?;
    let of = |samples: &Samples| {
        let share = |share| time(samples.quantile(share));
        format!("p50 {}, p95 {} ({} times)", share(0.5), share(0.95), samples.count())
    };
    let mut rows = vec![
        (
            format!("the first push: {STACKS} stacks, {} containers, all synced", first.containers),
            time(first.took.as_secs_f64()),
        ),
        (
            format!("its refresh: {STACKS} new stacks fetched, and read"),
            format!("{} ms, and {} ms", read.0, read.1),
        ),
        (format!("refresh of {STACKS} stacks, nothing new"), of(&times.look)),
        ("push of one mounted file to its stack synced".to_owned(), of(&times.push_to_synced)),
        ("of which its container is watched, restarted".to_owned(), WATCHED.to_owned()),
        ("memory of the controller".to_owned(), memory(show.system.controller.pid())?),
    ];
    for host in &show.system.hosts {
        let what = format!("memory of the agent on {}", host.name);
        rows.push((what, memory(host.agent_pid())?));
    }
    let width = rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|(what, figure)| format!("{what:<width$}  {figure}"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn memory(pid: Option<u32>) -> Result<String, ServerError> {
    let pid = pid.ok_or_else(|| ServerError("a process that should run does not".to_owned()))?;
    let kb =
        |field| status_kb(pid, field).map_err(|error| ServerError::new("asking for memory", error));
    let (now, most) = (kb("VmRSS")?, kb("VmHWM")?);
    Ok(format!("{} MiB, {} MiB at most", now / 1024, most / 1024))
}
