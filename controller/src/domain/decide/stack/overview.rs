//! All stacks, hosts and jobs at once, and which hosts each stack is meant to run on.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, JobId, StackId};
use hostler_protocol::job::PullPolicy;

use crate::domain::desired::{DesiredState, Stack, StackFacts, StackHost, StackSettings};
use crate::domain::stack::fingerprint::{UpSettings, desired_digest};
use crate::domain::stack::hostler;
use crate::domain::{Job, Labels};

/// A host as targeting sees it: an enrolled one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub host: HostId,
    pub name: String,
    pub labels: Labels,
}

/// Everything a look is made on.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    pub desired: Option<DesiredState>,
    pub stacks: Vec<Stack>,
    pub rows: Vec<StackHost>,
    /// Enrolled hosts.
    pub places: Vec<Place>,
    /// Those among them that have no session.
    pub away: BTreeSet<HostId>,
    /// The jobs that rows name.
    pub jobs: BTreeMap<JobId, Job>,
}

/// The hosts a stack is meant to run on: those it names, and those with all its labels.
#[must_use]
pub fn targets<'p>(settings: &StackSettings, places: &'p [Place]) -> Vec<&'p Place> {
    let labelled = |place: &&Place| {
        let carries = |(key, value): (&String, &String)| place.labels.get(key) == Some(value);
        !settings.labels.is_empty() && settings.labels.iter().all(carries)
    };
    let meant = |place: &&Place| settings.hosts.contains(&place.name) || labelled(place);
    places.iter().filter(meant).collect()
}

/// What a stack is to be on each of its hosts, by the digest that stands for it.
#[must_use]
pub fn wanted(stack: &Stack, places: &[Place]) -> BTreeMap<HostId, Option<String>> {
    if !stack.present {
        return BTreeMap::new();
    }
    let digest_on = |host: &HostId| {
        let bundle = stack.facts.bundle_digest.as_ref()?;
        let sound = stack.facts.problem.is_none();
        sound.then(|| digest(bundle, &stack.facts, host))
    };
    let meant = targets(&stack.facts.settings, places);
    meant.into_iter().map(|place| (place.host.clone(), digest_on(&place.host))).collect()
}

fn digest(bundle: &str, facts: &StackFacts, host: &HostId) -> String {
    let settings = UpSettings {
        project: &facts.project,
        directory: &facts.directory,
        compose_file: &facts.compose_file,
        override_file: facts.override_file.as_deref(),
        pull: match facts.settings.pull {
            PullPolicy::Missing => hostler::PullPolicy::Missing,
            PullPolicy::Always => hostler::PullPolicy::Always,
            PullPolicy::Never => hostler::PullPolicy::Never,
        },
        health_secs: facts.settings.health_secs,
    };
    desired_digest(bundle, &settings, host.as_str())
}

/// The rows as what is wanted just now makes them: between a look at the repository and the next
/// step of each stack, they still say what was wanted before.
#[must_use]
pub fn rows_now(overview: &Overview) -> Vec<StackHost> {
    let mut rows: BTreeMap<(&StackId, HostId), StackHost> =
        overview.rows.iter().map(|row| ((&row.stack, row.host.clone()), row.clone())).collect();
    for stack in &overview.stacks {
        for (host, wanted) in wanted(stack, &overview.places) {
            let fresh = || StackHost::new(stack.id.clone(), host.clone());
            let row = rows.entry((&stack.id, host.clone())).or_insert_with(fresh);
            if wanted.is_some() {
                row.wanted = wanted;
            }
        }
    }
    rows.into_values().collect()
}
