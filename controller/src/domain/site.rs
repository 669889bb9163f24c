//! A site: a name that groups environments.

use hostler_protocol::id::SiteId;

use super::Micros;

/// A group of environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub id: SiteId,
    /// Unique, lower case: letters, digits and hyphens.
    pub name: String,
    pub created_at: Micros,
}
