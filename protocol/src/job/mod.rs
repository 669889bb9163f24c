//! Job documents: what a job is (spec), how it goes (progress), how it ended (outcome).
//!
//! They are JSON, versioned by their fields: readers ignore what they do not know, writers only
//! ever add optional fields. Times are microseconds since the Unix epoch, UTC; sizes are bytes.

mod code;
mod environment;
mod executor;
mod outcome;
mod page_url;
mod result;
mod spec;
mod stack;

pub use code::{Code, Retry};
pub use environment::{
    AppKind, EnvironmentDoc, FastcgiDoc, HealthDoc, KEY_FORMAT_DEFAULT, NginxDoc, RedisDoc,
};
pub use executor::Executor;
pub use outcome::{JobError, Outcome, OutcomeState, Progress, StepReport, StepState};
pub use page_url::PageUrl;
pub use result::{
    CacheStatus, CheckFinding, CheckResult, ExplainEntry, ExplainReason, ExplainResult,
    FactsResult, FastcgiPurge, FlagResult, PurgeResult, RedisPurge, RemoveResult, Severity,
    ToggleResult, UrlPurge, UrlWarm, WarmResult, WarmState,
};
pub use spec::{
    CacheSet, CheckSpec, ExplainSpec, FactsSpec, JobDoc, JobSpec, JobType, LISTS_BYTES_MAX,
    PROBED_URLS_MAX, PURGE_PREFIXES_MAX, PURGE_TAGS_MAX, PURGE_URLS_MAX, PurgeMode, PurgeScope,
    PurgeSpec, RemoveSpec, Selection, Subject, TAG_BYTES_MAX, ToggleSpec, WARM_URLS_MAX, WarmSpec,
};

pub use stack::{
    ContainerDoc, FileAction, FileChange, HEALTH_SECS_MAX, NAMED_FILES_MAX, PullPolicy,
    ServiceAction, ServiceChange, StackDoc, StackDownResult, StackDownSpec, StackPlanSpec,
    StackSyncResult, StackSyncSpec, UserStopped,
};

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not JSON of the expected shape.
    #[error("the {document} document cannot be read")]
    Decode {
        document: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The document is larger than its limit.
    #[error("the {document} document has {bytes} bytes; the limit is {limit_bytes}")]
    TooLarge { document: &'static str, bytes: usize, limit_bytes: usize },
}

/// Reads a document of at most `limit_bytes`.
///
/// # Errors
/// [`DocumentError::TooLarge`] over the limit, [`DocumentError::Decode`] if the shape is wrong.
pub fn read<T: serde::de::DeserializeOwned>(
    document: &'static str,
    bytes: &[u8],
    limit_bytes: usize,
) -> Result<T, DocumentError> {
    if bytes.len() > limit_bytes {
        return Err(DocumentError::TooLarge { document, bytes: bytes.len(), limit_bytes });
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Decode { document, source })
}

/// Writes a document as JSON.
#[must_use]
pub fn write<T: serde::Serialize>(document: &T) -> Vec<u8> {
    // These types have string keys and no fallible serialisers, the only two ways this can fail.
    serde_json::to_vec(document).unwrap_or_default()
}
