//! Desired state: looks at the config repository, stacks, and how they stand on their hosts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::present::present;
use super::{JobError, Labels, Timestamp};

/// How a look at the repository stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshState {
    /// The repository is fetched and read.
    Refreshing,
    /// Waits until the one that runs has ended.
    Queued,
    /// What was found is the snapshot now.
    Completed,
    /// What was known stays.
    Failed,
}

/// Who asked for a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshTrigger {
    /// A controller that started.
    Startup,
    /// A forge, because of a push.
    Webhook,
    /// A person or a program, through the API.
    Manual,
    /// The clock.
    Poll,
}

/// Why a look failed; what was known stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshError {
    /// What kind of thing is wrong: `auth`, `not_found`, `network`, `timeout`, `tls`, `host_key`,
    /// `ref`, `path`, `limit`, `corrupt`, `signature`, `interrupted`, `internal`.
    pub class: String,
    /// Stable, upper case.
    pub code: String,
    /// A sentence that says what to do; no secret.
    pub message: String,
}

/// One look at the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refresh {
    #[schema(value_type = super::RefreshIdText)]
    pub id: String,
    pub status: RefreshState,
    pub trigger: RefreshTrigger,
    pub requested_at: Timestamp,
    /// Null while it waits.
    pub started_at: Option<Timestamp>,
    /// Null until it has ended.
    pub finished_at: Option<Timestamp>,
    /// The newer look that took its place before it began, and answers for it; only in the history.
    #[schema(value_type = Option<super::RefreshIdText>)]
    pub replaced_by: Option<String>,
    /// The commit that was found, lower-case hex.
    pub revision: Option<String>,
    /// Why it failed, if it did.
    pub error: Option<RefreshError>,
    /// Stacks found, and how they differ from before; null unless it completed.
    pub counts: Option<RefreshCounts>,
    /// Milliseconds the fetch took, once it ended; of one that failed, all it took.
    pub fetch_ms: Option<u64>,
    /// Milliseconds the reading of the commit took, once it ended.
    pub read_ms: Option<u64>,
    /// Bytes that were fetched.
    pub bytes_received: Option<u64>,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshCounts {
    /// Stacks the commit has.
    pub stacks: u64,
    /// Not there before, or there again.
    pub added: u64,
    /// Of which a file, or what it says of itself, is another than before.
    pub changed: u64,
    /// No longer there.
    pub removed: u64,
    /// Stacks that cannot be synced as they stand.
    pub problems: u64,
}

/// One page of looks, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshPage {
    /// Those that were replaced by a newer one among them.
    pub items: Vec<Refresh>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// How the desired state stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefreshStatus {
    /// Whether a repository is configured at all.
    pub configured: bool,
    /// Of the look that runs or waits, or of the one that ended last; null: there was none.
    pub status: Option<RefreshState>,
    /// How the look that ended last went: `completed` or `failed`.
    pub outcome: Option<RefreshState>,
    /// When that one ended.
    pub finished_at: Option<Timestamp>,
    /// When a look completed last; what is known of stacks is of then.
    pub last_success_at: Option<Timestamp>,
    /// Whether the look that ended last failed, so that the repository may say something newer.
    pub stale: bool,
    /// The commit of the snapshot that holds.
    pub revision: Option<String>,
    /// What is known of that commit.
    pub commit: Option<Commit>,
    /// Who asked for the look that runs, or for the one that ended last.
    pub trigger: Option<RefreshTrigger>,
    /// Why the look that ended last failed.
    pub error: Option<RefreshError>,
    /// The look that runs.
    pub running: Option<Refresh>,
    /// The look that waits for the one that runs.
    pub queued: Option<Refresh>,
    /// The look that ended last.
    pub last: Option<Refresh>,
}

/// What is known of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// As the commit says.
    pub author: String,
    /// First line of its message.
    pub summary: String,
    pub committed_at: Timestamp,
}

/// The answer to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookAnswer {
    /// `refreshing`, `queued`, `completed` or `failed` of the look it asked for; `pong`; `ignored`.
    pub status: String,
    /// Why nothing was to be done, where it was ignored.
    pub reason: Option<String>,
    /// The look that answers for it.
    pub refresh: Option<Refresh>,
}

/// How a stack, or a stack on one host, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StackStatus {
    /// It was never synced.
    Missing,
    /// A sync is queued or runs.
    Syncing,
    /// What was synced last is there; it may be older than what should be (`out_of_sync`).
    Synced,
    /// It is being taken down, or waits for that.
    Deleting,
}

