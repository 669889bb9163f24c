//! What a verified delivery says, and whether it concerns the reference we follow.
//!
//! Only a handful of fields is read, and each may be absent: forges differ and change. What cannot
//! be read at all is an event of its own.

use serde::Deserialize;

use super::{Forge, Headers, first, form};

/// Longest delivery id that is kept, in bytes.
pub const DELIVERY_ID_BYTES_MAX: usize = 128;
/// Longest reference that is kept, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 1024;

/// A reference that a push moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefChange {
    /// In full: `refs/heads/main`.
    pub reference: String,
    /// What it points to now, if the delivery says so and it is not deleted.
    pub after: Option<String>,
    pub deleted: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// References moved; at least one.
    Push(Vec<RefChange>),
    /// The forge tries whether we are there.
    Ping,
    /// Something that moves no reference, by the forge's name of it.
    Other(String),
    /// It may be a push, but what it moved cannot be told.
    Unreadable,
}

/// A verified delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub forge: Forge,
    /// The forge's own id of it, the same when it is sent again.
    pub delivery_id: Option<String>,
    pub event: Event,
    /// The repository's default branch, if the delivery names it.
    pub default_branch: Option<String>,
}

/// What a delivery asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Refresh,
    /// Nothing, and why.
    Ignored(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload {
    r#ref: Option<String>,
    ref_type: Option<String>,
    after: Option<String>,
    deleted: Option<bool>,
    object_kind: Option<String>,
    event_name: Option<String>,
    repository: Option<Repository>,
    project: Option<Repository>,
    push: Option<BitbucketPush>,
    changes: Option<Vec<ServerChange>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Repository {
    default_branch: Option<String>,
    mainbranch: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BitbucketPush {
    changes: Vec<BitbucketChange>,
}

/// A change of Bitbucket's cloud: `new` is null if the reference is deleted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BitbucketChange {
    old: Option<BitbucketRef>,
    new: Option<BitbucketRef>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BitbucketRef {
    r#type: Option<String>,
    name: Option<String>,
    target: Option<Target>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    hash: Option<String>,
}

/// A change of Bitbucket's server (Data Center).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServerChange {
    ref_id: Option<String>,
    to_hash: Option<String>,
    r#type: Option<String>,
}

/// Reads a delivery; verify it first.
#[must_use]
pub fn parse(headers: &Headers<'_>, body: &[u8]) -> Delivery {
    let (forge, name) = sender(headers);
    let delivery_id = delivery_id(forge, headers);
    let form = first(headers, "content-type")
        .is_some_and(|kind| kind.trim_start().starts_with("application/x-www-form-urlencoded"));
    let read = |json: &[u8]| serde_json::from_slice::<Payload>(json).ok();
    // Clients that name no type of their own, as curl, say "form" and send JSON all the same.
    let payload = match read(body) {
        None if form => form::payload(body).and_then(|json| read(&json)),
        payload => payload,
    };
    let default_branch = payload.as_ref().and_then(default_branch);
    let event = event(name, payload.as_ref());
    Delivery { forge, delivery_id, event, default_branch }
}

/// Who sent a delivery, and what it calls its event. Forgejo, Gitea and Gogs also send the headers
/// of those they come from, so the youngest counts.
fn sender<'a>(headers: &'a Headers<'a>) -> (Forge, Option<&'a str>) {
    for (forge, header) in [
        (Forge::Forgejo, "x-forgejo-event"),
        (Forge::Gitea, "x-gitea-event"),
        (Forge::Gogs, "x-gogs-event"),
        (Forge::Gitlab, "x-gitlab-event"),
        (Forge::Github, "x-github-event"),
        (Forge::Bitbucket, "x-event-key"),
    ] {
        if let Some(event) = first(headers, header) {
            return (forge, Some(event));
        }
    }
    (Forge::Generic, None)
}

fn delivery_id(forge: Forge, headers: &Headers<'_>) -> Option<String> {
    let names: &[&str] = match forge {
        Forge::Github => &["x-github-delivery"],
        Forge::Gitea => &["x-gitea-delivery"],
        Forge::Forgejo => &["x-forgejo-delivery", "x-gitea-delivery"],
        Forge::Gogs => &["x-gogs-delivery"],
        Forge::Gitlab => &["webhook-id", "idempotency-key", "x-gitlab-event-uuid"],
        Forge::Bitbucket => &["x-request-uuid", "x-request-id"],
        Forge::Generic => &["webhook-id", "x-delivery-id", "x-request-id"],
    };
    let id = names.iter().find_map(|name| first(headers, name))?.trim();
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && id.len() <= DELIVERY_ID_BYTES_MAX).then(|| id.to_owned())
}

fn default_branch(payload: &Payload) -> Option<String> {
    let of = |repository: &Repository| {
        let main = repository.mainbranch.as_ref().and_then(|branch| branch.name.clone());
        repository.default_branch.clone().or(main)
    };
    let named = payload.repository.as_ref().and_then(of);
    named.or_else(|| payload.project.as_ref().and_then(of))
}

/// The kinds of events that matter, whatever a forge calls them.
enum Kind {
    Push,
    /// A reference was made or deleted; which one stands in `ref` and `ref_type`.
    Reference {
        deleted: bool,
    },
    Ping,
    Other,
    /// Not named: the payload tells.
    Unnamed,
}

