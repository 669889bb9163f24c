//! What has to become of each service, and why: a pure function of what was, what is wanted and
//! what runs.
//!
//! Compose decides by itself which containers it makes anew; what it does not look at is what its
//! containers have mounted, and that is decided here. For the rest this is a forecast, and the
//! source of the reasons.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::job::ServiceAction;

use super::contents::Contents;
use super::resolved::{Resolved, Service};
use super::state::{Applied, Seen};
use super::stopped::{Stopped, looks_stopped};
use crate::host::docker::Container;

/// Reasons a service gives at most; the rest is counted.
const REASONS_MAX: usize = 10;

/// How a service is made to see other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remount {
    Restart,
    /// Configs and secrets may be copies made together with the container; and a container keeps the
    /// kind of what it has mounted, so one that mounts a file takes no directory in its place.
    Recreate,
}

/// What has to become of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub action: ServiceAction,
    /// For people; empty where nothing is done.
    pub reasons: Vec<String>,
    /// What it takes beside compose's `up`.
    pub remount: Option<Remount>,
    /// Somebody stopped it, and it stays so.
    pub left_out: bool,
    /// Its build context is another one.
    pub rebuild: bool,
}

/// By service.
pub type Intents = BTreeMap<String, Intent>;

/// All a decision is made from.
#[derive(Debug)]
pub struct Look<'a> {
    /// What was applied last, if that is known.
    pub before: Option<&'a Applied>,
    pub now: &'a Resolved,
    pub(super) contents: Contents<'a>,
    /// Files that are, or will be, other ones than running containers have seen.
    pub changed: &'a BTreeSet<String>,
    pub containers: &'a [Container],
    /// The ids of the services' images on this host, by name.
    pub images: &'a BTreeMap<String, String>,
    /// What somebody stopped, where it stays so.
    pub respected: Option<&'a Stopped>,
}

/// What has to become of each service, of those that are gone too.
#[must_use]
pub fn decide(look: &Look<'_>) -> Intents {
    let seen = look.now.seen(&look.contents);
    let mut intents: Intents = look
        .now
        .services
        .iter()
        .map(|(name, service)| (name.clone(), one(look, name, service, &seen[name])))
        .collect();
    for container in look.containers {
        intents.entry(container.service().to_owned()).or_insert_with(|| {
            Intent::because(ServiceAction::Removed, "it is no longer in the compose files")
        });
    }
    intents
}

impl Intent {
    fn because(action: ServiceAction, reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], ..Self::bare(action) }
    }

    fn bare(action: ServiceAction) -> Self {
        Self { action, reasons: Vec::new(), remount: None, left_out: false, rebuild: false }
    }
}

fn one(look: &Look<'_>, name: &str, service: &Service, now: &Seen) -> Intent {
    let own: Vec<_> = look.containers.iter().filter(|own| own.service() == name).collect();
    if own.is_empty() {
        return match service.replicas {
            0 => Intent::bare(ServiceAction::Unchanged),
            _ => Intent::because(ServiceAction::Created, "it has no container"),
        };
    }
    let Some(before) = look.before else {
        return Intent {
            remount: remount(look, service, None).map(|(how, _)| how),
            ..Intent::because(
                ServiceAction::Recreated,
                "how it was started is not known; compose makes it anew where it differs",
            )
        };
    };
    let known = before.services.get(name);
    let mut reasons = known.map_or_else(Vec::new, |known| redefined(&known.keys, &now.keys));
    let rebuild = known.is_some_and(|known| known.build != now.build) && service.is_built;
    if rebuild {
        reasons.push("its build context changed".to_owned());
    }
    let renewed = service.image.as_ref().and_then(|image| look.images.get(image));
    if renewed.is_some_and(|id| own.iter().any(|container| container.image != *id)) {
        reasons.push("its image is another one now".to_owned());
    }
    let has_replicas = own.len() as u64 == service.replicas;
    let mut intent = if reasons.is_empty() {
        Intent::bare(ServiceAction::Unchanged)
    } else {
        Intent { reasons, rebuild, ..Intent::bare(ServiceAction::Recreated) }
    };
    if let Some((how, why)) = remount(look, service, known.map(|known| (known, now))) {
        let action = match how {
            Remount::Restart => ServiceAction::Restarted,
            Remount::Recreate => ServiceAction::Recreated,
        };
        if intent.action == ServiceAction::Unchanged {
            intent.action = action;
        }
        intent.remount = Some(how);
        intent.reasons.extend(why);
    }
    if intent.action == ServiceAction::Unchanged {
        intent = idle(look, &own, known, has_replicas);
    }
    cut(&mut intent.reasons);
    intent
}

