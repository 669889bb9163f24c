//! PostgreSQL's own load generator with the statements of the queue's hot verbs.

use std::path::Path;

use crate::bench::Res;
use crate::bench::process::run;
use crate::servers::command;

/// Runs a script of `tests/bench/` with `clients` connections, `transactions` each; says how many
/// transactions per second were committed.
///
/// # Errors
/// If pgbench fails or says nothing readable.
pub fn run_script(url: &str, script: &Path, clients: usize, transactions: usize) -> Res<f64> {
    let output = run(command("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--transactions={transactions}"))
        .arg("--file")
        .arg(script)
        .arg(url))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps = figure.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    tps.ok_or_else(|| format!("pgbench said no `tps`: {text}").into())
}