fn kind(name: Option<&str>, payload: Option<&Payload>) -> Kind {
    // GitLab's system hooks name the event only within.
    let named = match name {
        None | Some("System Hook") => payload
            .and_then(|payload| payload.object_kind.as_deref().or(payload.event_name.as_deref())),
        Some(name) => Some(name),
    };
    match named {
        None => Kind::Unnamed,
        Some(
            "push" | "tag_push" | "Push Hook" | "Tag Push Hook" | "repo:push" | "repo:refs_changed",
        ) => Kind::Push,
        Some("create") => Kind::Reference { deleted: false },
        Some("delete") => Kind::Reference { deleted: true },
        Some("ping" | "diagnostics:ping") => Kind::Ping,
        Some(_) => Kind::Other,
    }
}

fn event(name: Option<&str>, payload: Option<&Payload>) -> Event {
    let changes = match kind(name, payload) {
        Kind::Ping => return Event::Ping,
        Kind::Other => return Event::Other(short(name.unwrap_or("unnamed"))),
        Kind::Push | Kind::Unnamed => payload.map(pushed),
        Kind::Reference { deleted } => payload.map(|payload| made(payload, deleted)),
    };
    let Some(mut changes) = changes else { return Event::Unreadable };
    changes.retain(|change| change.reference.len() <= REFERENCE_BYTES_MAX);
    if changes.is_empty() { Event::Unreadable } else { Event::Push(changes) }
}

fn short(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The references a push moved, in each forge's words.
fn pushed(payload: &Payload) -> Vec<RefChange> {
    let mut changes = Vec::new();
    if let Some(reference) = &payload.r#ref {
        let zero = |id: &String| !id.is_empty() && id.bytes().all(|byte| byte == b'0');
        let deleted = payload.deleted == Some(true) || payload.after.as_ref().is_some_and(zero);
        let after = payload.after.clone().filter(|_| !deleted);
        changes.push(RefChange { reference: full(reference, None), after, deleted });
    }
    for change in payload.push.iter().flat_map(|push| &push.changes) {
        let Some(at) = change.new.as_ref().or(change.old.as_ref()) else { continue };
        let Some(name) = &at.name else { continue };
        let hash = at.target.as_ref().and_then(|target| target.hash.clone());
        let deleted = change.new.is_none();
        let reference = full(name, at.r#type.as_deref());
        changes.push(RefChange { reference, after: hash.filter(|_| !deleted), deleted });
    }
    for change in payload.changes.iter().flatten() {
        let Some(reference) = &change.ref_id else { continue };
        let deleted = change.r#type.as_deref() == Some("DELETE");
        let after = change.to_hash.clone().filter(|_| !deleted);
        changes.push(RefChange { reference: full(reference, None), after, deleted });
    }
    changes
}

fn made(payload: &Payload, deleted: bool) -> Vec<RefChange> {
    let Some(name) = &payload.r#ref else { return Vec::new() };
    let reference = full(name, payload.ref_type.as_deref());
    vec![RefChange { reference, after: None, deleted }]
}

/// A reference's full name; what has none is a branch, unless it is said to be a tag.
fn full(name: &str, kind: Option<&str>) -> String {
    if name.starts_with("refs/") {
        name.to_owned()
    } else if kind == Some("tag") || kind == Some("annotated_tag") {
        format!("refs/tags/{name}")
    } else {
        format!("refs/heads/{name}")
    }
}

/// Whether a delivery concerns the reference that is followed: a branch or tag by its name, one in
/// full, a commit, or nothing (or `HEAD`) for the default branch.
#[must_use]
pub fn concerns(setting: &str, delivery: &Delivery) -> Verdict {
    let changes = match &delivery.event {
        Event::Ping => return Verdict::Ignored("a ping: the webhook works".to_owned()),
        Event::Other(name) => {
            return Verdict::Ignored(format!("the event `{name}` moves no reference"));
        }
        Event::Unreadable => return Verdict::Refresh,
        Event::Push(changes) => changes,
    };
    let default = delivery.default_branch.as_deref();
    if changes.iter().any(|change| moves(setting, &change.reference, default)) {
        return Verdict::Refresh;
    }
    let moved: Vec<&str> = changes.iter().take(3).map(|change| change.reference.as_str()).collect();
    let more = if changes.len() > 3 { " and others" } else { "" };
    let followed = if setting.is_empty() { "the default branch" } else { setting };
    Verdict::Ignored(format!("{}{more} moved; {followed} is followed", moved.join(", ")))
}

/// Whether what `setting` names moves when a reference does.
fn moves(setting: &str, reference: &str, default: Option<&str>) -> bool {
    if setting.is_empty() || setting == "HEAD" {
        // Without knowing the default branch, any branch may be it.
        let branch = reference.strip_prefix("refs/heads/");
        return branch.is_some_and(|branch| default.is_none_or(|default| default == branch));
    }
    let is_commit = matches!(setting.len(), 40 | 64)
        && setting.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    // A commit does not move, but a push may be what brings it.
    is_commit
        || reference == setting
        || reference.strip_prefix("refs/") == Some(setting)
        || reference.strip_prefix("refs/heads/") == Some(setting)
        || reference.strip_prefix("refs/tags/") == Some(setting)
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