/// What is wrong with a stack until a commit puts it right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StackProblem {
    /// Stable, upper case.
    pub code: String,
    /// What is wrong, and where.
    pub message: String,
}

/// A stack in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StackRow {
    #[schema(value_type = super::StackIdText)]
    pub id: String,
    /// Its directory below the deploy directory; `.` is that itself.
    pub path: String,
    /// The compose project.
    pub project: String,
    /// The name of the file that counts, in its directory.
    pub compose_file: String,
    /// SHA-256 of the compose file, lower-case hex; null if its bytes could not be read.
    pub hash: Option<String>,
    /// One value over all its hosts.
    pub status: StackStatus,
    /// Whether a host runs something else than the repository says.
    pub out_of_sync: bool,
    /// The commit it was read from.
    pub revision: String,
    /// The commit it came or changed with.
    pub changed_in: String,
    /// Whether a host is no longer as it was synced, and nobody has accepted that.
    pub drifted: bool,
    /// Whether it is left alone, by a person or by its own compose file.
    pub suspended: bool,
    /// Why it is not synced until a commit puts that right.
    pub problem: Option<StackProblem>,
    /// What it waits for before it is synced, nothing being wrong with it: `WAITS_FOR_STACK`,
    /// `WAITS_FOR_PROJECT`, `WAITS_FOR_REMOVAL`.
    pub waits: Option<StackProblem>,
    /// How many hosts it is on or meant to be on.
    pub hosts: u32,
    /// On how many of them the last attempt to sync it, or to take it down, failed; one that will be
    /// made again counts, too.
    pub failed_hosts: u32,
    /// On how many of them a container is unhealthy or ends again and again, as seen last.
    pub unhealthy_hosts: u32,
    /// On how many of them nobody sees just now what runs: their agent has no session, or cannot ask
    /// Docker. All that is said of it there is of an earlier time.
    pub unseen_hosts: u32,
    /// Of one that is no longer in the repository: why its removal waits for a person; see
    /// `removal_waits` of its hosts.
    pub removal_held: Option<String>,
    /// When the last attempt ended, whatever came of it.
    pub last_sync_at: Option<Timestamp>,
}

/// One page of stacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StackPage {
    /// By path.
    pub items: Vec<StackRow>,
    /// Send it back as `after` for the next page; null on the last one.
    pub next: Option<String>,
    /// The commit of the snapshot that holds.
    pub revision: Option<String>,
    /// Whether the repository may say something newer: the last look failed.
    pub stale: bool,
}

/// A stack, with all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stack {
    #[serde(flatten)]
    pub row: StackRow,
    /// The name of the file beside it that is laid over it.
    pub override_file: Option<String>,
    /// Its directory below the repository's root; empty is the root.
    pub directory: String,
    /// Git's own name of all that stands in the directory.
    pub tree_oid: String,
    /// Stands for all its files, and those elsewhere it refers to; null with a problem.
    pub bundle_digest: Option<String>,
    /// Where it is meant to run.
    pub targets: StackTargets,
    /// What is odd about it and keeps nothing from being synced.
    pub warnings: Vec<String>,
    /// How it stands on each host it is on or meant to be on.
    pub on: Vec<StackOnHost>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Which hosts a stack is meant to run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StackTargets {
    /// By name.
    pub hosts: Vec<String>,
    /// Those that carry all of these; empty: none by labels.
    pub labels: Labels,
    /// Stacks that are synced before it.
    pub after: Vec<String>,
}

