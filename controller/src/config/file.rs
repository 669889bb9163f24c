//! Settings in a TOML file.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundles::BundlesFile;
use super::git::{GitFile, StacksFile, WebhookFile};

/// Largest settings file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The file, as it is written. Every key is optional; an unknown one is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileConfig {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<String>,
    pub agent_listen: Option<String>,
    pub metrics_listen: Option<String>,
    pub database_url: Option<String>,
    pub log_format: Option<String>,
    pub agent_address: Option<Vec<String>>,
    pub insecure_no_auth: Option<bool>,
    pub require_tokens: Option<bool>,
    pub open_desired_state: Option<bool>,
    pub host_certificate_secs: Option<u64>,
    pub git: Option<GitFile>,
    pub webhook: Option<WebhookFile>,
    pub stacks: Option<StacksFile>,
    pub bundles: Option<BundlesFile>,
}

/// Why a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the settings file {path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the settings file {path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: String },
    /// With the line and, for an unknown key, the keys there are.
    #[error("{path}, {place}: {message}")]
    Parse { path: String, place: String, message: String },
}

impl FileConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`]; a parse error names the line.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let shown = path.display().to_string();
        let read = |source| FileError::Read { path: shown.clone(), source };
        if std::fs::metadata(path).map_err(read)?.len() > FILE_BYTES_MAX {
            return Err(FileError::TooLarge { path: shown });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&shown, &text)
    }

    /// Reads a text; `path` is for the error only.
    ///
    /// # Errors
    /// [`FileError::Parse`], naming the line.
    pub fn parse(path: &str, text: &str) -> Result<Self, FileError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or("").matches('\n').count() + 1;
            // Only the first line of the message: it never quotes a value, which may be a secret.
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            FileError::Parse { path: path.to_owned(), place: format!("line {line}"), message }
        })
    }
}