/// A service nothing changed about.
fn idle(look: &Look<'_>, own: &[&Container], known: Option<&Seen>, has_replicas: bool) -> Intent {
    let off: Vec<_> = own.iter().filter(|container| !container.is_running()).collect();
    if off.is_empty() && has_replicas {
        return Intent::bare(ServiceAction::Unchanged);
    }
    let by_hand = |(stopped, known): (&Stopped, &Seen)| {
        off.iter().all(|container| was_stopped(container, known, stopped))
    };
    if off.len() == own.len() && look.respected.zip(known).is_some_and(by_hand) {
        return Intent {
            left_out: true,
            ..Intent::because(ServiceAction::Unchanged, "somebody stopped it, and it stays so")
        };
    }
    match off.first() {
        None => Intent::because(ServiceAction::Created, "it has another number of containers"),
        Some(container) if container.is_done() => {
            Intent::because(ServiceAction::Started, "it had ended, and is run again")
        }
        Some(container) => {
            let state = &container.state;
            let reason = format!("it did not run ({}, status {})", state.status, state.exit_code);
            Intent::because(ServiceAction::Started, reason)
        }
    }
}

/// Whether a container that ran when its stack was applied was told to end since, or was left so.
pub(super) fn was_stopped(container: &Container, known: &Seen, stopped: &Stopped) -> bool {
    known.left_out && looks_stopped(container) || known.running > 0 && stopped.has(container)
}

fn redefined(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let all: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    all.into_iter()
        .filter_map(|key| match (before.get(key), now.get(key)) {
            (Some(before), Some(now)) if before == now => None,
            (None, Some(_)) => Some(format!("its `{key}` is new")),
            (Some(_), None) => Some(format!("its `{key}` is gone")),
            (_, _) => Some(format!("its `{key}` changed")),
        })
        .collect()
}

/// Whether what it has mounted has other content than it saw, how it gets to see it, and which
/// files that are. `seen` is what it saw, and what there will be to see.
fn remount(
    look: &Look<'_>,
    service: &Service,
    seen: Option<(&Seen, &Seen)>,
) -> Option<(Remount, Vec<String>)> {
    let mut how = None;
    let mut files = BTreeSet::new();
    for (path, given) in &service.mounts {
        let changed = look.contents.below(path, look.changed);
        let differs = seen.is_some_and(|(known, now)| {
            known.mounts.get(path).is_some_and(|before| Some(before) != now.mounts.get(path))
        });
        if changed.is_empty() && !differs {
            continue;
        }
        if changed.is_empty() {
            files.insert(if path.is_empty() { "." } else { path.as_str() });
        }
        files.extend(changed.iter().copied());
        // Files at a path and below it cannot be there at once: one has taken the other's place.
        let turned = changed.len() > 1 && look.contents.is_at(path, &changed);
        how = match (*given || turned, how) {
            (true, _) | (false, Some(Remount::Recreate)) => Some(Remount::Recreate),
            (false, Some(Remount::Restart) | None) => Some(Remount::Restart),
        };
    }
    let told = files.iter().map(|file| format!("its mounted file {file} changed")).collect();
    how.map(|how| (how, told))
}

fn cut(reasons: &mut Vec<String>) {
    let over = reasons.len().saturating_sub(REASONS_MAX);
    if over > 0 {
        reasons.truncate(REASONS_MAX);
        reasons.push(format!("and {over} more reasons"));
    }
}
