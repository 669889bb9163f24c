//! The `age` programs, as whoever commits secrets uses them.

use std::io::Write as _;
use std::process::Stdio;

use super::{ServerError, command};

/// A new key: the text of its file, and its recipient.
///
/// # Errors
/// When `age-keygen` is not installed.
pub fn keygen() -> Result<(String, String), ServerError> {
    let done = command("age-keygen")
        .output()
        .map_err(|error| ServerError::new("running age-keygen", error))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let said = "# public key: ";
    let recipient = text.lines().find_map(|line| line.strip_prefix(said)).map(str::to_owned);
    let recipient =
        recipient.ok_or_else(|| ServerError::new("reading age-keygen's key", "none"))?;
    Ok((text, recipient))
}

/// That text encrypted to all of these recipients, in armour.
///
/// # Errors
/// What `age` printed, if it failed.
pub fn encrypt(recipients: &[&str], plain: &str) -> Result<String, ServerError> {
    let failed = |error| ServerError::new("running age", error);
    let mut start = command("age");
    start.arg("--armor");
    for recipient in recipients {
        start.args(["--recipient", recipient]);
    }
    let pipes = start.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(plain.as_bytes()).map_err(failed)?;
    }
    let done = child.wait_with_output().map_err(failed)?;
    if !done.status.success() {
        return Err(ServerError(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    String::from_utf8(done.stdout)
        .map_err(|error| ServerError::new("reading what age wrote", error))
}
