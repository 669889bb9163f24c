//! The simulator: `sim --seeds FROM..TO` runs seeds and prints the sum, `sim --seed N --trace` what
//! happens in one of them. `--mutation NAME` takes a guard away, to see it missed.

use std::io::{self, Write};
use std::process::ExitCode;

use hostler_tests::bench::clock::Watch;
use hostler_tests::sim::{self, Mutation, Options};

const USAGE: &str =
    "usage: sim [--seeds FROM..TO | --seed N [--trace]] [--threads N] [--mutation NAME]";

type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Asked {
    seeds: std::ops::Range<u64>,
    threads: usize,
    options: Options,
}

fn arguments() -> Res<Asked> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut asked = Asked { seeds: 0..2_000, threads, options: Options::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or(USAGE)?;
                asked.seeds = from.parse()?..to.parse()?;
            }
            "--seed" => {
                let seed = value()?.parse()?;
                asked.seeds = seed..seed + 1;
            }
            "--trace" => asked.options.trace = true,
            "--threads" => asked.threads = value()?.parse()?,
            "--mutation" => {
                let name = value()?;
                asked.options.mutation = Some(Mutation::parse(&name).ok_or(USAGE)?);
            }
            other => return Err(format!("{other} is unknown; {USAGE}").into()),
        }
    }
    Ok(asked)
}

fn run() -> Res<bool> {
    let asked = arguments()?;
    let mut out = io::stdout().lock();
    if asked.options.trace {
        let report = sim::run(asked.seeds.start, asked.options)?;
        for line in &report.trace {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "seed {}, {} steps, trace {:016x}", report.seed, report.steps, report.hash)?;
        let broken = report.violation.as_ref();
        writeln!(out, "{}", broken.map_or("every promise was kept", |one| one.what.as_str()))?;
        return Ok(broken.is_none());
    }
    let watch = Watch::start();
    let total = sim::run_all(asked.seeds, asked.options, asked.threads, false)?;
    let per_sec = total.steps as f64 / watch.secs();
    writeln!(out, "{total}")?;
    writeln!(out, "steps per second: {per_sec:.0}, in {:.1} s", watch.secs())?;
    Ok(total.broken.is_empty())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            writeln!(io::stderr(), "sim: {error}").ok();
            ExitCode::from(2)
        }
    }
}
