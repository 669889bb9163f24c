//! Why something is not stored, or not to be had.

use hostler_protocol::bundle::ManifestError;

/// Why something is not stored, or not to be had.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("there is no {what}")]
    Missing { what: String },
    /// Set aside; counts for missing from now on.
    #[error("{what} is damaged: {reason}")]
    Damaged { what: String, reason: String },
    #[error("{what} of {bytes} bytes; the limit is {bytes_max}")]
    TooLarge { what: &'static str, bytes: u64, bytes_max: u64 },
    #[error("the bundle cannot be used: {0}")]
    Invalid(#[from] ManifestError),
    /// A manifest before its blobs.
    #[error("the content of {path:?} is not stored: store blobs before their manifest")]
    Incomplete { path: String },
    /// Asked for from behind its end.
    #[error("{what} has {bytes} bytes, and was asked for from byte {offset} on")]
    Offset { what: String, bytes: u64, offset: u64 },
    #[error("no room for bundles in {path}: free disk space on the controller")]
    NoSpace { path: String },
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// A bucket does not do what was asked.
    #[error("the bucket cannot {action}")]
    Bucket {
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Never with a value that may be a secret.
    #[error("the settings of the bundle store cannot be used: {0}")]
    Settings(String),
    /// A task broke off.
    #[error("work on the bundle store broke off")]
    Broken,
}

impl BundleError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "BUNDLE_MISSING",
            Self::Damaged { .. } => "BUNDLE_DAMAGED",
            Self::TooLarge { .. } => "BUNDLE_TOO_LARGE",
            Self::Invalid(_) => "BUNDLE_INVALID",
            Self::Incomplete { .. } => "BUNDLE_INCOMPLETE",
            Self::Offset { .. } => "BUNDLE_OFFSET",
            Self::NoSpace { .. } => "NO_SPACE",
            Self::File { .. } | Self::Bucket { .. } | Self::Broken => "BUNDLE_STORE_FAILED",
            Self::Settings(_) => "BUNDLE_STORE_SETTINGS",
        }
    }

    pub(super) fn file(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.display().to_string();
        move |source| match matches!(
            source.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        ) {
            true => Self::NoSpace { path },
            false => Self::File { action, path, source },
        }
    }
}
