//! Testing the configuration, seeing where our files are included, reloading with proof.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use hostler_protocol::job::{Code, EnvironmentDoc};

use super::effect;
use super::live::Live;
use super::made;
use super::origin;
use super::render::{self, HeaderLevel};
use super::run::{Failure, Run, blocking};
use super::swap::{FILE_BYTES_MAX, Swap};
use super::tools::Tools;
use crate::host::fs::{FsError, Look};
use crate::host::nginx::Tested;
use crate::host::nginx::tree::{self, Sighting};

/// How long after a line of despair in the log a configuration may still come: nginx tries an
/// occupied port five times, half a second apart.
const EMERGENCY_GRACE_MS: u64 = 4_000;
/// Longest wait for old workers to stop taking connections.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How long nothing but the right answer must come, from the same workers, before files that were
/// put back count as live again, in milliseconds. nginx may still have been at a reload that was
/// asked for just before: its workers come and go, while those of long before give the right
/// answer too. It tells old workers to go a tenth of a second after the new ones have come.
const STEADY_MS: u64 = 300;

/// The three paths: http, server, location.
#[must_use]
pub fn paths(environment: &EnvironmentDoc) -> [PathBuf; 3] {
    let nginx = &environment.nginx;
    [&nginx.http_file, &nginx.server_file, &nginx.location_file].map(PathBuf::from)
}