/// A stack on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StackOnHost {
    #[schema(value_type = super::HostIdText)]
    pub host_id: String,
    /// The host's name.
    pub host: String,
    /// Whether its agent has a session.
    pub connected: bool,
    pub status: StackStatus,
    /// Whether it runs something else than is wanted.
    pub out_of_sync: bool,
    /// The digest of what is wanted: bundle, settings and host; null while that cannot be said.
    pub wanted: Option<String>,
    /// The digest of what the host confirmed last.
    pub applied: Option<String>,
    /// The bundle of what it confirmed last.
    pub applied_bundle: Option<String>,
    /// The commit that was synced then.
    pub applied_revision: Option<String>,
    /// When the host confirmed it.
    pub applied_at: Option<Timestamp>,
    /// The job that is under way.
    #[schema(value_type = Option<super::JobIdText>)]
    pub job_id: Option<String>,
    /// Why that job's last attempt failed, if one did: it is made again, see `retry_at`.
    pub job_error: Option<JobError>,
    /// How the last job that ended went: a sync, or its removal from here.
    pub last: Option<StackAttempt>,
    /// A failure that may pass is not tried again before.
    pub retry_at: Option<Timestamp>,
    /// Why its removal from here waits for a person: `protected`, `many` or `suspended`, by a job that
    /// is held; `declined` after somebody cancelled it. Null otherwise.
    pub removal_waits: Option<String>,
    /// As last reported by the host.
    pub containers: Vec<Container>,
    /// When the host looked last; up to ten minutes older while nothing changes.
    pub seen_at: Option<Timestamp>,
    /// Why Docker could not be asked then.
    pub docker_unavailable: Option<String>,
    /// What is not as it was synced.
    pub drift: Vec<Drift>,
    /// Differences that are not named.
    pub drift_more: u64,
    /// Since when drift is no longer put right, since it came back again and again; a sync by hand,
    /// or something new to sync, ends that.
    pub loop_since: Option<Timestamp>,
}

/// One difference between a host and what was synced to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// `service_missing`, `service_stopped`, `service_changed`, `service_unknown`, `file_changed` or
    /// `file_missing`.
    pub kind: String,
    /// The service, or the file's path.
    pub subject: String,
    /// Whether a person said that it is well.
    pub accepted: bool,
}

/// Accept what differs from what was synced: it is neither shown as drift nor put right, until it
/// changes or something else is synced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptDrift {
    /// Names of hosts; all with drift, if not given.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 1000)]
    pub hosts: Option<Vec<String>>,
}

/// How the last sync, or the last attempt to take it down, ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StackAttempt {
    #[schema(value_type = super::JobIdText)]
    pub job_id: String,
    /// Whether the host confirmed it.
    pub succeeded: bool,
    /// Why it was begun.
    pub reason: String,
    /// When it ended.
    pub at: Timestamp,
    /// Why it failed, if it did.
    pub error: Option<JobError>,
    /// What was done to each service.
    pub services: Vec<ServiceChange>,
}

/// One service, what was done to it, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceChange {
    /// Its name in the compose file.
    pub service: String,
    /// `created`, `recreated`, `restarted`, `started`, `removed` or `unchanged`.
    pub action: String,
    /// For people: `its mounted file conf/site.conf changed`.
    pub reasons: Vec<String>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    pub name: String,
    /// The first twelve characters of its id.
    pub id: String,
    /// The service of the compose file it is of.
    pub service: String,
    /// As the compose file names it.
    pub image: String,
    /// The image's own id (`sha256:…`).
    pub image_id: String,
    /// Docker's word: `running`, `exited`, `restarting`, `paused`, `created`, `dead`.
    pub state: String,
    /// Docker's word where there is a health check: `healthy`, `unhealthy`, `starting`.
    pub health: Option<String>,
    /// Of one that does not run any more.
    pub exit_code: Option<i64>,
    /// How often Docker started it again.
    pub restarts: u64,
}

/// Sync a stack now, or take it down where it is to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncStack {
    /// Hosts by name or id; all it is meant to run on, if not given.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 1000)]
    pub hosts: Option<Vec<String>>,
    /// Also where the host runs just this already.
    #[serde(default)]
    #[schema(default = false)]
    pub force: bool,
    /// Take over a project that runs on the host and is not Hostler's.
    #[serde(default)]
    #[schema(default = false)]
    pub adopt: bool,
    /// Take it down where it is `deleting`, also where that waits for a person or was declined; not
    /// together with the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(default = false)]
    pub remove: bool,
}

/// Say what a sync would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanStack {
    /// Hosts by name or id; all it is meant to run on, if not given.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 1000)]
    pub hosts: Option<Vec<String>>,
}

/// Go back to what an earlier sync of the stack applied. The stack is suspended by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBackStack {
    /// A sync of this stack that succeeded.
    #[schema(value_type = super::JobIdText)]
    pub job_id: String,
}

/// The jobs that were queued, one for each host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StackJobs {
    /// In the order of the hosts' ids.
    pub jobs: Vec<StackJob>,
}

/// A job about a stack on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StackJob {
    #[schema(value_type = super::HostIdText)]
    pub host_id: String,
    /// The host's name.
    pub host: String,
    #[schema(value_type = super::JobIdText)]
    pub job_id: String,
}
