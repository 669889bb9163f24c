//! Why a bundle is not on the host, or not in its directory.

use std::io::ErrorKind;
use std::path::PathBuf;

use hostler_protocol::job::Code;

use crate::host::age::KeyError;
use crate::host::fs::FsError;
use crate::steps::run::{Failure, chain};

/// Why a bundle is not on the host, or not in its directory.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The controller does not have it.
    #[error("the controller does not have {what}")]
    Missing { what: String },
    /// The controller does not give it to this host.
    #[error("the controller refused {what}: {message} ({code})")]
    Refused { what: String, code: String, message: String },
    /// Not what its name says.
    #[error("{what} is damaged: {reason}")]
    Damaged { what: String, reason: String },
    /// The connection that bundles come over was not made, or broke off.
    #[error("the controller cannot be reached for bundles: {reason}")]
    Unreachable { reason: String },
    /// There is no room for it.
    #[error("no room for the bundle in {}", path.display())]
    NoSpace { path: PathBuf },
    /// Where a file of the bundle belongs, there is something that Hostler did not write.
    #[error("{} is in the way: {reason}", path.display())]
    Foreign { path: PathBuf, reason: &'static str },
    /// A symbolic link of the bundle that could lead out of it.
    #[error("the bundle's link {path} leads out of it: {target}")]
    LeadsOut { path: String, target: String },
    /// The bundle has encrypted files, and there is nothing to decrypt them with.
    #[error("`{path}` is encrypted, and this host cannot decrypt it")]
    Key {
        path: String,
        #[source]
        source: KeyError,
    },
    /// An encrypted file is not one that this host can decrypt, or may put in its place.
    #[error("`{path}` cannot be decrypted: {reason}")]
    Sealed { path: String, reason: String, recipients: Vec<String> },
    /// The host refused.
    #[error(transparent)]
    File(FsError),
    /// The work broke off.
    #[error("the work on the files broke off; the agent's log says why")]
    Broken,
}

impl BundleError {
    /// A blob whose bytes on this host changed since they arrived.
    pub(super) fn damaged_blob(sha256: &str) -> Self {
        let reason = "its bytes on this host are not those it is named after".to_owned();
        Self::Damaged { what: format!("blob {sha256}"), reason }
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Missing { .. } => Code::BundleMissing,
            Self::Refused { .. } => Code::PolicyRefused,
            Self::Damaged { .. } => Code::BundleDamaged,
            Self::Unreachable { .. } => Code::BundleUnreachable,
            Self::NoSpace { .. } => Code::NoSpace,
            Self::Foreign { .. } => Code::FileForeign,
            Self::LeadsOut { .. } => Code::PathIsSymlink,
            Self::Key { source: KeyError::Missing { .. }, .. } => Code::AgeKeyMissing,
            Self::Key { .. } => Code::AgeKeyRefused,
            Self::Sealed { .. } => Code::DecryptFailed,
            Self::File(FsError::Symlink { .. }) => Code::PathIsSymlink,
            Self::File(FsError::Outside { .. }) => Code::PathOutsideRoots,
            Self::File(FsError::Missing { .. }) => Code::PathMissing,
            Self::File(FsError::Kind { .. } | FsError::TooLarge { .. } | FsError::Io { .. }) => {
                Code::FileFailed
            }
            Self::Broken => Code::InternalError,
        }
    }
}

/// Whether the system refused for want of room.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl From<FsError> for BundleError {
    fn from(error: FsError) -> Self {
        match error {
            FsError::Io { ref source, ref path, .. } if is_full(source) => {
                Self::NoSpace { path: path.clone() }
            }
            FsError::Outside { .. }
            | FsError::Symlink { .. }
            | FsError::Missing { .. }
            | FsError::Kind { .. }
            | FsError::TooLarge { .. }
            | FsError::Io { .. } => Self::File(error),
        }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let code = error.code();
        match error {
            BundleError::File(error) => error.into(),
            // The codes' own hints speak of the journal and of the policy file.
            BundleError::NoSpace { .. } => Self::new(code, error.to_string())
                .with_hint("Free disk space on the host; what has arrived is kept."),
            BundleError::Refused { .. } => Self::new(code, error.to_string())
                .with_hint("The controller gives a host only the bundles of its own stacks."),
            BundleError::LeadsOut { .. } => Self::new(code, error.to_string())
                .with_hint("Let the link name a file of the bundle, relative to itself."),
            BundleError::Key { .. } => Self::new(code, chain(&error)),
            BundleError::Sealed { ref recipients, .. } if !recipients.is_empty() => {
                let hint = format!("Encrypt it to {} and commit it.", recipients.join(" or "));
                Self::new(code, error.to_string()).with_hint(hint)
            }
            BundleError::Sealed { .. } => Self::new(code, error.to_string())
                .with_hint("Which of the two is meant cannot be known."),
            BundleError::Missing { .. }
            | BundleError::Damaged { .. }
            | BundleError::Unreachable { .. }
            | BundleError::Foreign { .. }
            | BundleError::Broken => Self::new(code, error.to_string()),
        }
    }
}
