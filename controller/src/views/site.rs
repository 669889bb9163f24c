//! Sites.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// A name that groups environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Site {
    #[schema(value_type = super::SiteIdText)]
    pub id: String,
    pub name: String,
    pub created_at: Timestamp,
}

/// One page of sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SitePage {
    pub items: Vec<Site>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// A new site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSite {
    /// Unique; lower-case letters, digits and hyphens, beginning and ending with a letter or digit.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length = 63, example = "shop")]
    pub name: String,
}

/// Another name for a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameSite {
    /// As in the creation of a site.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length = 63, example = "shop")]
    pub name: String,
}
