//! Labels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Keys and values: letters, digits, `-`, `_` and `.` (keys also `/`), at most 63 of them; at most 32
/// labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = json!({ "tier": "prod" }))]
pub struct Labels(pub BTreeMap<String, String>);

/// Labels to set, and (as null) to take away; others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = json!({ "tier": "prod", "canary": null }))]
pub struct LabelChanges(pub BTreeMap<String, Option<String>>);
