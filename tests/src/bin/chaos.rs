//! `make chaos`: see [`hostler_tests::chaos`]. `CHAOS_SECS`, `CHAOS_SEED`, `CHAOS_HOSTS`,
//! `CHAOS_JOBS_PER_SEC` and `CHAOS_ON` (`postgresql`, `sqlite`) say what is run.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use hostler_tests::bench::clock::wall_secs;
use hostler_tests::chaos::{Asked, den, run};
use hostler_tests::servers::ServerError;

/// Seconds of faults unless told otherwise.
const SECS: u64 = 120;
/// Seconds of faults, at most.
const SECS_MAX: u64 = 24 * 3600;
const HOSTS: u64 = 20;
const HOSTS_MAX: u64 = 200;
const JOBS_PER_SEC: u64 = 84;
const JOBS_PER_SEC_MAX: u64 = 10_000;

fn number(name: &str, default: u64, most: u64) -> Result<u64, ServerError> {
    let Ok(text) = std::env::var(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| ServerError(format!("{name}: {text:?} is no number up to {most}")))
}

fn asked() -> Result<Asked, ServerError> {
    #[expect(clippy::cast_possible_truncation, reason = "any number does for a seed")]
    #[expect(clippy::cast_sign_loss, reason = "it is after 1970")]
    let now = (wall_secs() * 1e3) as u64;
    let on = std::env::var("CHAOS_ON").unwrap_or_default();
    if !matches!(on.as_str(), "" | "postgresql" | "sqlite") {
        return Err(ServerError(format!("CHAOS_ON: {on:?} is no database")));
    }
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Asked {
        seed: number("CHAOS_SEED", now, u64::MAX)?,
        secs: number("CHAOS_SECS", SECS, SECS_MAX)?.max(10),
        hosts: size(number("CHAOS_HOSTS", HOSTS, HOSTS_MAX)?.max(3)),
        jobs_per_sec: size(number("CHAOS_JOBS_PER_SEC", JOBS_PER_SEC, JOBS_PER_SEC_MAX)?),
        postgres: on != "sqlite",
        sqlite: on != "postgresql",
    })
}

fn chaos() -> Result<ExitCode, ServerError> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [] => {
            asked()?;
            den::launch(&[])
        }
        [inside, dir] if inside == den::INSIDE => {
            let good = run(&asked()?, Path::new(dir), &mut std::io::stdout())?;
            Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => Err(ServerError("usage: chaos".to_owned())),
    }
}

fn main() -> ExitCode {
    match chaos() {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is closed there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "chaos: {error}"));
            ExitCode::FAILURE
        }
    }
}
