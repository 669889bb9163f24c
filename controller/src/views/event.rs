//! Events as streams carry them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JobState, Timestamp};

/// One thing that happened. In a stream its `event:` is the kind and its `id:` the sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the one order of all events; send the last one seen as `Last-Event-ID`.
    #[schema(minimum = 1)]
    pub seq: i64,
    pub at: Timestamp,
    /// What happened (`job.succeeded`); readers skip kinds they do not know.
    pub kind: String,
    #[schema(value_type = Option<super::SiteIdText>)]
    pub site_id: Option<String>,
    #[schema(value_type = Option<super::EnvironmentIdText>)]
    pub environment_id: Option<String>,
    #[schema(value_type = Option<super::HostIdText>)]
    pub host_id: Option<String>,
    #[schema(value_type = Option<super::JobIdText>)]
    pub job_id: Option<String>,
    #[schema(value_type = Option<super::StackIdText>)]
    pub stack_id: Option<String>,
    /// What a reader needs to know of it.
    #[schema(value_type = Object)]
    pub document: serde_json::Value,
}

/// The data of the last event (`event: end`) of a job's stream: the job is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndOfStream {
    #[schema(value_type = super::JobIdText)]
    pub job_id: String,
    pub state: JobState,
}
