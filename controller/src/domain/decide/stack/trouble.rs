//! What stands in the way of stacks: of some until a commit puts it right, of others until something
//! else has happened.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::id::{HostId, StackId};

use super::Place;
use super::circles::circles;
use super::giving_way::Leavers;
use super::is_suspended;
use super::overview::{Overview, targets, wanted};
use crate::domain::JobState;
use crate::domain::desired::{Stack, StackHost, StackProblem};

/// Why present stacks cannot be synced, though each by itself is in order: two of one project on one
/// host, or an order without a beginning.
#[must_use]
pub fn trouble(overview: &Overview) -> BTreeMap<StackId, StackProblem> {
    let mut found = collisions(overview);
    for stack in circles(&overview.stacks) {
        found.entry(stack.id.clone()).or_insert_with(|| StackProblem {
            code: "STACK_ORDER_CIRCLE".to_owned(),
            message: "each of these stacks is to come after another of them: break the circle in \
                      `x-hostler.after`"
                .to_owned(),
        });
    }
    found
}

fn collisions(overview: &Overview) -> BTreeMap<StackId, StackProblem> {
    let by_id: BTreeMap<&StackId, &Stack> =
        overview.stacks.iter().map(|stack| (&stack.id, stack)).collect();
    let mut claims: BTreeMap<(&HostId, &str), BTreeSet<&StackId>> = BTreeMap::new();
    for stack in overview.stacks.iter().filter(|stack| stack.present) {
        for place in targets(&stack.facts.settings, &overview.places) {
            claims.entry((&place.host, &stack.facts.project)).or_default().insert(&stack.id);
        }
    }
    // What is not yet gone from a host still has its project there.
    for row in &overview.rows {
        if let Some(stack) = by_id.get(&row.stack).filter(|_| row.applied.is_some()) {
            claims.entry((&row.host, &stack.facts.project)).or_default().insert(&stack.id);
        }
    }
    let mut found = BTreeMap::new();
    for ((_, project), stacks) in claims.into_iter().filter(|(_, stacks)| stacks.len() > 1) {
        let paths: Vec<&str> =
            stacks.iter().filter_map(|id| by_id.get(id)).map(|stack| stack.path.as_str()).collect();
        for id in &stacks {
            found.entry((*id).clone()).or_insert_with(|| StackProblem {
                code: "PROJECT_COLLISION".to_owned(),
                message: format!(
                    "{} would all be the project {project} on one host: name another in \
                     `x-hostler.project`, or wait until the one that goes is gone",
                    paths.join(" and ")
                ),
            });
        }
    }
    found
}

/// Which stacks are which project on which host, as far as that is known: what a host confirmed, and
/// what it is at work on.
pub(super) type Projects<'o> = BTreeMap<(&'o HostId, &'o str), BTreeSet<&'o StackId>>;

pub(super) fn projects(overview: &Overview) -> Projects<'_> {
    let mut found = Projects::new();
    for row in &overview.rows {
        let applied = row.applied.as_ref().and_then(|applied| applied.project.as_deref());
        let job = row.job.as_ref().and_then(|id| overview.jobs.get(id));
        let running = job.filter(|job| job.state == JobState::Running);
        let begun = running.and_then(|job| job.request.pointer("/spec/stack/project")?.as_str());
        for project in applied.into_iter().chain(begun) {
            found.entry((&row.host, project)).or_default().insert(&row.stack);
        }
    }
    found
}

/// Another stack that is still there as the project this one is to be.
pub(super) fn in_use_by<'o>(
    projects: &Projects<'o>,
    stack: &Stack,
    host: &HostId,
) -> Option<&'o StackId> {
    let holders = projects.get(&(host, stack.facts.project.as_str()))?;
    holders.iter().copied().find(|holder| **holder != stack.id)
}

