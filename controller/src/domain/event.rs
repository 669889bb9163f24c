//! Events: one row for everything that happened, in one dense order.

use hostler_protocol::id::{EnvironmentId, HostId, JobId, SiteId, StackId};

use super::Micros;

macro_rules! kinds {
    ($($name:ident = $text:literal;)*) => {
        /// What happened. Append-only: readers skip kinds they do not know.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind { $(#[doc = $text] $name,)* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The kind's stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The kind of that name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
            }
        }
    };
}

kinds! {
    SiteCreated = "site.created";
    SiteDeleted = "site.deleted";
    EnvironmentCreated = "environment.created";
    EnvironmentChanged = "environment.changed";
    EnvironmentDeleted = "environment.deleted";
    HostEnrolled = "host.enrolled";
    HostConnected = "host.connected";
    HostDisconnected = "host.disconnected";
    HostRevoked = "host.revoked";
    EnrolmentTokenCreated = "enrolment_token.created";
    ApiTokenCreated = "api_token.created";
    ApiTokenRevoked = "api_token.revoked";
    JobQueued = "job.queued";
    JobStarted = "job.started";
    JobAccepted = "job.accepted";
    JobProgress = "job.progress";
    JobCancelRequested = "job.cancel_requested";
    JobUnknown = "job.unknown";
    JobRetrying = "job.retrying";
    JobHeld = "job.held";
    JobReleased = "job.released";
    JobSucceeded = "job.succeeded";
    JobFailed = "job.failed";
    JobCancelled = "job.cancelled";
    JobLateOutcome = "job.late_outcome";
    JobKnown = "job.known";
    SiteRenamed = "site.renamed";
    HostRenamed = "host.renamed";
    HostDeleted = "host.deleted";
    EnrolmentTokenDeleted = "enrolment_token.deleted";
    HostCertificateRenewed = "host.certificate_renewed";
    HostRecovered = "host.recovered";
    HostLabelled = "host.labelled";
    BatchCreated = "batch.created";
    BatchStopped = "batch.stopped";
    BatchEnded = "batch.ended";
    HostHeld = "host.held";
    RefreshRequested = "refresh.requested";
    RefreshStarted = "refresh.started";
    RefreshCompleted = "refresh.completed";
    RefreshFailed = "refresh.failed";
    StackAdded = "stack.added";
    StackChanged = "stack.changed";
    StackRemoved = "stack.removed";
    StackStatusChanged = "stack.status_changed";
    StackGone = "stack.gone";
    StackObserved = "stack.observed";
}

impl EventKind {
    /// Whether it only tells how a job goes: it neither ends one nor makes another runnable.
    #[must_use]
    pub fn is_on_the_way(self) -> bool {
        matches!(self, Self::JobStarted | Self::JobAccepted | Self::JobProgress)
    }
}

/// What an event is about; each part that applies is set, so that a reader can filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    pub site: Option<SiteId>,
    pub environment: Option<EnvironmentId>,
    pub host: Option<HostId>,
    pub job: Option<JobId>,
    pub stack: Option<StackId>,
}

/// An event about to be appended.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub at: Micros,
    pub kind: EventKind,
    pub subject: Subject,
    /// A JSON object with what a reader needs and no secret.
    pub document: serde_json::Value,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Dense, from 1; survives dump and restore; the id of the event in streams.
    pub seq: i64,
    pub event: NewEvent,
}
