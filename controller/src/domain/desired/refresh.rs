//! One look at the config repository, from its request to its end.

use hostler_protocol::id::{ControllerId, RefreshId};
use serde::{Deserialize, Serialize};

use crate::domain::Micros;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one of that name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text)
            }
        }
    };
}

named! {
    /// Who asked for a look.
    Trigger {
        Startup = "startup",
        Webhook = "webhook",
        Manual = "manual",
        Poll = "poll",
    }
}

named! {
    /// How far a look is.
    RefreshState {
        /// Waits for the one that runs.
        Queued = "queued",
        Refreshing = "refreshing",
        Completed = "completed",
        Failed = "failed",
        /// A newer request took its place before it began: that one answers for both.
        Replaced = "replaced",
    }
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    pub id: RefreshId,
    pub trigger: Trigger,
    pub state: RefreshState,
    pub replaced_by: Option<RefreshId>,
    /// The webhook's delivery, if one brought it: `forge:id`.
    pub delivery: Option<String>,
    /// The controller that carries it out.
    pub controller: Option<ControllerId>,
    pub requested_at: Micros,
    pub started_at: Option<Micros>,
    pub finished_at: Option<Micros>,
    pub revision: Option<String>,
    pub report: Option<RefreshReport>,
}

/// What came of a look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshReport {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RefreshError>,
    /// Whether the repository had another commit than the snapshot.
    #[serde(default)]
    pub moved: bool,
    #[serde(default)]
    pub stacks: u64,
    #[serde(default)]
    pub added: u64,
    #[serde(default)]
    pub changed: u64,
    #[serde(default)]
    pub removed: u64,
    /// Stacks that cannot be synced as they stand.
    #[serde(default)]
    pub problems: u64,
    #[serde(default)]
    pub fetch_ms: u64,
    #[serde(default)]
    pub read_ms: u64,
    #[serde(default)]
    pub bytes_received: u64,
}

/// Why a look failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshError {
    /// What kind of thing is wrong (`auth`, `network`, `ref`, …).
    pub class: String,
    /// A stable code.
    pub code: String,
    /// A sentence that says what to do; no secret.
    pub message: String,
}
