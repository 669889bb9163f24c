//! What became of a stack's containers, from how they were before and after.

use std::collections::BTreeSet;

use hostler_protocol::job::{ContainerDoc, ServiceAction, ServiceChange};

use super::decide::Intents;
use super::state::Seen;
use crate::host::docker::Container;

/// Characters of a container's id that people are shown.
const ID_CHARS: usize = 12;

/// What was done to each service, by what its containers say, with the reasons there were.
#[must_use]
pub fn outcome(before: &[Container], after: &[Container], intents: &Intents) -> Vec<ServiceChange> {
    let names: BTreeSet<&str> =
        intents.keys().map(String::as_str).chain(after.iter().map(Container::service)).collect();
    names
        .into_iter()
        .map(|service| {
            let action = action(&of(before, service), &of(after, service));
            let intent = intents.get(service);
            let mut reasons = intent.map(|intent| intent.reasons.clone()).unwrap_or_default();
            let left_out = intent.is_some_and(|intent| intent.left_out);
            if action == ServiceAction::Unchanged && !left_out {
                reasons.clear();
            } else if action == ServiceAction::Started && left_out {
                reasons = vec!["another service depends on it".to_owned()];
            } else if reasons.is_empty() {
                reasons.push("compose found it to be another one".to_owned());
            }
            ServiceChange { service: service.to_owned(), action, reasons }
        })
        .collect()
}

pub(super) fn of<'a>(containers: &'a [Container], service: &str) -> Vec<&'a Container> {
    containers.iter().filter(|own| own.service() == service).collect()
}

fn action(before: &[&Container], after: &[&Container]) -> ServiceAction {
    let ids = |own: &[&Container]| own.iter().map(|own| own.id.clone()).collect::<BTreeSet<_>>();
    let (was, is) = (ids(before), ids(after));
    if was.is_empty() && is.is_empty() {
        return ServiceAction::Unchanged;
    }
    if is.is_empty() {
        return ServiceAction::Removed;
    }
    if was.is_empty() || was.is_subset(&is) && was != is {
        return ServiceAction::Created;
    }
    if !is.is_subset(&was) {
        return ServiceAction::Recreated;
    }
    let mut action = ServiceAction::Unchanged;
    for own in after {
        let Some(before) = before.iter().find(|before| before.id == own.id) else { continue };
        if before.state.started_at == own.state.started_at {
            continue;
        }
        if before.is_running() {
            return ServiceAction::Restarted;
        }
        action = ServiceAction::Started;
    }
    if action == ServiceAction::Unchanged && is != was {
        return ServiceAction::Removed;
    }
    action
}

/// Containers as the outside is told of them.
#[must_use]
pub fn containers(containers: &[Container]) -> Vec<ContainerDoc> {
    let doc = |own: &Container| ContainerDoc {
        name: own.name().to_owned(),
        id: own.id.chars().take(ID_CHARS).collect(),
        service: own.service().to_owned(),
        image: own.image_name().to_owned(),
        image_id: own.image.clone(),
        state: own.state.status.clone(),
        health: own.health().map(str::to_owned),
        exit_code: (!own.is_running()).then_some(own.state.exit_code),
        restarts: own.restart_count,
    };
    containers.iter().map(doc).collect()
}

/// Containers a killed compose left behind while it replaced them, and trips over the next time: each
/// has another one beside it that does its work, or will.
pub(super) fn leftovers(containers: &[Container]) -> impl Iterator<Item = &Container> {
    containers.iter().filter(|own| {
        let has_other = || {
            let mut others = containers.iter().filter(|other| other.service() == own.service());
            others.any(|other| other.id != own.id && !other.is_half_replaced())
        };
        own.is_half_replaced() && !own.is_running() && has_other()
    })
}

/// Adds how a service's containers are to what is remembered of it.
pub(super) fn remember(seen: &mut Seen, service: &str, containers: &[Container], left_out: bool) {
    let own = of(containers, service);
    let count = |found: usize| u32::try_from(found).unwrap_or(u32::MAX);
    // One that waits to be started again is meant to run.
    let is_to_run = |own: &&&Container| own.is_running() || own.is_restarting();
    seen.running = count(own.iter().filter(is_to_run).count());
    seen.ended = count(own.iter().filter(|own| own.is_done()).count());
    seen.hashes = own.iter().map(|own| own.config_hash().to_owned()).collect();
    seen.images = own.iter().map(|own| own.image.clone()).collect();
    seen.left_out = left_out && seen.running == 0;
    seen.restarts = own.iter().map(|own| own.restart_count).max().unwrap_or(0);
}
