//! What can go wrong with a repository, by who has to do something about it.

use crate::domain::stack::tree::TreeError;

/// Whose turn it is when the repository could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The credentials are missing, wrong, or not enough.
    Auth,
    /// The server knows no such repository.
    NotFound,
    /// The server cannot be reached, or does not speak git.
    Network,
    /// The server took longer than permitted.
    Timeout,
    /// The server's certificate is not trusted.
    Tls,
    /// The server's ssh key is not the pinned one.
    HostKey,
    /// The repository has no such branch, tag or commit.
    Ref,
    /// The commit has no such directory.
    Path,
    /// The repository is larger than the settings permit.
    Limit,
    /// What was received, or what is on disk, is damaged.
    Corrupt,
    /// The commit is not signed by a listed key.
    Signature,
    /// The controller itself stopped the fetch.
    Cancelled,
    /// Something of this machine's own: its disk, its programs, its settings.
    Internal,
}

impl Class {
    /// The stable code that stands in run histories and answers.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Auth => "GIT_AUTH_FAILED",
            Self::NotFound => "GIT_REPOSITORY_NOT_FOUND",
            Self::Network => "GIT_UNREACHABLE",
            Self::Timeout => "GIT_TIMEOUT",
            Self::Tls => "GIT_TLS_FAILED",
            Self::HostKey => "GIT_HOST_KEY_REFUSED",
            Self::Ref => "GIT_REF_NOT_FOUND",
            Self::Path => "GIT_PATH_NOT_FOUND",
            Self::Limit => "GIT_LIMIT_EXCEEDED",
            Self::Corrupt => "GIT_DATA_CORRUPT",
            Self::Signature => "GIT_SIGNATURE_REFUSED",
            Self::Cancelled => "GIT_CANCELLED",
            Self::Internal => "GIT_INTERNAL",
        }
    }

    /// Whether trying again may help while nobody does anything.
    #[must_use]
    pub fn passes(self) -> bool {
        match self {
            Self::Network | Self::Timeout | Self::Corrupt | Self::Cancelled | Self::Internal => {
                true
            }
            Self::Auth
            | Self::NotFound
            | Self::Tls
            | Self::HostKey
            | Self::Ref
            | Self::Path
            | Self::Limit
            | Self::Signature => false,
        }
    }
}

/// Longest text of a library or a server that a message quotes, in bytes.
const DETAIL_BYTES_MAX: usize = 300;

/// Why a repository could not be fetched or read. The message says what to do; it never holds a
/// credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GitError {
    class: Class,
    message: String,
}

impl GitError {
    pub(super) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// An error of this machine's own, while doing something.
    pub(super) fn internal(doing: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Class::Internal, format!("{doing}: {why}"))
    }

    /// Objects that are missing or damaged in the mirror.
    pub(super) fn corrupt(what: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("{what} ({why}); the mirror is fetched anew at the next refresh");
        Self::new(Class::Corrupt, message)
    }

    /// A fetch that the controller itself stopped.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Class::Cancelled, "the controller stops; it looks again when it starts")
    }

    /// A fetch and a reading that went on past all their deadlines.
    #[must_use]
    pub fn overdue(secs: u64) -> Self {
        let message = format!("fetching and reading took more than {secs} s and was given up");
        Self::new(Class::Timeout, message)
    }

    /// What was given up before goes on all the same, and nothing else is begun beside it.
    #[must_use]
    pub fn still_hangs() -> Self {
        let message = "an earlier refresh that was given up still hangs on this machine, and no other \
                       is begun beside it: look at the disk and at the files that the git settings name, \
                       or start the controller again";
        Self::new(Class::Timeout, message)
    }

    /// Something of the controller's own.
    #[must_use]
    pub fn broken(message: &str) -> Self {
        Self::new(Class::Internal, message)
    }

    /// Whose turn it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The class's stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.class.code()
    }
}

impl From<TreeError> for GitError {
    fn from(error: TreeError) -> Self {
        let class = match &error {
            TreeError::TooLarge { .. } | TreeError::Limit(_) => Class::Limit,
            TreeError::Missing | TreeError::Unreadable(_) => Class::Corrupt,
            TreeError::Cancelled => Class::Cancelled,
        };
        Self::new(class, error.to_string())
    }
}

/// An error and all its sources in one line, for messages: no control characters, not too long.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    plain(&text)
}

/// Foreign text made fit for a message.
pub(super) fn plain(text: &str) -> String {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.chars().filter(|c| !c.is_control()).collect())
        .collect();
    let mut line = words.join(" ");
    if line.len() > DETAIL_BYTES_MAX {
        line.truncate(beginning(&line, DETAIL_BYTES_MAX).len());
        line.push('…');
    }
    line
}

/// As many whole characters as fit.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_fits_a_message() {
        assert_eq!(plain(" a\n\tb\u{1b}[0m  c "), "a b[0m c");
        let long = plain(&"é".repeat(400));
        assert_eq!(long, format!("{}…", "é".repeat(150)));
        assert_eq!((beginning("aé", 2), beginning("aé", 3), beginning("", 5)), ("a", "aé", ""));
    }
}
