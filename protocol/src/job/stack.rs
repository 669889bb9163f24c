//! What jobs about compose stacks are told, and what they have to say.

use serde::{Deserialize, Serialize};

use crate::id::StackId;

/// Longest a sync may wait for its services to be healthy, in seconds.
pub const HEALTH_SECS_MAX: u32 = 3600;

/// A stack as its host sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackDoc {
    pub id: StackId,
    /// Its directory below the deploy directory; `.` is that directory itself. For people.
    pub path: String,
    /// The compose project: what its containers, networks and volumes are named after.
    pub project: String,
}

/// When images are pulled before `up`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Those the host does not have.
    #[default]
    Missing,
    /// All of them, each time.
    Always,
    /// None.
    Never,
}

/// What becomes of containers that somebody stopped by hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStopped {
    /// A sync starts them.
    #[default]
    Start,
    /// They stay as they are until their service changes.
    Respect,
}

/// Make a stack run as a bundle says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackSyncSpec {
    pub stack: StackDoc,
    /// The name of the bundle ([`crate::bundle`]).
    pub bundle: String,
    /// The stack's directory inside the bundle; empty is the bundle's root. Compose's project
    /// directory.
    pub directory: String,
    /// The compose files in the order of their `-f`, each relative to the bundle's root.
    pub compose_files: Vec<String>,
    /// Stands for everything that is wanted: bundle, settings and host. The agent keeps it beside
    /// what it applied, and says it.
    pub desired: String,
    #[serde(default)]
    pub pull: PullPolicy,
    /// Seconds the services have to become healthy after `up`; see [`HEALTH_SECS_MAX`].
    pub health_secs: u32,
    #[serde(default)]
    pub user_stopped: UserStopped,
    /// Take a project over that runs on the host and was not Hostler's.
    #[serde(default)]
    pub adopt: bool,
    /// Run `up` also where the host runs just this already.
    #[serde(default)]
    pub force: bool,
}

/// Say what a sync would do; changes nothing. The fields are those of [`StackSyncSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StackPlanSpec(pub StackSyncSpec);

/// Take a stack down, by the bundle the host applied last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackDownSpec {
    pub stack: StackDoc,
    /// Also its volumes, with all that is in them.
    #[serde(default)]
    pub volumes: bool,
}

/// What becomes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceAction {
    Created,
    Recreated,
    Restarted,
    Started,
    Removed,
    Unchanged,
}

/// One service, what was or would be done to it, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    pub service: String,
    pub action: ServiceAction,
    /// Each a short text for people (`its mounted file conf/site.conf changed`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What became of a file of the bundle on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAction {
    Added,
    Changed,
    Removed,
    /// No longer in the bundle, but not as Hostler wrote it: it stays.
    Kept,
}

/// One file that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    pub path: String,
    pub action: FileAction,
}

/// Most files a result names; `files_more` counts the rest.
pub const NAMED_FILES_MAX: usize = 200;

/// Result of `stack_sync` and `stack_plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackSyncResult {
    /// As the spec said.
    pub desired: String,
    pub bundle: String,
    /// Whether anything was (or would be) done to a container or a file.
    pub changed: bool,
    pub services: Vec<ServiceChange>,
    #[serde(default)]
    pub files: Vec<FileChange>,
    #[serde(default)]
    pub files_more: u64,
    /// What runs now; empty in a plan.
    #[serde(default)]
    pub containers: Vec<ContainerDoc>,
    /// The compose program that did it (`docker compose 2.26.1`).
    pub compose: String,
}

/// Result of `stack_down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackDownResult {
    /// Containers removed.
    pub containers: u32,
    /// Volumes that are still there, or went with it.
    #[serde(default)]
    pub volumes_kept: Vec<String>,
    #[serde(default)]
    pub volumes_removed: Vec<String>,
    /// Whether the stack's files were removed from the host.
    pub files_removed: bool,
}

/// A container of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerDoc {
    pub name: String,
    /// The first twelve characters of its id.
    pub id: String,
    pub service: String,
    /// As the image is named in the compose file.
    pub image: String,
    /// The image's own id (`sha256:…`).
    pub image_id: String,
    /// Docker's word: `running`, `exited`, `restarting`, `paused`, `created`, `dead`.
    pub state: String,
    /// Docker's word where there is a health check: `healthy`, `unhealthy`, `starting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    #[serde(default)]
    pub restarts: u64,
}
