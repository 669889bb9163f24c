//! From what a look found to what is kept of it.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::job::{PullPolicy, UserStopped};

use super::Desired;
use crate::domain::desired::{StackFacts, StackProblem, StackSettings};
use crate::domain::stack::hostler::{self, HostlerSection};
use crate::domain::stack::{Discovery, Found, Problem};

/// What is kept of each stack, by its path.
#[must_use]
pub fn facts(desired: &Desired, discovery: &Discovery) -> BTreeMap<String, StackFacts> {
    let mut facts: BTreeMap<String, StackFacts> = discovery
        .stacks
        .values()
        .map(|found| (found.path.clone(), of_stack(desired, found)))
        .collect();
    let paths: BTreeSet<String> = facts.keys().cloned().collect();
    for one in facts.values_mut() {
        let unknown = one.settings.after.iter().filter(|path| !paths.contains(*path));
        let warnings = unknown.map(|path| {
            format!("x-hostler.after names {path}, which is no stack: it is not waited for")
        });
        one.warnings.extend(warnings);
    }
    facts
}

fn of_stack(desired: &Desired, found: &Found) -> StackFacts {
    StackFacts {
        project: found.project.clone().unwrap_or_default(),
        compose_file: found.compose_file.clone(),
        override_file: found.override_file.clone(),
        directory: found.directory.clone(),
        compose_hash: found.compose_hash.clone(),
        tree_oid: found.tree_oid.clone(),
        bundle_digest: found.bundle.as_ref().map(|bundle| bundle.digest.clone()),
        settings: desired.by_rule(&found.path, settings(&found.hostler)),
        warnings: found.warnings.iter().map(|one| one.message.clone()).collect(),
        problem: found.problem.as_ref().map(problem),
    }
}

fn problem(problem: &Problem) -> StackProblem {
    StackProblem { code: problem.code.to_owned(), message: problem.message.clone() }
}

fn settings(section: &HostlerSection) -> StackSettings {
    StackSettings {
        hosts: section.hosts.clone(),
        labels: section.labels.clone(),
        after: section.after.clone(),
        protected: section.protected,
        pull: match section.pull {
            hostler::PullPolicy::Missing => PullPolicy::Missing,
            hostler::PullPolicy::Always => PullPolicy::Always,
            hostler::PullPolicy::Never => PullPolicy::Never,
        },
        health_secs: section.health_secs,
        user_stopped: match section.user_stopped {
            hostler::UserStopped::Respect => UserStopped::Respect,
            hostler::UserStopped::Start => UserStopped::Start,
        },
        drift: section.drift,
        suspend: section.suspend,
    }
}