/// What stacks wait for before they are synced, where nothing is wrong with them: one that comes first,
/// one that still is the project they are to be, or one that is taken down before them. `trouble` is
/// what is wrong with others.
#[must_use]
pub fn waiting(
    overview: &Overview,
    trouble: &BTreeMap<StackId, StackProblem>,
) -> BTreeMap<StackId, StackProblem> {
    let (projects, leavers) = (projects(overview), Leavers::of(overview));
    let mut names: BTreeMap<&str, BTreeSet<&StackId>> = BTreeMap::new();
    for ((_, name), holders) in &projects {
        names.entry(name).or_default().extend(holders);
    }
    let may_wait = |stack: &&Stack| {
        let name = stack.facts.project.as_str();
        let held =
            || names.get(name).is_some_and(|holders| holders.iter().any(|id| **id != stack.id));
        stack.present
            && !is_suspended(stack)
            && !trouble.contains_key(&stack.id)
            && (!stack.facts.settings.after.is_empty() || !leavers.is_empty() || held())
    };
    let candidates: Vec<&Stack> = overview.stacks.iter().filter(may_wait).collect();
    if candidates.is_empty() {
        return BTreeMap::new();
    }
    let behind = behind(overview);
    let waits = candidates.into_iter().filter(|stack| behind.contains(stack.path.as_str()));
    let why = |stack: &Stack| {
        let first = stack.facts.settings.after.iter().find(|path| behind.contains(path.as_str()));
        let before = first.and_then(|path| {
            overview.stacks.iter().find(|other| other.present && other.path == *path)
        });
        match before {
            Some(before) => {
                let broken = before.facts.problem.is_some() || trouble.contains_key(&before.id);
                Some(comes_after(before, broken))
            }
            None => project_in_use(overview, &projects, stack).or_else(|| {
                let meant = targets(&stack.facts.settings, &overview.places);
                meant.into_iter().find_map(|place| gives_way(&leavers, stack, place))
            }),
        }
    };
    waits.filter_map(|stack| Some((stack.id.clone(), why(stack)?))).collect()
}

fn project_in_use(
    overview: &Overview,
    projects: &Projects<'_>,
    stack: &Stack,
) -> Option<StackProblem> {
    let meant = targets(&stack.facts.settings, &overview.places);
    let holder = meant.iter().find_map(|place| in_use_by(projects, stack, &place.host))?;
    let holder = overview.stacks.iter().find(|other| other.id == *holder);
    Some(StackProblem {
        code: "WAITS_FOR_PROJECT".to_owned(),
        message: format!(
            "{} still runs as the project {} there: it is synced once that is taken down",
            holder.map_or("another stack", |holder| holder.path.as_str()),
            stack.facts.project
        ),
    })
}

fn gives_way(leavers: &Leavers<'_>, stack: &Stack, place: &Place) -> Option<StackProblem> {
    let leaver = leavers.before(stack, &place.host)?;
    let (path, host) = (&leaver.stack.path, &place.name);
    let message = match leaver.failed {
        false => format!("{path} is taken down on {host} first: it is synced there after that"),
        true => format!(
            "{path}, which is the same, could not be taken down on {host} and is first to be: \
             `hostler stack show {path}` says why"
        ),
    };
    Some(StackProblem { code: "WAITS_FOR_REMOVAL".to_owned(), message })
}

fn comes_after(before: &Stack, broken: bool) -> StackProblem {
    let path = &before.path;
    let message = if is_suspended(before) {
        format!(
            "it comes after {path}, which is suspended and does not run as it should: resume that, or \
             take it out of `x-hostler.after`"
        )
    } else if broken {
        format!(
            "it comes after {path}, which cannot be synced: `hostler stack show {path}` says why"
        )
    } else {
        format!("it comes after {path}, which does not run everywhere as it should yet")
    };
    StackProblem { code: "WAITS_FOR_STACK".to_owned(), message }
}

/// The paths of present stacks that do not yet run everywhere as they should.
pub(super) fn behind(overview: &Overview) -> BTreeSet<&str> {
    let mut of_stack: BTreeMap<&StackId, BTreeMap<&HostId, &StackHost>> = BTreeMap::new();
    for row in &overview.rows {
        of_stack.entry(&row.stack).or_default().insert(&row.host, row);
    }
    let is_behind = |stack: &&Stack| {
        let rows = of_stack.get(&stack.id);
        wanted(stack, &overview.places).iter().any(|(host, wanted)| {
            let applied = rows
                .and_then(|rows| rows.get(host))
                .and_then(|row| row.applied.as_ref())
                .map(|applied| &applied.desired);
            wanted.is_none() || applied != wanted.as_ref()
        })
    };
    overview
        .stacks
        .iter()
        .filter(|stack| stack.present)
        .filter(is_behind)
        .map(|stack| stack.path.as_str())
        .collect()
}
