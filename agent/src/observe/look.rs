//! Looking at stacks: the engine and the placed files are asked, and held against what was applied.

use std::collections::{BTreeMap, BTreeSet};

use hostler_protocol::observed::{Drift, DriftKind, ObservedStack};

use super::core::Scope;
use super::report;
use crate::host::docker::{Engine, EngineError};
use crate::steps::bundle::{self, Strayed};
use crate::steps::run::{Failure, blocking};
use crate::steps::stack::{self, Home, State};
use crate::steps::tools::Tools;

/// Between readings of all placed files, in milliseconds; those that were touched are read at once.
const READ_ALL_MS: u64 = 5 * 60_000;
/// How much earlier than a look a file may have been touched, in microseconds, to be read at the
/// next one: the file system's clock ticks slower than ours.
const TICK_US: i64 = 2_000_000;

/// What is known of a stack from earlier looks.
#[derive(Debug, Default)]
struct Known {
    /// Its containers from afar, as they were both before and after they were looked at; `None`: it
    /// cannot be said of which of several states they were told.
    marks: Option<Vec<String>>,
    /// What was told last; `None`: what was, may not have counted.
    told: Option<[u8; 32]>,
    strayed: Strayed,
    /// Files touched before were looked at.
    files_at_us: Option<i64>,
    read_all_ms: Option<u64>,
}

/// All stacks of this host as they were seen last.
#[derive(Debug)]
pub(super) struct Looker {
    tools: Tools,
    engine: Engine,
    known: BTreeMap<String, Known>,
    /// Whether it was told that the engine cannot be asked.
    is_away: bool,
    /// Projects whose last look may have come before what it tells of was settled.
    unsettled: BTreeSet<String>,
}

/// What a look came to.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Whether the host has any stacks.
    pub(super) stacks: bool,
    pub(super) documents: Vec<Vec<u8>>,
}

impl Looker {
    pub(super) fn new(tools: Tools) -> Self {
        let engine = tools.docker.engine();
        let (known, unsettled) = (BTreeMap::new(), BTreeSet::new());
        Self { tools, engine, known, is_away: false, unsettled }
    }

    /// Nothing that was told before is known any more.
    pub(super) fn begin_anew(&mut self) {
        self.is_away = false;
        self.known.values_mut().for_each(|known| known.told = None);
    }

    /// Work on a project has ended. Its outcome is on its way, and a report that overtakes it counts
    /// for nothing: what is told next is told once more.
    pub(super) fn ended(&mut self, project: String) {
        self.unsettled.insert(project);
    }

    /// Looks; what there is to tell.
    pub(super) async fn look(&mut self, scope: Scope) -> Looked {
        let stacks_dir = self.tools.policy.docker.stacks_dir.clone();
        let listed = blocking(move || Ok::<_, Failure>(stack::projects(&stacks_dir))).await;
        let projects = listed.unwrap_or_default();
        self.known.retain(|project, _| projects.contains(project));
        self.unsettled.retain(|project| projects.contains(project));
        if projects.is_empty() {
            return Looked::default();
        }
        // Who was told nothing for a while is told everything.
        let scope = if self.is_away { Scope::Whole } else { scope };
        let seen = match scope {
            Scope::Whole => self.all(projects, true, &BTreeSet::new()).await,
            Scope::Differing(changed) => self.all(projects, false, &changed).await,
            Scope::These(these) => {
                self.each(projects.intersection(&these).cloned().collect()).await
            }
        };
        let documents = match seen {
            Ok(stacks) => {
                self.is_away = false;
                report::documents(stacks)
            }
            Err(_) if self.is_away => Vec::new(),
            Err(error) => {
                self.is_away = true;
                let why = Failure::from(error);
                tracing::warn!(error = why.message(), "stacks cannot be watched");
                vec![report::unavailable(why.message().to_owned())]
            }
        };
        Looked { stacks: true, documents }
    }

    async fn all(
        &mut self,
        projects: BTreeSet<String>,
        whole: bool,
        changed: &BTreeSet<String>,
    ) -> Result<Vec<ObservedStack>, EngineError> {
        let mut glance = self.engine.glance().await?;
        let (mut stacks, mut looked_at) = (Vec::new(), Vec::new());
        for project in projects {
            let marks = glance.remove(&project).unwrap_or_default();
            let known = self.known.entry(project.clone()).or_default();
            let is_known = known.told.is_some() && known.marks.as_ref() == Some(&marks);
            let is_same = is_known && !whole && !changed.contains(&project);
            let seen = self.one(&project, is_same, whole).await?;
            if seen.is_settled {
                looked_at.push((project, marks));
            }
            stacks.extend(seen.news);
        }
        if looked_at.is_empty() {
            return Ok(stacks);
        }
        // What changed meanwhile, and changed back since, must not pass for what was told.
        let mut glance = self.engine.glance().await?;
        for (project, marks) in looked_at {
            let is_still = glance.remove(&project).unwrap_or_default() == marks;
            if let Some(known) = self.known.get_mut(&project).filter(|_| is_still) {
                known.marks = Some(marks);
            }
        }
        Ok(stacks)
    }

