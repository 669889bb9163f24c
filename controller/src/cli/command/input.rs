//! Files named on the command line; `-` is standard input.

use std::io::Read;
use std::path::Path;

use crate::cli::error::CliError;

/// Longest file that is read, in bytes.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::ReadFile { path: path.to_owned(), source };
    let mut text = String::new();
    let bytes = if path == Path::new("-") {
        std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text))
    };
    if bytes.map_err(failed)? as u64 > INPUT_BYTES_MAX {
        return Err(CliError::Usage(format!(
            "{} is longer than {INPUT_BYTES_MAX} bytes",
            path.display()
        )));
    }
    Ok(text)
}

/// The lines of a file that are neither empty nor comments.
pub(super) fn lines(path: &Path) -> Result<Vec<String>, CliError> {
    let text = read(path)?;
    let lines = text.lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}
