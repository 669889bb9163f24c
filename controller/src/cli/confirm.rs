//! Asking before something that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::error::CliError;
use super::output::clean;

/// Asks on the terminal, unless `yes` says there is no need; what happens is named in `deed`
/// (`this deletes the site shop`).
///
/// # Errors
/// [`CliError::NotConfirmed`] without a terminal, [`CliError::Declined`] after a no.
pub(super) fn confirm(deed: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let (stdin, stderr) = (io::stdin(), io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(CliError::NotConfirmed(deed.to_owned()));
    }
    let mut stderr = stderr.lock();
    write!(stderr, "{}; go on? [y/N] ", clean(deed))
        .and_then(|()| stderr.flush())
        .map_err(CliError::Output)?;
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|source| CliError::ReadFile { path: "standard input".into(), source })?;
    if is_yes(&answer) { Ok(()) } else { Err(CliError::Declined) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        assert!(is_yes("y\n") && is_yes(" YES \n"));
        assert!(!is_yes("\n") && !is_yes("n") && !is_yes("yep") && !is_yes(""));
    }
}
