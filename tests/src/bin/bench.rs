//! `make bench`: prints what was measured, as tables. `--only NAME` runs one part, `--quick` runs
//! all with small counts.

use std::io::{self, Write};
use std::process::ExitCode;

use hostler_tests::bench::{Res, Scale, fleet, sections, swarm};

const USAGE: &str = "usage: bench [--quick] [--only NAME]...";

struct Asked {
    scale: Scale,
    only: Vec<String>,
}

fn arguments() -> Res<Asked> {
    let mut asked = Asked { scale: Scale { quick: false }, only: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => asked.scale.quick = true,
            "--only" => asked.only.push(words.next().ok_or(USAGE)?),
            other => return Err(format!("{other} is unknown; {USAGE}").into()),
        }
    }
    let unknown = asked.only.iter().find(|name| !sections::NAMES.contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err(format!("no part is called {name}; there are {:?}", sections::NAMES).into());
    }
    Ok(asked)
}

async fn run() -> Res<bool> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, file] = words.as_slice()
        && mode == "swarm"
    {
        swarm::run(file.as_ref()).await?;
        return Ok(true);
    }
    if let [mode, joins, begun] = words.as_slice()
        && mode == "fleet"
    {
        fleet::run(joins.as_ref(), begun.as_ref()).await?;
        return Ok(true);
    }
    let asked = arguments()?;
    let scratch = tempfile::Builder::new().prefix("hostler-bench-").tempdir()?;
    let mut out = io::stdout().lock();
    let (mut met, mut aims, mut whole) = (0, 0, true);
    for name in sections::NAMES {
        if !asked.only.is_empty() && !asked.only.iter().any(|only| only == name) {
            continue;
        }
        let dir = scratch.path().join(name);
        std::fs::create_dir(&dir)?;
        match sections::run(name, &dir, asked.scale).await {
            Ok(table) => {
                table.write(&mut out)?;
                let (here, of) = table.aims();
                (met, aims) = (met + here, aims + of);
            }
            Err(error) => {
                whole = false;
                writeln!(out, "\n### {name}\n\nnot measured: {error}")?;
            }
        }
        std::fs::remove_dir_all(&dir)?;
    }
    writeln!(out, "\n{met} of {aims} aims met")?;
    Ok(whole)
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            writeln!(io::stderr(), "bench: {error}").ok();
            ExitCode::from(2)
        }
    }
}
