//! PostgreSQL's own load generator, given the very statements the queue sends: they are taken
//! from the server's log of one run and played back on a copy of the database as it was before.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::bench::Res;
use crate::bench::process::run;
use crate::servers::command;

/// One statement as the server logged it: its text and its parameters as literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub sql: String,
    pub parameters: Vec<String>,
}

/// Reads the statements out of a log written with `log_statement = all`.
#[must_use]
pub fn statements(log: &str) -> Vec<Statement> {
    let mut found: Vec<Statement> = Vec::new();
    for entry in entries(log) {
        if let Some(text) = entry.split_once(" LOG:  statement: ").map(|(_, text)| text) {
            found.push(Statement { sql: text.to_owned(), parameters: Vec::new() });
        } else if let Some((_, text)) = entry.split_once(" LOG:  execute ") {
            let sql = text.split_once(": ").map_or(text, |(_, sql)| sql);
            found.push(Statement { sql: sql.to_owned(), parameters: Vec::new() });
        } else if let Some((_, text)) = entry.split_once(" DETAIL:  ")
            && let Some((word, text)) = text.split_once(": ")
            && word.eq_ignore_ascii_case("parameters")
            && let Some(last) = found.last_mut()
        {
            last.parameters = literals(text);
        }
    }
    found
}

/// Log entries; a line that begins with a tab belongs to the entry before it.
fn entries(log: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in log.lines() {
        match (line.strip_prefix('\t'), entries.last_mut()) {
            (Some(more), Some(entry)) => {
                entry.push('\n');
                entry.push_str(more);
            }
            (_, _) => entries.push(line.to_owned()),
        }
    }
    entries
}

/// The literals of `$1 = 'a', $2 = NULL`, quotes and all.
fn literals(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, value)) = rest.split_once(" = ") {
        let length = if let Some(inner) = value.strip_prefix('\'') {
            1 + quoted(inner)
        } else {
            value.find(',').unwrap_or(value.len())
        };
        found.push(value[..length].to_owned());
        rest = &value[length..];
    }
    found
}

/// Bytes up to and with the closing quote; a doubled quote does not close.
fn quoted(inner: &str) -> usize {
    let bytes = inner.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return at + 1,
            (_, _) => at += 1,
        }
    }
    bytes.len()
}

/// The type a parameter is prepared with: the queue binds nothing but text and integers.
fn kind(literal: &str) -> &'static str {
    let inner = literal.trim_matches('\'');
    match inner {
        "NULL" => "unknown",
        number if number.parse::<i64>().is_ok() => "bigint",
        _ => "text",
    }
}

/// A pgbench script in which client `n` prepares and plays the `n`-th list.
#[must_use]
pub fn script(clients: &[Vec<Statement>]) -> String {
    let mut text = String::new();
    for (number, statements) in clients.iter().enumerate() {
        let word = if number == 0 { "if" } else { "elif" };
        writeln!(text, "\\{word} :client_id = {number}").ok();
        let mut prepared: HashMap<&str, usize> = HashMap::new();
        for Statement { sql, parameters } in statements {
            if parameters.is_empty() {
                writeln!(text, "{sql};").ok();
                continue;
            }
            let next = prepared.len();
            let name = *prepared.entry(sql).or_insert(next);
            if name == next {
                let kinds: Vec<_> = parameters.iter().map(|literal| kind(literal)).collect();
                writeln!(text, "PREPARE s{name} ({}) AS {sql};", kinds.join(", ")).ok();
            }
            writeln!(text, "EXECUTE s{name} ({});", parameters.join(", ")).ok();
        }
    }
    text.push_str("\\endif\n");
    text
}

/// Plays a script once by each of `clients` clients; seconds from the first statement to the last.
///
/// # Errors
/// If pgbench fails, a statement fails, or it says nothing readable.
pub fn play(url: &str, script: &Path, clients: usize) -> Res<f64> {
    let output = run(command("pgbench")
        .args(["--no-vacuum", "--protocol=simple", "--jobs=2", "--transactions=1"])
        .arg(format!("--client={clients}"))
        .arg("--file")
        .arg(script)
        .arg(url)
        .env("PGOPTIONS", "-c plan_cache_mode=force_generic_plan"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps: Option<f64> = figure.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let expected = format!("number of transactions actually processed: {clients}/{clients}");
    match tps {
        #[expect(clippy::cast_precision_loss, reason = "a handful of clients")]
        Some(tps) if text.contains(&expected) => Ok(clients as f64 / tps),
        Some(_) | None => Err(format!("pgbench did not play everything: {text}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01 00:00:00.000 UTC [7] LOG:  statement: BEGIN
2026-01-01 00:00:00.000 UTC [7] LOG:  execute sqlx_s_1: INSERT INTO t
\tVALUES ($1, $2, $3)
2026-01-01 00:00:00.000 UTC [7] DETAIL:  parameters: $1 = '[{\"a\": \"it''s, $2 = 1\"}]', $2 = '42', $3 = NULL
2026-01-01 00:00:00.000 UTC [7] LOG:  statement: COMMIT
";

    #[test]
    fn a_log_becomes_statements() {
        let found = statements(LOG);
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].sql, "INSERT INTO t\nVALUES ($1, $2, $3)");
        assert_eq!(found[1].parameters, ["'[{\"a\": \"it''s, $2 = 1\"}]'", "'42'", "NULL"]);
    }

    #[test]
    fn a_script_prepares_once_and_keeps_the_order() {
        let found = statements(&LOG.repeat(2));
        let text = script(&[found, Vec::new()]);
        assert_eq!(text.matches("PREPARE s0 (text, bigint, unknown) AS").count(), 1);
        assert_eq!(text.matches("EXECUTE s0 (").count(), 2);
        assert!(text.starts_with("\\if :client_id = 0\nBEGIN;\n"), "{text}");
        assert!(text.ends_with("COMMIT;\n\\elif :client_id = 1\n\\endif\n"), "{text}");
    }
}
