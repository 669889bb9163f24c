//! Webhooks of forges: whether a delivery is from who knows the secret, and what it says.
//!
//! A delivery is verified over its raw bytes before a byte of it is read. A delivery that is
//! genuine but not understood asks for a refresh: one too many does no harm, one too few does.

mod form;
mod payload;
mod signature;

pub use payload::{
    DELIVERY_ID_BYTES_MAX, Delivery, Event, REFERENCE_BYTES_MAX, RefChange, Verdict, concerns,
    parse,
};
pub use signature::{SIGNED_WITHIN_SECS, Scheme, Unverified, verify};

/// Who sent a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forge {
    Github,
    Gitea,
    Forgejo,
    Gogs,
    Gitlab,
    Bitbucket,
    /// Anybody else who signs as one of them does.
    Generic,
}

impl Forge {
    /// The forge's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::Gogs => "gogs",
            Self::Gitlab => "gitlab",
            Self::Bitbucket => "bitbucket",
            Self::Generic => "generic",
        }
    }
}

/// The headers of a request: names in any case, and values.
pub type Headers<'a> = [(&'a str, &'a str)];

/// The values of a header, in the order they came.
fn values<'a>(headers: &'a Headers<'_>, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// The first value of a header.
fn first<'a>(headers: &'a Headers<'_>, name: &'a str) -> Option<&'a str> {
    values(headers, name).next()
}