    async fn each(&mut self, projects: Vec<String>) -> Result<Vec<ObservedStack>, EngineError> {
        let mut stacks = Vec::new();
        for project in projects {
            stacks.extend(self.one(&project, false, false).await?.news);
        }
        Ok(stacks)
    }

    /// Looks at one stack; with `is_same`, at its containers only if its files are not as before.
    async fn one(
        &mut self,
        project: &str,
        is_same: bool,
        whole: bool,
    ) -> Result<Seen, EngineError> {
        let Some(_held) = self.tools.stacks.try_hold(project) else { return Ok(Seen::default()) };
        let Some((home, mut state)) = self.state(project).await else {
            return Ok(Seen::default());
        };
        let Some(owner) = state.stack.clone() else { return Ok(Seen::default()) };
        let good = state.good.clone();
        let known = self.known.entry(project.to_owned()).or_default();
        let strayed = files(&self.tools, &home, known).await;
        if is_same && strayed == known.strayed {
            return Ok(Seen::default());
        }
        known.strayed = strayed;
        known.marks = None;
        let asked = async {
            let containers = self.engine.containers(project).await?;
            let stopped = state.stopped.look(&self.engine, &containers).await?;
            Ok::<_, EngineError>((containers, stopped))
        };
        let (containers, stopped) = match asked.await {
            Ok(seen) => seen,
            Err(error) if is_of_one(&error) => {
                tracing::warn!(%error, project, "a stack cannot be looked at");
                known.told = None;
                return Ok(Seen::default());
            }
            Err(error) => return Err(error),
        };
        if stopped != state.stopped {
            state.stopped = stopped;
            if let Err(error) = state.save(&home).await {
                tracing::warn!(error = error.message(), project, "a stop cannot be written down");
            }
        }
        let seen_at_us = self.tools.clock.now_us();
        // Where nothing was applied yet there is nothing to stray from: what a failed sync left is told.
        let (mut drift, mut is_settled, mut desired) = (Vec::new(), true, String::new());
        if let Some(good) = good {
            drift = stack::drift(&good, &containers, state.respected(), seen_at_us);
            drift.extend(of_files(&known.strayed));
            is_settled = !stack::will_change(&good, &containers, seen_at_us);
            desired = good.desired;
        }
        let containers = stack::containers(&containers);
        let seen = report::stack(owner.id, desired, seen_at_us, containers, drift);
        let digest = report::digest(&seen);
        let is_news = whole || known.told != Some(digest);
        known.told = (!self.unsettled.remove(project)).then_some(digest);
        Ok(Seen { is_settled, news: is_news.then_some(seen) })
    }

    async fn state(&self, project: &str) -> Option<(Home, State)> {
        let home = Home::of_project(&self.tools.policy.docker.stacks_dir, project).ok()?;
        match State::load(&home).await {
            Ok(state) => Some((home, state)),
            Err(error) => {
                tracing::warn!(error = error.message(), project, "a stack cannot be looked at");
                None
            }
        }
    }
}

/// How a look at one stack went.
#[derive(Debug, Default)]
struct Seen {
    /// Whether it was looked at, and will look the same until something happens.
    is_settled: bool,
    /// What there is to tell of it.
    news: Option<ObservedStack>,
}

/// Whether the engine works, but not for what was asked.
fn is_of_one(error: &EngineError) -> bool {
    match error {
        EngineError::Refused { .. }
        | EngineError::Unreadable { .. }
        | EngineError::TooLarge { .. } => true,
        EngineError::Unreachable { .. }
        | EngineError::Http { .. }
        | EngineError::TimedOut { .. } => false,
    }
}

/// The files that are not as they were placed; as before, where they cannot be looked at.
async fn files(tools: &Tools, home: &Home, known: &mut Known) -> Strayed {
    let (now_us, now_ms) = (tools.clock.now_us(), tools.clock.monotonic_ms());
    let all = known.read_all_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= READ_ALL_MS);
    let since_us = known.files_at_us.filter(|_| !all);
    match bundle::strayed(&home.files(), since_us, &known.strayed).await {
        Ok(strayed) => {
            known.files_at_us = Some(now_us.saturating_sub(TICK_US));
            if all {
                known.read_all_ms = Some(now_ms);
            }
            strayed
        }
        Err(error) => {
            let error = Failure::from(error);
            let project = home.project();
            tracing::warn!(error = error.message(), project, "a stack's files cannot be looked at");
            known.strayed.clone()
        }
    }
}

fn of_files(strayed: &Strayed) -> impl Iterator<Item = Drift> {
    let told = |kind: DriftKind| move |path: &String| Drift { kind, subject: path.clone() };
    let changed = strayed.changed.iter().map(told(DriftKind::FileChanged));
    changed.chain(strayed.missing.iter().map(told(DriftKind::FileMissing)))
}