/// Which of the files are there, with their bytes.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn read_files(
    tools: &Tools,
    environment: &EnvironmentDoc,
) -> Result<[Option<Vec<u8>>; 3], Failure> {
    let (roots, paths) = (tools.roots.clone(), paths(environment));
    blocking(move || -> Result<_, FsError> {
        let mut contents = [None, None, None];
        for (content, path) in contents.iter_mut().zip(&paths) {
            *content = match roots.place(path) {
                Ok(place) => place.read(FILE_BYTES_MAX)?.map(|content| content.bytes),
                Err(FsError::Missing { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(contents)
    })
    .await
}

/// Whether what stands at the three paths is nothing, empty or ours.
///
/// # Errors
/// `FILE_FOREIGN`.
pub fn check_ours(
    environment: &EnvironmentDoc,
    files: &[Option<Vec<u8>>; 3],
) -> Result<(), Failure> {
    let mark = render::mark(environment);
    for (path, content) in paths(environment).iter().zip(files) {
        let bytes = content.as_deref().unwrap_or_default();
        if !bytes.trim_ascii().is_empty() && !bytes.starts_with(mark.as_bytes()) {
            let message =
                format!("{} was not written by Hostler for this environment", path.display());
            return Err(Failure::new(Code::FileForeign, message));
        }
    }
    Ok(())
}

/// Whether none of the three files says anything of ours, so that the page cache of an environment
/// that was never toggled is off.
///
/// # Errors
/// `FILE_FAILED` and its like.
pub async fn untouched(tools: &Tools, environment: &EnvironmentDoc) -> Result<bool, Failure> {
    let mark = render::mark(environment);
    let files = read_files(tools, environment).await?;
    Ok(!files.into_iter().flatten().any(|bytes| bytes.starts_with(mark.as_bytes())))
}

/// Tests what is there before anything of ours comes in, and says where our files are included.
/// Files that do not exist are created empty first (watched by `swap`): a vhost that names one is
/// broken only because we have not come yet, and a glob shows nothing while it matches nothing.
/// The directories they and the cache go in come into being too, and are added to `made`.
///
/// # Errors
/// `NGINX_RELOAD_FAILED` when no nginx runs, `NGINX_CONFIG_BROKEN` with nginx's own line,
/// `NGINX_NOT_INCLUDED`, `PROBE_ORIGIN_WRONG`, `NGINX_HEADERS_DROPPED`.
pub async fn survey(
    tools: &Tools,
    run: &mut Run,
    environment: &EnvironmentDoc,
    swap: &mut Swap,
    made: &mut Vec<PathBuf>,
) -> Result<HeaderLevel, Failure> {
    let cancel = run.cancel().clone();
    let dump = run
        .step("nginx_test_before", async {
            tools.nginx.check_running()?;
            let files = read_files(tools, environment).await?;
            check_ours(environment, &files)?;
            let missing: Vec<_> = paths(environment)
                .into_iter()
                .zip(&files)
                .filter_map(|(path, content)| content.is_none().then_some(path))
                .collect();
            let cache = environment.fastcgi.as_ref();
            let cache = cache.map(|fastcgi| PathBuf::from(&fastcgi.cache_dir));
            made::parents(tools, &[missing.as_slice(), cache.as_slice()].concat(), made).await?;
            swap.watch(&missing).await?;
            for path in &missing {
                swap.put(path, Vec::new(), Look { mode: 0o640, owner: None }).await?;
            }
            let tested = tools.nginx.dump(&cancel).await?;
            if tested.ok {
                return Ok((tested.dump, "the configuration passes".to_owned()));
            }
            Err(refused(Code::NginxConfigBroken, &tested))
        })
        .await?;
    run.step("includes", async {
        let sightings = tree::sightings(&dump, &paths(environment));
        let level = placed(environment, &sightings)?;
        origin::reaches(environment, &sightings)?;
        let file = match level {
            HeaderLevel::Http => "http",
            HeaderLevel::Server => "server",
            HeaderLevel::Location => "location",
        };
        let message =
            format!("all three files are included; the {file} file adds the status header");
        Ok((level, message))
    })
    .await
}

/// A failure that quotes what nginx said of a configuration.
#[must_use]
pub fn refused(code: Code, tested: &Tested) -> Failure {
    Failure::new(code, tested.line()).with_command(
        tested.command.clone(),
        tested.status,
        tested.tail.clone(),
    )
}

/// Whether all three files are included where they belong, and which may add the header.
///
/// # Errors
/// `NGINX_NOT_INCLUDED` naming the line to add, `NGINX_HEADERS_DROPPED`.
pub fn placed(
    environment: &EnvironmentDoc,
    sightings: &[Sighting],
) -> Result<HeaderLevel, Failure> {
    let domain = &environment.domain;
    let paths = paths(environment);
    let blocks = ["http", "server", "location"];
    let wheres = [
        "the `http` block".to_owned(),
        format!("the `server` block of {domain}"),
        format!("the `location` block of {domain} that passes to PHP"),
    ];
    for ((path, block), place) in paths.iter().zip(blocks).zip(&wheres) {
        let seen: Vec<_> = sightings.iter().filter(|sighting| sighting.file == *path).collect();
        let good = seen.iter().any(|sighting| {
            sighting.innermost() == block
                && sighting.server().is_none_or(|server| server.answers_for(domain))
        });
        if good {
            continue;
        }
        let found = seen.first().map_or_else(String::new, |sighting| {
            let names = sighting.server().map_or_else(String::new, |s| s.server_names.join(" "));
            format!(" (it is included in a `{}` block {names})", sighting.innermost())
        });
        let line = format!("add `include {};` to {place}", path.display());
        return Err(Failure::new(Code::NginxNotIncluded, format!("{line}{found}")).with_hint(line));
    }
    let locations: Vec<_> = sightings
        .iter()
        .filter(|sighting| sighting.file == paths[2] && sighting.innermost() == "location")
        .collect();
    header_level(&locations)
}

/// The block in which one more header takes none away, for every place PHP is passed to.
fn header_level(locations: &[&Sighting]) -> Result<HeaderLevel, Failure> {
    let mut allowed = vec![HeaderLevel::Server, HeaderLevel::Location, HeaderLevel::Http];
    for sighting in locations {
        let nearest = sighting.levels.iter().rposition(|level| level.adds_headers);
        let name = nearest.map(|at| sighting.levels[at].name.as_str());
        let innermost = nearest.is_some_and(|at| at + 1 == sighting.levels.len());
        match name {
            None => {}
            Some("location") if innermost => allowed.retain(|l| *l == HeaderLevel::Location),
            Some("server") => allowed.retain(|l| *l == HeaderLevel::Server),
            Some("http") => allowed.retain(|l| *l == HeaderLevel::Http),
            Some(_) => allowed.clear(),
        }
    }
    allowed.first().copied().ok_or_else(|| {
        Failure::new(
            Code::NginxHeadersDropped,
            "the blocks around the PHP location add response headers at levels where one more would take others away",
        )
        .with_hint("Move the `add_header` lines of this server to one level: the server or the PHP location.")
    })
}

/// Tests the configuration with our files in it.
///
/// # Errors
/// `NGINX_TEST_FAILED` with nginx's own line.
pub async fn test_after(tools: &Tools, run: &mut Run) -> Result<(), Failure> {
    let cancel = run.cancel().clone();
    run.step("nginx_test", async {
        let tested = tools.nginx.test(&cancel).await?;
        if tested.ok {
            return Ok(((), "the configuration passes".to_owned()));
        }
        Err(refused(Code::NginxTestFailed, &tested))
    })
    .await
}

/// Reloads and waits until the new configuration answers.
///
/// # Errors
/// `NGINX_RELOAD_FAILED`, `NGINX_RELOAD_NOT_APPLIED` with nginx's own line.
pub async fn reload(tools: &Tools, run: &mut Run, live: &Live) -> Result<(), Failure> {
    let mark = tools.nginx.log_mark();
    let workers = tools.nginx.accepting_workers();
    run.step("reload", async {
        if !tools.faults.pretends("reload") {
            tools.nginx.reload()?;
        }
        Ok(((), "told the nginx master process".to_owned()))
    })
    .await?;
    let started_ms = tools.clock.monotonic_ms();
    run.step("generation", async {
        let answered = generation(tools, live, mark, &workers).await?;
        retired(tools, &workers, mark).await;
        let took_ms = tools.clock.monotonic_ms().saturating_sub(started_ms);
        Ok(((), format!("generation {answered} answered after {took_ms} ms")))
    })
    .await
}

/// Waits until none of these workers takes new connections: a new configuration is live before
/// the old one is gone. Bounded, since the probes that follow have the last word; and not at all
/// when nginx stays with the old workers because it could not go on.
async fn retired(tools: &Tools, workers: &BTreeSet<i32>, mark: u64) {
    let waiting = async {
        while !tools.nginx.accepting_workers().is_disjoint(workers)
            && !tools.nginx.emergency_since(mark)
        {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(RETIRE_TIMEOUT, waiting).await.is_err() {
        tracing::warn!("nginx workers of before the reload still take connections");
    }
}

/// Waits until the generation probe answers the generation of `live`, unless nobody is left to.
///
/// # Errors
/// `NGINX_RELOAD_NOT_APPLIED`, `NGINX_RELOAD_FAILED` when nginx has ended, `PROBE_ORIGIN_WRONG`
/// when the new configuration redirects to another scheme.
async fn generation(
    tools: &Tools,
    live: &Live,
    mark: u64,
    workers: &BTreeSet<i32>,
) -> Result<u64, Failure> {
    let mut last = "nothing".to_owned();
    let mut elsewhere = None;
    let waiting = async {
        let mut emergency_ms = None;
        loop {
            // Once no worker of before takes connections, every answer is the new configuration's.
            let new = !workers.is_empty() && tools.nginx.accepting_workers().is_disjoint(workers);
            match effect::generation(live).await {
                Ok(Some(found)) if found == live.generation => return true,
                Ok(Some(found)) => last = format!("generation {found}"),
                Ok(None) => {
                    last = "no generation".to_owned();
                    elsewhere = effect::elsewhere(live).await;
                    if new && elsewhere.is_some() {
                        return false;
                    }
                }
                Err(_) if tools.nginx.check_running().is_err() => return false,
                Err(failure) => failure.message().clone_into(&mut last),
            }
            let now_ms = tools.clock.monotonic_ms();
            if emergency_ms.is_none() && tools.nginx.emergency_since(mark) {
                emergency_ms = Some(now_ms);
            }
            if emergency_ms.is_some_and(|at| now_ms.saturating_sub(at) > EMERGENCY_GRACE_MS) {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(tools.reload_timeout, waiting).await.unwrap_or(false) {
        return Ok(live.generation);
    }
    tools.nginx.check_running()?;
    if let Some(other) = elsewhere {
        return Err(origin::redirects(&live.environment, &other));
    }
    let line = tools.nginx.severe_since(mark);
    let why = line.unwrap_or_else(|| format!("the generation probe answered {last}"));
    Err(Failure::new(Code::NginxReloadNotApplied, why))
}

/// Reloads and waits until the generation of `live` answers no more.
///
/// # Errors
/// `NGINX_RELOAD_FAILED`, `NGINX_RELOAD_NOT_APPLIED`.
pub async fn reload_away(tools: &Tools, live: Option<&Live>) -> Result<(), Failure> {
    let mark = tools.nginx.log_mark();
    let workers = tools.nginx.accepting_workers();
    tools.nginx.reload()?;
    let Some(live) = live else { return Ok(()) };
    if gone(tools, live).await {
        retired(tools, &workers, mark).await;
        return steady(tools, live, false).await;
    }
    let line = tools.nginx.severe_since(mark);
    let why = line.unwrap_or_else(|| format!("generation {} still answers", live.generation));
    Err(Failure::new(Code::NginxReloadNotApplied, why))
}

/// Waits until something else than the generation of `live` answers. A probe that fails proves
/// nothing, since the old workers may merely be slow; one that fails all the time has nobody to
/// answer it.
async fn gone(tools: &Tools, live: &Live) -> bool {
    let mut silent = true;
    let waiting = async {
        loop {
            match effect::generation(live).await {
                Ok(found) if found != Some(live.generation) => return,
                Ok(_) => silent = false,
                Err(_) => {}
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(tools.reload_timeout, waiting).await.is_ok() || silent
}

/// Tells nginx of files that were put back, and proves that it goes by them: the generation of
/// before answers again, or, where there was none, that of the attempt no more. Says what was
/// proven. An nginx that does not run needs no telling.
///
/// # Errors
/// `NGINX_RELOAD_FAILED`, `NGINX_RELOAD_NOT_APPLIED`.
pub async fn reload_old(
    tools: &Tools,
    before: Option<&Live>,
    attempt: Option<&Live>,
) -> Result<String, Failure> {
    let told = match before {
        Some(live) => reload_back(tools, live).await,
        None => reload_away(tools, attempt).await.map(|()| {
            attempt.map_or_else(
                || "nginx was told to reload; there is nothing to ask it by".to_owned(),
                |live| format!("generation {} answers no more", live.generation),
            )
        }),
    };
    match told {
        Err(_) if tools.nginx.check_running().is_err() => {
            Ok("nginx is not running and will load them when it starts".to_owned())
        }
        told => told,
    }
}

/// Reloads and waits until the generation of `live` answers again.
async fn reload_back(tools: &Tools, live: &Live) -> Result<String, Failure> {
    let mark = tools.nginx.log_mark();
    let workers = tools.nginx.accepting_workers();
    tools.nginx.reload()?;
    generation(tools, live, mark, &workers).await?;
    retired(tools, &workers, mark).await;
    steady(tools, live, true).await?;
    Ok(format!("generation {} answers again", live.generation))
}

/// Waits until the generation of `live` has answered (or not answered) for a while without fail,
/// and no worker has come or gone.
///
/// # Errors
/// `NGINX_RELOAD_NOT_APPLIED`.
async fn steady(tools: &Tools, live: &Live, answers: bool) -> Result<(), Failure> {
    let mut workers = tools.nginx.accepting_workers();
    let mut since_ms = tools.clock.monotonic_ms();
    let waiting = async {
        loop {
            let right = match effect::generation(live).await {
                Ok(found) => (found == Some(live.generation)) == answers,
                // Nobody who answers is nobody who answers wrongly.
                Err(_) => !answers,
            };
            let now = tools.nginx.accepting_workers();
            let now_ms = tools.clock.monotonic_ms();
            if !right || now != workers {
                (workers, since_ms) = (now, now_ms);
            }
            if now_ms.saturating_sub(since_ms) >= STEADY_MS {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(tools.reload_timeout, waiting).await.map_err(|_| {
        let message = "nginx was reloaded and goes on answering by more than one configuration";
        Failure::new(Code::NginxReloadNotApplied, message)
    })
}

#[cfg(test)]
#[path = "nginx_tests.rs"]
mod tests;
