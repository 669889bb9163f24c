//! Other programs run to their end, and what the system says of those that run.

use std::process::{Command, Output, Stdio};

use super::Res;

/// What Linux counts times in, on every architecture this runs on.
const TICKS_PER_SEC: f64 = 100.0;

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, or ends with another status than 0: then with the end of what it said.
pub fn run(command: &mut Command) -> Res<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned();
    Err(format!("{name} ended with {}: {said}", output.status).into())
}

/// Processor seconds this process has used, and those of the programs it ran to their end.
///
/// # Errors
/// If the system does not tell.
pub fn cpu_secs() -> Res<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = |at: usize| -> Option<f64> { after_name.split(' ').nth(at)?.parse().ok() };
    let sum = |first| Some((ticks(first)? + ticks(first + 1)?) / TICKS_PER_SEC);
    // User and system time are the 14th and 15th field, those of children the next two.
    sum(11).zip(sum(13)).ok_or_else(|| "no times in /proc/self/stat".into())
}

/// A figure of `/proc/<pid>/status` in kilobytes (`VmRSS`, `RssAnon`).
///
/// # Errors
/// If the process is gone.
pub fn status_kb(pid: u32, field: &str) -> Res<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let figure = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    figure.ok_or_else(|| format!("no {field} in /proc/{pid}/status").into())
}
